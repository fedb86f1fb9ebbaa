//! Chemistry: molar mass, dilution, pH, stoichiometry, balancing. Not of the core: the on-board model was
//! never trained on it, which makes it the domain to fine-tune on.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{add, decimal, div, mul, sub};
use super::{Domain, Family};

/// The domain.
pub const DOMAIN: Domain = Domain {
    name: "chemistry",
    core: false,
    families: &[
        Family { name: "molar_mass", draw: molar_mass },
        Family { name: "dilution", draw: dilution },
        Family { name: "ph", draw: ph },
        Family { name: "stoichiometry", draw: stoichiometry },
        Family { name: "balancing", draw: balancing },
    ],
};

/// An element: symbol, atomic number, atomic mass in g/mol as schools round it. Chlorine, at 35.5, is left
/// out, so that every molar mass is whole.
type Element = (&'static str, u64, u64);

const H: Element = ("H", 1, 1);
const LI: Element = ("Li", 3, 7);
const C: Element = ("C", 6, 12);
const N: Element = ("N", 7, 14);
const O: Element = ("O", 8, 16);
const F: Element = ("F", 9, 19);
const NA: Element = ("Na", 11, 23);
const MG: Element = ("Mg", 12, 24);
const AL: Element = ("Al", 13, 27);
const P: Element = ("P", 15, 31);
const S: Element = ("S", 16, 32);
const K: Element = ("K", 19, 39);
const CA: Element = ("Ca", 20, 40);
const FE: Element = ("Fe", 26, 56);
const ZN: Element = ("Zn", 30, 65);
const BR: Element = ("Br", 35, 80);

/// A compound: its formula and how many atoms of each element it has.
struct Compound {
    formula: String,
    atoms: Vec<(Element, u64)>,
}

impl Compound {
    /// Molar mass in g/mol.
    fn mass(&self) -> u64 {
        self.atoms.iter().map(|((_, _, mass), n)| mass * n).sum()
    }

    /// The molar mass element by element, then summed.
    fn work(&self) -> String {
        let mut lines: Vec<String> =
            self.atoms.iter().map(|((symbol, _, mass), n)| format!("{symbol}: {}", mul(*n, *mass))).collect();
        let mut sum = 0;
        for ((_, _, mass), n) in &self.atoms {
            if sum > 0 {
                lines.push(add(sum, mass * n));
            }
            sum += mass * n;
        }
        lines.join("\n")
    }
}

/// `symbol` with its count, which is left out where it is 1.
fn counted(symbol: &str, n: u64) -> String {
    if n == 1 { symbol.to_string() } else { format!("{symbol}{n}") }
}

/// A compound of carbon, hydrogen and perhaps oxygen and nitrogen, of at most `most` carbon atoms.
fn organic(r: &mut Rng, most: u64) -> Compound {
    let x = r.range(1, most);
    let y = 2 * r.range(1, x + 1);
    let z = r.range(0, x.min(6));
    let n = if r.one_in(4) { 2 } else { 0 };
    let atoms: Vec<(Element, u64)> =
        [(C, x), (H, y), (N, n), (O, z)].into_iter().filter(|(_, n)| *n > 0).collect();
    let formula = atoms.iter().map(|((symbol, _, _), n)| counted(symbol, *n)).collect();
    Compound { formula, atoms }
}

/// A salt, an oxide or a base: a metal and what makes up its charge.
fn salt(r: &mut Rng) -> Compound {
    let (metal, charge) =
        r.of(&[(LI, 1), (NA, 1), (K, 1), (MG, 2), (CA, 2), (ZN, 2), (FE, 2), (FE, 3), (AL, 3)]);
    let anions: &[(&[(Element, u64)], u64)] = &[
        (&[(F, 1)], 1),
        (&[(BR, 1)], 1),
        (&[(O, 1), (H, 1)], 1),
        (&[(N, 1), (O, 3)], 1),
        (&[(O, 1)], 2),
        (&[(S, 1)], 2),
        (&[(S, 1), (O, 4)], 2),
        (&[(C, 1), (O, 3)], 2),
        (&[(P, 1), (O, 4)], 3),
    ];
    let (anion, other) = r.of(anions);
    let (metals, anion_count) = if charge == other {
        (1, 1)
    } else if other % charge == 0 {
        (other / charge, 1)
    } else if charge % other == 0 {
        (1, charge / other)
    } else {
        (other, charge)
    };
    let group: String = anion.iter().map(|((symbol, _, _), n)| counted(symbol, *n)).collect();
    let group = match (anion.len(), anion_count) {
        (_, 1) => group,
        (1, n) => counted(&group, n),
        (_, n) => format!("({group}){n}"),
    };
    let mut atoms = vec![(metal, metals)];
    atoms.extend(anion.iter().map(|(e, n)| (*e, n * anion_count)));
    Compound { formula: format!("{}{group}", counted(metal.0, metals)), atoms }
}

fn molar_mass(r: &mut Rng) -> Problem {
    match r.below(4) {
        0 | 1 => {
            let compound = if r.one_in(2) { organic(r, 12) } else { salt(r) };
            let (formula, m) = (&compound.formula, compound.mass());
            let once: u64 = compound.atoms.iter().map(|(e, _)| e.2).sum();
            let numbers: u64 = compound.atoms.iter().map(|(e, n)| e.1 * n).sum();
            let last = compound.atoms[compound.atoms.len() - 1];
            Problem {
                key: format!("molar {formula}"),
                question: say(
                    r,
                    &[
                        "What is the molar mass of {f}?",
                        "Find the molar mass of {f}.",
                        "What does one mole of {f} weigh?",
                        "Calculate the molar mass of {f} in g/mol.",
                        "How heavy is 1 mol of {f}?",
                        "Molar mass of {f}?",
                    ],
                    &[("f", formula)],
                ),
                work: compound.work(),
                answer: with_unit(m, "g/mol"),
                wrong: vec![
                    wrong(
                        "counting each element once",
                        with_unit(once, "g/mol"),
                        "the small numbers in the formula were not used",
                    ),
                    wrong(
                        "adding atomic numbers",
                        with_unit(numbers, "g/mol"),
                        "protons were counted in place of masses",
                    ),
                    wrong(
                        "forgetting the last element",
                        with_unit(m - last.0.2 * last.1, "g/mol"),
                        format!("{} was left out", last.0.0),
                    ),
                    wrong(
                        "counting one atom too many",
                        with_unit(m + last.0.2, "g/mol"),
                        format!("{} of {} were counted", last.1 + 1, last.0.0),
                    ),
                ],
            }
        }
        kind => {
            let compound = if r.one_in(2) { organic(r, 6) } else { salt(r) };
            let (formula, m, n) = (&compound.formula, compound.mass(), r.range(2, 9));
            let mass = m * n;
            let slots: &[(&str, &dyn std::fmt::Display)] =
                &[("f", formula), ("m", &m), ("n", &n), ("g", &mass)];
            if kind == 2 {
                Problem {
                    key: format!("mass {n},{formula}"),
                    question: say(
                        r,
                        &[
                            "The molar mass of {f} is {m} g/mol. What is the mass of {n} mol?",
                            "What do {n} mol of {f} weigh? M = {m} g/mol.",
                            "What is the mass of {n} mol of {f} with a molar mass of {m} g/mol?",
                            "Find the mass: {n} mol of {f}, molar mass {m} g/mol.",
                        ],
                        slots,
                    ),
                    work: format!("m = n × M.\n{}", mul(n, m)),
                    answer: with_unit(mass, "g"),
                    wrong: vec![
                        wrong(
                            "stopping at the molar mass",
                            with_unit(m, "g"),
                            "that is the mass of one mole",
                        ),
                        wrong("adding instead of multiplying", with_unit(m + n, "g"), "n was added to M"),
                        wrong("counting one mole too few", with_unit(mass - m, "g"), "one mole was left out"),
                        wrong("counting one mole too many", with_unit(mass + m, "g"), "one mole came twice"),
                    ],
                }
            } else {
                Problem {
                    key: format!("moles {n},{formula}"),
                    question: say(
                        r,
                        &[
                            "The molar mass of {f} is {m} g/mol. How many moles are {g} g?",
                            "How many moles are {g} g of {f}? M = {m} g/mol.",
                            "How many moles of {f} are in {g} g, with a molar mass of {m} g/mol?",
                            "Find the amount: {g} g of {f}, molar mass {m} g/mol.",
                        ],
                        slots,
                    ),
                    work: format!("n = m ÷ M.\n{}", div(mass, m)),
                    answer: with_unit(n, "mol"),
                    wrong: vec![
                        wrong(
                            "multiplying instead of dividing",
                            with_unit(mass * m, "mol"),
                            "m × M was taken",
                        ),
                        wrong("subtracting the molar mass", with_unit(mass - m, "mol"), "M was taken from m"),
                        wrong("counting one mole too few", with_unit(n - 1, "mol"), "one mole was left out"),
                        wrong("counting one mole too many", with_unit(n + 1, "mol"), "one mole came twice"),
                    ],
                }
            }
        }
    }
}

fn dilution(r: &mut Rng) -> Problem {
    let (c2, times, v1) = (r.range(1, 9), r.range(2, 9), r.range(2, 50));
    let (c1, v2) = (c2 * times, v1 * times);
    let water = v2 - v1;
    let slots: &[(&str, &dyn std::fmt::Display)] =
        &[("c1", &c1), ("c2", &c2), ("v1", &v1), ("v2", &v2), ("w", &water)];
    match r.below(4) {
        0 => Problem {
            key: format!("volume {c1},{v1},{c2}"),
            question: say(
                r,
                &[
                    "{v1} mL of a {c1} mol/L solution are diluted to {c2} mol/L. What is the final volume?",
                    "To what volume must {v1} mL of {c1} mol/L be diluted to reach {c2} mol/L?",
                    "C1 = {c1} mol/L, V1 = {v1} mL, C2 = {c2} mol/L. What is V2?",
                    "Find the final volume: {v1} mL of {c1} mol/L become {c2} mol/L.",
                ],
                slots,
            ),
            work: format!("V2 = C1 × V1 ÷ C2.\n{}\n{}", mul(c1, v1), div(c1 * v1, c2)),
            answer: with_unit(v2, "mL"),
            wrong: vec![
                wrong("giving the water only", with_unit(water, "mL"), "the first volume is part of it"),
                wrong("forgetting to divide", with_unit(c1 * v1, "mL"), "C1 × V1 is no volume"),
                wrong("adding a concentration", with_unit(v1 + c1, "mL"), "C1 was added to V1"),
                wrong("doubling the volume", with_unit(2 * v2, "mL"), "one dilution was counted twice"),
            ],
        },
        1 => Problem {
            key: format!("concentration {c1},{v1},{v2}"),
            question: say(
                r,
                &[
                    "{v1} mL of a {c1} mol/L solution are diluted to {v2} mL. What is the concentration?",
                    "What is the concentration after diluting {v1} mL of {c1} mol/L to {v2} mL?",
                    "C1 = {c1} mol/L, V1 = {v1} mL, V2 = {v2} mL. What is C2?",
                    "Water is added to {v1} mL of {c1} mol/L until there are {v2} mL. What is the concentration?",
                ],
                slots,
            ),
            work: format!("C2 = C1 × V1 ÷ V2.\n{}\n{}", mul(c1, v1), div(c1 * v1, v2)),
            answer: with_unit(c2, "mol/L"),
            wrong: vec![
                wrong("keeping the concentration", with_unit(c1, "mol/L"), "water makes it smaller"),
                wrong("subtracting", with_unit(c1 - c2, "mol/L"), "that is what was lost"),
                wrong(
                    "turning the ratio around",
                    with_unit(c1 * times, "mol/L"),
                    "V2 ÷ V1 was multiplied in",
                ),
                wrong("halving the concentration", with_unit(decimal(c1 * 5, 1), "mol/L"), "C1 was halved"),
            ],
        },
        2 => Problem {
            key: format!("first {c1},{v2},{c2}"),
            question: say(
                r,
                &[
                    "What volume of a {c1} mol/L solution gives {v2} mL of {c2} mol/L?",
                    "How many mL of {c1} mol/L are needed for {v2} mL of {c2} mol/L?",
                    "C1 = {c1} mol/L, C2 = {c2} mol/L, V2 = {v2} mL. What is V1?",
                    "{v2} mL of {c2} mol/L are made from {c1} mol/L. What volume is taken?",
                ],
                slots,
            ),
            work: format!("V1 = C2 × V2 ÷ C1.\n{}\n{}", mul(c2, v2), div(c2 * v2, c1)),
            answer: with_unit(v1, "mL"),
            wrong: vec![
                wrong("giving the water only", with_unit(water, "mL"), "that is what is added"),
                wrong("forgetting to divide", with_unit(c2 * v2, "mL"), "C2 × V2 is no volume"),
                wrong("taking the final volume", with_unit(v2, "mL"), "that is V2"),
                wrong("doubling the volume", with_unit(2 * v1, "mL"), "one part was counted twice"),
            ],
        },
        _ => Problem {
            key: format!("water {c1},{v1},{c2}"),
            question: say(
                r,
                &[
                    "How much water must be added to {v1} mL of {c1} mol/L to reach {c2} mol/L?",
                    "{v1} mL of {c1} mol/L are to become {c2} mol/L. How much water is added?",
                    "C1 = {c1} mol/L, V1 = {v1} mL, C2 = {c2} mol/L. How many mL of water are added?",
                ],
                slots,
            ),
            work: format!(
                "V2 = C1 × V1 ÷ C2.\n{}\n{}\nWater = V2 - V1.\n{}",
                mul(c1, v1),
                div(c1 * v1, c2),
                sub(v2, v1)
            ),
            answer: with_unit(water, "mL"),
            wrong: vec![
                wrong("giving the final volume", with_unit(v2, "mL"), "V1 was there before"),
                wrong("adding V1 again", with_unit(v2 + v1, "mL"), "V1 was added instead of taken away"),
                wrong("forgetting to divide", with_unit(c1 * v1, "mL"), "C1 × V1 is no volume"),
                wrong("giving the first volume", with_unit(v1, "mL"), "that is V1"),
            ],
        },
    }
}

fn ph(r: &mut Rng) -> Problem {
    match r.below(5) {
        kind @ (0 | 1) => {
            let p = r.range(1, 139);
            let (given, asked) = if kind == 0 { ("pH", "pOH") } else { ("pOH", "pH") };
            let (value, rest) = (decimal(p, 1), 140 - p);
            Problem {
                key: format!("{asked} {value}"),
                question: say(
                    r,
                    &[
                        "A solution has a {g} of {p}. What is its {a}?",
                        "What is the {a} of a solution with {g} {p}?",
                        "{g} = {p}. What is the {a}?",
                        "Find the {a} if the {g} is {p}.",
                        "The {g} is {p}. What is the {a}?",
                    ],
                    &[("g", &given), ("a", &asked), ("p", &value)],
                ),
                work: format!(
                    "pH + pOH = 14.\nIn tenths: {}\n14 - {value} = {}.",
                    sub(140, p),
                    decimal(rest, 1)
                ),
                answer: with_unit(decimal(rest, 1), ""),
                wrong: vec![
                    wrong("taking the same value", value, "pH and pOH differ unless both are 7"),
                    wrong("adding 14", decimal(140 + p, 1), "14 was added"),
                    wrong("subtracting from 15", decimal(rest + 10, 1), "the sum is 14"),
                    wrong("subtracting from 13", decimal(rest.abs_diff(10), 1), "the sum is 14"),
                ],
            }
        }
        kind @ (2 | 3) => {
            let k = r.range(1, 3);
            let acid = kind == 2;
            let p = if acid { r.range(1, 69 - 10 * k) } else { r.range(71 + 10 * k, 139) };
            let after = if acid { p + 10 * k } else { p - 10 * k };
            let (thing, sign) = if acid { ("strong acid", "+") } else { ("strong base", "-") };
            let times = 10u64.pow(k as u32);
            let (value, new) = (decimal(p, 1), decimal(after, 1));
            let other = if acid { p.abs_diff(10 * k) } else { p + 10 * k };
            Problem {
                key: format!("{} {value},{k}", if acid { "acid" } else { "base" }),
                question: say(
                    r,
                    &[
                        "A {thing} of pH {p} is diluted {t} times. What is the new pH?",
                        "What is the pH after diluting a {thing} of pH {p} by a factor of {t}?",
                        "A {thing} has pH {p}. It is diluted {t}-fold. What is its pH now?",
                        "pH {p}, a {thing}, diluted {t} times. What is the pH?",
                    ],
                    &[("thing", &thing), ("p", &value), ("t", &times)],
                ),
                work: format!(
                    "{times} = 10^{k}, so the pH moves by {k} towards 7.\n{value} {sign} {k} = {new}."
                ),
                answer: with_unit(new, ""),
                wrong: vec![
                    wrong("moving away from 7", decimal(other, 1), "dilution brings the pH closer to 7"),
                    wrong("keeping the pH", value, "water changes it"),
                    wrong("going all the way to 7", 7, "7 is the limit"),
                    wrong(
                        "moving one step too far",
                        decimal(if acid { after + 10 } else { after - 10 }, 1),
                        "one power of ten too many was counted",
                    ),
                ],
            }
        }
        _ => {
            let d = r.range(1, 6);
            let a = r.range(0, 14 - d);
            let b = a + d;
            let times = 10u64.pow(d as u32);
            Problem {
                key: format!("ratio {a},{b}"),
                question: say(
                    r,
                    &[
                        "How many times more acidic is pH {a} than pH {b}?",
                        "By what factor is a solution of pH {a} more acidic than one of pH {b}?",
                        "Compare pH {a} and pH {b}: how many times more H+ has the first?",
                    ],
                    &[("a", &a), ("b", &b)],
                ),
                work: format!("{b} - {a} = {d}.\nEach step of pH is a factor of 10.\n10^{d} = {times}."),
                answer: with_unit(times, ""),
                wrong: vec![
                    wrong("giving the difference", d, "each step is a factor of 10"),
                    wrong("one power too many", times * 10, "a step was counted twice"),
                    wrong("multiplying by 10 a step", d * 10 + 1, "the steps multiply, they do not add"),
                    wrong("using powers of two", 1u64 << d, "each step was taken as a doubling"),
                ],
            }
        }
    }
}

/// What stands on one side of a reaction: coefficients and formulas.
pub(super) type Side = &'static [(u64, &'static str)];

