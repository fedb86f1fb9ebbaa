// Draws the next token of each slot from its row of logits, in llama.cpp's order: repetition penalty (chunks.wgsl has
// applied it), top-k, top-p, min-p, temperature, draw. Temperature 0 is greedy: the largest logit, the
// lowest id among equals.
//
// states   [slots] of struct State below; the kernel advances `position` by p.tokens
// logits   [slots, vocab] f32
// maxima   [slots, vocab / CHUNK] largest logit of each chunk
// ids      [slots] receives the tokens: the next batch; NOT_FINITE where a logit is NaN or infinite
// history  [slots, capacity] u32, the token at each position; receives the token at the new position
//
// top-k, top-p and min-p each keep the logits above a threshold (equals included). The k-th largest and
// the edge of the nucleus are found by radix selection over an order-preserving integer key, 8 bits a
// round, so nothing is sorted; masses are summed as 64-bit integers of 2^-24 so that the order of the
// atomics does not matter and a seed gives the same text on every run. The draw is argmax of
// logit / temperature + Gumbel noise from a hash of (seed, position, id): Gumbel 1954; Maddison et al.
// 2014, arXiv:1411.0030.
//
// Only chunks that can hold one of the k largest are looked at: those whose maximum is at least the
// k-th largest maximum. With top-k 40 that is 40 chunks of 600.
//
// One workgroup of 256 draws for one slot; that of an idle one does nothing.

const WG: u32 = 256u;
const IDLE: u32 = 0xffffffffu;
const NOT_FINITE: u32 = 0xfffffffeu;
const LARGEST: f32 = 3.4028234e38;

struct Params {
    vocab: u32,
    tokens: u32,    // tokens of the batch that gave these logits
    capacity: u32,
    chunks: u32,    // at most MAX_CHUNKS
}

struct State {
    position: u32,
    seed: u32,
    top_k: u32,          // 0: all
    last_n: u32,         // tokens that the penalty looks back
    temperature: f32,
    top_p: f32,
    min_p: f32,
    penalty: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> states: array<State>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> history: array<u32>;

var<workgroup> best: array<f32, WG>;
var<workgroup> best_id: array<u32, WG>;
var<workgroup> low: array<atomic<u32>, 256>;
var<workgroup> high: array<atomic<u32>, 256>;
var<workgroup> sums: array<vec2<u32>, 256>;
var<workgroup> chosen: vec4<u32>;
var<workgroup> active_chunks: array<u32, MAX_CHUNKS>;
var<workgroup> active_count: atomic<u32>;
var<workgroup> broken: atomic<u32>;

// Which slot this is, and where its maxima and its logits begin.
var<private> slot: u32;
var<private> maxima0: u32;
var<private> row: u32;

// Id of the n-th logit of the chunks that are looked at; past the end of the vocabulary for some.
fn id_of(n: u32) -> u32 {
    return active_chunks[n / CHUNK] * CHUNK + n % CHUNK;
}

// Larger logits have larger keys.
fn key_of(v: f32) -> u32 {
    let b = bitcast<u32>(v);
    return select(b | 0x80000000u, ~b, (b & 0x80000000u) != 0u);
}

// Index of the largest value; the lowest among equals. All invocations take part.
fn argmax(value: f32, id: u32, lid: u32) -> u32 {
    best[lid] = value;
    best_id[lid] = id;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s >>= 1u) {
        if (lid < s) {
            let a = best[lid];
            let b = best[lid + s];
            if (b > a || (b == a && best_id[lid + s] < best_id[lid])) {
                best[lid] = b;
                best_id[lid] = best_id[lid + s];
            }
        }
        workgroupBarrier();
    }
    let id_of_best = best_id[0];
    workgroupBarrier();
    return id_of_best;
}

// The mass of a logit relative to the largest one, in units of 2^-24.
fn mass_of(v: f32, top: f32) -> u32 {
    return u32(exp(v - top) * 16777216.0 + 0.5);
}

// Adds to a 64-bit counter.
fn add64(bin: u32, amount: u32) {
    let before = atomicAdd(&low[bin], amount);
    if (before + amount < before) {
        atomicAdd(&high[bin], 1u);
    }
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn sum64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let x = a.x + b.x;
    return vec2<u32>(x, a.y + b.y + select(0u, 1u, x < a.x));
}

// The smallest key such that the logits with that key or a larger one weigh at least `wanted`; only
// keys of `at_least` and more count. A logit weighs 1 (by_mass false) or its mass.
// Selects among the maxima of the chunks if `of_maxima`, else among n logits.
fn select_key(
    wanted: vec2<u32>, by_mass: bool, at_least: u32, top: f32, n: u32, of_maxima: bool, lid: u32,
) -> u32 {
    var prefix = 0u;
    var before = vec2<u32>(); // weight of the keys above the current prefix's range
    for (var round = 0u; round < 4u; round++) {
        let shift = 24u - 8u * round;
        atomicStore(&low[lid], 0u);
        atomicStore(&high[lid], 0u);
        workgroupBarrier();
        for (var i = lid; i < n; i += WG) {
            var v = -3.4e38;
            if (of_maxima) {
                v = maxima[maxima0 + i];
            } else {
                let id = id_of(i);
                if (id < p.vocab) {
                    v = logits[row + id];
                }
            }
            let key = key_of(v);
            let same = round == 0u || (key >> (shift + 8u)) == (prefix >> (shift + 8u));
            if (same && key >= at_least) {
                add64((key >> shift) & 255u, select(1u, mass_of(v, top), by_mass));
            }
        }
        workgroupBarrier();
        // Sums over all bins from each on; the bin looked for is the last whose sum reaches what is wanted.
        sums[lid] = vec2<u32>(atomicLoad(&low[lid]), atomicLoad(&high[lid]));
        workgroupBarrier();
        for (var step = 1u; step < 256u; step <<= 1u) {
            var sum = sums[lid];
            if (lid + step < 256u) {
                sum = sum64(sum, sums[lid + step]);
            }
            workgroupBarrier();
            sums[lid] = sum;
            workgroupBarrier();
        }
        var above = before;
        if (lid < 255u) {
            above = sum64(before, sums[lid + 1u]);
        }
        let reached = !less64(sum64(before, sums[lid]), wanted);
        let first = lid == 255u || less64(above, wanted);
        if (first && (reached || lid == 0u)) {
            chosen = vec4<u32>(lid, above.x, above.y, 0u);
        }
        workgroupBarrier();
        prefix |= chosen.x << shift;
        before = chosen.yz;
        workgroupBarrier();
    }
    return prefix;
}

