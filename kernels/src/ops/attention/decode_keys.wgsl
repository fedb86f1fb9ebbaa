// The keys of decode.wgsl. LK lanes share a key, 8 CH dimensions each, so that TEAMS keys are read at a time; a team takes
// U of them, then TEAMS U further, or as many times that as there are splits. Each team has its own maximum and sum until
// the end, so that nothing waits.
//
// Four lanes, a quad, have 32 dimensions, which are a block where the cache has scales. What lanes have of U scores is
// folded in the quad: two lanes exchange half of what each has, until a lane has the sums of MINE keys, the first of
// them `first_of(lane)`. So exponentials and scales are needed for those keys alone. Weights go back to the quad with the
// scales of its values, and what values are too large by (`zero`) is taken from the sums in the end.

const TEAMS: u32 = WG / LK;
const CK: u32 = TEAMS * U; // keys of a round
const AHEAD: f32 = 40.0;
const MOST: f32 = 16256.0; // 127 x 128: the largest query in integers

// Sum over the LK lanes that share a key.
fn over_lanes(x: f32) -> f32 {
    var sum = x;
    for (var step = 1u; step < LK; step <<= 1u) {
        sum += subgroupShuffleXor(sum, step);
    }
    return sum;
}

fn over_quad(x: f32) -> f32 {
    let sum = x + subgroupShuffleXor(x, 1u);
    return sum + subgroupShuffleXor(sum, 2u);
}

// The first of a lane's keys, of the U, and the lane that has key u.
fn first_of(lane: u32) -> u32 {
    return (lane & 1u) * (U / 2u) + (lane / 2u & 1u) * (U / 4u) + lane % FOLDED / 4u;
}

fn lane_of(u: u32) -> u32 {
    return 2u * u / U % 2u + 4u * u / U % 2u * 2u + u % 2u * (FOLDED / 8u) * 4u;
}

//@ if DOT
alias Score = i32;
//@ else
alias Score = f32;
//@ end

//@ if DOT
// Eight values of a query as integers of 15 bits, each in two of 8: 128 high + low. Their bytes lie as the cache's do.
struct Parts {
    high: vec2<u32>,
    low: vec2<u32>,
    //@ if MIDDLE
    sum: f32,
    //@ end
}

fn largest(x: mat2x4<f32>) -> f32 {
    let most = max(abs(x[0]), abs(x[1]));
    return max(max(most.x, most.y), max(most.z, most.w));
}

fn parts_of(x: mat2x4<f32>, inverse: f32) -> Parts {
    let a = vec4<i32>(round(x[0] * inverse));
    let b = vec4<i32>(round(x[1] * inverse));
    let high_a = (a + 64) >> vec4<u32>(7u);
    let high_b = (b + 64) >> vec4<u32>(7u);
    let high = as_packed(high_a, high_b);
    let low = as_packed(a - 128 * high_a, b - 128 * high_b);
    //@ if MIDDLE
    let sums = a + b;
    return Parts(high, low, over_quad(f32(sums.x + sums.y + sums.z + sums.w)));
    //@ else
    return Parts(high, low);
    //@ end
}

