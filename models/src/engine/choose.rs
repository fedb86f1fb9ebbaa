//! Draws a token on the host, for requests that ask for more than the sampler on the device knows: biases, masks,
//! penalties by count, DRY, typical sampling, log-probabilities. The order is llama.cpp's, and the noise that of
//! `kernels/src/ops/sample`, so that a seed gives the same tokens here and there.

use std::collections::HashMap;

use crate::Sampling;
use crate::engine::Logprobs;
use crate::sampling::Dry;

/// What a draw needs besides the logits.
pub(super) struct Choice<'a> {
    pub(super) sampling: &'a Sampling,
    pub(super) bias: &'a [(u32, f32)],
    /// Bit i % 32 of word i / 32: whether token i may come; none for all.
    pub(super) mask: Option<&'a [u32]>,
    /// The tokens before.
    pub(super) known: &'a [u32],
}

/// Why no token can be drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    /// A logit is NaN or infinite.
    NotFinite,
    /// The mask allows none.
    Masked,
}

fn pcg(v: u32) -> u32 {
    let s = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let w = ((s >> ((s >> 28) + 4)) ^ s).wrapping_mul(277_803_737);
    (w >> 22) ^ w
}

/// Whether all of them are finite. There is no early end, so that it runs in vectors: the exponents of what is not finite
/// are the largest.
pub(super) fn are_finite(logits: &[f32]) -> bool {
    let largest = logits.iter().fold(0, |most, v| (v.to_bits() & 0x7fff_ffff).max(most));
    largest < f32::INFINITY.to_bits()
}

/// The likeliest tokens, then those in `also`, and the log-probability of `token`, from logits as the model gave them.
pub(super) fn logprobs(logits: &[f32], token: u32, top: usize, also: &[u32]) -> Logprobs {
    let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|&v| f64::from((v - largest).exp())).sum();
    let log_sum = f64::from(largest) + sum.ln();
    let of = |id: usize| (f64::from(logits[id]) - log_sum) as f32;
    let told = likeliest(logits, top).into_iter().chain(also.iter().copied());
    let top = told.map(|id| (id, of(id as usize))).collect();
    Logprobs { logprob: of(token as usize), top }
}

/// The `n` largest, largest first, the lower id before an equal.
fn likeliest(logits: &[f32], n: usize) -> Vec<u32> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if n < ids.len() {
        ids.select_nth_unstable_by(n - 1, order);
        ids.truncate(n);
    }
    ids.sort_unstable_by(order);
    ids
}

impl Choice<'_> {
    /// The token at position `known.len()`. `logits` are changed.
    pub(super) fn draw(&self, logits: &mut [f32]) -> Result<u32, NoToken> {
        if !are_finite(logits) {
            return Err(NoToken::NotFinite);
        }
        self.adjust(logits);
        let s = self.sampling;
        let mut order: Vec<(u32, f32)> = match self.mask {
            None => logits.iter().enumerate().map(|(i, &v)| (i as u32, v)).collect(),
            Some(mask) => set_bits(mask, logits.len()).map(|i| (i, logits[i as usize])).collect(),
        };
        // A bias of minus infinity forbids.
        order.retain(|&(_, v)| v > f32::NEG_INFINITY);
        let largest = order.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let Some((likeliest, top)) = largest else { return Err(NoToken::Masked) };
        if s.temperature <= 0.0 {
            return Ok(likeliest);
        }
        self.cut(&mut order, top);
        let position = self.known.len() as u32;
        let noisy = |&(i, v): &(u32, f32)| {
            let h = pcg(i ^ pcg(position ^ pcg(s.seed)));
            let uniform = (f64::from(h >> 8) + 0.5) / 16_777_216.0;
            f64::from(v - top) / f64::from(s.temperature) - (-uniform.ln()).ln()
        };
        let drawn = order.iter().map(|o| (noisy(o), o.0)).reduce(|a, b| if b.0 > a.0 { b } else { a });
        Ok(drawn.expect("a token").1)
    }

    /// Penalties and biases.
    fn adjust(&self, logits: &mut [f32]) {
        let s = self.sampling;
        let recent = &self.known[self.known.len().saturating_sub(s.repeat_last_n as usize)..];
        let mut counts: HashMap<u32, u32> = HashMap::new();
        recent.iter().for_each(|&t| *counts.entry(t).or_default() += 1);
        for (&token, &n) in &counts {
            let v = &mut logits[token as usize];
            *v = if *v <= 0.0 { *v * s.repeat_penalty } else { *v / s.repeat_penalty };
            *v -= s.presence_penalty + n as f32 * s.frequency_penalty;
        }
        dry(&s.dry, self.known, logits);
        for &(token, by) in self.bias {
            logits[token as usize] += by;
        }
    }

    /// Leaves what top-k, typical-p, top-p and min-p leave. Equals of the last one kept are kept too.
    fn cut(&self, order: &mut Vec<(u32, f32)>, top: f32) {
        let s = self.sampling;
        let falling = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let k = s.top_k as usize;
        if k > 0 && k < order.len() {
            order.select_nth_unstable_by(k - 1, falling);
            let edge = order[k - 1].1;
            order.retain(|o| o.1 >= edge);
        }
        let mass = |v: f32| f64::from(v - top).exp();
        if s.typical_p < 1.0 {
            typical(order, f64::from(s.typical_p), &mass);
        }
        if s.top_p < 1.0 {
            order.sort_unstable_by(falling);
            let whole: f64 = order.iter().map(|o| mass(o.1)).sum();
            let mut sum = 0.0;
            let keep = order.iter().position(|o| {
                sum += mass(o.1);
                sum >= whole * f64::from(s.top_p)
            });
            if let Some(last) = keep {
                let edge = order[last].1;
                order.retain(|o| o.1 >= edge);
            }
        }
        if s.min_p > 0.0 {
            order.retain(|o| o.1 >= top + s.min_p.ln());
        }
    }
}

