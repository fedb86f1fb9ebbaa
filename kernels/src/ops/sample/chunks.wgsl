// Applies the repetition penalty to a row of logits and finds the largest of each chunk.
//   logits[t] = logits[t] / penalty if positive, else logits[t] * penalty, for t among the last_n tokens
//   maxima[c] = max of logits[c CHUNK .. (c + 1) CHUNK], or the largest finite f32 if one of them is not finite
// Keskar et al. 2019, arXiv:1909.05858.
//
// Bindings as in kernel.wgsl; history is read only. One workgroup of 64 serves one chunk of one slot: it penalises
// the recent tokens that fall into its chunk, each once, and then reduces.

const WG: u32 = 64u;
const IDLE: u32 = 0xffffffffu;
const LARGEST: f32 = 3.4028234e38;

struct Params {
    vocab: u32,
    tokens: u32,    // tokens of the batch that gave these logits
    capacity: u32,
    chunks: u32,
}

struct State {
    position: u32,
    seed: u32,
    top_k: u32,
    last_n: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    penalty: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> states: array<State>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(4) var<storage, read> history: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let first = wid.x * CHUNK;
    let state = states[wid.y];
    if (state.position == IDLE) {
        return;
    }
    let past = wid.y * p.capacity; // of history
    let row = wid.y * p.vocab;
    if (state.penalty != 1.0) {
        let position = state.position + p.tokens;
        let n = min(state.last_n, position);
        for (var i = lid; i < n; i += WG) {
            let token = history[past + position - 1u - i];
            var mine = token >= first && token < min(first + CHUNK, p.vocab);
            for (var j = 0u; j < i; j++) {
                mine = mine && history[past + position - 1u - j] != token;
            }
            if (mine) {
                let v = logits[row + token];
                logits[row + token] = select(v / state.penalty, v * state.penalty, v <= 0.0);
            }
        }
        storageBarrier();
    }
    var largest = -3.4e38;
    for (var i = lid; i < CHUNK; i += WG) {
        if (first + i < p.vocab) {
            let v = logits[row + first + i];
            // By its bits: a compiler may take it for granted that no value is NaN.
            let finite = (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
            largest = select(LARGEST, max(largest, v), finite);
        }
    }
    largest = wg_max(largest, lid);
    if (lid == 0u) {
        maxima[wid.y * p.chunks + wid.x] = largest;
    }
}