/// Balanced reactions.
pub(super) const REACTIONS: &[(Side, Side)] = &[
    (&[(2, "H2"), (1, "O2")], &[(2, "H2O")]),
    (&[(1, "N2"), (3, "H2")], &[(2, "NH3")]),
    (&[(4, "Al"), (3, "O2")], &[(2, "Al2O3")]),
    (&[(4, "Fe"), (3, "O2")], &[(2, "Fe2O3")]),
    (&[(2, "Mg"), (1, "O2")], &[(2, "MgO")]),
    (&[(1, "CH4"), (2, "O2")], &[(1, "CO2"), (2, "H2O")]),
    (&[(1, "C3H8"), (5, "O2")], &[(3, "CO2"), (4, "H2O")]),
    (&[(2, "C2H6"), (7, "O2")], &[(4, "CO2"), (6, "H2O")]),
    (&[(2, "SO2"), (1, "O2")], &[(2, "SO3")]),
    (&[(4, "NH3"), (5, "O2")], &[(4, "NO"), (6, "H2O")]),
    (&[(2, "H2O2")], &[(2, "H2O"), (1, "O2")]),
    (&[(2, "Na"), (2, "H2O")], &[(2, "NaOH"), (1, "H2")]),
    (&[(1, "P4"), (5, "O2")], &[(1, "P4O10")]),
    (&[(1, "Fe2O3"), (3, "CO")], &[(2, "Fe"), (3, "CO2")]),
    (&[(2, "Al"), (3, "H2SO4")], &[(1, "Al2(SO4)3"), (3, "H2")]),
    (&[(6, "CO2"), (6, "H2O")], &[(1, "C6H12O6"), (6, "O2")]),
    (&[(2, "KNO3")], &[(2, "KNO2"), (1, "O2")]),
    (&[(3, "Mg"), (1, "N2")], &[(1, "Mg3N2")]),
];

