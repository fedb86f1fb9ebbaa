//! Code books from an encoder's side: which entry comes nearest to a few values.
//!
//! Rounding each value to its nearest level gives a combination of levels. If the book has it, no entry is
//! nearer, whatever the weights. Else the answer is among the entries near that combination, which are listed
//! once for every combination there is (3^8 or 8^4), and tried with the weights.

/// Values that share an entry: themselves, what an error at each costs, and the product of the two.
#[derive(Clone, Copy)]
pub(super) struct Values<const N: usize> {
    pub(super) x: [f32; N],
    pub(super) w: [f32; N],
    wx: [f32; N],
}

impl<const N: usize> Values<N> {
    pub(super) fn new(x: [f32; N], w: [f32; N]) -> Self {
        Values { x, w, wx: std::array::from_fn(|i| w[i] * x[i]) }
    }
}

/// An entry and what it comes to: with levels l and a scale t, the error is Σ w x² − 2 t `xl` + t² `ll`.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) entry: u16,
    pub(super) xl: f32,
    pub(super) ll: f32,
}

impl Found {
    /// The error, but for Σ w x².
    pub(super) fn error(self, t: f32) -> f32 {
        t * (t * self.ll - 2.0 * self.xl)
    }
}

/// The entries as levels, for one shift of the levels.
struct Table<const N: usize> {
    entries: Vec<[f32; N]>,
    /// Halfway between neighbouring levels.
    borders: Vec<f32>,
}

/// A code book, and for each combination of levels the entries that are near.
pub(super) struct Book<const N: usize> {
    levels: usize,
    tables: Vec<Table<N>>,
    /// `count` entries for each combination, the nearest first.
    near: Vec<u16>,
    count: usize,
    /// Whether the first of them is the combination itself.
    exact: Vec<bool>,
}

impl<const N: usize> Book<N> {
    /// `grid` as in `grids.rs`, with so many bits a value; one table for each of `shifts`, which are added to
    /// the levels. `count` entries are listed for a combination.
    pub(super) fn new(grid: &[u16], levels: &[f32], shifts: &[f32], count: usize) -> Self {
        let bits = 16 / N;
        let places: Vec<[usize; N]> = grid
            .iter()
            .map(|e| std::array::from_fn(|i| usize::from(e >> (bits * i)) & ((1 << bits) - 1)))
            .collect();
        let tables = shifts
            .iter()
            .map(|shift| Table {
                entries: places.iter().map(|p| p.map(|l| levels[l] + shift)).collect(),
                borders: levels.windows(2).map(|l| 0.5 * (l[0] + l[1]) + shift).collect(),
            })
            .collect();
        let combinations = levels.len().pow(N as u32);
        let (mut near, mut exact) = (Vec::with_capacity(combinations * count), Vec::new());
        let mut order: Vec<(u32, u16)> = Vec::with_capacity(places.len());
        for c in 0..combinations {
            let mut rest = c;
            let own: [f32; N] = std::array::from_fn(|_| {
                let level = levels[rest % levels.len()];
                rest /= levels.len();
                level
            });
            order.clear();
            order.extend(places.iter().enumerate().map(|(e, p)| {
                let far: f32 = (0..N).map(|i| (own[i] - levels[p[i]]).powi(2)).sum();
                (far as u32, e as u16)
            }));
            // Equal distances are in the order of the book, so that bytes do not depend on a sort.
            order.select_nth_unstable(count - 1);
            order[..count].sort_unstable();
            exact.push(order[0].0 == 0);
            near.extend(order[..count].iter().map(|o| o.1));
        }
        Book { levels: levels.len(), tables, near, count, exact }
    }

    /// How many shifts there are.
    pub(super) fn shifts(&self) -> usize {
        self.tables.len()
    }

    /// The entry for `v` at scale t, above 0.
    pub(super) fn nearest(&self, shift: usize, v: &Values<N>, t: f32) -> Found {
        let table = &self.tables[shift];
        let inverse = 1.0 / t;
        let combination = v.x.iter().rev().fold(0, |c, x| {
            let above = table.borders.iter().filter(|b| x * inverse > **b).count();
            c * self.levels + above
        });
        let near = &self.near[combination * self.count..][..self.count];
        let tw = v.w.map(|w| t * w);
        let mut best = (f32::INFINITY, near[0]);
        if !self.exact[combination] {
            for &entry in near {
                let l = &table.entries[usize::from(entry)];
                let terms: [f32; N] = std::array::from_fn(|i| l[i] * (tw[i] * l[i] - 2.0 * v.wx[i]));
                let error = sum(terms);
                if error < best.0 {
                    best = (error, entry);
                }
            }
        }
        let l = &table.entries[usize::from(best.1)];
        let xl = sum(std::array::from_fn::<f32, N, _>(|i| v.wx[i] * l[i]));
        let ll = sum(std::array::from_fn::<f32, N, _>(|i| v.w[i] * l[i] * l[i]));
        Found { entry: best.1, xl, ll }
    }
}

/// The sum in four lanes, which a compiler can add at once.
fn sum<const N: usize>(v: [f32; N]) -> f32 {
    let mut lanes = [0.0; 4];
    for part in v.chunks_exact(4) {
        (0..4).for_each(|i| lanes[i] += part[i]);
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}
