//! Intervals and comparisons. Nothing here assumes more than that questions were drawn independently.

use crate::hash::Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A mean with its 95 % interval, the 2.5th and 97.5th percentiles of a bootstrap over questions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many questions it is of.
    pub n: usize,
}

/// The mean of some values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The mean of all values, each counting the same.
pub fn bootstrap(values: &[f64]) -> Interval {
    bootstrap_groups(&[values])
}

/// The mean of the groups' means, each group counting the same; questions are drawn anew within their group.
pub fn bootstrap_groups(groups: &[&[f64]]) -> Interval {
    let groups: Vec<&[f64]> = groups.iter().filter(|g| !g.is_empty()).copied().collect();
    let over = |each: &mut dyn FnMut(&[f64]) -> f64| {
        groups.iter().map(|g| each(g)).sum::<f64>() / groups.len().max(1) as f64
    };
    let whole = over(&mut |g| mean(g));
    let mut rng = Rng::new(1);
    let mut draw = |g: &[f64]| (0..g.len()).map(|_| g[rng.below(g.len())]).sum::<f64>() / g.len() as f64;
    let drawn = (0..RESAMPLES).map(|_| over(&mut draw)).collect();
    let (low, high) = percentiles(drawn);
    Interval { mean: whole, low, high, n: groups.iter().map(|g| g.len()).sum() }
}

/// The 2.5th and 97.5th percentiles, between neighbours by the straight line.
pub fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len().max(1) - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        let next = (below + 1).min(values.len().max(1) - 1);
        values.get(below).map_or(0.0, |v| v * (1.0 - part) + values[next] * part)
    };
    (at(0.025), at(0.975))
}

/// Two who answered the same questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Mean of the first less mean of the second, with its bootstrap interval over questions.
    pub difference: Interval,
    /// Questions that only the first got right.
    pub only_first: u64,
    /// Questions that only the second got right.
    pub only_second: u64,
    /// The exact probability of a split as uneven, or more, if both were equally good (McNemar, two-sided).
    pub p: f64,
}

/// Compares scores of the same questions, in the same order, in groups that count the same each. A question counts as
/// right above a score of 0.5.
pub fn paired(first: &[&[f64]], second: &[&[f64]]) -> Paired {
    let both = || first.iter().zip(second);
    let less = |(x, y): (&&[f64], &&[f64])| x.iter().zip(*y).map(|(a, b)| a - b).collect();
    let differences: Vec<Vec<f64>> = both().map(less).collect();
    let (mut only_first, mut only_second) = (0, 0);
    for (a, b) in both().flat_map(|(x, y)| x.iter().zip(*y)) {
        only_first += u64::from(*a > 0.5 && *b <= 0.5);
        only_second += u64::from(*b > 0.5 && *a <= 0.5);
    }
    let groups: Vec<&[f64]> = differences.iter().map(Vec::as_slice).collect();
    let p = mcnemar(only_first, only_second);
    Paired { difference: bootstrap_groups(&groups), only_first, only_second, p }
}

/// McNemar's exact test: the two-sided binomial probability of `b` against `c` at one half.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let n = b + c;
    if n == 0 {
        return 1.0;
    }
    // Sum of C(n, k) / 2^n for k up to the smaller, each from the one before, in logarithms.
    let (mut log, mut sum) = (-(n as f64) * 2f64.ln(), 0.0);
    for k in 0..=b.min(c) {
        sum += log.exp();
        log += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

/// Cohen's kappa of two judges' verdicts on the same things; `None` where chance explains everything.
pub fn kappa(pairs: &[(bool, bool)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let share = |f: &dyn Fn(&(bool, bool)) -> bool| pairs.iter().filter(|p| f(p)).count() as f64 / n;
    let agree = share(&|p| p.0 == p.1);
    let (first, second) = (share(&|p| p.0), share(&|p| p.1));
    let chance = first * second + (1.0 - first) * (1.0 - second);
    (n > 0.0 && chance < 1.0).then(|| (agree - chance) / (1.0 - chance))
}
