//! The kernels for cooperative matrices of 16 x 16 on a device without any: the same text, in which each operation of a
//! matrix is written out. So a wrong index, stride or barrier of theirs is found without their hardware.
//!
//! The 32 invocations of a subgroup share a matrix: 8 pairs of rows by 4 times four columns. Each has its two rows of a
//! left side, its four columns of a right side, and the 2 x 4 values of a sum where they meet, so that a product needs
//! nothing of another's. There are neither loops nor private arrays in it, for each of which lavapipe compiles long.

use weft_kernels::registry::cases;
use weft_kernels::testing::Case;
use weft_runtime::{Caps, Coop, Emulation, Options};

use crate::cases::{run_all, whole};

const SUBGROUP: u32 = 32;

/// A device with matrices of 16 x 16, where it has what their values are.
fn caps(caps: Caps) -> Caps {
    if !caps.f16 {
        return caps;
    }
    let coop = vec![Coop { m: 16, n: 16, k: 16, f32_accumulate: true }];
    Caps { coop, subgroups: Some((SUBGROUP, SUBGROUP)), texels: false, ..caps }
}

/// What stands for operations between the invocations of a subgroup, by way of workgroup memory. They wait for the whole
/// workgroup, and a vote is the workgroup's: all of it then takes a branch that one subgroup would have taken.
const SUBGROUPS: &str = "
var<workgroup> of_lanes: array<f32, WG>;
var<private> of_lid: u32;
fn shuffled(value: f32, by: u32) -> f32 {
    workgroupBarrier();
    of_lanes[of_lid] = value;
    workgroupBarrier();
    return of_lanes[of_lid ^ by];
}
fn voted(yes: bool) -> bool {
    workgroupBarrier();
    of_lanes[of_lid] = f32(yes);
    workgroupBarrier();
    var any = 0.0;
    for (var i = 0u; i < WG; i++) {
        any = max(any, of_lanes[i]);
    }
    return any > 0.0;
}
";

/// What the types of matrices become: 2 x 16, 16 x 4 and 2 x 4 values.
const MATRICES: &str = "
alias MatA = array<vec4<f32>, 8>;
alias MatB = array<vec4<f32>, 16>;
alias MatC = mat2x4<f32>;
var<private> of_lane: u32;
";

/// What is for each array NAME that matrices are loaded from or stored into: `_rows` where its rows lie in a run, and
/// `_columns` where its columns do.
const OF_ARRAY: &str = "
fn NAME_rows_a(at: u32, stride: u32) -> MatA {
    let first = at + of_lane / 4u * 2u * stride;
    let second = first + stride;
    return MatA(
        NAME_four(first), NAME_four(first + 4u), NAME_four(first + 8u), NAME_four(first + 12u),
        NAME_four(second), NAME_four(second + 4u), NAME_four(second + 8u), NAME_four(second + 12u));
}
fn NAME_pair(first: u32) -> vec2<f32> {
    let four = NAME_four(first & ~3u);
    return select(four.zw, four.xy, (first & 3u) == 0u);
}
fn NAME_pairs(first: u32, stride: u32) -> mat4x2<f32> {
    return mat4x2<f32>(
        NAME_pair(first), NAME_pair(first + stride), NAME_pair(first + 2u * stride), NAME_pair(first + 3u * stride));
}
fn NAME_columns_a(at: u32, stride: u32) -> MatA {
    let first = at + of_lane / 4u * 2u;
    let a = transpose(NAME_pairs(first, stride));
    let b = transpose(NAME_pairs(first + 4u * stride, stride));
    let c = transpose(NAME_pairs(first + 8u * stride, stride));
    let d = transpose(NAME_pairs(first + 12u * stride, stride));
    return MatA(a[0], b[0], c[0], d[0], a[1], b[1], c[1], d[1]);
}
fn NAME_fours(first: u32, stride: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        NAME_four(first), NAME_four(first + stride), NAME_four(first + 2u * stride), NAME_four(first + 3u * stride));
}
fn NAME_b_of(a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> MatB {
    return MatB(
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]);
}
fn NAME_rows_b(at: u32, stride: u32) -> MatB {
    let first = at + of_lane % 4u * 4u;
    return NAME_b_of(
        NAME_fours(first, stride), NAME_fours(first + 4u * stride, stride),
        NAME_fours(first + 8u * stride, stride), NAME_fours(first + 12u * stride, stride));
}
fn NAME_columns_b(at: u32, stride: u32) -> MatB {
    let first = at + of_lane % 4u * 4u * stride;
    return NAME_b_of(
        transpose(NAME_fours(first, stride)), transpose(NAME_fours(first + 4u, stride)),
        transpose(NAME_fours(first + 8u, stride)), transpose(NAME_fours(first + 12u, stride)));
}
fn NAME_rows_c(at: u32, stride: u32) -> MatC {
    let first = at + of_lane / 4u * 2u * stride + of_lane % 4u * 4u;
    return MatC(NAME_four(first), NAME_four(first + stride));
}
";

