//! What is known to fail on whose driver, as data: [`crate::select`] does not pick it there, `weft kernels
//! test` leaves it out unless `--variant` asks for it, and `weft devices` shows it.

use weft_runtime::Caps;

/// A known failure of a driver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// Parts of the backend's, the adapter's and the driver's name, whatever their case; empty for any.
    pub adapter: [&'static str; 3],
    /// The first and the last version of the driver that fails; empty where none is known.
    pub versions: [&'static [u32]; 2],
    /// The op; `*` for all.
    pub op: &'static str,
    /// Its variants, or how all shaders are compiled.
    pub variants: &'static [&'static str],
    /// What happens.
    pub what: &'static str,
    /// Who found out.
    pub link: &'static str,
}

/// Compiling without naga's bounds checks, as if it were a variant of every op.
pub const UNCHECKED: &str = "unchecked";

/// All of them.
pub const FAILURES: &[Failure] = &[
    Failure {
        adapter: ["vulkan", "", "qualcomm"],
        versions: [&[], &[]],
        op: "*",
        variants: &["decode", "coop", "coop_wide"],
        what: "shaders with subgroup operations give wrong numbers or do not compile",
        link: "https://github.com/ggml-org/llama.cpp/issues/28635",
    },
    Failure {
        adapter: ["vulkan", "", "qualcomm"],
        versions: [&[], &[]],
        op: "matmul",
        variants: &["matvec_dot", "tiled_dot", "chain"],
        what: "the compiler rejects shaders with 8-bit integer dot products",
        link: "https://github.com/tetherto/qvac-ext-ggml/pull/14",
    },
    Failure {
        adapter: ["vulkan", "", "mali"],
        versions: [&[], &[]],
        op: "*",
        variants: &[UNCHECKED],
        what: "a read past workgroup memory loses the device, even where its value is not used",
        link: "https://github.com/linebender/vello/issues/1816",
    },
    Failure {
        adapter: ["metal", "", ""],
        versions: [&[], &[]],
        op: "*",
        variants: &["coop16"],
        what: "naga writes matrices of 16 x 16, which Metal does not have; those of 8 x 8 work",
        link: "https://github.com/gfx-rs/wgpu/blob/v30.0.0/naga/src/back/msl/writer.rs",
    },
    Failure {
        adapter: ["metal", "", ""],
        versions: [&[], &[]],
        op: "matmul",
        variants: &["matvec_dot", "tiled_dot", "chain"],
        what: "slow: dot4I8Packed becomes scalar code",
        link: "https://github.com/gfx-rs/wgpu/blob/v30.0.0/naga/src/back/msl/writer.rs",
    },
];

impl Failure {
    /// Whether it is one of this device.
    fn is_of(&self, caps: &Caps) -> bool {
        let names = [&caps.backend, &caps.name, &caps.driver];
        let named = self.adapter.iter().zip(names).all(|(part, name)| name.to_lowercase().contains(part));
        let [first, last] = self.versions;
        let version = version(&caps.driver);
        // Later parts of a version that a range does not name are in it.
        let within = |end: &[u32]| version.iter().copied().take(end.len()).collect::<Vec<_>>();
        named && first <= &within(first)[..] && (last.is_empty() || &within(last)[..] <= last)
    }

    /// Variant by variant, one line.
    pub fn line(&self) -> String {
        format!("{} {}: {} ({})", self.op, self.variants.join(", "), self.what, self.link)
    }
}

/// The numbers of the first word with a number and a dot in it: `v1.r54p2-00eac0` is 1, 54, 2.
fn version(driver: &str) -> Vec<u32> {
    let word =
        driver.split_whitespace().find(|w| w.contains('.') && w.contains(|c: char| c.is_ascii_digit()));
    let numbers = word.unwrap_or_default().split(['-', '+', '(']).next().unwrap_or_default();
    numbers.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

/// What is known to fail on a device.
pub fn of(caps: &Caps) -> impl Iterator<Item = &'static Failure> {
    FAILURES.iter().filter(move |f| f.is_of(caps))
}

