// A head as LANES invocations hold it, eight values each: those whose pairs are 4 l to 4 l + 3, so that RoPE
// of the whole head, as in rope/kernel.wgsl, needs no neighbour.

const WG: u32 = 256u;
const LANES: u32 = HD / 8u;
const PER: u32 = WG / LANES;  // heads of a workgroup

var<workgroup> sums: array<vec2<f32>, WG>;

// The first and the second values of four pairs.
struct Pairs {
    a: vec4<f32>,
    b: vec4<f32>,
}

// Where a lane's values lie in a head, in vec4.
fn places(lane: u32) -> vec2<u32> {
    if (ADJACENT == 1u) {
        return vec2<u32>(2u * lane, 2u * lane + 1u);
    }
    return vec2<u32>(lane, HD / 8u + lane);
}

// Pairs from values as they lie in memory.
fn paired(x: vec4<f32>, y: vec4<f32>) -> Pairs {
    if (ADJACENT == 1u) {
        return Pairs(vec4<f32>(x.xz, y.xz), vec4<f32>(x.yw, y.yw));
    }
    return Pairs(x, y);
}

// And back: with this and `paired`, what comes first is what lies first.
fn unpaired(v: Pairs) -> Pairs {
    if (ADJACENT == 1u) {
        return Pairs(vec4<f32>(v.a.x, v.b.x, v.a.y, v.b.y), vec4<f32>(v.a.z, v.b.z, v.a.w, v.b.w));
    }
    return v;
}

// RoPE at `position`; forwards with direction 1, back with -1.
fn turned(v: Pairs, lane: u32, position: u32, direction: f32) -> Pairs {
    let near = ((position & 127u) * (HD / 2u) + 4u * lane) / 2u;
    let far = ((128u + (position >> 7u)) * (HD / 2u) + 4u * lane) / 2u;
    let n0 = table[near];
    let n1 = table[near + 1u];
    let f0 = table[far];
    let f1 = table[far + 1u];
    let nc = vec4<f32>(n0.xz, n1.xz);
    let ns = vec4<f32>(n0.yw, n1.yw);
    let fc = vec4<f32>(f0.xz, f1.xz);
    let fs = vec4<f32>(f0.yw, f1.yw);
    let c = (nc * fc - ns * fs) * p.mscale;
    let s = (ns * fc + nc * fs) * (p.mscale * direction);
    return Pairs(v.a * c - v.b * s, v.b * c + v.a * s);
}

// The sum over a head's lanes, in their order.
fn head_sum(v: vec2<f32>, lid: u32) -> vec2<f32> {
    sums[lid] = v;
    workgroupBarrier();
    var sum = vec2<f32>();
    let first = lid / LANES * LANES;
    for (var i = 0u; i < LANES; i++) {
        sum += sums[min(first + i, WG - 1u)];
    }
    return sum;
}