/// What stores a sum.
const STORE: &str = "
fn NAME_put(m: MatC, at: u32, stride: u32) {
    let first = at + of_lane / 4u * 2u * stride + of_lane % 4u * 4u;
    NAME_put_four(first, m[0]);
    NAME_put_four(first + stride, m[1]);
}
";

/// Four values of an array of single values, and of one of fours, and how they are stored.
const FOURS: [[&str; 2]; 2] = [
    [
        "
fn NAME_four(i: u32) -> vec4<f32> {
    return vec4<f32>(f32(NAME[i]), f32(NAME[i + 1u]), f32(NAME[i + 2u]), f32(NAME[i + 3u]));
}
",
        "
fn NAME_put_four(i: u32, v: vec4<f32>) {
    NAME[i] = v.x;
    NAME[i + 1u] = v.y;
    NAME[i + 2u] = v.z;
    NAME[i + 3u] = v.w;
}
",
    ],
    [
        "
fn NAME_four(i: u32) -> vec4<f32> {
    return vec4<f32>(NAME[i / 4u]);
}
",
        "
fn NAME_put_four(i: u32, v: vec4<f32>) {
    NAME[i / 4u] = v;
}
",
    ],
];

/// What stands between the parenthesis at `open` and its partner, and where that is.
fn between(text: &str, open: usize) -> (&str, usize) {
    let mut depth = 0;
    for (i, c) in text[open..].char_indices() {
        depth += i32::from("([".contains(c)) - i32::from(")]".contains(c));
        if depth == 0 {
            return (&text[open + 1..open + i], open + i);
        }
    }
    panic!("no end of {}", &text[open..]);
}

/// `&NAME[INDEX], STRIDE` in parts.
fn place(text: &str) -> [&str; 3] {
    let text = text.trim().strip_prefix('&').unwrap_or_else(|| panic!("{text} points nowhere"));
    let open = text.find('[').expect("an element");
    let (index, end) = between(text, open);
    let stride = text[end + 1..].strip_prefix(", ").expect("a stride");
    [&text[..open], index, stride]
}

/// Values of an element of the array `name`.
fn width(text: &str, name: &str) -> u32 {
    let line = text.lines().find(|l| l.contains("var<") && l.contains(&format!(" {name}: array<")));
    let element = line.and_then(|l| l.split("array<").nth(1)).unwrap_or_else(|| panic!("no array {name}"));
    match element {
        e if e.starts_with("vec4") || e.starts_with('H') => 4,
        _ => 1,
    }
}

/// A kernel's text without cooperative matrices and subgroups; other kernels' as it is.
fn text(kernel: &str) -> String {
    if !kernel.contains("coop_mat16x16") {
        assert!(!kernel.contains("subgroup"), "a kernel of subgroups of another size:\n{kernel}");
        return kernel.to_owned();
    }
    let own = |l: &&str| {
        !["enable wgpu_cooperative_matrix;", "alias MatA", "alias MatB", "alias MatC"]
            .iter()
            .any(|p| l.starts_with(p))
            && !l.contains("@builtin(subgroup_")
    };
    let rest: String = kernel.lines().filter(own).flat_map(|l| [l, "\n"]).collect();
    let mut rest = rest
        .replace("coopMultiplyAdd(", "multiply_add(")
        .replace("subgroupBarrier(", "workgroupBarrier(")
        .replace("subgroupShuffleXor(", "shuffled(")
        .replace("subgroupAny(", "voted(");
    let body = rest.find("fn main(").and_then(|at| Some(at + rest[at..].find(") {\n")? + 4)).expect("main");
    rest.insert_str(
        body,
        &format!("let sid = lid / {SUBGROUP}u;\nlet lane = lid % {SUBGROUP}u;\nof_lane = lane;\n"),
    );
    if ["shuffled(", "voted("].iter().any(|call| rest.contains(call)) {
        rest.insert_str(body, "of_lid = lid;\n");
        rest += SUBGROUPS;
    }
    let mut arrays: Vec<String> = Vec::new();
    let mut out = String::new();
    // The next operation that is left, with what it begins with.
    while let Some(at) = rest.find("coopLoad").into_iter().chain(rest.find("coopStore")).min() {
        let open = at + rest[at..].find('(').expect("a call");
        let (arguments, end) = between(&rest, open);
        let (value, to) = match &rest[at..open] {
            "coopStoreT" => arguments.split_once(", ").expect("a value"),
            _ => ("", arguments),
        };
        let [name, index, stride] = place(to);
        let per = width(kernel, name);
        let function = match &rest[at..open] {
            "coopStoreT" => format!("put({value}, "),
            load => {
                let (call, matrix) = load.trim_end_matches('>').split_once("<Mat").expect("a type");
                let lie = if call == "coopLoadT" { "rows" } else { "columns" };
                format!("{lie}_{}(", matrix.to_lowercase())
            }
        };
        out += &format!("{}{name}_{function}({index}) * {per}u, ({stride}) * {per}u)", &rest[..at]);
        arrays.push(name.to_owned());
        rest = rest[end + 1..].to_owned();
    }
    out += &rest;
    out += MATRICES;
    out += "fn multiply_add(a: MatA, b: MatB, c: MatC) -> MatC {\n    var sum = c;\n";
    for k in 0..16 {
        let (four, of) = (k / 4, k % 4);
        out += &format!("    sum += MatC(a[{four}][{of}] * b[{k}], a[{}][{of}] * b[{k}]);\n", four + 4);
    }
    out += "    return sum;\n}\n";
    arrays.sort();
    arrays.dedup();
    for name in arrays {
        let mut four = usize::from(width(kernel, &name) == 4);
        // What nobody else reads lies in fours as well, which are one load each.
        let single = format!(" {name}: array<f16>");
        if out.contains(&single) && !out.contains(&format!(" {name}[")) {
            out = out.replace(&single, &format!(" {name}: array<vec4<f16>>"));
            four = 1;
        }
        // Sums are stored, f16 are not.
        let stored = out.contains(&format!("{name}_put("));
        let parts = [OF_ARRAY, FOURS[four][0]]
            .into_iter()
            .chain([STORE, FOURS[four][1]].into_iter().filter(|_| stored));
        parts.for_each(|part| out += &part.replace("NAME", &name));
    }
    out
}