/// Whether a variant of an op is known to fail on a device.
pub fn failure(caps: &Caps, op: &str, variant: &str) -> Option<&'static Failure> {
    // Asked for each dispatch, so that names are compared last: few variants are in the table.
    let lists = |f: &&Failure| (f.op == "*" || f.op == op) && f.variants.contains(&variant);
    FAILURES.iter().filter(lists).find(|f| f.is_of(caps))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{FAILURES, Failure, UNCHECKED, failure, of, version};
    use weft_runtime::{Caps, Coop, DeviceKind};

    /// A device that has everything.
    pub(crate) fn fake(backend: &str, name: &str, driver: &str, kind: DeviceKind, side: u32) -> Caps {
        let mut caps = Caps {
            name: name.into(),
            vendor: 0,
            kind,
            backend: backend.into(),
            driver: driver.into(),
            f16: true,
            subgroups: Some((32, 32)),
            dot: true,
            coop: vec![Coop { m: side, n: side, k: side, f32_accumulate: true }],
            immediates: false,
            texels: false,
            timestamps: true,
            memory: None,
            limits: Default::default(),
            variants: Vec::new(),
            tuning: Default::default(),
        };
        caps.limits.max_compute_workgroup_storage_size = 48 << 10;
        caps.limits.max_compute_invocations_per_workgroup = 1024;
        caps
    }

    pub(crate) fn adreno() -> Caps {
        let driver = "Qualcomm Technologies Inc. Adreno Vulkan Driver Driver Build: 1e2, 0800.51";
        fake("vulkan", "Adreno (TM) 830", driver, DeviceKind::Integrated, 16)
    }

    pub(crate) fn mali() -> Caps {
        fake("vulkan", "Mali-G715", "Mali-G715 v1.r54p2-00eac0.7001668a", DeviceKind::Integrated, 16)
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version("NVIDIA 580.159.04"), [580, 159, 4]);
        assert_eq!(version("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"), [22, 3, 6]);
        assert_eq!(version("Mali-G715 v1.r54p2-00eac0.7001668a"), [1, 54, 2]);
        assert!(version("no version").is_empty());
    }

    #[test]
    fn ranges_of_versions() {
        let is_of = |versions, driver| {
            Failure { versions, adapter: ["vulkan", "geforce", ""], ..FAILURES[0] }.is_of(&fake(
                "vulkan",
                "NVIDIA GeForce",
                driver,
                DeviceKind::Discrete,
                16,
            ))
        };
        for (driver, want) in
            [("N 550.9", false), ("N 551.0", true), ("N 560.35.3", true), ("N 561", true), ("N 561.1", false)]
        {
            assert_eq!(is_of([&[551], &[560]], driver), want && driver != "N 561", "{driver}");
        }
        assert!(is_of([&[], &[560, 35]], "N 560.35.3") && !is_of([&[], &[560, 35]], "N 560.36"));
        assert!(is_of([&[551], &[]], "N 999.0") && !is_of([&[551], &[]], "no version"));
        assert!(!Failure { adapter: ["metal", "", ""], ..FAILURES[0] }.is_of(&adreno()));
    }

    #[test]
    fn the_known_ones_are_found() {
        let found = |caps: &Caps, op, variant| failure(caps, op, variant).is_some();
        for (op, variant) in [("attention", "decode"), ("matmul", "matvec_dot"), ("matmul", "chain")] {
            assert!(found(&adreno(), op, variant), "{op} {variant}");
        }
        assert!(!found(&adreno(), "attention", "rows") && !found(&adreno(), "*", UNCHECKED));
        assert!(found(&mali(), "glu", UNCHECKED) && !found(&mali(), "attention", "decode"));
        let turnip =
            fake("vulkan", "Turnip Adreno (TM) 650", "turnip Mesa driver 24.1", DeviceKind::Integrated, 16);
        assert_eq!(of(&turnip).count(), 0);
        let apple = fake("metal", "Apple M3", "", DeviceKind::Integrated, 8);
        assert!(found(&apple, "matmul", "coop16") && !found(&apple, "matmul", "coop8"));
        let h200 = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
        assert_eq!(of(&h200).count(), 0);
    }
}
