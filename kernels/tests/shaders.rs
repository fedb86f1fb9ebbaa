//! Every composed shader, validated by naga and written for Vulkan, Metal and DX12 without a GPU.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use weft_kernels::registry::shaders;
use weft_kernels::testing::shaders_of_kinds;
use weft_kernels::{Budget, Fields};
use weft_runtime::{Access, Shader};

use crate::cases::whole;

/// Those of a type of each kind, some of the others; with `WEFT_TEST_CASES=all`, all.
#[test]
fn every_shader_is_core_webgpu_on_every_target() {
    let all = if whole() { shaders() } else { shaders_of_kinds(shaders()) };
    assert!(all.len() > 3000, "only {} shaders", all.len());
    let (first, second) = all.split_at(all.len() / 2);
    std::thread::scope(|s| {
        let halves = [first, second].map(|half| s.spawn(|| half.iter().for_each(check)));
        halves.into_iter().for_each(|h| h.join().expect("what it printed"));
    });
}

fn check((shader, fields): &(Shader, Fields)) {
    let name = &shader.name;
    let module = naga::front::wgsl::parse_str(&shader.source)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&shader.source)));
    // Nothing beyond core WebGPU, of which unpack2x16float is a part, unless the text says so.
    // naga has no `enable subgroups` yet.
    let extended = shader.source.starts_with("enable") || shader.source.contains("subgroup_i");
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    // Software GPUs alone get these, through Vulkan.
    let wide = shader.source.contains("u64");
    capabilities.set(Capabilities::SHADER_INT64, wide);
    if extended {
        capabilities |=
            Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX;
        capabilities.set(Capabilities::SUBGROUP_BARRIER, shader.source.contains("subgroupBarrier("));
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&shader.source)));

    check_bindings(&module, shader, fields);
    // Tiles of attention are as large as the device's own limit allows, like those with extensions.
    check_workgroup(&module, name, extended || name.starts_with("attention") && name.contains("_tiled"));

    spv::write_vec(&module, &info, &spv::Options::default(), None)
        .unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"));
    // Metal has no 16 x 16 matrices, DX12 none at all: there these kernels are not picked.
    if !shader.source.contains("coop_mat16x16") {
        let options =
            msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..msl::Options::default() };
        msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
    }
    if !extended {
        let mut text = String::new();
        let options = hlsl::Options {
            fake_missing_bindings: true,
            shader_model: hlsl::ShaderModel::V6_4,
            ..hlsl::Options::default()
        };
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
    }
}

/// The uniform has the fields that the host writes, at the host's offsets; other bindings are those
/// declared, with their access.
fn check_bindings(module: &naga::Module, shader: &weft_runtime::Shader, fields: weft_kernels::Fields) {
    let name = &shader.name;
    let mut storage = vec![None; shader.bindings.len()];
    for (_, var) in module.global_variables.iter() {
        let Some(binding) = &var.binding else { continue };
        match (binding.binding, var.space) {
            (0, naga::AddressSpace::Uniform) => {
                let naga::TypeInner::Struct { members, .. } = &module.types[var.ty].inner else {
                    panic!("{name}: the uniform is no struct");
                };
                let got: Vec<_> =
                    members.iter().map(|m| (m.name.clone().unwrap(), m.offset as usize)).collect();
                let want: Vec<_> =
                    fields.iter().filter(|f| f.0 != "pad").map(|f| (f.0.to_owned(), f.1)).collect();
                assert_eq!(got, want, "{name}: fields of the uniform");
            }
            (i, naga::AddressSpace::Storage { access }) => {
                let writes = access.contains(naga::StorageAccess::STORE);
                storage[i as usize - 1] = Some(if writes { Access::ReadWrite } else { Access::Read });
            }
            (i, naga::AddressSpace::Handle) => storage[i as usize - 1] = Some(Access::Texels),
            other => panic!("{name}: unexpected binding {other:?}"),
        }
    }
    let declared: Vec<_> = shader.bindings.iter().map(|&a| Some(a)).collect();
    assert_eq!(storage, declared, "{name}: bindings");
    assert!(storage.len() <= Budget::WEBGPU.storage_buffers as usize, "{name}: too many bindings");
}

/// Workgroup memory and size stay within core WebGPU. What is picked `by_limits` may take more memory.
fn check_workgroup(module: &naga::Module, name: &str, by_limits: bool) {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let bytes: u32 = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
        .map(|(_, v)| layouter[v.ty].size)
        .sum();
    let most = if by_limits { 48 << 10 } else { Budget::WEBGPU.workgroup_bytes };
    assert!(bytes <= most, "{name}: {bytes} bytes of workgroup memory");
    let size: u32 = module.entry_points[0].workgroup_size.iter().product();
    assert!(size <= Budget::WEBGPU.max_invocations, "{name}: {size} invocations");
}