//@ end
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = p.heads / p.kv_heads;
    let each = (group + G - 1u) / G; // workgroups of a KV head
    let kv_head = wid.x / each;
    let member = (wid.x % each) * G; // first query head, of those that share the KV head
    let team = sid * (SG / LK) + lane / LK;
    let own = lane % LK;

    let slot = wid.z;
    //@ if !PAGED
    let before = 0u; // one sequence has the whole cache
    //@ end
    var round = wid.y;
    if (p.window > 0u) {
        round += (max(state[8u * slot] + 1u, p.window) - p.window) / CK;
    }
    //@ if PAGED
    // The blocks of a round, and then of the next one, whose places are asked for while the keys of this one come.
    var blocks: array<u32, ENTRIES>;
    //@ for e in ENTRIES
    blocks[$e] = block_at(slot, (round * CK + $eu * STRIDE + team) / BLOCK);
    //@ end
    //@ end
    //@ for u in U
    let n$u = round * CK + team + $uu * TEAMS;
    //@ if PAGED
    let before$u = blocks[$uu * TEAMS / STRIDE];
    //@ else
    let before$u = before;
    //@ end
    //@ for c in CH
    var k_$u_$c = packed_key(at_key(before$u, n$u, kv_head, own + $cu * LK));
    var v_$u_$c = packed_value(at_key(before$u, n$u, kv_head, own + $cu * LK));
    //@ end
    //@ end
    let mine = first_of(lane); // of the keys whose scores come into this lane
    //@ if SCALED
    //@ for m in MINE
    let at$m = (mine + $mu) * TEAMS;
    //@ if PAGED
    var before_own$m = blocks[0];
    //@ for e in ENTRIES
    before_own$m = select(before_own$m, blocks[$e], at$m / STRIDE == $eu);
    //@ end
    //@ else
    let before_own$m = before;
    //@ end
    //@ for c in CH
    var ks_$m_$c = key_scale(at_key(before_own$m, round * CK + team + at$m, kv_head, own + $cu * LK));
    var vs_$m_$c = value_scale(at_key(before_own$m, round * CK + team + at$m, kv_head, own + $cu * LK));
    //@ end
    //@ end
    //@ end
    //@ if PAGED
    //@ for e in ENTRIES
    blocks[$e] = block_at(slot, ((round + p.splits) * CK + $eu * STRIDE + team) / BLOCK);
    //@ end
    //@ end
    let position = state[8u * slot];
    if (position == IDLE) {
        return;
    }
    let first = select(max(position + 1u, p.window) - p.window, 0u, p.window == 0u);

    let work = Work(slot, kv_head, member, wid.y, position);
    turn_heads(work, lid, sid, lane);

    //@ for i in G
    //@ for c in CH
    let q_$i_$c = eight_turned($iu * D8 + own + $cu * LK);
    //@ if APART
    let f_$i_$c = eight_coefficients($iu * D8 + own + $cu * LK);
    //@ end
    //@ end
    //@ if DOT
    var most$i = 0.0;
    //@ for c in CH
    most$i = max(most$i, largest(q_$i_$c));
    //@ end
    for (var step = 1u; step < LK; step <<= 1u) {
        most$i = max(most$i, subgroupShuffleXor(most$i, step));
    }
    let unit$i = most$i / MOST;
    let inverse$i = select(1.0 / unit$i, 0.0, unit$i == 0.0);
    //@ for c in CH
    let parts_$i_$c = parts_of(q_$i_$c, inverse$i);
    //@ end
    //@ else
    //@ if SCALED
    //@ for c in CH
    let sum_$i_$c = over_quad(dot(q_$i_$c[0] + q_$i_$c[1], vec4<f32>(1.0)));
    //@ end
    //@ end
    //@ end
    //@ end
    //@ if APART
    // From a team's key to its next one.
    //@ for c in CH
    let quarter_$c = phases(TEAMS / 4u, own + $cu * LK);
    let half_$c = further(quarter_$c, quarter_$c);
    let step_$c = further(half_$c, half_$c);
    //@ end
    //@ end

    // Everything is relative to the score of the position's own key, until another is far above it. The first team of
    // the first split has that key.
    let here = team == 0u && wid.y == 0u;
    //@ for c in CH
    let own_k$c = kept(eight_keys(own + $cu * LK), (own + $cu * LK) / 4u);
    //@ if APART
    let own_phase$c = phases(position, own + $cu * LK);
    //@ end
    let own_v$c = kept(eight_values(own + $cu * LK), HD / 32u + (own + $cu * LK) / 4u);
    //@ end
    //@ for i in G
    var m$i = 0.0;
    //@ for c in CH
    m$i += dot(q_$i_$c[0], own_k$c[0]) + dot(q_$i_$c[1], own_k$c[1]);
    //@ if APART
    m$i += dot(f_$i_$c[0], own_phase$c[0]) + dot(f_$i_$c[1], own_phase$c[1]);
    //@ end
    var a_$i_$c = mat2x4<f32>();
    if (here) {
        a_$i_$c = own_v$c;
    }
    //@ if SCALED
    var z_$i_$c = 0.0;
    //@ end
    //@ end
    m$i = over_lanes(m$i);
    var l$i = select(0.0, 1.0, here && own % FOLDED == 0u);
    //@ end

    let mates = lane - lane % max(FOLDED, 4u);
    for (; round * CK < position; round += p.splits) {
        let n0 = round * CK + team;
        //@ if APART
        //@ for c in CH
        var phase_$c = phases(min(n0, position), own + $cu * LK);
        //@ end
        //@ end
        let next = (round + p.splits) * CK + team;
        //@ if PAGED
        // Where a round is of whole blocks a lane has the same place in each.
        let within = select(next, team, CK % BLOCK == 0u);
        //@ end
        //@ if PAGED
        //@ for e in ENTRIES
        let coming$e = block_at(slot, (next + p.splits * CK + $eu * STRIDE) / BLOCK);
        //@ end
        //@ end
        // Scores of U keys, then the loads of the next ones.
        //@ for u in U
        //@ if APART
        //@ for i in G
        var r_$i_$u = 0.0;
        //@ end
        //@ end
        //@ for c in CH
        //@ if DOT
        let x_$u_$c = integers(k_$u_$c);
        //@ for i in G
        let s_$i_$u_$c = 128 * (dot4I8Packed(parts_$i_$c.high.x, x_$u_$c.x) + dot4I8Packed(parts_$i_$c.high.y, x_$u_$c.y))
            + dot4I8Packed(parts_$i_$c.low.x, x_$u_$c.x) + dot4I8Packed(parts_$i_$c.low.y, x_$u_$c.y);
        //@ end
        //@ else
        let x_$u_$c = values(k_$u_$c);
        //@ for i in G
        let s_$i_$u_$c = dot(q_$i_$c[0], x_$u_$c[0]) + dot(q_$i_$c[1], x_$u_$c[1]);
        //@ end
        //@ end
        //@ if APART
        //@ for i in G
        r_$i_$u += dot(f_$i_$c[0], phase_$c[0]) + dot(f_$i_$c[1], phase_$c[1]);
        //@ end
        phase_$c = further(phase_$c, step_$c);
        //@ end
        //@ if PAGED
        k_$u_$c = packed_key(at_key(blocks[$uu * TEAMS / STRIDE], within + $uu * TEAMS, kv_head, own + $cu * LK));
        //@ else
        k_$u_$c = packed_key(at_key(before, next + $uu * TEAMS, kv_head, own + $cu * LK));
        //@ end
        //@ end
        //@ end
        //@ for i in G
        var e$i = vec2<f32>();
        //@ for c in CH
        {
            let sums = vec2<f32>(folded(array<Score, U>(
                //@ for u in U
                s_$i_$u_$c,
                //@ end
            ), lane));
            //@ if SCALED
            //@ for m in MINE
            //@ if DOT
            //@ if MIDDLE
            e$i[$m] += scale(ks_$m_$c) * (sums[$m] - middle(ks_$m_$c) * parts_$i_$c.sum);
            //@ else
            e$i[$m] += scale(ks_$m_$c) * sums[$m];
            //@ end
            //@ else
            e$i[$m] += scale(ks_$m_$c) * (sums[$m] - zero(ks_$m_$c) * sum_$i_$c);
            //@ end
            //@ end
            //@ else
            e$i += sums;
            //@ end
        }
        //@ end
        //@ if DOT
        e$i *= unit$i;
        //@ end
        //@ if APART
        e$i += folded_apart(array<f32, U>(
            //@ for u in U
            r_$i_$u,
            //@ end
        ), lane);
        //@ end
        //@ if EIGHTH
        let third$i = (lane & 4u) != 0u;
        e$i.x = select(e$i.x, e$i.y, third$i) + subgroupShuffleXor(select(e$i.y, e$i.x, third$i), 4u);
        //@ end
        for (var step = max(FOLDED, 4u); step < LK; step <<= 1u) {
            e$i += subgroupShuffleXor(e$i, step);
        }
        //@ end
        if ((round + 1u) * CK > position || round * CK < first) {
            // What lies behind the last position may be anything, even no number.
            //@ for m in MINE
            if (n0 + (mine + $mu) * TEAMS >= position || n0 + (mine + $mu) * TEAMS < first) {
                //@ for i in G
                e$i[$m] = LOWEST;
                //@ end
                //@ if SCALED
                //@ for c in CH
                vs_$m_$c = 0u;
                //@ end
                //@ end
            }
            //@ end
            //@ if !SCALED
            //@ for u in U
            if (n0 + $uu * TEAMS >= position || n0 + $uu * TEAMS < first) {
                //@ for c in CH
                v_$u_$c = Packed();
                //@ end
            }
            //@ end
            //@ end
        }
        var far = false;
        //@ for i in G
        //@ for m in MINE
        far = far || e$i[$m] > m$i + AHEAD;
        //@ end
        //@ end
        if (subgroupAny(far)) {
            //@ for i in G
            var top$i = m$i;
            //@ for m in MINE
            top$i = max(top$i, e$i[$m]);
            //@ end
            for (var step = 1u; step < FOLDED; step <<= 1u) {
                top$i = max(top$i, subgroupShuffleXor(top$i, step));
            }
            let decay$i = exp(m$i - top$i);
            m$i = top$i;
            l$i *= decay$i;
            //@ for c in CH
            a_$i_$c = decay$i * a_$i_$c;
            //@ if SCALED
            z_$i_$c *= decay$i;
            //@ end
            //@ end
            //@ end
        }
        //@ for i in G
        e$i = exp(e$i - m$i);
        //@ for m in MINE
        l$i += e$i[$m];
        //@ end
        //@ for c in CH
        var w_$i_$c = e$i;
        //@ if SCALED
        //@ for m in MINE
        w_$i_$c[$m] *= scale(vs_$m_$c);
        z_$i_$c = fma(w_$i_$c[$m], zero(vs_$m_$c), z_$i_$c);
        //@ end
        //@ end
        //@ end
        //@ end
        //@ if SCALED
        //@ for m in MINE
        {
            //@ if PAGED
            var to = blocks[0];
            //@ for e in ENTRIES
            to = select(to, blocks[$e], at$m / STRIDE == $eu);
            //@ end
            let n = within + at$m;
            //@ else
            let to = before;
            let n = next + at$m;
            //@ end
            //@ for c in CH
            ks_$m_$c = key_scale(at_key(to, n, kv_head, own + $cu * LK));
            vs_$m_$c = value_scale(at_key(to, n, kv_head, own + $cu * LK));
            //@ end
        }
        //@ end
        //@ end
        //@ for u in U
        //@ for c in CH
        {
            let x = values(v_$u_$c);
            //@ for i in G
            let w$i = subgroupShuffle(w_$i_$c[$uu % MINE], mates + lane_of($uu));
            a_$i_$c += mat2x4<f32>(w$i * x[0], w$i * x[1]);
            //@ end
            //@ if PAGED
            v_$u_$c = packed_value(
                at_key(blocks[$uu * TEAMS / STRIDE], within + $uu * TEAMS, kv_head, own + $cu * LK));
            //@ else
            v_$u_$c = packed_value(at_key(before, next + $uu * TEAMS, kv_head, own + $cu * LK));
            //@ end
        }
        //@ end
        //@ end
        //@ if PAGED
        //@ for e in ENTRIES
        blocks[$e] = coming$e;
        //@ end
        //@ end
    }

    //@ for i in G
    // Teams of a subgroup become one.
    var all$i = m$i;
    for (var step = LK; step < SG; step <<= 1u) {
        all$i = max(all$i, subgroupShuffleXor(all$i, step));
    }
    let part$i = exp(m$i - all$i);
    for (var step = 1u; step < FOLDED; step <<= 1u) {
        l$i += subgroupShuffleXor(l$i, step);
    }
    l$i *= part$i;
    for (var step = LK; step < SG; step <<= 1u) {
        l$i += subgroupShuffleXor(l$i, step);
    }
    //@ for c in CH
    //@ if SCALED
    for (var step = 1u; step < FOLDED; step <<= 1u) {
        z_$i_$c += subgroupShuffleXor(z_$i_$c, step);
    }
    a_$i_$c -= mat2x4<f32>(vec4<f32>(z_$i_$c), vec4<f32>(z_$i_$c));
    //@ end
    a_$i_$c = part$i * a_$i_$c;
    for (var step = LK; step < SG; step <<= 1u) {
        a_$i_$c += mat2x4<f32>(
            subgroupShuffleXor(a_$i_$c[0], step), subgroupShuffleXor(a_$i_$c[1], step));
    }
    //@ end
    if (lane < LK) {
        let at = sid * G + $iu;
        //@ for c in CH
        sums[at * D4 + 2u * (own + $cu * LK)] = a_$i_$c[0];
        sums[at * D4 + 2u * (own + $cu * LK) + 1u] = a_$i_$c[1];
        //@ end
        if (own == 0u) {
            stats[at] = vec2<f32>(all$i, l$i);
        }
    }
    //@ end
    workgroupBarrier();

    finish(work, lid, sid, lane);
}
