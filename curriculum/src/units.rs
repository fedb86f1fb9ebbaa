//! Unit conversion: powers of ten, time, temperature, km/h.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{Decimal, add, decimal, div, mul, shift_down, shift_up};

/// Conversions by a power of ten: from, to, places, `true` where the number grows.
const SHIFTS: &[(&str, &str, u32, bool)] = &[
    ("km", "m", 3, true),
    ("m", "cm", 2, true),
    ("cm", "mm", 1, true),
    ("m", "mm", 3, true),
    ("kg", "g", 3, true),
    ("g", "mg", 3, true),
    ("L", "mL", 3, true),
    ("kW", "W", 3, true),
    ("m", "km", 3, false),
    ("cm", "m", 2, false),
    ("mm", "cm", 1, false),
    ("g", "kg", 3, false),
    ("mg", "g", 3, false),
    ("mL", "L", 3, false),
    ("W", "kW", 3, false),
];

/// Conversions by a whole factor: from, to, factor.
const FACTORS: &[(&str, &str, u64)] =
    &[("min", "s", 60), ("h", "min", 60), ("days", "h", 24), ("weeks", "days", 7), ("h", "s", 3600)];

/// The units' names, for questions that spell them out.
const SPELLED: &[(&str, &str)] = &[
    ("km", "kilometers"),
    ("m", "meters"),
    ("cm", "centimeters"),
    ("mm", "millimeters"),
    ("kg", "kilograms"),
    ("g", "grams"),
    ("mg", "milligrams"),
    ("L", "liters"),
    ("mL", "milliliters"),
    ("W", "watts"),
    ("kW", "kilowatts"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("°C", "degrees Celsius"),
    ("K", "kelvin"),
];

/// A conversion's question: units as symbols or, as often, spelled out (at times in British spelling).
fn ask_conversion(r: &mut Rng, n: Decimal, from: &str, to: &str) -> String {
    let wordings: &[&str] = &[
        "Convert {n} {from} to {to}.",
        "Convert {n} {from} into {to}.",
        "How many {to} are {n} {from}?",
        "How many {to} are in {n} {from}?",
        "How many {to} are there in {n} {from}?",
        "What is {n} {from} in {to}?",
        "{n} {from} in {to}",
        "{n} {from} to {to}",
        "Express {n} {from} in {to}.",
    ];
    let (spell, british) = (r.one_in(2), r.one_in(3));
    let name = |u: &str| match SPELLED.iter().find(|s| s.0 == u) {
        Some((_, long)) if spell && british => long.replace("meters", "metres").replace("liters", "litres"),
        Some((_, long)) if spell => long.to_string(),
        _ => u.to_string(),
    };
    say(r, wordings, &[("n", &n), ("from", &name(from)), ("to", &name(to))])
}

pub(super) fn unit_conversion(r: &mut Rng) -> Problem {
    match r.below(4) {
        0 | 1 => {
            let (from, to, places, up) = r.of(SHIFTS);
            let n = if r.one_in(2) { decimal(r.range(1, 999), 1) } else { decimal(r.range(1, 999), 0) };
            let question = ask_conversion(r, n, from, to);
            let (value, steps) = if up { shift_up(n, places) } else { shift_down(n, places) };
            let ten = 10u64.pow(places);
            let work = if up {
                format!("1 {from} = {ten} {to}: {places} times ×10.\n{steps}")
            } else {
                format!("{ten} {from} = 1 {to}: {places} times ÷10.\n{steps}")
            };
            let times = |d: Decimal, up: bool, p: u32| if up { shift_up(d, p).0 } else { shift_down(d, p).0 };
            Problem {
                key: format!("{n} {from}>{to}"),
                question,
                work,
                answer: with_unit(value, to),
                wrong: vec![
                    wrong(
                        "moving the point one place too far",
                        with_unit(times(value, up, 1), to),
                        "one place too many",
                    ),
                    wrong(
                        "moving the point one place too little",
                        with_unit(times(value, !up, 1), to),
                        "one place is missing",
                    ),
                    wrong(
                        "converting the wrong way",
                        with_unit(times(n, !up, places), to),
                        format!("{from} and {to} were exchanged"),
                    ),
                    wrong("keeping the number", with_unit(n, to), "only the unit was exchanged"),
                    wrong(
                        "moving the point two places too far",
                        with_unit(times(value, up, 2), to),
                        "two places too many",
                    ),
                ],
            }
        }
        2 => {
            let (from, to, factor) = r.of(FACTORS);
            let n = r.range(2, 60);
            let question = ask_conversion(r, decimal(n, 0), from, to);
            Problem {
                key: format!("{n} {from}>{to}"),
                question,
                work: format!("1 {} = {factor} {to}.\n{}", from.trim_end_matches('s'), mul(n, factor)),
                answer: with_unit(n * factor, to),
                wrong: vec![
                    wrong(
                        "using a factor of a hundred",
                        with_unit(n * 100, to),
                        "time does not count in hundreds",
                    ),
                    wrong(
                        "adding the factor",
                        with_unit(n + factor, to),
                        format!("{n} + {factor} was computed"),
                    ),
                    wrong("slipping a decimal place", with_unit(n * factor * 10, to), "a zero too many"),
                    wrong(
                        "using half of the factor",
                        with_unit(decimal(n * factor * 5, 1), to),
                        format!("{factor} was halved"),
                    ),
                ],
            }
        }
        _ => {
            if r.one_in(2) {
                let c = r.range(0, 250);
                let question = ask_conversion(r, decimal(c, 0), "°C", "K");
                Problem {
                    key: format!("{c} °C>K"),
                    question,
                    work: format!("Add 273.\n{}", add(c, 273)),
                    answer: with_unit(c + 273, "K"),
                    wrong: vec![
                        wrong(
                            "subtracting 273",
                            with_unit(c.abs_diff(273), "K"),
                            "the shift has the wrong sign",
                        ),
                        wrong("keeping the number", with_unit(c, "K"), "only the unit was exchanged"),
                        wrong("adding 237", with_unit(c + 237, "K"), "two digits of 273 were exchanged"),
                        wrong("adding 32 as for Fahrenheit", with_unit(c + 32, "K"), "32 belongs to °F"),
                    ],
                }
            } else {
                let k = r.range(1, 40);
                let (n, v) = (18 * k, 5 * k);
                let question = ask_conversion(r, decimal(n, 0), "km/h", "m/s");
                Problem {
                    key: format!("{n} km/h>m/s"),
                    question,
                    work: format!(
                        "18 km/h = 5 m/s. Divide by 9, by 2, then multiply by 5.\n{}\n{}\n{}",
                        div(n, 9),
                        div(2 * k, 2),
                        mul(k, 5)
                    ),
                    answer: with_unit(v, "m/s"),
                    wrong: vec![
                        wrong(
                            "multiplying by 3.6",
                            with_unit(decimal(n * 36, 1), "m/s"),
                            "this is the way back to km/h",
                        ),
                        wrong("dividing by 18 only", with_unit(k, "m/s"), "the factor 5 was forgotten"),
                        wrong("dividing by 6", with_unit(3 * k, "m/s"), "36 was taken for 6 × 6"),
                        wrong("dividing by 2", with_unit(9 * k, "m/s"), "the factor is 3.6 and not 2"),
                    ],
                }
            }
        }
    }
}
