// Sums of squares by expert and column, over the choices (t, j) that an expert gets:
//   s[e, c] += sum x[row of (t, j), c]²,   s[experts * cols + e] += 1
//
// x         [tokens, cols] f32, or [choices, cols] by position
// ids       [tokens, k] u32: the experts
// s         [experts, cols] f32, and behind them [experts] f32: how many choices each sum is over
// position  [tokens, k] u32, see sort.wgsl
//
// Where choices are not SORTED, a choice's row is the token's if x has a row for each token (p.per_row is k), and else
// the choice's own (p.per_row is 1). One workgroup sums 16 columns of one expert, 16 invocations a column with every 16th choice each.

struct Params {
    choices: u32,
    per_row: u32,  // choices of a row of x
    cols: u32,
    experts: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> s: array<f32>;
//@ if SORTED
@group(0) @binding(4) var<storage, read_write> position: array<u32>;
//@ end

var<workgroup> part: array<f32, 256>;
var<workgroup> choices_of: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let blocks = (p.cols + 15u) / 16u;
    let n = wid.x + wid.y * p.grid_x;
    let e = n / blocks;
    let c = n % blocks * 16u + lid % 16u;
    let phase = lid / 16u;
    var sum = 0.0;
    var count = 0.0;
    if (e < p.experts && c < p.cols) {
        for (var choice = phase; choice < p.choices; choice += 16u) {
            if (ids[choice] == e) {
                //@ if SORTED
                let row = position[choice];
                //@ else
                let row = choice / p.per_row;
                //@ end
                let v = x[row * p.cols + c];
                sum = fma(v, v, sum);
                count += 1.0;
            }
        }
    }
    part[lid] = sum;
    choices_of[lid] = count;
    workgroupBarrier();
    for (var half = 8u; half > 0u; half >>= 1u) {
        if (phase < half) {
            part[lid] += part[lid + half * 16u];
            choices_of[lid] += choices_of[lid + half * 16u];
        }
        workgroupBarrier();
    }
    if (phase == 0u && e < p.experts && c < p.cols) {
        s[e * p.cols + c] += part[lid];
        // The first column of an expert counts for all.
        if (c == 0u) {
            s[p.experts * p.cols + e] += choices_of[lid];
        }
    }
}
