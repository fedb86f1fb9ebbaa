// Causal attention, online softmax:
//   o[t, h, :] = sum_j softmax_j(scale q[t, h] . k[j, h / G]) v[j, h / G],   first(t) <= j < end(t)
//   lse[t, h]  = log sum_j exp(scale q[t, h] . k[j, h / G])
// Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
//
// Which keys a token sees is the fragment's (cached.wgsl, slots.wgsl, packed.wgsl), which declares
// bindings 1 to 3;
// how the keys are stored is another's (cache_*.wgsl).
// k_cache  one chunk of the keys, [positions, kv_heads, HD]
// v_cache  likewise
// q        [tokens, heads, HD] f32; if APART is 1, keys lie without a bias, whose part of a score has its coefficients
//          behind each head of q, see qk_norm_rope/kernel.wgsl
// table    [128 + blocks, HD / 2] of (cos, sin), see rope/kernel.wgsl; bound if APART is 1
// o        [tokens, heads, HD] f32, or with several splits [splits, tokens, heads, HD]
// lse      [splits, tokens, heads] f32; read if MERGE is set, written if KEEP is
//
// The G query heads that share a KV head are packed with the tokens: row r of a KV head is token
// r / G, query head r % G. One workgroup of 128 computes BQ such rows against one split of one chunk,
// 32 keys at a time. Splits are merged by attention_combine; a chunk merges with those before it here.
// Where there are several slots, each has a token, or some that follow each other, and workgroups of its own: along z,
// behind the splits.

const BK: u32 = 32u;
const WG: u32 = 128u;
const D4: u32 = HD / 4u;             // vec4 in a head
const Q4: u32 = (1u + APART) * D4;   // of a query
const RG: u32 = WG / D4;             // groups of rows in the value phase
const RN: u32 = (BQ + RG - 1u) / RG; // rows of a group
const SN: u32 = BQ / 4u;             // rows of an invocation in the score phase
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
    slots: u32,     // 1, or as many as there are of `tokens` tokens each
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

var<workgroup> qs: array<vec4<f32>, BQ * Q4>;
var<workgroup> scores: array<f32, BQ * BK>;
var<workgroup> decay: array<f32, BQ>;
var<workgroup> largest: array<f32, BQ>;

