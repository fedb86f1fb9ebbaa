//! Physics: kinematics, Ohm's law, density, energy, unit conversion.

use super::motion::kinematics;
use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{decimal, div, mul};
use super::units::unit_conversion;
use super::{Domain, Family};

/// The domain.
pub const DOMAIN: Domain = Domain {
    name: "physics",
    core: true,
    families: &[
        Family { name: "kinematics", draw: kinematics },
        Family { name: "ohms_law", draw: ohms_law },
        Family { name: "density", draw: density },
        Family { name: "energy", draw: energy },
        Family { name: "unit_conversion", draw: unit_conversion },
    ],
};

fn ohms_law(r: &mut Rng) -> Problem {
    let (i, ohms) = (r.range(2, 20), r.range(2, 60));
    let v = i * ohms;
    let slots: &[(&str, &dyn std::fmt::Display)] = &[("i", &i), ("o", &ohms), ("v", &v)];
    match r.below(4) {
        0 => Problem {
            key: format!("voltage {i},{ohms}"),
            question: say(
                r,
                &[
                    "A current of {i} A flows through a resistor of {o} ohms. What is the voltage?",
                    "What voltage drives {i} A through {o} ohms?",
                    "Find the voltage across a {o} ohm resistor that carries {i} A.",
                    "Current {i} A, resistance {o} ohms. What is the voltage?",
                    "I = {i} A, R = {o} ohms. What is V?",
                    "What is the voltage across a resistor of {o} ohms with a current of {i} A?",
                    "A resistor of {o} ohms carries {i} A. What is the voltage?",
                    "What is the voltage if the current is {i} A and the resistance is {o} ohms?",
                ],
                slots,
            ),
            work: format!("V = I × R.\n{}", mul(i, ohms)),
            answer: with_unit(v, "V"),
            wrong: vec![
                wrong(
                    "adding current and resistance",
                    with_unit(i + ohms, "V"),
                    format!("{i} + {ohms} was computed"),
                ),
                wrong(
                    "dividing instead of multiplying",
                    with_unit((ohms / i).max(1), "V"),
                    "R was divided by I",
                ),
                wrong("computing the power", with_unit(i * i * ohms, "V"), "I² × R is the power"),
                wrong(
                    "counting one ampere too few",
                    with_unit((i - 1) * ohms, "V"),
                    format!("{} A were used", i - 1),
                ),
            ],
        },
        1 => Problem {
            key: format!("current {v},{i}"),
            question: {
                // The known resistance is the small factor, so that the division stays short.
                say(
                    r,
                    &[
                        "A voltage of {v} V is applied to a resistor of {i} ohms. What is the current?",
                        "What current flows through {i} ohms at {v} V?",
                        "Find the current: voltage {v} V, resistance {i} ohms.",
                        "V = {v} V, R = {i} ohms. What is I?",
                        "What is the current if the voltage is {v} V and the resistance is {i} ohms?",
                        "A {i} ohm resistor is connected to {v} V. What is the current?",
                    ],
                    slots,
                )
            },
            work: format!("I = V ÷ R.\n{}", div(v, i)),
            answer: with_unit(ohms, "A"),
            wrong: vec![
                wrong("multiplying instead of dividing", with_unit(v * i, "A"), "V was multiplied by R"),
                wrong("subtracting the resistance", with_unit(v - i, "A"), format!("{i} was taken from {v}")),
                wrong(
                    "stopping the division early",
                    with_unit(ohms - 1, "A"),
                    format!("{} × {i} is only {}", ohms - 1, (ohms - 1) * i),
                ),
                wrong("doubling the current", with_unit(2 * ohms, "A"), "the resistance was halved"),
            ],
        },
        2 => Problem {
            key: format!("resistance {v},{i}"),
            question: say(
                r,
                &[
                    "A voltage of {v} V drives a current of {i} A. What is the resistance?",
                    "What resistance carries {i} A at {v} V?",
                    "Find the resistance: voltage {v} V, current {i} A.",
                    "V = {v} V, I = {i} A. What is R?",
                    "What is the resistance if V = {v} V and I = {i} A?",
                    "What is the resistance if the voltage is {v} V and the current is {i} A?",
                ],
                slots,
            ),
            work: format!("R = V ÷ I.\n{}", div(v, i)),
            answer: with_unit(ohms, "ohms"),
            wrong: vec![
                wrong("multiplying instead of dividing", with_unit(v * i, "ohms"), "V × I is the power"),
                wrong("subtracting the current", with_unit(v - i, "ohms"), format!("{i} was taken from {v}")),
                wrong(
                    "stopping the division early",
                    with_unit(ohms - 1, "ohms"),
                    format!("{} × {i} is only {}", ohms - 1, (ohms - 1) * i),
                ),
                wrong(
                    "halving the resistance",
                    with_unit(decimal(ohms * 5, 1), "ohms"),
                    "the current was doubled",
                ),
            ],
        },
        _ => Problem {
            key: format!("power {ohms},{i}"),
            question: say(
                r,
                &[
                    "A device takes {i} A at {o} V. What is its power?",
                    "What power does a lamp draw at {o} V and {i} A?",
                    "Voltage {o} V, current {i} A. What is the power?",
                    "V = {o} V, I = {i} A. What is P?",
                ],
                slots,
            ),
            work: format!("P = V × I.\n{}", mul(ohms, i)),
            answer: with_unit(v, "W"),
            wrong: vec![
                wrong(
                    "adding voltage and current",
                    with_unit(i + ohms, "W"),
                    format!("{ohms} + {i} was computed"),
                ),
                wrong(
                    "dividing instead of multiplying",
                    with_unit((ohms / i).max(1), "W"),
                    "V ÷ I is the resistance",
                ),
                wrong("squaring the current", with_unit(i * v, "W"), "I² belongs to a resistance"),
                wrong(
                    "halving the power",
                    with_unit(decimal(v * 5, 1), "W"),
                    "there is no half in P = V × I",
                ),
            ],
        },
    }
}

