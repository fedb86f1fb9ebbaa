// Causal attention, online softmax, for many query rows on devices without cooperative matrices:
//   o[t, h, :] = sum_j softmax_j(scale q[t, h] . k[j, h / G]) v[j, h / G],   first(t) <= j < end(t)
//   lse[t, h]  = log sum_j exp(scale q[t, h] . k[j, h / G])
// Dao et al. 2022, arXiv:2205.14135; all in f32.
//
// Bindings, rows, splits, chunks and APART are those of kernel.wgsl. One workgroup of 128 computes BQ rows, 32 keys at
// a time. Scores are a product of register tiles, SR rows x 4 keys an invocation, fed from workgroup memory SL
// dimensions at a time. Their exponentials go through workgroup memory to the second product, RV rows x 8
// dimensions an invocation, which reads values from the cache.

const BK: u32 = 32u;
const WG: u32 = 128u;
const D4: u32 = HD / 4u;      // vec4 in a head
const Q4: u32 = (1u + APART) * D4;
const L4: u32 = SL / 4u;      // vec4 in a slice of it
const LANES: u32 = HD / 8u;   // invocations along a row of values
const LOWEST: f32 = -3.0e38;

struct Params {
    token0: u32,    // token of the batch that q begins with
    tokens: u32,
    kv_heads: u32,
    group: u32,     // G = heads / kv_heads
    position0: u32, // first position of the chunk
    positions: u32,
    splits: u32,
    window: u32,    // 0: all earlier positions
    flags: u32,     // KEEP, MERGE, RING, OLDER
    scale: f32,
    slots: u32,     // 1
    context: u32,   // positions of a slot, or blocks of its table
    chunk: u32,     // which of the chunks of a pool of blocks
    chunks: u32,
    table: u32,     // word of the state at which tables begin
    piece: u32,     // and that of the state of a prompt's piece
}

const KEEP: u32 = 1u;
const MERGE: u32 = 2u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

var<workgroup> qs: array<vec4<f32>, BQ * L4>;
var<workgroup> ks: array<vec4<f32>, BK * L4>;
var<workgroup> weights: array<vec4<f32>, BQ * 8u>;
var<workgroup> part: array<f32, BQ * 8u>;   // of 4 keys, for each row
var<workgroup> decay: array<f32, BQ>;
var<workgroup> largest: array<f32, BQ>;

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group * p.kv_heads + kv_head) * p.group + r % p.group;
}

