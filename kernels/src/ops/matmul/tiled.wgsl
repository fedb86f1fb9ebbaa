// Matrix times matrix (prefill):  y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// x     [tokens, cols] f32
// y     [tokens, y_stride] f32, from column p.column on; added to if p.flags has ADD
// bias  [all rows] f32, read if p.flags has HAS_BIAS
//
// One workgroup of WG computes a tile of BM tokens x BN rows, TM x TN an invocation. It walks the
// columns BK at a time: some invocations dequantise a unit of w each into workgroup memory while the
// others copy the tile of x. Both tiles are kept along the columns as vec4, with the vec4's place in
// its row exclusive-ored with the row's number so that neighbours fall into different banks. Chains of
// fma, because a dot product and a sum are an instruction more. A ROUTED kernel has products by experts, see
// experts/tile.wgsl.

const QUADS: u32 = BK / 4u;         // vec4 along the columns of a tile
const UNITS: u32 = BN * BK / 16u;   // of w in a tile
// Where everybody has a unit of w, everybody copies the rest as well.
const FROM: u32 = UNITS % WG;
const TX: u32 = BN / TN;            // invocations along the rows of w
const TY: u32 = BM / TM;

@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//@ if !ROUTED
@group(0) @binding(5) var<storage, read> bias: array<f32>;
//@ end

var<workgroup> xs: array<vec4<f32>, BM * QUADS>;
var<workgroup> ws: array<vec4<f32>, BN * QUADS>;

fn place(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ (row % QUADS));
}

//@ if !ROUTED
fn left_row(token: u32) -> u32 {
    return token;
}
//@ end

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    //@ if ROUTED
    let mine = tile_of(wid.x, lid);
    if (mine.first >= mine.end) {
        return;
    }
    let token0 = mine.first;
    let end = mine.end;
    let row0 = mine.row0;
    let rows = p.y_stride;
    //@ else
    let token0 = wid.x * BM;
    let end = p.extent;
    let row0 = 0u;
    let rows = p.rows;
    //@ end
    let first = wid.y * BN;
    let tx = lid % TX;
    let ty = lid / TX;
    // acci_j holds token ty + i TY against row tx + j TX.
    //@ for i in TM
    //@ for j in TN
    var acc$i_$j = 0.0;
    //@ end
    //@ end
    let quads = p.units * 4u;
    for (var u = 0u; u < p.units; u += BK / 16u) {
        if (lid < UNITS) {
            let row = lid / (BK / 16u);
            let unit = u + lid % (BK / 16u);
            // Rows past the end repeat the last one and are dropped; columns past it are zero.
            var w = mat4x4<f32>();
            if (unit < p.units) {
                w = dequant16(p.planes, (row0 + min(first + row, rows - 1u)) * p.units + unit);
            }
            let q = lid % (BK / 16u) * 4u;
            ws[place(row, q)] = w[0];
            ws[place(row, q + 1u)] = w[1];
            ws[place(row, q + 2u)] = w[2];
            ws[place(row, q + 3u)] = w[3];
        }
        if (lid >= FROM) {
            for (var i = lid - FROM; i < BM * QUADS; i += WG - FROM) {
                let row = i / QUADS;
                let quad = u * 4u + i % QUADS;
                var v = vec4<f32>();
                if (token0 + row < end && quad < quads) {
                    v = x[left_row(token0 + row) * quads + quad];
                }
                xs[place(row, i % QUADS)] = v;
            }
        }
        workgroupBarrier();
        for (var q = 0u; q < QUADS; q++) {
            //@ for j in TN
            let b$j = ws[place(tx + $ju * TX, q)];
            //@ end
            //@ for i in TM
            let a$i = xs[place(ty + $iu * TY, q)];
            //@ for j in TN
            acc$i_$j = fma(a$i.w, b$j.w, fma(a$i.z, b$j.z, fma(a$i.y, b$j.y, fma(a$i.x, b$j.x, acc$i_$j))));
            //@ end
            //@ end
        }
        workgroupBarrier();
    }
    //@ for i in TM
    //@ for j in TN
    store(token0 + ty + $iu * TY, first + tx + $ju * TX, acc$i_$j);
    //@ end
    //@ end
}