/// The usual cases, as op, variant, type and the beginning of the name: each kernel with each of its ways that a text can
/// have, in tiles that compile soon. What takes longest comes first.
const USUAL: [&str; 25] = [
    "matmul direct F16 tile 0 rows 256 cols 2048 tokens 72 +residual +adapters",
    "matmul_dx direct F16 tile 0",
    "matmul direct Q8_0 rows 64 cols 256",
    "matmul coop Q4_K tile 3",
    "matmul coop Q8_0 rows 65 cols 512 tokens 9",
    "matmul_dx coop F16 tile 3",
    "attention coop f16 heads 7/1 x 64 tokens 40 at 140 window 0 splits 1 growing",
    "attention coop f16 heads 7/1 x 64 tokens 33 at 100",
    "attention coop q8_0 heads 4/4 x 64 tokens 70 at 505 window 90 splits 1 ring",
    "attention coop_wide f16 heads 7/1 x 64 tokens 40 at 140 window 0 splits 1 growing",
    "attention_train coop  heads 2/1 x 64 sequences [70, 1, 40, 130] gradients 1e0 Causal { window: 33 }",
    "attention_backward coop  heads 2/1 x 64 sequences [70, 1, 40, 130] gradients 1e0 Causal { window: 33 }",
    "matmul sliced Q6_K tile 3 rows 64 cols 768 tokens 64",
    "matmul sliced F16 tile 2 rows 64 cols 768 tokens 32",
    "matmul sliced Q4_K tile 1 rows 128 cols 4096 tokens 19",
    "matmul sliced Q4_K rows 256 cols 4096 tokens 20",
    "matmul sliced Q8_0 tile 0 rows 64 cols 768 tokens 6",
    "lora_down coop  tokens 37",
    "lora_down coop f16 tokens 65",
    "lora_grad_t coop  tokens 37",
    "lora_grad_b coop  tokens 37",
    "lora_grad_a coop  tokens 37",
    "lora_grad_t coop tiles tokens 37",
    "lora_grad_b coop tiles tokens 37",
    "lora_grad_a coop tiles tokens 130",
];

fn line(c: &Case) -> String {
    format!("{} {} {} {}", c.op, c.variant, c.ty.unwrap_or_default(), c.name)
}

fn chosen() -> Vec<Case> {
    let mut all: Vec<Case> = cases();
    all.retain(|c| ["coop", "direct", "sliced"].iter().any(|v| c.variant.starts_with(v)));
    if whole() {
        return all;
    }
    let mut usual = Vec::new();
    for start in USUAL {
        let before = usual.len();
        usual.extend(all.extract_if(.., |c| line(c).starts_with(start)));
        assert!(usual.len() > before, "no case {start}");
    }
    usual
}

/// With `WEFT_TEST_CASES=all` all of them, which takes hours; what needs more workgroup memory than the device has is left
/// out (attention's wide tiles and its gradients for heads of 128 on lavapipe).
#[test]
fn kernels_for_matrices_of_16_give_what_references_give() {
    let options = Options { emulation: Some(Emulation { caps, text }), ..Options::default() };
    let gpu = pollster::block_on(weft_runtime::Gpu::open(&options)).expect("a Vulkan adapter");
    let mut lacking = run_all(&options, chosen());
    if whole() {
        lacking.retain(|l| !l.contains("workgroup memory"));
    }
    // The values of matrices are halves in these texts as well.
    let expected = if gpu.caps().f16 { 0 } else { chosen().len() };
    assert_eq!(lacking.len(), expected, "{}", lacking.join("\n"));
}
