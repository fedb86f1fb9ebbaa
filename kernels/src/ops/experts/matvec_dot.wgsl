// Products of a few tokens by experts in integers, as matmul/matvec_dot.wgsl:
//   y[s, r] = sum_u d_x (scale sum_i q_i X_i + offset sum_i X_i)
// with the weights of expert ids[s] and the activations of row s / per.
//
// xq  [choices / per, cols / 16] four groups of signed bytes in group order
// xm  [choices / per, cols / 32] (d_x, d_x sum of X) of two units
//
// The rest is in choice.wgsl; how a row is walked is in matmul/matvec_walk.wgsl.

@group(0) @binding(5) var<storage, read_write> xq: array<Units>;
@group(0) @binding(6) var<storage, read_write> xm: array<vec4<f32>>;

// Choices are counted from the first one.
const token0: u32 = 0u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    //@ if BOOKED
    load_book(lid);
    workgroupBarrier();
    //@ end
    let begin = expert_row(wid.y, lid);
    if (begin >= p.slab_rows) {
        return;
    }
    // Rows are counted from the expert's first one.
    walk(lid, wid.x * GROUPS + lid / LANES, p.planes, 0u - begin);
    store_rows(wid.x, lid);
}
