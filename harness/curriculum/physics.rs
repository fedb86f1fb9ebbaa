//! Physics: kinematics, Ohm's law, density, energy, unit conversion.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{Decimal, add, decimal, div, mul, shift_down, shift_up};
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

fn kinematics(r: &mut Rng) -> Problem {
    match r.below(5) {
        0 => final_speed(r),
        1 => distance_accelerated(r),
        2 => travel_time(r),
        3 => {
            let (v, t) = (r.range(2, 99), r.range(2, 30));
            let (thing, u, time) = r.of(&[
                ("car", "m/s", "s"),
                ("train", "km/h", "h"),
                ("cyclist", "m/s", "s"),
                ("runner", "m/s", "s"),
                ("ship", "km/h", "h"),
            ]);
            let far = if u == "m/s" { "m" } else { "km" };
            let question = say(
                r,
                &[
                    "A {thing} moves at {v} {u} for {t} {time}. How far does it go?",
                    "How far does a {thing} travel at {v} {u} in {t} {time}?",
                    "A {thing} travels at a constant {v} {u} for {t} {time}. What distance does it cover?",
                    "Speed {v} {u}, time {t} {time}. What is the distance?",
                    "A {thing} drives {v} {u} for {t} {time}. How far does it get?",
                    "If a {thing} moves at {v} {u}, how far does it go in {t} {time}?",
                ],
                &[("thing", &thing), ("v", &v), ("u", &u), ("t", &t), ("time", &time)],
            );
            Problem {
                key: format!("distance {v},{t}"),
                question,
                work: format!("Distance = speed × time.\n{}", mul(v, t)),
                answer: with_unit(v * t, far),
                wrong: vec![
                    wrong("adding speed and time", with_unit(v + t, far), format!("{v} + {t} was computed")),
                    wrong(
                        "dividing speed by time",
                        with_unit((v / t).max(1), far),
                        "speed was divided by time",
                    ),
                    wrong(
                        "halving as for a start from rest",
                        with_unit(decimal(v * t * 5, 1), far),
                        "the speed is constant",
                    ),
                    wrong(
                        "losing one unit of time",
                        with_unit(v * (t - 1), far),
                        format!("only {} {time} were counted", t - 1),
                    ),
                ],
            }
        }
        _ => {
            let (t, v) = (r.range(2, 12), r.range(2, 99));
            let s = v * t;
            let (thing, far, time, u) = r.of(&[
                ("car", "km", "h", "km/h"),
                ("runner", "m", "s", "m/s"),
                ("train", "km", "h", "km/h"),
                ("ball", "m", "s", "m/s"),
            ]);
            let question = say(
                r,
                &[
                    "A {thing} covers {s} {far} in {t} {time}. What is its average speed?",
                    "What is the average speed of a {thing} that goes {s} {far} in {t} {time}?",
                    "A {thing} needs {t} {time} for {s} {far}. How fast is it on average?",
                    "Distance {s} {far}, time {t} {time}. What is the speed?",
                    "A {thing} travels {s} {far} in {t} {time}. What is its average speed?",
                    "A {thing} travels {s} {far} in {t} {time}. What is its speed?",
                    "If a {thing} goes {s} {far} in {t} {time}, how fast is it?",
                ],
                &[("thing", &thing), ("s", &s), ("far", &far), ("t", &t), ("time", &time)],
            );
            Problem {
                key: format!("speed {s},{t}"),
                question,
                work: format!("Speed = distance ÷ time.\n{}", div(s, t)),
                answer: with_unit(v, u),
                wrong: vec![
                    wrong(
                        "multiplying instead of dividing",
                        with_unit(s * t, u),
                        format!("{s} × {t} was computed"),
                    ),
                    wrong("subtracting the time", with_unit(s - t, u), format!("{t} was taken from {s}")),
                    wrong(
                        "doubling the speed",
                        with_unit(2 * v, u),
                        "the average was taken for half of the final speed",
                    ),
                    wrong(
                        "stopping the division early",
                        with_unit(v - 1, u),
                        format!("{} × {t} is only {}", v - 1, (v - 1) * t),
                    ),
                ],
            }
        }
    }
}

/// Time from distance and speed.
fn travel_time(r: &mut Rng) -> Problem {
    let v = if r.one_in(2) { r.range(2, 12) } else { 10 * r.range(2, 12) };
    let t = if v > 12 { r.range(2, 12) } else { r.range(2, 60) };
    let s = v * t;
    let (thing, far, time, u) = r.of(&[
        ("car", "km", "h", "km/h"),
        ("train", "km", "h", "km/h"),
        ("runner", "m", "s", "m/s"),
        ("ball", "m", "s", "m/s"),
    ]);
    let question = say(
        r,
        &[
            "How long does a {thing} need for {s} {far} at {v} {u}?",
            "A {thing} moves at {v} {u}. How long does it take to go {s} {far}?",
            "How many {time} does a {thing} take for {s} {far} at {v} {u}?",
            "Distance {s} {far}, speed {v} {u}. What is the time?",
        ],
        &[("thing", &thing), ("s", &s), ("far", &far), ("v", &v), ("u", &u), ("time", &time)],
    );
    Problem {
        key: format!("time {s},{v}"),
        question,
        work: format!("Time = distance ÷ speed.\n{}", div(s, v)),
        answer: with_unit(t, time),
        wrong: vec![
            wrong(
                "multiplying instead of dividing",
                with_unit(s * v, time),
                format!("{s} × {v} was computed"),
            ),
            wrong("subtracting the speed", with_unit(s - v, time), format!("{v} was taken from {s}")),
            wrong(
                "stopping the division early",
                with_unit(t - 1, time),
                format!("{} × {v} is only {}", t - 1, (t - 1) * v),
            ),
            wrong("taking half of the time", with_unit(decimal(t * 5, 1), time), "the speed was doubled"),
        ],
    }
}

