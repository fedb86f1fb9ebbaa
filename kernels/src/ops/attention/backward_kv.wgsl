// Gradients of attention with respect to the keys and values (FlashAttention-2, Dao 2023,
// arXiv:2307.08691):
//   dk[j, h', :] = scale sum_t,h ds[t, h, j] q[t, h, :],   dv[j, h', :] = sum_t,h p[t, h, j] g[t, h, :]
//   ds = p (g[t, h] . v[j] - D[t, h]),   p = exp(scale q[t, h] . k[j] - lse[t, h])
// over the tokens t of the key's sequence from itself on that see it (backward_mask.wgsl), and the G heads h that share KV head h'.
//
// spans         [all tokens]: first token of the token's sequence, and one past its last
// q, g          [tokens, heads, HD] f32: tokens token0 on; g is the gradient of the outputs
// k, v, dk, dv  [keys, kv_heads, HD] f32: tokens key0 on
// stats         [tokens, heads] of (lse, D), see backward_delta.wgsl
//
// One workgroup of 128 computes R keys of one KV head. It walks the query rows (see kernel.wgsl) 32 at a
// time, and adds to what earlier rows left if `more` is set. Nothing is summed by atomics.

const BQ: u32 = 32u;
const WG: u32 = 128u;
const D4: u32 = HD / 4u;            // vec4 in a head
const RG: u32 = WG / D4;            // groups of keys where gradients are summed
const RN: u32 = (R + RG - 1u) / RG; // keys of a group
const SN: u32 = R / 4u;             // keys of an invocation where scores are computed

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
@group(0) @binding(7) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> dv: array<vec4<f32>>;

var<workgroup> ks: array<vec4<f32>, R * D4>;
var<workgroup> vs: array<vec4<f32>, R * D4>;
var<workgroup> ps: array<f32, R * BQ>;
var<workgroup> ds: array<f32, R * BQ>;

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row0 = wid.y * R;
    let kv_head = wid.x;
    for (var i = lid; i < R * D4; i += WG) {
        let at = (min(row0 + i / D4, p.keys - 1u) * p.kv_heads + kv_head) * D4 + i % D4;
        ks[i] = k[at] * p.scale;
        vs[i] = v[at];
    }
    // Query rows that see one of these keys.
    let first_key = p.key0 + row0;
    let last_key = p.key0 + min(row0 + R, p.keys) - 1u;
    let begin = (max(first_key, p.token0) - p.token0) * p.group;
    let end = (clamp(seen_until(last_key), p.token0, p.token0 + p.tokens) - p.token0) * p.group;

    let lane = lid % BQ;
    let d = lid % D4;
    let group = lid / D4;
    var dk_sum: array<vec4<f32>, RN>;
    var dv_sum: array<vec4<f32>, RN>;
    for (var i = 0u; i < RN; i++) {
        dk_sum[i] = vec4<f32>();
        dv_sum[i] = vec4<f32>();
    }
    workgroupBarrier();

    for (var r0 = begin; r0 < end; r0 += BQ) {
        let row = min(r0 + lane, end - 1u);
        let token = p.token0 + row / p.group;
        let first = first_of(token);
        let head = head_of(row, kv_head);
        let stat = stats[head];
        var s: array<f32, SN>;
        var dp: array<f32, SN>;
        for (var i = 0u; i < SN; i++) {
            s[i] = 0.0;
            dp[i] = 0.0;
        }
        for (var c = 0u; c < D4; c++) {
            let qc = q[head * D4 + c];
            let gc = g[head * D4 + c];
            for (var i = 0u; i < SN; i++) {
                let own = (lid / BQ + 4u * i) * D4 + c;
                s[i] += dot(ks[own], qc);
                dp[i] += dot(vs[own], gc);
            }
        }
        for (var i = 0u; i < SN; i++) {
            let own = lid / BQ + 4u * i;
            let key = first_key + own;
            let visible = r0 + lane < end && key <= last_key && key <= token && key >= first;
            // Clamped, since the exponential of a score that is masked may overflow.
            let weight = select(0.0, exp(min(s[i] - stat.x, 0.0)), visible);
            ps[own * BQ + lane] = weight;
            ds[own * BQ + lane] = weight * (dp[i] - stat.y);
        }
        workgroupBarrier();
        if (group < RG) {
            for (var j = 0u; j < BQ; j++) {
                let at = head_of(min(r0 + j, end - 1u), kv_head) * D4 + d;
                let qc = q[at];
                let gc = g[at];
                for (var i = 0u; i < RN; i++) {
                    let own = min(group + RG * i, R - 1u) * BQ + j;
                    dk_sum[i] += ds[own] * qc;
                    dv_sum[i] += ps[own] * gc;
                }
            }
        }
        workgroupBarrier();
    }

    if (group < RG) {
        for (var i = 0u; i < RN; i++) {
            let r = group + RG * i;
            if (r < R && row0 + r < p.keys) {
                let at = ((row0 + r) * p.kv_heads + kv_head) * D4 + d;
                var key = dk_sum[i] * p.scale;
                var value = dv_sum[i];
                if (p.more == 1u) {
                    key += dk[at];
                    value += dv[at];
                }
                dk[at] = key;
                dv[at] = value;
            }
        }
    }
}