// Index of row r of a slot, whose first token this is, in [tokens, heads].
fn head_of(slot: u32, r: u32, kv_head: u32) -> u32 {
    return ((slot + r / p.group) * p.kv_heads + kv_head) * p.group + r % p.group;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row0 = wid.y * BQ;
    let kv_head = wid.x;
    let slot = wid.z / p.splits * p.tokens;
    let split = wid.z % p.splits;
    let rows = p.tokens * p.group;
    for (var i = lid; i < BQ * Q4; i += WG) {
        let r = min(row0 + i / Q4, rows - 1u);
        qs[i] = q[head_of(slot, r, kv_head) * Q4 + i % Q4] * p.scale;
    }

    // Keys this workgroup walks: those of the chunk that its last row sees, cut into splits.
    let last = slot + min(row0 + BQ - 1u, rows - 1u) / p.group;
    let end = min(end_of(last), p.position0 + p.positions);
    let begin = tile_of(max(first_of(slot + row0 / p.group), p.position0));
    let n = max(end, begin) - begin;
    let each = ((n + p.splits - 1u) / p.splits + BK - 1u) / BK * BK;
    let first_key = min(begin + split * each, max(end, begin));
    let last_key = min(first_key + each, max(end, begin));

    let key_row = lid / BK;       // score phase: rows key_row + 4 i, key lid % 32
    let d = lid % D4;             // value phase: 4 dimensions of rows group + RG i
    let group = lid / D4;
    var m: array<f32, SN>;
    var first: array<u32, SN>;    // first key of a row, and one past its last
    var beyond: array<u32, SN>;
    var acc: array<vec4<f32>, RN>;
    var l: array<f32, RN>;
    for (var i = 0u; i < SN; i++) {
        m[i] = LOWEST;
        let token = slot + min(row0 + key_row + 4u * i, rows - 1u) / p.group;
        first[i] = first_of(token);
        beyond[i] = end_of(token);
    }
    for (var i = 0u; i < RN; i++) {
        acc[i] = vec4<f32>();
        l[i] = 0.0;
    }
    if (lid < BQ) {
        largest[lid] = LOWEST;
    }
    workgroupBarrier();

    var place = place_of(first_key, slot);
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        let next_place = place_of(k0 + BK, slot);
        let key = k0 + lid % BK;
        let k_at = ((place + min(key, last_key - 1u) - k0) * p.kv_heads + kv_head) * (HD / 8u);
        var s: array<f32, SN>;
        for (var i = 0u; i < SN; i++) {
            s[i] = 0.0;
        }
        for (var c = 0u; c < HD / 8u; c++) {
            let k = wide(held_key(k_at + c));
            for (var i = 0u; i < SN; i++) {
                let at = (key_row + 4u * i) * Q4 + 2u * c;
                s[i] += dot(qs[at], k[0]) + dot(qs[at + 1u], k[1]);
            }
        }
        //@ if APART
        let position = position_at(min(key, last_key - 1u), slot);
        for (var c = 0u; c < HD / 8u; c++) {
            let turn = phases(position, c);
            for (var i = 0u; i < SN; i++) {
                let at = (key_row + 4u * i) * Q4 + D4 + 2u * c;
                s[i] += dot(qs[at], turn[0]) + dot(qs[at + 1u], turn[1]);
            }
        }
        //@ end
        for (var i = 0u; i < SN; i++) {
            let r = key_row + 4u * i;
            let visible = key < last_key && key < beyond[i] && key >= first[i];
            s[i] = select(LOWEST, s[i], visible);
            scores[r * BK + lid % BK] = s[i];
        }
        workgroupBarrier();
        for (var i = 0u; i < SN; i++) {
            let r = key_row + 4u * i;
            var top = m[i];
            for (var j = 0u; j < BK; j++) {
                top = max(top, scores[r * BK + j]);
            }
            if (lid % BK == 0u) {
                decay[r] = exp(m[i] - top);
                largest[r] = top;
            }
            m[i] = top;
        }
        workgroupBarrier();
        for (var i = 0u; i < SN; i++) {
            let weight = select(0.0, exp(s[i] - m[i]), s[i] > LOWEST);
            scores[(key_row + 4u * i) * BK + lid % BK] = weight;
        }
        workgroupBarrier();
        if (group < RG) {
            for (var i = 0u; i < RN; i++) {
                let r = min(group + RG * i, BQ - 1u);
                acc[i] *= decay[r];
                l[i] *= decay[r];
            }
            for (var j = 0u; j < BK; j++) {
                let at = ((place + min(j, last_key - 1u - k0)) * p.kv_heads + kv_head) * D4 + d;
                let v8 = wide(held_value(at / 2u));
                let v = select(v8[0], v8[1], at % 2u == 1u);
                for (var i = 0u; i < RN; i++) {
                    let weight = scores[min(group + RG * i, BQ - 1u) * BK + j];
                    acc[i] += weight * v;
                    l[i] += weight;
                }
            }
        }
        place = next_place;
        workgroupBarrier();
    }

    // What chunks before this one left is read by all before it is overwritten.
    let part = split * p.slots * rows * p.kv_heads;
    var before: array<f32, RN>;
    for (var i = 0u; i < RN; i++) {
        let r = min(row0 + min(group + RG * i, BQ - 1u), rows - 1u);
        before[i] = LOWEST;
        if ((p.flags & MERGE) != 0u) {
            before[i] = lse[part + head_of(slot, r, kv_head)];
        }
    }
    storageBarrier();
    if (group < RG) {
        for (var i = 0u; i < RN; i++) {
            let r = group + RG * i;
            if (r < BQ && row0 + r < rows) {
                let at = part + head_of(slot, row0 + r, kv_head);
                var value = acc[i] / max(l[i], 1e-30);
                var mine = select(LOWEST, largest[r] + log(l[i]), l[i] > 0.0);
                if ((p.flags & MERGE) != 0u) {
                    let top = max(mine, before[i]);
                    let a = exp(mine - top);
                    let b = exp(before[i] - top);
                    value = (a * value + b * o[at * D4 + d]) / (a + b);
                    mine = top + log(a + b);
                }
                o[at * D4 + d] = value;
                if (d == 0u && (p.flags & KEEP) != 0u) {
                    lse[at] = mine;
                }
            }
        }
    }
}