/// Keeps the tokens whose information is nearest to the entropy, up to a mass.
fn typical(order: &mut Vec<(u32, f32)>, p: f64, mass: &dyn Fn(f32) -> f64) {
    let whole: f64 = order.iter().map(|o| mass(o.1)).sum();
    let share = |v: f32| (mass(v) / whole).max(f64::MIN_POSITIVE);
    let entropy: f64 = order.iter().map(|o| -share(o.1) * share(o.1).ln()).sum();
    let away = |o: &(u32, f32)| (-share(o.1).ln() - entropy).abs();
    order.sort_by(|a, b| away(a).total_cmp(&away(b)).then(a.0.cmp(&b.0)));
    let mut sum = 0.0;
    let last = order.iter().position(|o| {
        sum += share(o.1);
        sum >= p
    });
    order.truncate(last.map_or(order.len(), |l| l + 1));
}

/// Takes from each token that would make what was there come again. For each place where the last token came before, as
/// many tokens as are equal backwards from there make the length of what would repeat.
fn dry(dry: &Dry, known: &[u32], logits: &mut [f32]) {
    if dry.multiplier == 0.0 || known.len() < 2 {
        return;
    }
    let back = if dry.last_n == 0 { known.len() } else { dry.last_n as usize };
    let known = &known[known.len().saturating_sub(back)..];
    // Z[i]: how many tokens, from i on in the reversed text, are those that it begins with; linear in its length.
    let n = known.len();
    let at = |i: usize| known[n - 1 - i];
    let mut z = vec![0usize; n];
    let (mut l, mut r) = (0, 0);
    for i in 1..n {
        let mut len = if i < r { z[i - l].min(r - i) } else { 0 };
        while i + len < n && at(len) == at(i + len) {
            len += 1;
        }
        z[i] = len;
        if i + len > r {
            (l, r) = (i, i + len);
        }
    }
    let mut longest: HashMap<u32, usize> = HashMap::new();
    for (i, &len) in z.iter().enumerate().skip(1) {
        if len >= dry.allowed.max(1) as usize {
            // What came behind it then.
            let e = longest.entry(at(i - 1)).or_default();
            *e = (*e).max(len);
        }
    }
    for (token, len) in longest {
        let power = (len as f32 - dry.allowed as f32).min(500.0);
        logits[token as usize] -= (dry.multiplier * dry.base.powf(power)).min(1e30);
    }
}

fn set_bits(mask: &[u32], n: usize) -> impl Iterator<Item = u32> + '_ {
    let each = |(w, &word): (usize, &u32)| {
        let mut word = word;
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros())?;
            word &= word - 1;
            Some(w as u32 * 32 + bit)
        })
    };
    mask.iter().enumerate().flat_map(each).take_while(move |&i| (i as usize) < n)
}

#[cfg(test)]
mod tests {
    use weft_kernels::ops::sample::reference;

