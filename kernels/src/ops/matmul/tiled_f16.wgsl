// As tiled.wgsl, with x and w rounded to f16: products of BK columns are summed in pairs of f16, and
// those sums in f32.

const QUADS: u32 = BK / 4u;         // vec4 along the columns of a tile
const TX: u32 = BN / TN;            // invocations along the rows of w
const TY: u32 = BM / TM;

@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

var<workgroup> xs: array<vec4<f16>, BM * QUADS>;
var<workgroup> ws: array<vec4<f16>, BN * QUADS>;

fn place(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ (row % QUADS));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let token0 = wid.x * BM;
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
        // Rows and tokens past the end repeat the last one and are dropped; columns past it are made
        // zero in x.
        for (var i = lid; i < BN * BK / 16u; i += WG) {
            let row = i / (BK / 16u);
            let unit = min(u + i % (BK / 16u), p.units - 1u);
            let w = dequant16h(p.planes, min(first + row, p.rows - 1u) * p.units + unit);
            let q = i % (BK / 16u) * 4u;
            ws[place(row, q)] = w[0];
            ws[place(row, q + 1u)] = w[1];
            ws[place(row, q + 2u)] = w[2];
            ws[place(row, q + 3u)] = w[3];
        }
        for (var i = lid; i < BM * QUADS; i += WG) {
            let row = i / QUADS;
            let quad = u * 4u + i % QUADS;
            let v = x[min(token0 + row, p.extent - 1u) * quads + min(quad, quads - 1u)];
            xs[place(row, i % QUADS)] = select(
                vec4<f16>(), vec4<f16>(v), quad < quads);
        }
        workgroupBarrier();
        //@ for i in TM
        //@ for j in TN
        var h$i_$j = vec2<f16>();
        //@ end
        //@ end
        for (var q = 0u; q < QUADS; q++) {
            //@ for j in TN
            let b$j = ws[place(tx + $ju * TX, q)];
            //@ end
            //@ for i in TM
            let a$i = xs[place(ty + $iu * TY, q)];
            //@ for j in TN
            h$i_$j = fma(a$i.zw, b$j.zw, fma(a$i.xy, b$j.xy, h$i_$j));
            //@ end
            //@ end
        }
        //@ for i in TM
        //@ for j in TN
        acc$i_$j += f32(h$i_$j.x) + f32(h$i_$j.y);
        //@ end
        //@ end
        workgroupBarrier();
    }
    //@ for i in TM
    //@ for j in TN
    store(token0 + ty + $iu * TY, first + tx + $ju * TX, acc$i_$j);
    //@ end
    //@ end
}
