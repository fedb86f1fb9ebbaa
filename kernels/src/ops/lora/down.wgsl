// From the width of a matrix to the rank of its adapter:  narrow[t, r] = scale sum_c wide[t, c] m(r, c)  (+ narrow[t, r])
//
// narrow  [tokens, narrow_stride] f32, from narrow_column on
// wide    [tokens, wide_stride] f32 or f16, from wide_column on
// matrix  m, see params.wgsl
//
// A workgroup computes TILES tiles of TM tokens x 4 ranks, each by 32 lanes that share the columns among
// them. Neighbouring tiles have the same tokens, so that x comes from memory once.

const LANES: u32 = 32u;
const TILES: u32 = 8u;

@group(0) @binding(1) var<storage, read_write> narrow: array<f32>;
@group(0) @binding(2) var<storage, read_write> wide: array<cell_wide>;
@group(0) @binding(3) var<storage, read> matrix: array<cell_matrix>;

var<workgroup> sums: array<f32, TILES * TM * 4u * LANES>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let rank_tiles = (p.ranks + 3u) / 4u;
    let tile = (wid.x + wid.y * p.grid_x) * TILES + lid / LANES;
    let t0 = tile / rank_tiles * TM;
    let r0 = tile % rank_tiles * 4u;
    // Tokens past the end repeat the last one.
    //@ for i in TM
    let row$i = min(t0 + $iu, p.tokens - 1u) * p.wide_stride + p.wide_column;
    var acc$i = vec4<f32>();
    //@ end
    for (var c = lane * 4u; c < p.width; c += LANES * 4u) {
        let b = transpose(block(r0, c));
        //@ for i in TM
        let v$i = wide_at(row$i + c, p.width - c);
        //@ end
        //@ for i in TM
        acc$i = fma(vec4<f32>(v$i.x), b[0], acc$i);
        acc$i = fma(vec4<f32>(v$i.y), b[1], acc$i);
        acc$i = fma(vec4<f32>(v$i.z), b[2], acc$i);
        acc$i = fma(vec4<f32>(v$i.w), b[3], acc$i);
        //@ end
    }
    let base = lid / LANES * TM * 4u * LANES;
    //@ for i in TM
    sums[base + $iu * 4u * LANES + lane] = acc$i.x;
    sums[base + ($iu * 4u + 1u) * LANES + lane] = acc$i.y;
    sums[base + ($iu * 4u + 2u) * LANES + lane] = acc$i.z;
    sums[base + ($iu * 4u + 3u) * LANES + lane] = acc$i.w;
    //@ end
    workgroupBarrier();
    for (var i = lane; i < TM * 4u; i += LANES) {
        // Each lane begins elsewhere, in a bank of its own.
        var sum = 0.0;
        for (var j = 0u; j < LANES; j++) {
            sum += sums[base + i * LANES + (i + j) % LANES];
        }
        let t = t0 + i / 4u;
        let r = r0 + i % 4u;
        if (t < p.tokens && r < p.ranks) {
            let at = t * p.narrow_stride + p.narrow_column + r;
            var v = p.scale * sum;
            if ((p.flags & ADD) != 0u) {
                v += narrow[at];
            }
            narrow[at] = v;
        }
    }
}