    use super::{Choice, NoToken, logprobs};
    use crate::Sampling;
    use crate::sampling::Dry;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| (super::pcg(i ^ super::pcg(seed)) >> 8) as f32 / 2e6 - 4.0).collect()
    }

    fn choose(sampling: &Sampling, known: &[u32], logits: &[f32]) -> Result<u32, NoToken> {
        Choice { sampling, bias: &[], mask: None, known }.draw(&mut logits.to_vec())
    }

    /// The same seed gives the tokens that the sampler on the device gives.
    #[test]
    fn draws_as_the_device_does() {
        let known = [3, 9, 3, 250, 7];
        for seed in 0..300 {
            let s = Sampling {
                seed,
                temperature: [0.0, 0.7, 1.5][seed as usize % 3],
                top_k: [0, 5, 40][seed as usize / 3 % 3],
                top_p: [1.0, 0.8][seed as usize % 2],
                min_p: [0.0, 0.1][seed as usize / 2 % 2],
                repeat_penalty: [1.0, 1.3][seed as usize / 4 % 2],
                ..Sampling::default()
            };
            let logits = noise(300, seed);
            let want = reference::sample(&s.state(0), &logits, &known, known.len() as u32);
            assert_eq!(choose(&s, &known, &logits), Ok(want), "{s:?}");
        }
    }

    #[test]
    fn masks_biases_and_penalties_count() {
        let logits = noise(100, 1);
        let s = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let mask = [0, 1 << 7 | 1 << 31, 0, 1 << 3];
        for seed in 0..200 {
            let s = Sampling { seed, ..s };
            let draw = |bias: &[(u32, f32)]| {
                Choice { sampling: &s, bias, mask: Some(&mask), known: &[] }.draw(&mut logits.clone())
            };
            assert!([39, 63, 99].contains(&draw(&[]).unwrap()));
            assert_eq!(draw(&[(63, 1e6)]), Ok(63));
            assert_ne!(draw(&[(63, f32::NEG_INFINITY)]), Ok(63));
        }
        let none = Choice { sampling: &s, bias: &[], mask: Some(&[0; 4]), known: &[] };
        assert_eq!(none.draw(&mut logits.clone()), Err(NoToken::Masked));
        assert_eq!(choose(&s, &[], &[0.0, f32::NAN]), Err(NoToken::NotFinite));

        let greedy = Sampling::greedy();
        let often = Sampling { frequency_penalty: 0.6, ..greedy };
        let once = Sampling { presence_penalty: 1.1, ..greedy };
        assert_eq!(choose(&greedy, &[0, 0], &[1.0, 0.0, -1.0]), Ok(0));
        assert_eq!(choose(&often, &[0], &[1.0, 0.0, -1.0]), Ok(0));
        assert_eq!(choose(&often, &[0, 0], &[1.0, 0.0, -1.0]), Ok(1));
        assert_eq!(choose(&once, &[0], &[1.0, 0.0, -1.0]), Ok(1));
    }

    /// Typical sampling leaves out the likeliest token where it says too little.
    #[test]
    fn typical_sampling_keeps_what_is_near_the_entropy() {
        let share = [0.5f32, 0.125, 0.125, 0.125, 0.125];
        let logits = share.map(f32::ln);
        let base = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        // Entropy 2 bits: 1 bit is as far away as 3, and the lower id is first.
        let seen: std::collections::BTreeSet<u32> = (0..200)
            .map(|seed| choose(&Sampling { seed, typical_p: 0.4, ..base }, &[], &logits).unwrap())
            .collect();
        assert_eq!(seen.len(), 1, "{seen:?}");
        let all: std::collections::BTreeSet<u32> =
            (0..200).map(|seed| choose(&Sampling { seed, ..base }, &[], &logits).unwrap()).collect();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn dry_breaks_repetitions() {
        let dry = Dry { multiplier: 1.0, base: 2.0, allowed: 2, last_n: 0 };
        let s = Sampling { dry, ..Sampling::greedy() };
        // 1 2 3 came before and was followed by 4: three tokens repeat, so 4 loses 2.
        let known = [1, 2, 3, 4, 9, 1, 2, 3];
        let logits = |gain: f32| {
            let mut l = vec![0.0; 12];
            l[4] = gain;
            l
        };
        assert_eq!(choose(&s, &known, &logits(2.1)), Ok(4));
        assert_eq!(choose(&s, &known, &logits(1.9)), Ok(0));
        let short = Sampling { dry: Dry { last_n: 3, ..dry }, ..s };
        assert_eq!(choose(&short, &known, &logits(0.1)), Ok(4));
    }

    #[test]
    fn log_probabilities_are_those_of_the_model() {
        let logits = [0.0f32, 1.0, 2.0, 1.0];
        let sum: f64 = logits.iter().map(|&v| f64::from(v).exp()).sum();
        let of = |i: usize| (f64::from(logits[i]) - sum.ln()) as f32;
        let got = logprobs(&logits, 0, 3, &[]);
        assert!((got.logprob - of(0)).abs() < 1e-6);
        assert_eq!(got.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 1, 3]);
        assert!((got.top[0].1 - of(2)).abs() < 1e-6);
        assert_eq!(logprobs(&logits, 0, 0, &[]).top, []);
        let also = logprobs(&logits, 0, 1, &[2, 0]).top;
        assert_eq!(also.iter().map(|t| t.0).collect::<Vec<_>>(), [got.top[0].0, 2, 0]);
        assert_eq!(also[2].1, got.logprob);
    }
}
