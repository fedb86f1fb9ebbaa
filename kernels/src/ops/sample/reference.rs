//! The draw, by sorting: what the kernel must agree with.

use super::State;

fn pcg(v: u32) -> u32 {
    let s = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let w = ((s >> ((s >> 28) + 4)) ^ s).wrapping_mul(277_803_737);
    (w >> 22) ^ w
}

/// The ids that survive top-k, top-p and min-p, most probable first, with their logits; `recent` are
/// the tokens before `position`, latest last.
pub fn survivors(s: &State, logits: &[f32], recent: &[u32]) -> Vec<(usize, f64)> {
    let mut logits: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
    let mut seen = std::collections::HashSet::new();
    for &t in recent.iter().rev().take(s.last_n as usize) {
        if seen.insert(t) {
            let v = &mut logits[t as usize];
            *v = if *v <= 0.0 { *v * f64::from(s.penalty) } else { *v / f64::from(s.penalty) };
        }
    }
    let mut order: Vec<(usize, f64)> = logits.into_iter().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let top = order[0].1;
    // Equals of the last one kept are kept too: a threshold, not a count.
    let cut = |order: &mut Vec<(usize, f64)>, keep: usize| {
        let edge = order[keep - 1].1;
        order.retain(|o| o.1 >= edge);
    };
    if s.top_k > 0 && (s.top_k as usize) < order.len() {
        cut(&mut order, s.top_k as usize);
    }
    if s.top_p < 1.0 {
        let whole: f64 = order.iter().map(|o| (o.1 - top).exp()).sum();
        let mut sum = 0.0;
        let keep = order
            .iter()
            .position(|o| {
                sum += (o.1 - top).exp();
                sum >= whole * f64::from(s.top_p)
            })
            .map_or(order.len(), |i| i + 1);
        cut(&mut order, keep);
    }
    if s.min_p > 0.0 {
        order.retain(|o| o.1 >= top + f64::from(s.min_p).ln());
    }
    order
}

/// The token drawn at `position` from one row of logits.
pub fn sample(s: &State, logits: &[f32], recent: &[u32], position: u32) -> u32 {
    let order = survivors(s, logits, recent);
    if s.temperature <= 0.0 {
        return order[0].0 as u32;
    }
    let noisy = |&(i, v): &(usize, f64)| {
        let h = pcg(i as u32 ^ pcg(position ^ pcg(s.seed)));
        let uniform = (f64::from(h >> 8) + 0.5) / 16_777_216.0;
        (v - order[0].1) / f64::from(s.temperature) - (-uniform.ln()).ln()
    };
    order.iter().max_by(|a, b| noisy(a).total_cmp(&noisy(b))).unwrap().0 as u32
}
