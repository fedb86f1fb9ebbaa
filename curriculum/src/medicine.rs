//! Medicine: dosage by weight, body mass index, drip rates, half-lives, vital-sign ranges.

use super::problem::{Problem, Wrong, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{Decimal, decimal, div, div_round, mul};
use super::{Domain, Family};

/// The domain.
pub const DOMAIN: Domain = Domain {
    name: "medicine",
    core: true,
    families: &[
        Family { name: "dosage", draw: dosage },
        Family { name: "bmi", draw: bmi },
        Family { name: "drip_rate", draw: drip_rate },
        Family { name: "half_life", draw: half_life },
        Family { name: "vital_signs", draw: vital_signs },
    ],
};

fn dosage(r: &mut Rng) -> Problem {
    let (dose, weight) = (r.range(2, 20), r.range(3, 90));
    let total = dose * weight;
    let who = r.pick(&["child", "patient", "patient"]);
    let drug =
        r.pick(&["paracetamol", "ibuprofen", "amoxicillin", "a drug", "an antibiotic", "the medicine"]);
    match r.below(4) {
        0 => Problem {
            key: format!("mg {dose},{weight}"),
            question: say(
                r,
                &[
                    "A {who} weighs {w} kg. The dose of {drug} is {d} mg/kg. How many mg are given?",
                    "The dose is {d} mg/kg. How many mg does a {who} of {w} kg get?",
                    "How many mg of {drug} does a {w} kg {who} need at {d} mg/kg?",
                    "Weight {w} kg, dose {d} mg/kg. What is the dose in mg?",
                    "A {who} weighs {w} kg and the dose is {d} mg/kg. What is the dose?",
                    "A {who} of {w} kg gets {d} mg/kg of {drug}. What dose is given?",
                    "What dose in mg does a {who} of {w} kg get at {d} mg per kg?",
                ],
                &[("who", &who), ("w", &weight), ("d", &dose), ("drug", &drug)],
            ),
            work: format!("Dose = mg per kg × weight.\n{}", mul(dose, weight)),
            answer: with_unit(total, "mg"),
            wrong: vec![
                wrong(
                    "adding dose and weight",
                    with_unit(dose + weight, "mg"),
                    format!("{dose} + {weight} was computed"),
                ),
                wrong("using mg for g", with_unit(total * 1000, "mg"), "the result was multiplied by 1000"),
                wrong(
                    "dividing instead of multiplying",
                    with_unit((weight / dose).max(1), "mg"),
                    "the weight was divided by the dose",
                ),
                wrong(
                    "slipping a decimal place",
                    with_unit(total * 10, "mg"),
                    "a zero too many: a tenfold overdose",
                ),
                wrong("ignoring the weight", with_unit(dose, "mg"), "the dose of one kilogram was given"),
            ],
        },
        1 => {
            let per = r.range(2, 12);
            let ml = r.range(2, 60);
            let mg = per * ml;
            Problem {
                key: format!("mL {mg},{per}"),
                question: say(
                    r,
                    &[
                        "A {who} needs {mg} mg of {drug}. The solution has {per} mg/mL. How many mL are given?",
                        "How many mL of a {per} mg/mL solution give {mg} mg?",
                        "{mg} mg are prescribed and the syrup holds {per} mg/mL. How many mL is that?",
                        "Dose {mg} mg, concentration {per} mg/mL. What is the volume in mL?",
                    ],
                    &[("who", &who), ("mg", &mg), ("per", &per), ("drug", &drug)],
                ),
                work: format!("Volume = dose ÷ concentration.\n{}", div(mg, per)),
                answer: with_unit(ml, "mL"),
                wrong: vec![
                    wrong(
                        "multiplying instead of dividing",
                        with_unit(mg * per, "mL"),
                        format!("{mg} × {per} was computed"),
                    ),
                    wrong("taking mg for mL", with_unit(mg, "mL"), "the concentration was ignored"),
                    wrong(
                        "slipping a decimal place",
                        with_unit(ml * 10, "mL"),
                        "a zero too many: a tenfold overdose",
                    ),
                    wrong(
                        "subtracting the concentration",
                        with_unit(mg - per, "mL"),
                        format!("{per} was taken from {mg}"),
                    ),
                ],
            }
        }
        2 => {
            let times = r.range(2, 6);
            let each = r.range(5, 150);
            let day = times * each;
            Problem {
                key: format!("each {day},{times}"),
                question: say(
                    r,
                    &[
                        "A {who} gets {day} mg of {drug} a day in {k} equal doses. How many mg is each dose?",
                        "The daily dose is {day} mg, given {k} times a day. How many mg is one dose?",
                        "{day} mg a day are split into {k} equal doses. How many mg is each?",
                        "Daily dose {day} mg, {k} doses a day. What is one dose in mg?",
                    ],
                    &[("who", &who), ("day", &day), ("k", &times), ("drug", &drug)],
                ),
                work: format!("One dose = daily dose ÷ number of doses.\n{}", div(day, times)),
                answer: with_unit(each, "mg"),
                wrong: vec![
                    wrong(
                        "giving the daily dose each time",
                        with_unit(day, "mg"),
                        "the day's dose was not divided",
                    ),
                    wrong(
                        "multiplying instead of dividing",
                        with_unit(day * times, "mg"),
                        format!("{day} × {times} was computed"),
                    ),
                    wrong(
                        "dividing by one dose too many",
                        with_unit(day / (times + 1), "mg"),
                        format!("{} doses were assumed", times + 1),
                    ),
                    wrong(
                        "subtracting the number of doses",
                        with_unit(day - times, "mg"),
                        format!("{times} was taken from {day}"),
                    ),
                ],
            }
        }
        _ => {
            let times = r.range(2, 4);
            let (dose, weight) = (r.range(2, 15), r.range(5, 80));
            let one = dose * weight;
            Problem {
                key: format!("day {dose},{weight},{times}"),
                question: say(
                    r,
                    &[
                        "A {who} of {w} kg gets {d} mg/kg of {drug} {k} times a day. How many mg is that a day?",
                        "The dose is {d} mg/kg, {k} times a day. How many mg a day for {w} kg?",
                        "Weight {w} kg, {d} mg/kg per dose, {k} doses a day. What is the daily dose in mg?",
                    ],
                    &[("who", &who), ("w", &weight), ("d", &dose), ("k", &times), ("drug", &drug)],
                ),
                work: format!(
                    "One dose = mg per kg × weight.\n{}\nA day has {times} doses.\n{}",
                    mul(dose, weight),
                    mul(one, times)
                ),
                answer: with_unit(one * times, "mg"),
                wrong: vec![
                    wrong("giving one dose only", with_unit(one, "mg"), "the number of doses was forgotten"),
                    wrong(
                        "counting one dose too many",
                        with_unit(one * (times + 1), "mg"),
                        format!("{} doses were counted", times + 1),
                    ),
                    wrong(
                        "forgetting the weight",
                        with_unit(dose * times, "mg"),
                        "only the dose was multiplied",
                    ),
                    wrong(
                        "slipping a decimal place",
                        with_unit(one * times * 10, "mg"),
                        "a zero too many: a tenfold overdose",
                    ),
                    wrong(
                        "adding dose and weight",
                        with_unit((dose + weight) * times, "mg"),
                        format!("{dose} + {weight} was computed"),
                    ),
                ],
            }
        }
    }
}

fn bmi(r: &mut Rng) -> Problem {
    // Heights in decimetres, so that the squared height has three digits; weights in tenths.
    let h = r.range(14, 20);
    let (low, high) = (15 * h * h / 100 + 1, 42 * h * h / 100);
    let tenths = if r.one_in(2) { 10 * r.range(low, high) } else { r.range(10 * low, 10 * high) };
    let w = decimal(tenths, 1);
    let height = decimal(h, 1);
    let square = decimal(h * h, 2);
    let spelled = match r.below(3) {
        0 => format!("{h}0 cm"),
        1 => format!("{}.{}0 m", h / 10, h % 10),
        _ => format!("{height} m"),
    };
    let question = say(
        r,
        &[
            "A person weighs {w} kg and is {h} tall. What is the BMI?",
            "What is the BMI at {w} kg and {h}?",
            "What is the BMI of a person of {w} kg and {h}?",
            "What is the BMI of someone who weighs {w} kg and is {h} tall?",
            "Calculate the BMI of a patient of {w} kg and {h}.",
            "Calculate the BMI for {w} kg and {h}.",
            "Weight {w} kg, height {h}. What is the BMI?",
            "Find the body mass index for {w} kg and {h}.",
            "A patient of {h} weighs {w} kg. What is the body mass index?",
        ],
        &[("w", &w), ("h", &spelled)],
    );
    let (value, steps) = div_round(tenths * 10, h * h);
    let one_decimal = |n: u64, d: u64| decimal((n * 100 / d + 5) / 10, 1);
    Problem {
        key: format!("{w},{height}"),
        question,
        work: format!(
            "BMI = weight ÷ height². Height {height} m, squared {h} × {h} = {}, so {square}.\n{w} ÷ {square} = {} ÷ {}.\n{steps}",
            h * h,
            tenths * 10,
            h * h
        ),
        answer: value.to_string(),
        wrong: vec![
            wrong(
                "forgetting to square the height",
                one_decimal(tenths, h),
                format!("{w} was divided by {height}"),
            ),
            wrong(
                "multiplying by the height",
                one_decimal(tenths * h, 100),
                format!("{w} × {height} was computed"),
            ),
            wrong(
                "doubling the height instead of squaring",
                one_decimal(tenths, 2 * h),
                format!("{height} × 2 is not {height}²"),
            ),
            wrong(
                "slipping a decimal place",
                decimal(value.mantissa, 2),
                "the point is one place too far left",
            ),
        ],
    }
}

fn drip_rate(r: &mut Rng) -> Problem {
    let hours = r.range(1, 12);
    let plural = if hours == 1 { "hour" } else { "hours" };
    if r.one_in(3) {
        let rate = 5 * r.range(2, 50);
        let volume = rate * hours;
        return Problem {
            key: format!("pump {volume},{hours}"),
            question: say(
                r,
                &[
                    "{v} mL are infused over {h} {hours}. What is the rate in mL/h?",
                    "A pump gives {v} mL in {h} {hours}. What is its rate in mL/h?",
                    "Set the pump for {v} mL over {h} {hours}. How many mL/h is that?",
                    "Volume {v} mL, time {h} {hours}. What is the infusion rate in mL/h?",
                    "An infusion of {v} mL runs over {h} {hours}. What is the rate in mL/h?",
                    "{v} mL run over {h} {hours}. How many mL per hour?",
                ],
                &[("v", &volume), ("h", &hours), ("hours", &plural)],
            ),
            work: format!("Rate = volume ÷ hours.\n{}", div(volume, hours)),
            answer: with_unit(rate, "mL/h"),
            wrong: vec![
                wrong(
                    "multiplying by the hours",
                    with_unit(volume * hours.max(2), "mL/h"),
                    "the volume was multiplied",
                ),
                wrong(
                    "forgetting the hours",
                    with_unit(2 * volume, "mL/h"),
                    "the volume was doubled and not divided",
                ),
                wrong(
                    "using one hour too many",
                    with_unit(volume / (hours + 1), "mL/h"),
                    format!("{} hours were used", hours + 1),
                ),
                wrong("slipping a decimal place", with_unit(rate * 10, "mL/h"), "a zero too many"),
                wrong(
                    "giving mL per minute",
                    with_unit((rate / 60).max(1), "mL/h"),
                    "the hour was divided by 60",
                ),
            ],
        };
    }
    let factor = r.of(&[10, 15, 20, 20, 60]);
    let ratio = 60 / factor;
    // The rate is drawn and the volume follows, so that nothing needs rounding.
    let rate = r.range(5, if factor == 60 { 120 } else { 60 });
    let hourly = rate * ratio;
    let volume = hourly * hours;
    let question = say(
        r,
        &[
            "{v} mL run over {h} {hours} with a drop factor of {f} drops/mL. What is the drip rate in drops/min?",
            "An infusion of {v} mL runs for {h} {hours} at {f} drops/mL. How many drops per minute?",
            "Volume {v} mL, time {h} {hours}, {f} drops/mL. What is the drip rate in drops/min?",
            "Find the drip rate for {v} mL over {h} {hours} with {f} drops/mL.",
            "{v} mL over {h} {hours} with a {f} drops/mL set. How many drops per minute?",
            "{v} mL run over {h} {hours} with a drop factor of {f}. How many drops per minute?",
            "How many drops per minute give {v} mL in {h} {hours} at {f} drops per mL?",
        ],
        &[("v", &volume), ("h", &hours), ("hours", &plural), ("f", &factor)],
    );
    Problem {
        key: format!("drops {volume},{hours},{factor}"),
        question,
        work: format!(
            "mL per hour: {}\n60 ÷ {factor} = {ratio}, so drops/min = mL/h ÷ {ratio}.\n{}",
            div(volume, hours),
            div(hourly, ratio)
        ),
        answer: with_unit(rate, "drops/min"),
        wrong: vec![
            wrong("giving mL per hour", with_unit(hourly, "drops/min"), "the drop factor was forgotten"),
            wrong(
                "giving drops per hour",
                with_unit(rate * 60, "drops/min"),
                "the hour was not split into 60 minutes",
            ),
            wrong(
                "forgetting the hours",
                with_unit(rate * hours, "drops/min"),
                "the whole volume was given in one hour",
            ),
            wrong(
                "using the wrong drop factor",
                with_unit(rate * 2, "drops/min"),
                format!("{} drops/mL were used", 2 * factor),
            ),
            wrong(
                "halving the drop factor",
                with_unit(decimal(rate * 5, 1), "drops/min"),
                "half the drops were counted",
            ),
            wrong("slipping a decimal place", with_unit(rate * 10, "drops/min"), "a zero too many"),
        ],
    }
}

fn half_life(r: &mut Rng) -> Problem {
    let halvings = r.range(1, 5);
    let end = if halvings > 3 { r.range(2, 30) } else { r.range(2, 99) };
    let start = end << halvings;
    let period = r.range(2, 12);
    let total = period * halvings;
    let (unit, amount) =
        r.of(&[("hours", "mg"), ("hours", "mg"), ("days", "mg"), ("days", "g"), ("minutes", "mg")]);
    let question = say(
        r,
        &[
            "A drug has a half-life of {p} {unit}. {n} {g} are given. How much is left after {t} {unit}?",
            "{n} {g} of a drug with a half-life of {p} {unit} are in the body. How much remains after {t} {unit}?",
            "A drug has a half-life of {p} {unit}. How much of {n} {g} is left after {t} {unit}?",
            "A drug has a half-life of {p} {unit}. How much of {n} {g} remains after {t} {unit}?",
            "The half-life is {p} {unit}. How much of {n} {g} is left after {t} {unit}?",
            "Half-life {p} {unit}, start {n} {g}, time {t} {unit}. How much is left?",
            "How many {g} of {n} {g} remain after {t} {unit} if the half-life is {p} {unit}?",
        ],
        &[("p", &period), ("unit", &unit), ("n", &start), ("g", &amount), ("t", &total)],
    );
    let mut lines = vec![div(total, period), format!("{halvings} half-lives.")];
    let mut left = start;
    for _ in 0..halvings {
        lines.push(div(left, 2));
        left /= 2;
    }
    let half = decimal(end * 5, 1);
    Problem {
        key: format!("{start},{period},{total}"),
        question,
        work: lines.join("\n"),
        answer: with_unit(end, amount),
        wrong: vec![
            wrong(
                "missing one half-life",
                with_unit(2 * end, amount),
                format!("only {} were counted", halvings - 1),
            ),
            wrong(
                "counting one half-life too many",
                with_unit(half, amount),
                format!("{} were counted", halvings + 1),
            ),
            wrong(
                "taking decay for a straight line",
                with_unit(decimal(start * 10 / (2 * halvings), 1), amount),
                "the amount was divided by twice their number",
            ),
            wrong("giving what is gone", with_unit(start - end, amount), "this has left the body"),
            wrong("giving the start", with_unit(start, amount), "no half-life was counted"),
        ],
    }
}

/// A vital sign of a resting adult: name, unit, lower and upper limit in tenths, lowest and highest value asked.
const VITALS: &[(&str, &str, u64, u64, u64, u64)] = &[
    ("heart rate", "beats/min", 600, 1000, 350, 1600),
    ("respiratory rate", "breaths/min", 120, 200, 50, 400),
    ("body temperature", "°C", 361, 372, 340, 410),
    ("systolic blood pressure", "mmHg", 900, 1200, 600, 2000),
    ("diastolic blood pressure", "mmHg", 600, 800, 400, 1200),
    ("oxygen saturation", "%", 950, 1000, 750, 1000),
    ("fasting blood glucose", "mg/dL", 700, 990, 400, 2500),
];

fn vital_signs(r: &mut Rng) -> Problem {
    let (name, unit, low, high, least, most) = r.of(VITALS);
    let step = if name == "body temperature" { 1 } else { 10 };
    let tenths = least + step * r.below((most - least) / step + 1);
    let value = decimal(tenths, 1);
    let limits = |low: u64, high: u64| -> (Decimal, Decimal) { (decimal(low, 1), decimal(high, 1)) };
    let (from, to) = limits(low, high);
    let shown = with_unit(value, unit);
    let question = say(
        r,
        &[
            "A resting adult has a {name} of {v}. Is this low, normal or high?",
            "An adult's {name} is {v}. Is it low, normal or high?",
            "Is a {name} of {v} low, normal or high in an adult?",
            "{v} as {name} of an adult: low, normal or high?",
            "A patient has a {name} of {v}. Is that low, normal or high?",
            "A patient has a {name} of {v}. Is that normal?",
            "Is a {name} of {v} normal?",
            "Is a {name} of {v} too high?",
            "Is a {name} of {v} too low?",
        ],
        &[("name", &name), ("v", &shown)],
    );
    let low_text = format!("low, below {}", with_unit(from, unit));
    let high_text = format!("high, above {}", with_unit(to, unit));
    let normal_text = format!("normal, {from} to {}", with_unit(to, unit));
    let (answer, reason) = if tenths < low {
        (low_text.clone(), format!("{value} is below {from}"))
    } else if tenths > high {
        (high_text.clone(), format!("{value} is above {to}"))
    } else {
        (normal_text.clone(), format!("{value} is from {from} to {to}"))
    };
    // The range of another sign, for those who mix them up.
    let other = VITALS
        .iter()
        .cycle()
        .skip_while(|v| v.0 != name)
        .nth(1 + r.below(3) as usize)
        .map_or(VITALS[0], |v| *v);
    let (other_from, other_to) = limits(other.2, other.3);
    let mut wrong_list: Vec<Wrong> = vec![
        wrong(
            "placing the value below the range",
            low_text,
            format!("{value} was read as smaller than {from}"),
        ),
        wrong(
            "placing the value above the range",
            high_text,
            format!("{value} was read as larger than {to}"),
        ),
        wrong(
            "placing the value inside the range",
            normal_text,
            format!("{value} was read as within {from} to {to}"),
        ),
    ];
    wrong_list.push(wrong(
        "using the range of another vital sign",
        format!("normal, {other_from} to {}", with_unit(other_to, other.1)),
        format!("this is the range of the {}", other.0),
    ));
    Problem {
        key: format!("{name},{value}"),
        question,
        work: format!("Normal {name}: {from} to {}.\n{reason}.", with_unit(to, unit)),
        answer,
        wrong: wrong_list,
    }
}
