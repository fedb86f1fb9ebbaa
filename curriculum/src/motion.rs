//! Kinematics: distance, time and speed, uniform and accelerated.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{add, decimal, div, mul};

pub(super) fn kinematics(r: &mut Rng) -> Problem {
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
    let a = if t.is_multiple_of(2) { r.range(2, 10) } else { 2 * r.range(1, 5) };
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
