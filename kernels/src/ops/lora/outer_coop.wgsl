// outer.wgsl with cooperative matrices, both sides rounded to f16:
//   m[z](r, c) = scale sum_t narrow[t, j ranks + r] wide[t, c]  (+ m(r, c))    over the z-th part of the tokens t
//
// narrow  [tokens, narrow_stride] f32, from narrow_column on: adapter j's ranks behind those of j - 1
// wide    [tokens, wide_stride] f32, f16 or f16 in tiles (wide_rows.wgsl, wide_tiles.wgsl), those of adapter j
//         from columns[j] on
// matrix  [parts]; m of adapter j from places[j] on: A [ranks, width] if BY_A is 1, else B [width, ranks]
//
// One workgroup of four subgroups computes RN ranks x 4 T columns of one adapter, a subgroup a matrix of
// columns; it walks the tokens BK at a time and loads ahead. What loads is scaled into the range of f16.

const ADD: u32 = 2u;
const BN: u32 = 4u * T;
const XS: u32 = BN + 8u;  // strides, padded against bank conflicts
const X4S: u32 = BN / 4u;
const MS: u32 = RN + 8u;
const M4S: u32 = RN / 4u;

@group(0) @binding(1) var<storage, read_write> narrow: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> wide: array<Wide>;
@group(0) @binding(3) var<storage, read_write> matrix: array<f32>;

var<workgroup> xs: array<H, BK * XS / PER>;
var<workgroup> ws: array<H, BK * MS / PER>;
var<workgroup> stage: array<f32, 4u * T * T>;

fn load_x(token: u32, at: u32) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(wide[(row_at(min(token, p.tokens - 1u)) + at) / 4u]) * p.by);
}

fn load_n(token: u32, at: u32, r: u32, end: u32) -> vec4<f16> {
    let first = min(token, p.tokens - 1u) * p.narrow_stride + at + min(r, p.ranks - 4u);
    return select(vec4<f16>(), vec4<f16>(narrow[first / 4u] * p.times), token < end && r < p.ranks);
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
    let c0 = wid.x * BN;
    let begin = wid.z * p.chunk;
    let end = min(begin + p.chunk, p.tokens);
    let n_at = p.narrow_column + adapter * p.ranks;
    // Columns past the end repeat the last four; they are dropped.
    //@ for n in XL
    let t$n = (lid + $nu * WG) / X4S;
    let from$n = column_at(p.columns[adapter] + min(c0 + (lid + $nu * WG) % X4S * 4u, width - 4u));
    var x$n = load_x(begin + t$n, from$n);
    //@ end
    //@ for n in ML
    let s$n = (lid + $nu * WG) / M4S;
    let q$n = (lid + $nu * WG) % M4S * 4u;
    var m$n = load_n(begin + s$n, n_at, r0 + q$n, end);
    //@ end
    //@ for i in NT
    var acc$i = MatC();
    //@ end
    for (var k = begin; k < end; k += BK) {
        //@ for n in XL
        put_x(t$n * XS + (lid + $nu * WG) % X4S * 4u, x$n);
        //@ end
        //@ for n in ML
        put_w(s$n * MS + q$n, m$n);
        //@ end
        workgroupBarrier();
        //@ for n in XL
        x$n = load_x(k + BK + t$n, from$n);
        //@ end
        //@ for n in ML
        m$n = load_n(k + BK + s$n, n_at, r0 + q$n, end);
        //@ end
        for (var kk = 0u; kk < BK; kk += T) {
            let b = coopLoadT<MatB>(&xs[(kk * XS + sid * T) / PER], XS / PER);
            //@ for i in NT
            let a$i = coopLoad<MatA>(&ws[(kk * MS + $iu * T) / PER], MS / PER);
            acc$i = coopMultiplyAdd(a$i, b, acc$i);
            //@ end
        }
        workgroupBarrier();
    }
    //@ for i in NT
    {
        let to = sid * T * T;
        let sum = acc$i;
        coopStoreT(sum, &stage[to], T);
        workgroupBarrier();
        for (var e = lane; e < T * T; e += SG) {
            //@ if BY_A
            let r = r0 + $iu * T + e / T;
            let c = c0 + sid * T + e % T;
            let v = p.scale * stage[to + e];
            let at = wid.z * p.part + p.places[adapter] + r * width + c;
            //@ else
            let r = r0 + $iu * T + e % T;
            let c = c0 + sid * T + e / T;
            let v = p.scale * stage[to + e % T * T + e / T];
            let at = wid.z * p.part + p.places[adapter] + c * p.ranks + r;
            //@ end
            if (r < p.ranks && c < width) {
                if ((p.flags & ADD) != 0u) {
                    matrix[at] += v;
                } else {
                    matrix[at] = v;
                }
            }
        }
        workgroupBarrier();
    }
    //@ end
}