fn density(r: &mut Rng) -> Problem {
    let (rho, vol) = (r.range(2, 20), r.range(2, 60));
    let m = rho * vol;
    let (thing, small) = r.of(&[
        ("block", true),
        ("liquid", true),
        ("stone", true),
        ("metal cube", true),
        ("tank of oil", false),
    ]);
    let (mass, volume, per) = if small { ("g", "cm³", "g/cm³") } else { ("kg", "m³", "kg/m³") };
    let slots: &[(&str, &dyn std::fmt::Display)] = &[
        ("rho", &rho),
        ("vol", &vol),
        ("m", &m),
        ("thing", &thing),
        ("g", &mass),
        ("c", &volume),
        ("per", &per),
    ];
    match r.below(3) {
        0 => Problem {
            key: format!("mass {rho},{vol}"),
            question: say(
                r,
                &[
                    "A {thing} has a density of {rho} {per} and a volume of {vol} {c}. What is its mass?",
                    "What is the mass of {vol} {c} of a substance of density {rho} {per}?",
                    "Density {rho} {per}, volume {vol} {c}. What is the mass?",
                    "Find the mass of a {thing} of {vol} {c} with density {rho} {per}.",
                ],
                slots,
            ),
            work: format!("Mass = density × volume.\n{}", mul(rho, vol)),
            answer: with_unit(m, mass),
            wrong: vec![
                wrong(
                    "dividing instead of multiplying",
                    with_unit((vol / rho).max(1), mass),
                    "volume was divided by density",
                ),
                wrong(
                    "adding density and volume",
                    with_unit(rho + vol, mass),
                    format!("{rho} + {vol} was computed"),
                ),
                wrong("confusing g and kg", with_unit(decimal(m, 3), mass), "the mass was divided by 1000"),
                wrong(
                    "losing one unit of volume",
                    with_unit(rho * (vol - 1), mass),
                    format!("{} {volume} were used", vol - 1),
                ),
            ],
        },
        1 => Problem {
            key: format!("density {m},{rho}"),
            // The volume is the small factor here.
            question: say(
                r,
                &[
                    "A {thing} has a mass of {m} {g} and a volume of {rho} {c}. What is its density?",
                    "What is the density of a {thing} of {m} {g} and {rho} {c}?",
                    "Mass {m} {g}, volume {rho} {c}. What is the density?",
                    "Find the density: {m} {g} fill {rho} {c}.",
                    "What is the density of an object with a mass of {m} {g} and a volume of {rho} {c}?",
                    "What is the density of a {thing} with mass {m} {g} and volume {rho} {c}?",
                ],
                slots,
            ),
            work: format!("Density = mass ÷ volume.\n{}", div(m, rho)),
            answer: with_unit(vol, per),
            wrong: vec![
                wrong(
                    "multiplying instead of dividing",
                    with_unit(m * rho, per),
                    "mass was multiplied by volume",
                ),
                wrong("subtracting the volume", with_unit(m - rho, per), format!("{rho} was taken from {m}")),
                wrong(
                    "stopping the division early",
                    with_unit(vol - 1, per),
                    format!("{} × {rho} is only {}", vol - 1, (vol - 1) * rho),
                ),
                wrong(
                    "confusing g and kg",
                    with_unit(decimal(vol, 3), per),
                    "the mass was divided by 1000 first",
                ),
            ],
        },
        _ => Problem {
            key: format!("volume {m},{rho}"),
            question: say(
                r,
                &[
                    "A {thing} has a mass of {m} {g} and a density of {rho} {per}. What is its volume?",
                    "What volume does {m} {g} of a substance of density {rho} {per} take?",
                    "Mass {m} {g}, density {rho} {per}. What is the volume?",
                ],
                slots,
            ),
            work: format!("Volume = mass ÷ density.\n{}", div(m, rho)),
            answer: with_unit(vol, volume),
            wrong: vec![
                wrong(
                    "multiplying instead of dividing",
                    with_unit(m * rho, volume),
                    "mass was multiplied by density",
                ),
                wrong(
                    "subtracting the density",
                    with_unit(m - rho, volume),
                    format!("{rho} was taken from {m}"),
                ),
                wrong(
                    "stopping the division early",
                    with_unit(vol - 1, volume),
                    format!("{} × {rho} is only {}", vol - 1, (vol - 1) * rho),
                ),
                wrong(
                    "confusing g and kg",
                    with_unit(decimal(vol, 3), volume),
                    "the mass was divided by 1000 first",
                ),
            ],
        },
    }
}

