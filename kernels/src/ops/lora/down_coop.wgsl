// down.wgsl with cooperative matrices, both sides rounded to f16:
//   narrow[z, t, j ranks + r] = scale sum_c wide[t, c] m(r, c)    over the z-th part of the columns c
//
// narrow  [parts, tokens, narrow_stride] f32, from narrow_column on: adapter j's ranks behind those of j - 1
// wide    [tokens, wide_stride] f32, f16 or f16 in tiles (wide_rows.wgsl, wide_tiles.wgsl), those of adapter j
//         from columns[j] on
// matrix  m of adapter j from places[j] on: A [ranks, width] if BY_A is 1, else B [width, ranks]
//
// One workgroup of four subgroups computes BM tokens x RN ranks of one adapter, a subgroup a matrix of
// tokens; it walks the columns BK at a time and loads ahead. What loads is scaled into the range of f16.

const XS: u32 = BK + 8u;  // strides, padded against bank conflicts
const X4S: u32 = BK / 4u;
//@ if BY_A
const MS: u32 = BK + 8u;
const M4S: u32 = BK / 4u;
//@ else
const MS: u32 = RN + 8u;
const M4S: u32 = RN / 4u;
//@ end

@group(0) @binding(1) var<storage, read_write> narrow: array<f32>;
@group(0) @binding(2) var<storage, read_write> wide: array<Wide>;
@group(0) @binding(3) var<storage, read> matrix: array<vec4<f32>>;

var<workgroup> xs: array<H, BM * XS / PER>;
var<workgroup> ws: array<H, MROWS * MS / PER>;
var<workgroup> stage: array<f32, 4u * T * T>;

fn load_x(row: u32, column: u32, c: u32, width: u32) -> vec4<f16> {
    let at = row + column_at(column + min(c, width - 4u));
    let v = vec4<f16>(vec4<f32>(wide[at / 4u]) * p.by);
    return select(vec4<f16>(), v, c < width);
}

// Item i of the tile of m whose first column is k.
fn load_m(i: u32, place: u32, r0: u32, k: u32, width: u32) -> vec4<f16> {
    //@ if BY_A
    let r = r0 + i / M4S;
    let c = k + i % M4S * 4u;
    let at = place + min(r, p.ranks - 1u) * width + min(c, width - 4u);
    //@ else
    let r = r0 + i % M4S * 4u;
    let c = k + i / M4S;
    let at = place + min(c, width - 1u) * p.ranks + min(r, p.ranks - 4u);
    //@ end
    // Not clamped: what is infinite must show.
    return select(vec4<f16>(), vec4<f16>(matrix[at / 4u] * p.times), r < p.ranks && c < width);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let rank_tiles = (p.ranks + RN - 1u) / RN;
    let adapter = wid.y / rank_tiles;
    let r0 = wid.y % rank_tiles * RN;
    let width = p.widths[adapter];
    let place = p.places[adapter];
    let column = p.columns[adapter];
    let token0 = wid.x * BM;
    let begin = wid.z * p.chunk;
    let end = min(begin + p.chunk, width);
    //@ for n in XL
    let row$n = row_at(min(token0 + (lid + $nu * WG) / X4S, p.tokens - 1u));
    let c$n = (lid + $nu * WG) % X4S * 4u;
    var x$n = load_x(row$n, column, begin + c$n, width);
    //@ end
    //@ for n in ML
    var m$n = load_m(lid + $nu * WG, place, r0, begin, width);
    //@ end
    //@ for j in NT
    var acc$j = MatC();
    //@ end
    for (var k = begin; k < end; k += BK) {
        //@ for n in XL
        put_x((lid + $nu * WG) / X4S * XS + c$n, x$n);
        //@ end
        //@ for n in ML
        put_w((lid + $nu * WG) / M4S * MS + (lid + $nu * WG) % M4S * 4u, m$n);
        //@ end
        workgroupBarrier();
        //@ for n in XL
        x$n = load_x(row$n, column, k + BK + c$n, width);
        //@ end
        //@ for n in ML
        m$n = load_m(lid + $nu * WG, place, r0, k + BK, width);
        //@ end
        for (var kk = 0u; kk < BK; kk += T) {
            let a = coopLoadT<MatA>(&xs[(sid * T * XS + kk) / PER], XS / PER);
            //@ for j in NT
            //@ if BY_A
            let b$j = coopLoad<MatB>(&ws[($ju * T * MS + kk) / PER], MS / PER);
            //@ else
            let b$j = coopLoadT<MatB>(&ws[(kk * MS + $ju * T) / PER], MS / PER);
            //@ end
            acc$j = coopMultiplyAdd(a, b$j, acc$j);
            //@ end
        }
        workgroupBarrier();
    }
    //@ for j in NT
    {
        let to = sid * T * T;
        let sum = acc$j;
        coopStoreT(sum, &stage[to], T);
        workgroupBarrier();
        for (var e = lane; e < T * T; e += SG) {
            let t = token0 + sid * T + e / T;
            let r = r0 + $ju * T + e % T;
            if (t < p.tokens && r < p.ranks) {
                let at = wid.z * p.part + t * p.narrow_stride + p.narrow_column + adapter * p.ranks + r;
                narrow[at] = p.scale * stage[to + e];
            }
        }
        workgroupBarrier();
    }
    //@ end
}
