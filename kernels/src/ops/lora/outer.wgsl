// Gradient of an adapter's matrix:  m(r, c) += scale sum_t narrow[t, r] wide[t, c]
//
// narrow  [tokens, narrow_stride] f32, from narrow_column on
// wide    [tokens, wide_stride] f32 or f16, from wide_column on
// matrix  m, see params.wgsl
//
// A workgroup computes 4 RQ ranks x 4 COLUMNS columns. SPLITS invocations share the tokens of each four
// columns; their sums are added in a fixed order.

const COLUMNS: u32 = 8u;
const SPLITS: u32 = 32u;

@group(0) @binding(1) var<storage, read_write> narrow: array<cell_narrow>;
@group(0) @binding(2) var<storage, read_write> wide: array<cell_wide>;
@group(0) @binding(3) var<storage, read_write> matrix: array<cell_matrix>;

var<workgroup> sums: array<vec4<f32>, 4u * SPLITS * COLUMNS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let quad = lid % COLUMNS;
    let split = lid / COLUMNS;
    let rank_tiles = (p.ranks + 4u * RQ - 1u) / (4u * RQ);
    let tile = wid.x + wid.y * p.grid_x;
    let r0 = tile % rank_tiles * 4u * RQ;
    let c = (tile / rank_tiles * COLUMNS + quad) * 4u;
    // Ranks and columns past the end repeat the last four; they are dropped.
    let from_c = min(c, (p.width - 1u) / 4u * 4u);
    //@ for i in RQ
    let from_r$i = min(r0 + $iu * 4u, (p.ranks - 1u) / 4u * 4u);
    var acc$i_0 = vec4<f32>();
    var acc$i_1 = vec4<f32>();
    var acc$i_2 = vec4<f32>();
    var acc$i_3 = vec4<f32>();
    //@ end
    for (var t = split; t < p.tokens; t += SPLITS) {
        let w = wide_at(t * p.wide_stride + p.wide_column + from_c, p.width - from_c);
        let row = t * p.narrow_stride + p.narrow_column;
        //@ for i in RQ
        let n$i = narrow_at(row + from_r$i, p.ranks - from_r$i);
        //@ end
        //@ for i in RQ
        // Vectors go along the rows of m.
        let a$i = select(w, n$i, BY_RANK == 1u);
        let b$i = select(n$i, w, BY_RANK == 1u);
        acc$i_0 = fma(vec4<f32>(a$i.x), b$i, acc$i_0);
        acc$i_1 = fma(vec4<f32>(a$i.y), b$i, acc$i_1);
        acc$i_2 = fma(vec4<f32>(a$i.z), b$i, acc$i_2);
        acc$i_3 = fma(vec4<f32>(a$i.w), b$i, acc$i_3);
        //@ end
    }
    //@ for i in RQ
    sums[split * COLUMNS + quad] = acc$i_0;
    sums[(SPLITS + split) * COLUMNS + quad] = acc$i_1;
    sums[(2u * SPLITS + split) * COLUMNS + quad] = acc$i_2;
    sums[(3u * SPLITS + split) * COLUMNS + quad] = acc$i_3;
    workgroupBarrier();
    if (lid < 4u * COLUMNS) {
        let k = lid / COLUMNS;
        var sum = vec4<f32>();
        for (var s = 0u; s < SPLITS; s++) {
            sum += sums[(k * SPLITS + s) * COLUMNS + quad];
        }
        store(r0 + $iu * 4u, c, k, p.scale * sum);
    }
    workgroupBarrier();
    //@ end
}

// Row k of a block of 4 ranks x 4 columns.
fn store(r: u32, c: u32, k: u32, v: vec4<f32>) {
    if (r >= p.ranks || c >= p.width) {
        return;
    }
    if (BY_RANK == 1u) {
        if (r + k < p.ranks) {
            put_matrix((r + k) * p.width + c, p.width - c, v, true);
        }
    } else if (c + k < p.width) {
        put_matrix((c + k) * p.ranks + r, p.ranks - r, v, true);
    }
}
