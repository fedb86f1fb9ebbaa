//! `ids` = the k largest of the softmax, `weights[t, i] = scale p[ids[t, i]]`, divided by their sum or not

use super::Routing;

/// The experts of each token, `[tokens, used]`: the largest logit first, of equal ones the lowest number.
pub fn choose(logits: &[f32], r: &Routing) -> Vec<u32> {
    let mut all = Vec::new();
    for x in logits.chunks_exact(r.experts as usize) {
        let mut order: Vec<u32> = (0..r.experts).collect();
        order.sort_by(|&a, &b| x[b as usize].partial_cmp(&x[a as usize]).expect("numbers"));
        all.extend(&order[..r.used as usize]);
    }
    all
}

/// The softmax that the weights come from, over all experts or over the chosen ones, 0 elsewhere.
fn softmax(x: &[f64], ids: &[u32], r: &Routing) -> Vec<f64> {
    let counts = |e: &usize| !r.renormalise || ids.contains(&(*e as u32));
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp = |e: usize| if counts(&e) { (x[e] - largest).exp() } else { 0.0 };
    let sum: f64 = (0..x.len()).map(exp).sum();
    (0..x.len()).map(|e| exp(e) / sum).collect()
}

/// The weights of the experts `ids`, `[tokens, used]`.
pub fn weights(logits: &[f64], ids: &[u32], r: &Routing) -> Vec<f64> {
    let tokens = logits.chunks_exact(r.experts as usize).zip(ids.chunks_exact(r.used as usize));
    let weigh = |(x, ids): (&[f64], &[u32])| -> Vec<f64> {
        let q = softmax(x, ids, r);
        ids.iter().map(|&e| f64::from(r.scale) * q[e as usize]).collect()
    };
    tokens.flat_map(weigh).collect()
}

/// The gradient of the logits from `dw`, that of the weights.
pub fn backward(logits: &[f64], ids: &[u32], dw: &[f64], r: &Routing) -> Vec<f64> {
    let used = r.used as usize;
    let tokens =
        logits.chunks_exact(r.experts as usize).zip(ids.chunks_exact(used).zip(dw.chunks_exact(used)));
    let one = |(x, (ids, dw)): (&[f64], (&[u32], &[f64]))| -> Vec<f64> {
        let q = softmax(x, ids, r);
        let mut g = vec![0.0; x.len()];
        ids.iter().zip(dw).for_each(|(&e, &d)| g[e as usize] = d);
        let mean: f64 = g.iter().zip(&q).map(|(g, q)| g * q).sum();
        g.iter().zip(&q).map(|(g, q)| f64::from(r.scale) * q * (g - mean)).collect()
    };
    tokens.flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{backward, choose, weights};
    use crate::ops::router::Routing;

    #[test]
    fn equal_logits_go_to_the_lowest_number() {
        let r = Routing { experts: 5, used: 3, renormalise: true, scale: 1.0 };
        assert_eq!(choose(&[1.0, 2.0, 1.0, 2.0, 1.0], &r), [1, 3, 0]);
    }

    /// By hand: probabilities of 1/10, 2/10, 3/10 and 4/10.
    #[test]
    fn weights_are_renormalised_or_not() {
        let x: Vec<f64> = [1f64, 2.0, 3.0, 4.0].map(f64::ln).into();
        let near = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-12);
        let mut r = Routing { experts: 4, used: 2, renormalise: false, scale: 1.0 };
        assert!(near(&weights(&x, &[3, 2], &r), &[0.4, 0.3]));
        r.renormalise = true;
        r.scale = 2.5;
        assert!(near(&weights(&x, &[3, 2], &r), &[2.5 * 4.0 / 7.0, 2.5 * 3.0 / 7.0]));
        // Only differences count, and what is not chosen has no gradient.
        let d = backward(&x, &[3, 2], &[1.0, 0.0], &r);
        assert!(near(&d, &[0.0, 0.0, -2.5 * 12.0 / 49.0, 2.5 * 12.0 / 49.0]));
    }
}
