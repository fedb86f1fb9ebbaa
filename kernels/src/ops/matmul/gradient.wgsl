// Input gradient of a matrix product:  dx[t, c] = sum_r dy[t, r] w[r, c]  (+ dx[t, c])
//
// w   one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// dy  [tokens, y_stride] f32, from column p.column on
// dx  [tokens, cols] f32, added to if p.flags has ADD
//
// One workgroup computes a tile of BM tokens x BN columns, TM x TN an invocation. It walks the rows of
// the slab BK at a time: some invocations dequantise a unit of w each, the others copy the tile of dy. Weights lie as in the forward kernel's planes; only here their 16 values go along the tile's
// width, where they went along its depth. 16 KiB of workgroup memory: exactly what core WebGPU allows.

const ADD: u32 = 2u;
const UNITS: u32 = BK * BN / 16u;  // of w in a tile
// Where everybody has a unit of w, everybody copies the rest as well.
const FROM: u32 = UNITS % WG;
const AQ: u32 = BK / 4u;  // vec4 along the depth of a tile
const BQ: u32 = BN / 4u;  // vec4 along its width
const TX: u32 = BN / TN;  // invocations along its width

@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

var<workgroup> ds: array<vec4<f32>, BM * AQ>;
var<workgroup> ws: array<vec4<f32>, BK * BQ>;

// Neighbouring rows of ds fall into different banks.
fn place(row: u32, quad: u32) -> u32 {
    return row * AQ + (quad ^ (row % AQ));
}

// Row r of dy, of so many that there are, or 0 past the end.
fn dy_at(base: u32, r: u32, rows: u32) -> f32 {
    return select(0.0, dy[base + min(r, rows - 1u)], r < rows);
}

// Where a token's rows of dy begin.
fn dy_row(token: u32) -> u32 {
    //@ if ROUTED
    return left_row(token) * p.y_stride;
    //@ else
    return token * p.y_stride + p.column + p.row0;
    //@ end
}

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
    let unit0 = wid.y * (BN / 16u);
    let tx = lid % TX;
    let ty = lid / TX;
    // acci_j holds token ty + i BM / TM against the four columns of vec4 tx + j TX.
    //@ for i in TM
    //@ for j in TQ
    var acc$i_$j = vec4<f32>();
    //@ end
    //@ end
    for (var r0 = 0u; r0 < rows; r0 += BK) {
        if (lid < UNITS) {
            // Rows and units past the end repeat the last one: dy is 0 for those, these are dropped.
            let row = lid / (BN / 16u);
            let unit = lid % (BN / 16u);
            let at_row = row0 + min(r0 + row, rows - 1u);
            let w = dequant16(p.planes, at_row * p.units + min(unit0 + unit, p.units - 1u));
            let at = row * BQ + unit * 4u;
            ws[at] = w[0];
            ws[at + 1u] = w[1];
            ws[at + 2u] = w[2];
            ws[at + 3u] = w[3];
        }
        if (lid >= FROM) {
            for (var i = lid - FROM; i < BM * AQ; i += WG - FROM) {
                let row = i / AQ;
                let r = r0 + i % AQ * 4u;
                let base = dy_row(min(token0 + row, end - 1u));
                ds[place(row, i % AQ)] =
                    vec4<f32>(dy_at(base, r, rows), dy_at(base, r + 1u, rows), dy_at(base, r + 2u, rows),
                        dy_at(base, r + 3u, rows));
            }
        }
        workgroupBarrier();
        for (var q = 0u; q < AQ; q++) {
            //@ for j in TQ
            let at$j = q * 4u * BQ + tx + $ju * TX;
            let a$j = ws[at$j];
            let b$j = ws[at$j + BQ];
            let c$j = ws[at$j + 2u * BQ];
            let d$j = ws[at$j + 3u * BQ];
            //@ end
            //@ for i in TM
            let v$i = ds[place(ty + $iu * (BM / TM), q)];
            //@ for j in TQ
            acc$i_$j = fma(vec4<f32>(v$i.x), a$j, acc$i_$j);
            acc$i_$j = fma(vec4<f32>(v$i.y), b$j, acc$i_$j);
            acc$i_$j = fma(vec4<f32>(v$i.z), c$j, acc$i_$j);
            acc$i_$j = fma(vec4<f32>(v$i.w), d$j, acc$i_$j);
            //@ end
            //@ end
        }
        workgroupBarrier();
    }
    //@ for i in TM
    //@ for j in TQ
    store(token0 + ty + $iu * (BM / TM), end, unit0 * 4u + tx + $ju * TX, acc$i_$j);
    //@ end
    //@ end
}

fn store(token: u32, end: u32, quad: u32, sum: vec4<f32>) {
    if (token < end && quad < p.units * 4u) {
        let at = token * p.units * 4u + quad;
        var v = sum;
        if ((p.flags & ADD) != 0u) {
            v += dx[at];
        }
        dx[at] = v;
    }
}