fn spelled(side: Side) -> String {
    let terms: Vec<String> =
        side.iter().map(|&(n, f)| if n == 1 { f.to_string() } else { format!("{n} {f}") }).collect();
    terms.join(" + ")
}

fn stoichiometry(r: &mut Rng) -> Problem {
    let (left, right) = r.of(REACTIONS);
    let all: Vec<(u64, &str, bool)> =
        left.iter().map(|&(n, f)| (n, f, true)).chain(right.iter().map(|&(n, f)| (n, f, false))).collect();
    let i = r.below(all.len() as u64) as usize;
    let j = (i + 1 + r.below(all.len() as u64 - 1) as usize) % all.len();
    let ((a, from, from_left), (b, to, to_left)) = (all[i], all[j]);
    let parts = r.range(1, 20);
    let (n, m) = (a * parts, b * parts);
    let equation = format!("{} -> {}", spelled(left), spelled(right));
    let wordings: &[&str] = match (from_left, to_left) {
        (true, false) => &[
            "{e}. How many moles of {to} form from {n} mol of {from}?",
            "In {e}, how many moles of {to} do {n} mol of {from} give?",
            "{n} mol of {from} react: {e}. How many moles of {to} form?",
        ],
        (false, true) => &[
            "{e}. How many moles of {to} are needed for {n} mol of {from}?",
            "In {e}, how many moles of {to} give {n} mol of {from}?",
            "{n} mol of {from} are to form: {e}. How many moles of {to} are needed?",
        ],
        (true, true) => &[
            "{e}. How many moles of {to} react with {n} mol of {from}?",
            "In {e}, how many moles of {to} do {n} mol of {from} need?",
            "{n} mol of {from} react: {e}. How many moles of {to} react with them?",
        ],
        (false, false) => &[
            "{e}. How many moles of {to} form along with {n} mol of {from}?",
            "In {e}, {n} mol of {from} form. How many moles of {to} form?",
        ],
    };
    Problem {
        key: format!("{n},{from}>{to},{a}:{b}"),
        question: say(r, wordings, &[("e", &equation), ("from", &from), ("to", &to), ("n", &n)]),
        work: format!("{a} {from} go with {b} {to}.\n{}\n{}", div(n, a), mul(parts, b)),
        answer: with_unit(m, "mol"),
        wrong: vec![
            wrong("forgetting the coefficients", with_unit(n, "mol"), "one to one was assumed"),
            wrong("forgetting to divide", with_unit(n * b, "mol"), format!("{a} was left out")),
            wrong("stopping after the division", with_unit(parts, "mol"), format!("{b} was left out")),
            wrong("adding the coefficients", with_unit(parts * (a + b), "mol"), "the ratio is no sum"),
            wrong("multiplying twice", with_unit(m * b, "mol"), format!("{b} was used twice")),
        ],
    }
}