// Where a vec4 of a key lies. Neighbours that read keys 4 apart fall into different banks.
fn bank(key: u32, quad: u32) -> u32 {
    let row = key % 4u * 8u + key / 4u;
    return row * L4 + (quad ^ (row / (8u / L4) % L4));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    // Rows with the most keys start first.
    let row0 = (grid.y - 1u - wid.y) * BQ;
    let kv_head = wid.x;
    let rows = p.tokens * p.group;

    // Keys this workgroup walks: those of the chunk that its last row sees, cut into splits.
    let last = min(row0 + BQ - 1u, rows - 1u) / p.group;
    let end = min(end_of(last), p.position0 + p.positions);
    let begin = tile_of(max(first_of(row0 / p.group), p.position0));
    let n = max(end, begin) - begin;
    let each = ((n + p.splits - 1u) / p.splits + BK - 1u) / BK * BK;
    let first_key = min(begin + wid.z * each, max(end, begin));
    let last_key = min(first_key + each, max(end, begin));

    let kg = lid % 8u;            // scores: keys 4 kg to 4 kg + 3 of
    let rg = lid / 8u;            // rows rg + 16 i
    let lane = lid % LANES;       // values: 8 dimensions of
    let row = lid / LANES * RV;   // rows row + i
    //@ for i in SR
    var m$i = LOWEST;
    var l$i = 0.0;
    let token$i = min(row0 + rg + 16u * $iu, rows - 1u) / p.group;
    let first$i = first_of(token$i);
    let beyond$i = end_of(token$i);
    //@ end
    //@ for i in RV
    var low$i = vec4<f32>();
    var high$i = vec4<f32>();
    //@ end

    var place = place_of(first_key, 0u);
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        let next_place = place_of(k0 + BK, 0u);
        //@ for i in SR
        var s$i = vec4<f32>();
        //@ end
        for (var d = 0u; d < Q4; d += L4) {
            workgroupBarrier();
            for (var i = lid; i < BK * L4 / 2u; i += WG) {
                let key = i / (L4 / 2u);
                let at = ((place + min(key, last_key - 1u - k0)) * p.kv_heads + kv_head) * LANES;
                //@ if APART
                // Behind a head's dimensions, what its bias is turned by.
                var k = wide(held_key(at + min(d, D4 - L4) / 2u + i % (L4 / 2u)));
                if (d >= D4) {
                    k = phases(position_at(min(k0 + key, last_key - 1u), 0u), (d - D4) / 2u + i % (L4 / 2u));
                }
                //@ else
                let k = wide(held_key(at + d / 2u + i % (L4 / 2u)));
                //@ end
                ks[bank(key, i % (L4 / 2u) * 2u)] = k[0];
                ks[bank(key, i % (L4 / 2u) * 2u + 1u)] = k[1];
            }
            for (var i = lid; i < BQ * L4; i += WG) {
                let r = min(row0 + i / L4, rows - 1u);
                qs[i] = q[head_of(r, kv_head) * Q4 + d + i % L4] * p.scale;
            }
            workgroupBarrier();
            for (var c = 0u; c < L4; c++) {
                //@ for j in FOUR
                let k$j = ks[bank(4u * kg + $ju, c)];
                //@ end
                //@ for i in SR
                let q$i = qs[(rg + 16u * $iu) * L4 + c];
                //@ for j in FOUR
                s$i[$j] = fma(q$i.w, k$j.w, fma(q$i.z, k$j.z, fma(q$i.y, k$j.y, fma(q$i.x, k$j.x, s$i[$j]))));
                //@ end
                //@ end
            }
        }
        let key = vec4<u32>(k0 + 4u * kg) + vec4<u32>(0u, 1u, 2u, 3u);
        let exists = key < vec4<u32>(last_key);
        //@ for i in SR
        s$i = select(vec4<f32>(LOWEST), s$i, exists & (key < vec4<u32>(beyond$i)) & (key >= vec4<u32>(first$i)));
        part[(rg + 16u * $iu) * 8u + kg] = max(max(s$i.x, s$i.y), max(s$i.z, s$i.w));
        //@ end
        workgroupBarrier();
        //@ for i in SR
        let r$i = rg + 16u * $iu;
        var top$i = m$i;
        for (var j = 0u; j < 8u; j++) {
            top$i = max(top$i, part[r$i * 8u + j]);
        }
        let fade$i = exp(m$i - top$i);
        m$i = top$i;
        let w$i = select(vec4<f32>(), exp(s$i - top$i), s$i > vec4<f32>(LOWEST));
        l$i = l$i * fade$i + w$i.x + w$i.y + w$i.z + w$i.w;
        weights[r$i * 8u + (kg ^ (r$i % 8u))] = w$i;
        if (kg == 0u) {
            decay[r$i] = fade$i;
        }
        //@ end
        workgroupBarrier();
        //@ for i in RV
        low$i *= decay[row + $iu];
        high$i *= decay[row + $iu];
        //@ end
        for (var j = 0u; j < 8u; j++) {
            //@ for n in FOUR
            let h$n = held_value(((place + min(4u * j + $nu, last_key - 1u - k0)) * p.kv_heads + kv_head) * LANES + lane);
            //@ end
            //@ for n in FOUR
            let v$n = wide(h$n);
            //@ end
            //@ for i in RV
            let x$i = weights[(row + $iu) * 8u + (j ^ ((row + $iu) % 8u))];
            low$i = fma(x$i.xxxx, v0[0], fma(x$i.yyyy, v1[0], fma(x$i.zzzz, v2[0], fma(x$i.wwww, v3[0], low$i))));
            high$i = fma(x$i.xxxx, v0[1], fma(x$i.yyyy, v1[1], fma(x$i.zzzz, v2[1], fma(x$i.wwww, v3[1], high$i))));
            //@ end
        }
        place = next_place;
    }

    //@ for i in SR
    part[(rg + 16u * $iu) * 8u + kg] = l$i;
    if (kg == 0u) {
        largest[rg + 16u * $iu] = m$i;
    }
    //@ end
    // What chunks before this one left is read by all before it is overwritten.
    let out = wid.z * rows * p.kv_heads;
    //@ for i in RV
    let at$i = out + head_of(min(row0 + row + $iu, rows - 1u), kv_head);
    var before$i = LOWEST;
    if ((p.flags & MERGE) != 0u) {
        before$i = lse[at$i];
    }
    //@ end
    storageBarrier();
    workgroupBarrier();
    //@ for i in RV
    if (row0 + row + $iu < rows) {
        var sum = 0.0;
        for (var j = 0u; j < 8u; j++) {
            sum += part[(row + $iu) * 8u + j];
        }
        var a = 1.0 / max(sum, 1e-30);
        var mine = select(LOWEST, largest[row + $iu] + log(sum), sum > 0.0);
        let to = at$i * D4 + 2u * lane;
        if ((p.flags & MERGE) != 0u) {
            let top = max(mine, before$i);
            let b = exp(before$i - top);
            let whole = exp(mine - top) + b;
            a *= exp(mine - top) / whole;
            o[to] = a * low$i + b / whole * o[to];
            o[to + 1u] = a * high$i + b / whole * o[to + 1u];
            mine = top + log(whole);
        } else {
            o[to] = a * low$i;
            o[to + 1u] = a * high$i;
        }
        if (lane == 0u && (p.flags & KEEP) != 0u) {
            lse[at$i] = mine;
        }
    }
    //@ end
}