fn energy(r: &mut Rng) -> Problem {
    match r.below(3) {
        0 => {
            let v = r.range(2, 20);
            let m = if v.is_multiple_of(2) { r.range(1, 60) } else { 2 * r.range(1, 30) };
            let thing = r.pick(&["ball", "cart", "stone", "bike", "object"]);
            let question = say(
                r,
                &[
                    "What is the kinetic energy of a {thing} of {m} kg at {v} m/s?",
                    "A {thing} with a mass of {m} kg moves at {v} m/s. What is its kinetic energy?",
                    "Mass {m} kg, speed {v} m/s. What is the kinetic energy?",
                    "Find the kinetic energy of a {m} kg {thing} that moves at {v} m/s.",
                    "What is the kinetic energy of a {m} kg {thing} moving at {v} m/s?",
                    "A {m} kg {thing} moves at {v} m/s. What is its kinetic energy?",
                ],
                &[("thing", &thing), ("m", &m), ("v", &v)],
            );
            let e = m * v * v;
            Problem {
                key: format!("kinetic {m},{v}"),
                question,
                work: format!("E = m × v² ÷ 2.\n{}\n{}\n{}", mul(v, v), mul(m, v * v), div(e, 2)),
                answer: with_unit(e / 2, "J"),
                wrong: vec![
                    wrong("forgetting the half", with_unit(e, "J"), "m × v² was not divided by 2"),
                    wrong(
                        "forgetting the square",
                        with_unit(decimal(m * v * 5, 1), "J"),
                        "v stood in place of v²",
                    ),
                    wrong("computing the momentum", with_unit(m * v, "J"), "m × v is the momentum"),
                    wrong(
                        "halving twice",
                        with_unit(decimal(e * 25, 2), "J"),
                        "the product was divided by 4",
                    ),
                    wrong(
                        "doubling instead of halving",
                        with_unit(2 * e, "J"),
                        "the product was multiplied by 2",
                    ),
                ],
            }
        }
        1 => {
            let (m, h) = (r.range(1, 60), r.range(2, 60));
            let thing = r.pick(&["box", "stone", "climber", "crate", "object"]);
            let question = say(
                r,
                &[
                    "What is the potential energy of a {thing} of {m} kg at a height of {h} m? Use g = 10 m/s².",
                    "A {thing} of {m} kg is lifted by {h} m. What potential energy does it gain? Use g = 10 m/s².",
                    "Mass {m} kg, height {h} m, g = 10 m/s². What is the potential energy?",
                    "What is the potential energy of a {m} kg {thing} at {h} m?",
                    "What is the potential energy of a {m} kg {thing} at a height of {h} m with g = 10 m/s²?",
                    "With g = 10 m/s², find the potential energy of a {m} kg {thing} at {h} m.",
                ],
                &[("thing", &thing), ("m", &m), ("h", &h)],
            );
            let e = m * h * 10;
            Problem {
                key: format!("potential {m},{h}"),
                question,
                work: format!("E = m × g × h.\n{}\n{}", mul(m, h), mul(m * h, 10)),
                answer: with_unit(e, "J"),
                wrong: vec![
                    wrong(
                        "forgetting g",
                        with_unit(m * h, "J"),
                        format!("{m} × {h} was not multiplied by 10"),
                    ),
                    wrong(
                        "halving as for kinetic energy",
                        with_unit(e / 2, "J"),
                        "there is no half in m × g × h",
                    ),
                    wrong("forgetting the height", with_unit(m * 10, "J"), "m × g is the weight"),
                    wrong("multiplying by g twice", with_unit(e * 10, "J"), "the factor 10 was used twice"),
                ],
            }
        }
        _ => {
            let (p, t) = (r.range(2, 99), r.range(2, 60));
            let thing = r.pick(&["lamp", "motor", "heater", "pump", "machine"]);
            let question = say(
                r,
                &[
                    "A {thing} of {p} W runs for {t} s. How much energy does it use?",
                    "How much energy does a {p} W {thing} use in {t} s?",
                    "Power {p} W, time {t} s. What is the energy?",
                    "What energy does a {thing} turn over at {p} W in {t} s?",
                ],
                &[("thing", &thing), ("p", &p), ("t", &t)],
            );
            Problem {
                key: format!("power time {p},{t}"),
                question,
                work: format!("E = P × t.\n{}", mul(p, t)),
                answer: with_unit(p * t, "J"),
                wrong: vec![
                    wrong(
                        "dividing instead of multiplying",
                        with_unit((p / t).max(1), "J"),
                        "power was divided by time",
                    ),
                    wrong("adding power and time", with_unit(p + t, "J"), format!("{p} + {t} was computed")),
                    wrong(
                        "confusing J and kJ",
                        with_unit(decimal(p * t, 3), "J"),
                        "the result was divided by 1000",
                    ),
                    wrong("losing one second", with_unit(p * (t - 1), "J"), format!("{} s were used", t - 1)),
                ],
            }
        }
    }
}
