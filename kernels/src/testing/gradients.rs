//! Gradients that a device gave, against a reference and against differences.

use weft_runtime::Gpu;

use super::guarded::{Guarded, expects, nmse};
use super::inputs::Rng;
use crate::Result;

/// Directions along which differences are taken.
const DIRECTIONS: usize = 8;

/// The gradient of a loss with respect to one input of an op.
pub(crate) struct Gradient {
    /// The input at which it was taken.
    x: Vec<f64>,
    /// What the device gave; nothing where a sentinel changed.
    got: Option<Vec<f32>>,
    /// What the backward op's reference gives.
    want: Vec<f64>,
    /// That of the differences.
    step: f64,
}

impl Gradient {
    /// Reads back what the device gave.
    pub(crate) fn read(gpu: &Gpu, x: Vec<f64>, got: &Guarded, want: Vec<f64>) -> Result<Gradient> {
        Ok(Gradient::new(x, got.read(gpu)?, want))
    }

    /// The gradient `got` at x: nothing where anything else that the op does went wrong.
    pub(crate) fn new(x: Vec<f64>, got: Option<Vec<f32>>, want: Vec<f64>) -> Gradient {
        expects(&want);
        let size = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        Gradient { x, got, want, step: 1e-3 * if size > 0.0 { size } else { 1.0 } }
    }

    /// For a function that bends within this distance, however large x is.
    pub(crate) fn bends_within(self, distance: f64) -> Gradient {
        Gradient { step: 1e-3 * distance, ..self }
    }

    /// For a norm of rows of `cols`, each of which bends within its own size; it may be nothing but zeros.
    pub(crate) fn of_norm(self, cols: u32, eps: f32) -> Gradient {
        let mean = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>() / f64::from(cols);
        let least = self.x.chunks(cols as usize).map(mean).fold(f64::INFINITY, f64::min);
        self.bends_within((least + f64::from(eps)).sqrt())
    }

    /// NMSE against differences of `loss` along random directions of +-1: the mean of (e . u)^2 over such
    /// directions u is |e|^2 (Hutchinson 1990), so that a few of them tell as much as every coordinate.
    fn along(&self, rng: &mut Rng, loss: impl Fn(&[f64]) -> f64) -> f64 {
        let Some(got) = &self.got else { return f64::INFINITY };
        let step = self.step;
        let (mut error, mut norm) = (0.0, 0.0);
        for _ in 0..DIRECTIONS {
            let u: Vec<f64> = self.x.iter().map(|_| if rng.bits() & 1 == 0 { 1.0 } else { -1.0 }).collect();
            let at = |t: f64| {
                let moved: Vec<f64> = self.x.iter().zip(&u).map(|(x, u)| x + t * step * u).collect();
                loss(&moved)
            };
            // The differences are of fourth order, so that steps may be so large that rounding does not show.
            let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * step);
            let given: f64 = got.iter().zip(&u).map(|(&g, u)| f64::from(g) * u).sum();
            error += (given - slope).powi(2);
            norm += slope * slope;
        }
        // A gradient of nothing but zeros shows no more than rounding.
        let rounding = 1e-13 * loss(&self.x).abs() / step;
        match norm / DIRECTIONS as f64 <= rounding * rounding {
            true => error / DIRECTIONS as f64,
            false => error / norm,
        }
    }
}

/// The loss as a function of all inputs, in the order of [`Gradients::of`].
type Loss = dyn Fn(&[&[f64]]) -> f64;

/// What a backward op gave, with what tells whether it is right.
pub(crate) struct Gradients {
    /// One for each input.
    pub(crate) of: Vec<Gradient>,
    /// The loss, by the *forward* op's reference.
    pub(crate) loss: Box<Loss>,
}

impl Gradients {
    /// The largest NMSE against the reference of the backward op.
    pub(crate) fn by_reference(&self) -> f64 {
        let one = |g: &Gradient| g.got.as_ref().map_or(f64::INFINITY, |got| nmse(got, &g.want));
        worst(self.of.iter().map(one))
    }

    /// The largest NMSE against differences.
    pub(super) fn by_differences(&self, seed: u64) -> f64 {
        let mut rng = Rng::seeded(1, seed);
        let inputs: Vec<&[f64]> = self.of.iter().map(|g| &g.x[..]).collect();
        worst(self.of.iter().enumerate().map(|(i, g)| {
            g.along(&mut rng, |moved| {
                let mut all = inputs.clone();
                all[i] = moved;
                (self.loss)(&all)
            })
        }))
    }
}

/// The largest, or NaN where there is one.
fn worst(all: impl Iterator<Item = f64>) -> f64 {
    all.fold(0.0, |worst, e| if e > worst || e.is_nan() { e } else { worst })
}

/// Compares a gradient with central differences of a smooth `loss`.
#[cfg(test)]
pub(crate) fn assert_gradient(x: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len());
    let mut moved = x.to_vec();
    let mut at = |i: usize, step: f64| {
        moved[i] = x[i] + step;
        let l = loss(&moved);
        moved[i] = x[i];
        l
    };
    let step = 1e-5;
    let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    for (i, g) in gradient.iter().enumerate() {
        let difference = (at(i, step) - at(i, -step)) / (2.0 * step);
        assert!(
            (difference - g).abs() <= 1e-7 * largest.max(1.0),
            "at {i}: {g}, by differences {difference}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Gradient, Gradients};

    /// The gradient of x . x . y is (2 x y, x . x): right, with one value in a hundred off by a hundredth,
    /// with one missing, and with an overwritten sentinel.
    #[test]
    fn a_wrong_value_shows() {
        let (x, y): (Vec<f64>, Vec<f64>) =
            (0..100).map(|i| (f64::from(i) * 0.1 - 3.0, f64::from(i % 7))).unzip();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
        let dx: Vec<f64> = x.iter().zip(&y).map(|(x, y)| 2.0 * x * y).collect();
        let check = |spoil: &dyn Fn(&mut Vec<f32>)| {
            let of = |x: &[f64], want: &[f64]| {
                let mut got: Vec<f32> = want.iter().map(|&v| v as f32).collect();
                spoil(&mut got);
                Gradient::new(x.to_vec(), Some(got), want.to_vec())
            };
            let loss = move |i: &[&[f64]]| dot(&i[0].iter().map(|x| x * x).collect::<Vec<_>>(), i[1]);
            let all = Gradients { of: vec![of(&x, &dx), of(&y, &squares)], loss: Box::new(loss) };
            (all.by_reference(), all.by_differences(3))
        };
        let (reference, differences) = check(&|_| {});
        assert!(reference < 1e-12 && differences < 1e-12, "{reference:e} {differences:e}");
        let (reference, differences) = check(&|g| g[99] *= 1.01);
        assert!(reference > 1e-6 && differences > 1e-6, "{reference:e} {differences:e}");
        let (reference, differences) = check(&|g| g[50] = f32::NAN);
        assert!(reference.is_infinite() && !differences.is_finite());
        let broken = Gradient::new(x.clone(), None, dx.clone());
        let all = Gradients { of: vec![broken], loss: Box::new(|i| i[0][0]) };
        assert_eq!((all.by_reference(), all.by_differences(0)), (f64::INFINITY, f64::INFINITY));
    }
}
