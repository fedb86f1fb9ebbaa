// An adapter's part of a product of coop.wgsl or direct.wgsl, with r up to p.ranks:
//   forward   y[t, n] += sum_r t[t, column + r] m[n, r]
//   gradient  y[t, n] += sum_r t[t, column + r] m[r, n]
//
// t  [tokens, t_stride] f32, from p.t_column on. Forward, rows of w from bounds.x and from bounds.y on are
//    those of further adapters, whose columns follow
// m  forward [rows of the slab, ranks] f32; gradient [ranks, cols] f32
//
// Like the sum that it joins, a gradient's t is scaled into the range of f16. What is beyond it all the same becomes
// infinite, and so must an adapter that did: a step whose gradient is not finite ends in an error.

@group(0) @binding(LOW_T) var<storage, read_write> low_ts: array<vec4<f32>>;
@group(0) @binding(LOW_M) var<storage, read> low_ms: array<vec4<f32>>;

fn low_column_of(first: u32) -> u32 {
    return p.t_column + p.ranks * (select(0u, 1u, first >= p.bounds.x) + select(0u, 1u, first >= p.bounds.y));
}

fn low_four(at: u32, r: u32) -> vec4<f16> {
    if (r >= p.ranks) {
        return vec4<f16>();
    }
    return vec4<f16>(low_ts[(at + r) / 4u] * p.scale);
}

// Eight values of a token from rank r on; 0 past the last.
fn low_t(token: u32, column: u32, r: u32) -> mat2x4<f16> {
    let at = token * p.t_stride + column;
    return mat2x4<f16>(low_four(at, r), low_four(at, r + 4u));
}

// Four values of the tile of m, at a row of it; past the last rank and the last row, some others.
fn low_m(first: u32, k: u32, row: u32, at: u32) -> vec4<f16> {
    //@ if FORWARD
    return vec4<f16>(low_ms[(min(first + row, p.rows - 1u) * p.ranks + min(k + at, p.ranks - 4u)) / 4u]);
    //@ else
    let n = min(first + at, p.units * 16u - 4u);
    return vec4<f16>(low_ms[(min(k + row, p.ranks - 1u) * p.units * 16u + n) / 4u]);
    //@ end
}