fn balancing(r: &mut Rng) -> Problem {
    if r.one_in(4) {
        return atoms(r);
    }
    // With hydrogen a multiple of 4, one molecule burns without fractions.
    let x = r.range(1, 24);
    let y = 4 * r.range(1, x.div_ceil(2));
    let z = if r.one_in(2) { 0 } else { 2 * r.range(0, x / 2) };
    let fuel = format!("{}{}", counted("C", x), counted("H", y));
    let fuel = if z == 0 { fuel } else { fuel + &counted("O", z) };
    let water = y / 2;
    let oxygen = 2 * x + water - z;
    let o2 = oxygen / 2;
    let what = r.of(&["a", "b", "c"]);
    let in_all = format!("{}\n{}", mul(x, 2), add(2 * x, water));
    let (answer, work, neighbour) = match what {
        "a" if z == 0 => (
            o2,
            format!("b = {x}. c: {}\nO atoms on the right:\n{in_all}\na: {}", div(y, 2), div(oxygen, 2)),
            "an atom of O was counted as O2",
        ),
        "a" => (
            o2,
            format!(
                "b = {x}. c: {}\nO atoms on the right:\n{in_all}\nO atoms in the fuel:\n{}\na: {}",
                div(y, 2),
                sub(2 * x + water, z),
                div(oxygen, 2)
            ),
            "the oxygen of the fuel was overlooked",
        ),
        "b" => (x, format!("C atoms: {x} on the left, so b = {x}."), "hydrogen was counted"),
        _ => {
            (water, format!("H atoms: {y} on the left, 2 in each H2O.\n{}", div(y, 2)), "carbon was counted")
        }
    };
    Problem {
        key: format!("{what} {x},{y},{z}"),
        question: say(
            r,
            &[
                "Balance the equation {f} + a O2 -> b CO2 + c H2O. What is {w}?",
                "{f} + a O2 -> b CO2 + c H2O. What is {w}?",
                "{f} burns: {f} + a O2 -> b CO2 + c H2O. Find {w}.",
                "Find {w} in the balanced equation {f} + a O2 -> b CO2 + c H2O.",
            ],
            &[("f", &fuel), ("w", &what)],
        ),
        work,
        answer: with_unit(answer, ""),
        wrong: vec![
            wrong("giving another coefficient", if what == "b" { water } else { x }, neighbour),
            wrong("forgetting to halve", 2 * answer, "each molecule holds two of them"),
            wrong("counting hydrogen atoms", y, "atoms were counted in place of molecules"),
            wrong("overlooking the fuel's oxygen", x + y / 4, "what the fuel holds need not come from O2"),
        ],
    }
}

/// Atoms of one element in several formula units.
fn atoms(r: &mut Rng) -> Problem {
    let compound = if r.one_in(3) { organic(r, 8) } else { salt(r) };
    let ((symbol, _, _), count) = r.of(&compound.atoms);
    let n = r.range(2, 12);
    let formula = &compound.formula;
    let all: u64 = compound.atoms.iter().map(|(_, n)| n).sum();
    Problem {
        key: format!("atoms {n},{symbol},{formula}"),
        question: say(
            r,
            &[
                "How many {s} atoms are in {n} {f}?",
                "How many atoms of {s} do {n} {f} contain?",
                "Count the {s} atoms in {n} {f}.",
            ],
            &[("s", &symbol), ("n", &n), ("f", formula)],
        ),
        work: format!("One {formula} has {count} {symbol}.\n{}", mul(n, count)),
        answer: with_unit(n * count, ""),
        wrong: vec![
            wrong("counting one formula", count, "the number in front was not used"),
            wrong("counting formulas", n, "the small numbers were not used"),
            wrong("adding instead of multiplying", n + count, "the two numbers were added"),
            wrong("counting all elements", n * all, format!("only {symbol} was asked for")),
        ],
    }
}
