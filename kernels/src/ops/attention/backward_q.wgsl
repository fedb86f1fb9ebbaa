// Gradient of attention with respect to the queries (FlashAttention-2, Dao 2023, arXiv:2307.08691):
//   dq[t, h, :] = scale sum_j ds[t, h, j] k[j, h / G, :]
//   ds = p (g[t, h] . v[j] - D[t, h]),   p = exp(scale q[t, h] . k[j] - lse[t, h])
// over the keys j of the token's sequence up to itself, or the last `window` of them (backward_mask.wgsl).
//
// spans      [all tokens]: first token of the token's sequence, and one past its last
// q, g, dq   [tokens, heads, HD] f32, g being the gradient of the outputs
// k, v       [keys, kv_heads, HD] f32: tokens key0 on
// stats      [tokens, heads] of (lse, D), see backward_delta.wgsl
//
// The G query heads that share a KV head are packed with the tokens, as in kernel.wgsl. One workgroup of
// 128 computes R such rows, 32 keys at a time, and adds to what earlier keys left if `more` is set.

const BK: u32 = 32u;
const WG: u32 = 128u;
const D4: u32 = HD / 4u;            // vec4 in a head
const RG: u32 = WG / D4;            // groups of rows where gradients are summed
const RN: u32 = (R + RG - 1u) / RG; // rows of a group
const SN: u32 = R / 4u;             // rows of an invocation where scores are computed

struct Params {
    token0: u32,   // first token of q
    tokens: u32,
    key0: u32,     // first token of k
    keys: u32,
    kv_heads: u32,
    group: u32,    // G = heads / kv_heads
    more: u32,
    scale: f32,
    window: u32,   // 0: all earlier tokens
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> k: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;

var<workgroup> qs: array<vec4<f32>, R * D4>;
var<workgroup> gs: array<vec4<f32>, R * D4>;
var<workgroup> ds: array<f32, R * BK>;

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row0 = wid.y * R;
    let kv_head = wid.x;
    let last_row = p.tokens * p.group - 1u;
    for (var i = lid; i < R * D4; i += WG) {
        let at = head_of(min(row0 + i / D4, last_row), kv_head) * D4 + i % D4;
        qs[i] = q[at] * p.scale;
        gs[i] = g[at];
    }
    let end = min(p.token0 + min(row0 + R - 1u, last_row) / p.group + 1u, p.key0 + p.keys);
    let begin = max(first_of(p.token0 + row0 / p.group), p.key0);

    let lane = lid % BK;
    var first: array<u32, SN>;
    var seen: array<u32, SN>;
    var stat: array<vec2<f32>, SN>;
    for (var i = 0u; i < SN; i++) {
        let row = min(row0 + lid / BK + 4u * i, last_row);
        seen[i] = p.token0 + row / p.group;
        first[i] = first_of(seen[i]);
        stat[i] = stats[head_of(row, kv_head)];
    }
    let d = lid % D4;
    let group = lid / D4;
    var acc: array<vec4<f32>, RN>;
    for (var i = 0u; i < RN; i++) {
        acc[i] = vec4<f32>();
    }
    workgroupBarrier();

    for (var k0 = begin; k0 < end; k0 += BK) {
        let key = k0 + lane;
        let at = ((min(key, end - 1u) - p.key0) * p.kv_heads + kv_head) * D4;
        var s: array<f32, SN>;
        var dp: array<f32, SN>;
        for (var i = 0u; i < SN; i++) {
            s[i] = 0.0;
            dp[i] = 0.0;
        }
        for (var c = 0u; c < D4; c++) {
            let kc = k[at + c];
            let vc = v[at + c];
            for (var i = 0u; i < SN; i++) {
                let own = (lid / BK + 4u * i) * D4 + c;
                s[i] += dot(qs[own], kc);
                dp[i] += dot(gs[own], vc);
            }
        }
        for (var i = 0u; i < SN; i++) {
            let visible = key < end && key <= seen[i] && key >= first[i];
            // Clamped, since the exponential of a score that is masked may overflow.
            let weight = select(0.0, exp(min(s[i] - stat[i].x, 0.0)), visible);
            ds[(lid / BK + 4u * i) * BK + lane] = weight * (dp[i] - stat[i].y);
        }
        workgroupBarrier();
        if (group < RG) {
            for (var j = 0u; j < BK; j++) {
                let kc = k[((min(k0 + j, end - 1u) - p.key0) * p.kv_heads + kv_head) * D4 + d];
                for (var i = 0u; i < RN; i++) {
                    acc[i] += ds[min(group + RG * i, R - 1u) * BK + j] * kc;
                }
            }
        }
        workgroupBarrier();
    }

    if (group < RG) {
        for (var i = 0u; i < RN; i++) {
            let r = group + RG * i;
            if (r < R && row0 + r <= last_row) {
                let at = head_of(row0 + r, kv_head) * D4 + d;
                var sum = acc[i] * p.scale;
                if (p.more == 1u) {
                    sum += dq[at];
                }
                dq[at] = sum;
            }
        }
    }
}