fn final_speed(r: &mut Rng) -> Problem {
    let (u, a, t) = (r.range(0, 40), r.range(2, 12), r.range(2, 20));
    let wordings: &[&str] = if u == 0 {
        &[
            "A car starts from rest and accelerates at {a} m/s² for {t} s. What is its final speed?",
            "An object at rest accelerates at {a} m/s² for {t} s. How fast is it then?",
            "A car accelerates from rest at {a} m/s² for {t} s. What is its final velocity?",
            "Starting from rest, a train accelerates at {a} m/s² for {t} s. What is its speed?",
        ]
    } else {
        &[
            "A car at {u} m/s accelerates at {a} m/s² for {t} s. What is its final speed?",
            "A train moves at {u} m/s and accelerates at {a} m/s² for {t} s. How fast is it then?",
            "Initial speed {u} m/s, acceleration {a} m/s², time {t} s. What is the final speed?",
            "A car moves at {u} m/s and accelerates at {a} m/s² for {t} s. What is its final velocity?",
            "An object has an initial velocity of {u} m/s and accelerates at {a} m/s² for {t} s. What is its velocity then?",
            "What is the final speed after {t} s if the initial speed is {u} m/s and the acceleration {a} m/s²?",
        ]
    };
    let question = say(r, wordings, &[("u", &u), ("a", &a), ("t", &t)]);
    Problem {
        key: format!("final speed {u},{a},{t}"),
        question,
        work: format!("v = u + a × t with u = {u}, a = {a}, t = {t}.\n{}\n{}", mul(a, t), add(u, a * t)),
        answer: with_unit(u + a * t, "m/s"),
        wrong: vec![
            wrong(
                "adding acceleration and time",
                with_unit(u + a + t, "m/s"),
                format!("{u} + {a} + {t} was computed"),
            ),
            wrong(
                "multiplying the sum",
                with_unit((u + a) * t, "m/s"),
                "the initial speed was multiplied by the time too",
            ),
            wrong(
                "subtracting the gain",
                with_unit(u.abs_diff(a * t), "m/s"),
                "the object speeds up and does not brake",
            ),
            wrong(
                "halving the gain",
                with_unit(decimal(10 * u + 5 * a * t, 1), "m/s"),
                "the half belongs to the distance",
            ),
        ],
    }
}

fn distance_accelerated(r: &mut Rng) -> Problem {
    let (u, t) = (r.range(0, 20), r.range(2, 12));
    let a = if t % 2 == 0 { r.range(2, 10) } else { 2 * r.range(1, 5) };
    let wordings: &[&str] = if u == 0 {
        &[
            "A car starts from rest and accelerates at {a} m/s² for {t} s. How far does it go?",
            "An object at rest accelerates at {a} m/s² for {t} s. What distance does it cover?",
            "A car accelerates from rest at {a} m/s² for {t} s. How far does it travel?",
        ]
    } else {
        &[
            "A car at {u} m/s accelerates at {a} m/s² for {t} s. How far does it go in that time?",
            "Initial speed {u} m/s, acceleration {a} m/s², time {t} s. What is the distance?",
            "A train moves at {u} m/s and accelerates at {a} m/s² for {t} s. What distance does it cover?",
        ]
    };
    let question = say(r, wordings, &[("u", &u), ("a", &a), ("t", &t)]);
    let (start, square) = (u * t, t * t);
    let gain = a * square / 2;
    let mut work = format!(
        "s = u × t + a × t² ÷ 2 with u = {u}, a = {a}, t = {t}.\n{}\n{}\n{}",
        mul(t, t),
        mul(a, square),
        div(a * square, 2)
    );
    if u > 0 {
        work += &format!("\n{}\n{}", mul(u, t), add(start, gain));
    }
    Problem {
        key: format!("distance accelerated {u},{a},{t}"),
        question,
        work,
        answer: with_unit(start + gain, "m"),
        wrong: vec![
            wrong("forgetting the half", with_unit(start + 2 * gain, "m"), "a × t² was not divided by 2"),
            wrong(
                "forgetting the square",
                with_unit(decimal(10 * start + 5 * a * t, 1), "m"),
                "t stood in place of t²",
            ),
            wrong("computing the final speed", with_unit(u + a * t, "m"), "u + a × t is a speed"),
            wrong(
                "halving twice",
                with_unit(decimal(100 * start + 50 * gain, 2), "m"),
                "the gain was divided by 4",
            ),
        ],
    }
}

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
            let m = if v % 2 == 0 { r.range(1, 60) } else { 2 * r.range(1, 30) };
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

fn unit_conversion(r: &mut Rng) -> Problem {
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