// PCG hash, Jarzynski and Olano 2020.
fn pcg(v: u32) -> u32 {
    let s = v * 747796405u + 2891336453u;
    let w = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
    return (w >> 22u) ^ w;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    slot = wid.x;
    maxima0 = slot * p.chunks;
    row = slot * p.vocab;
    let state = states[slot];
    if (state.position == IDLE) {
        return;
    }
    let position = state.position + p.tokens;
    // The chunks to look at.
    let k = select(state.top_k, 1u, state.temperature <= 0.0);
    var lowest = 0u;
    if (k == 1u) {
        // The largest maximum needs no selection.
        var most = -3.4e38;
        var chunk = 0u;
        for (var i = lid; i < p.chunks; i += WG) {
            if (maxima[maxima0 + i] > most) {
                most = maxima[maxima0 + i];
                chunk = i;
            }
        }
        lowest = key_of(maxima[maxima0 + argmax(most, chunk, lid)]);
    } else if (k > 0u && k < p.chunks) {
        lowest = select_key(vec2<u32>(k, 0u), false, 0u, 0.0, p.chunks, true, lid);
    }
    if (lid == 0u) {
        atomicStore(&active_count, 0u);
        atomicStore(&broken, 0u);
    }
    workgroupBarrier();
    for (var i = lid; i < p.chunks; i += WG) {
        // What chunks.wgsl writes for a logit that is not finite.
        if (maxima[maxima0 + i] >= LARGEST) {
            atomicStore(&broken, 1u);
        }
        if (key_of(maxima[maxima0 + i]) >= lowest) {
            active_chunks[atomicAdd(&active_count, 1u)] = i;
        }
    }
    workgroupBarrier();
    let n = atomicLoad(&active_count) * CHUNK;

    var value = -3.4e38;
    var id = 0u;
    for (var j = lid; j < n; j += WG) {
        let i = id_of(j);
        if (i < p.vocab) {
            let v = logits[row + i];
            if (v > value || (v == value && i < id)) {
                value = v;
                id = i;
            }
        }
    }
    var token = argmax(value, id, lid);
    let top = logits[row + token];

    if (state.temperature > 0.0) {
        var at_least = 0u;
        if (state.top_k > 0u && state.top_k < p.vocab) {
            at_least = select_key(vec2<u32>(state.top_k, 0u), false, 0u, top, n, false, lid);
        }
        if (state.top_p < 1.0) {
            // The whole mass first, in bin 0.
            if (lid == 0u) {
                atomicStore(&low[0], 0u);
                atomicStore(&high[0], 0u);
            }
            workgroupBarrier();
            for (var j = lid; j < n; j += WG) {
                let i = id_of(j);
                if (i < p.vocab && key_of(logits[row + i]) >= at_least) {
                    add64(0u, mass_of(logits[row + i], top));
                }
            }
            workgroupBarrier();
            let whole = f32(atomicLoad(&high[0])) * 4294967296.0 + f32(atomicLoad(&low[0]));
            let part = max(whole * state.top_p, 1.0);
            let upper = floor(part / 4294967296.0);
            let wanted = vec2<u32>(u32(part - upper * 4294967296.0), u32(upper));
            workgroupBarrier();
            at_least = max(at_least, select_key(wanted, true, at_least, top, n, false, lid));
        }
        let floor_p = select(-3.4e38, top + log(state.min_p), state.min_p > 0.0);
        value = -3.4e38;
        id = token;
        for (var j = lid; j < n; j += WG) {
            let i = id_of(j);
            if (i < p.vocab && key_of(logits[row + i]) >= at_least && logits[row + i] >= floor_p) {
                let h = pcg(i ^ pcg(position ^ pcg(state.seed)));
                let uniform_ = (f32(h >> 8u) + 0.5) / 16777216.0;
                let noisy = (logits[row + i] - top) / state.temperature - log(-log(uniform_));
                if (noisy > value || (noisy == value && i < id)) {
                    value = noisy;
                    id = i;
                }
            }
        }
        token = argmax(value, id, lid);
    }
    // Every invocation has read the old position by now: argmax ends with a barrier.
    if (lid == 0u) {
        token = select(token, NOT_FINITE, atomicLoad(&broken) != 0u);
        ids[slot] = token;
        if (position < p.capacity) {
            history[slot * p.capacity + position] = token;
        }
        states[slot].position = position;
    }
}
