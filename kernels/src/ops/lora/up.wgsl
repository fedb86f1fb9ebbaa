// From the rank of an adapter to the width of its matrix:  wide[t, c] = scale sum_r narrow[t, r] m(r, c)  (+ wide[t, c])
//
// narrow  [tokens, narrow_stride] f32, from narrow_column on
// wide    [tokens, wide_stride] f32, from wide_column on
// matrix  m, see params.wgsl
//
// A workgroup computes 8 TM tokens x 128 columns, an invocation TM x 4 of them.

const LANES: u32 = 32u;

@group(0) @binding(1) var<storage, read_write> narrow: array<cell_narrow>;
@group(0) @binding(2) var<storage, read_write> wide: array<cell_wide>;
@group(0) @binding(3) var<storage, read> matrix: array<cell_matrix>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let column_tiles = (p.width + 4u * LANES - 1u) / (4u * LANES);
    let tile = wid.x + wid.y * p.grid_x;
    let t0 = (tile / column_tiles * 8u + lid / LANES) * TM;
    let c = (tile % column_tiles * LANES + lid % LANES) * 4u;
    if (t0 >= p.tokens || c >= p.width) {
        return;
    }
    // Tokens past the end repeat the last one.
    //@ for i in TM
    let row$i = min(t0 + $iu, p.tokens - 1u) * p.narrow_stride + p.narrow_column;
    var acc$i = vec4<f32>();
    //@ end
    for (var r = 0u; r < p.ranks; r += 4u) {
        let b = block(r, c);
        //@ for i in TM
        let v$i = narrow_at(row$i + r, p.ranks - r);
        //@ end
        //@ for i in TM
        acc$i = fma(vec4<f32>(v$i.x), b[0], acc$i);
        acc$i = fma(vec4<f32>(v$i.y), b[1], acc$i);
        acc$i = fma(vec4<f32>(v$i.z), b[2], acc$i);
        acc$i = fma(vec4<f32>(v$i.w), b[3], acc$i);
        //@ end
    }
    //@ for i in TM
    if (t0 + $iu < p.tokens) {
        let at = (t0 + $iu) * p.wide_stride + p.wide_column + c;
        put_wide(at, p.width - c, p.scale * acc$i, (p.flags & ADD) != 0u);
    }
    //@ end
}
