//! Geometry: areas, perimeters, volumes.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{add, decimal, div, mul};

pub(super) fn geometry(r: &mut Rng) -> Problem {
    let u = r.pick(&["cm", "m", "cm", "mm"]);
    let (square, cube) = (format!("{u}²"), format!("{u}³"));
    match r.below(4) {
        0 => {
            let (a, b) = (r.range(2, 60), r.range(2, 30));
            let question = say(
                r,
                &[
                    "What is the area of a rectangle of {a} {u} by {b} {u}?",
                    "A rectangle is {a} {u} long and {b} {u} wide. What is its area?",
                    "Find the area of a rectangle with sides {a} {u} and {b} {u}.",
                    "A rectangular field measures {a} {u} by {b} {u}. What is its area?",
                    "Area of a {a} {u} by {b} {u} rectangle?",
                    "What is the area of a rectangle with sides {a} {u} and {b} {u}?",
                    "What is the area of a rectangle with length {a} {u} and width {b} {u}?",
                ],
                &[("a", &a), ("b", &b), ("u", &u)],
            );
            Problem {
                key: format!("rectangle area {a},{b}"),
                question,
                work: format!("Area of a rectangle = length × width.\n{}", mul(a, b)),
                answer: with_unit(a * b, &square),
                wrong: vec![
                    wrong(
                        "computing the perimeter",
                        with_unit(2 * (a + b), &square),
                        format!("2 × ({a} + {b}) is the way around"),
                    ),
                    wrong(
                        "halving as for a triangle",
                        with_unit(decimal(a * b * 5, 1), &square),
                        "only a triangle has the half",
                    ),
                    wrong("adding the sides", with_unit(a + b, &square), format!("{a} + {b} was computed")),
                    wrong(
                        "doubling the area",
                        with_unit(2 * a * b, &square),
                        "a factor 2 of the perimeter slipped in",
                    ),
                ],
            }
        }
        1 => {
            let (a, b) = (r.range(2, 99), r.range(2, 99));
            let question = say(
                r,
                &[
                    "What is the perimeter of a rectangle of {a} {u} by {b} {u}?",
                    "A rectangle is {a} {u} long and {b} {u} wide. What is its perimeter?",
                    "Find the perimeter of a rectangle with sides {a} {u} and {b} {u}.",
                    "What is the perimeter of a rectangle with sides {a} {u} and {b} {u}?",
                    "A fence goes around a garden of {a} {u} by {b} {u}. How long is the fence?",
                ],
                &[("a", &a), ("b", &b), ("u", &u)],
            );
            Problem {
                key: format!("rectangle perimeter {a},{b}"),
                question,
                work: format!("Perimeter = 2 × (length + width).\n{}\n{}", add(a, b), mul(a + b, 2)),
                answer: with_unit(2 * (a + b), u),
                wrong: vec![
                    wrong(
                        "adding two sides only",
                        with_unit(a + b, u),
                        format!("{a} + {b} is half of the way around"),
                    ),
                    wrong("computing the area", with_unit(a * b, u), format!("{a} × {b} is the area")),
                    wrong(
                        "doubling one side only",
                        with_unit(2 * a + b, u),
                        format!("2 × {a} + {b} leaves one side out"),
                    ),
                    wrong("multiplying by four", with_unit(4 * (a + b), u), "each side was counted twice"),
                ],
            }
        }
        2 => {
            let (a, b) = (2 * r.range(1, 30), r.range(2, 30));
            let question = say(
                r,
                &[
                    "What is the area of a triangle with base {a} {u} and height {b} {u}?",
                    "A triangle has a base of {a} {u} and a height of {b} {u}. What is its area?",
                    "Find the area of a triangle: base {a} {u}, height {b} {u}.",
                    "Area of a triangle with base {a} {u} and height {b} {u}?",
                    "A triangle has base {a} {u} and height {b} {u}. Area?",
                ],
                &[("a", &a), ("b", &b), ("u", &u)],
            );
            Problem {
                key: format!("triangle area {a},{b}"),
                question,
                work: format!("Area of a triangle = base × height ÷ 2.\n{}\n{}", mul(a, b), div(a * b, 2)),
                answer: with_unit(a * b / 2, &square),
                wrong: vec![
                    wrong(
                        "forgetting the half",
                        with_unit(a * b, &square),
                        format!("{a} × {b} is the rectangle around it"),
                    ),
                    wrong(
                        "adding base and height",
                        with_unit(a + b, &square),
                        format!("{a} + {b} was computed"),
                    ),
                    wrong(
                        "halving twice",
                        with_unit(decimal(a * b * 25, 2), &square),
                        "the product was divided by 4",
                    ),
                    wrong(
                        "doubling instead of halving",
                        with_unit(2 * a * b, &square),
                        "the product was multiplied by 2",
                    ),
                ],
            }
        }
        _ => {
            let (a, b, c) = (r.range(2, 20), r.range(2, 12), r.range(2, 9));
            let question = say(
                r,
                &[
                    "What is the volume of a box of {a} {u} by {b} {u} by {c} {u}?",
                    "A box is {a} {u} long, {b} {u} wide and {c} {u} high. What is its volume?",
                    "Find the volume of a cuboid with edges {a} {u}, {b} {u} and {c} {u}.",
                    "Volume of a {a} {u} by {b} {u} by {c} {u} box?",
                ],
                &[("a", &a), ("b", &b), ("c", &c), ("u", &u)],
            );
            Problem {
                key: format!("box volume {a},{b},{c}"),
                question,
                work: format!("Volume = length × width × height.\n{}\n{}", mul(a, b), mul(a * b, c)),
                answer: with_unit(a * b * c, &cube),
                wrong: vec![
                    wrong(
                        "adding the edges",
                        with_unit(a + b + c, &cube),
                        format!("{a} + {b} + {c} was computed"),
                    ),
                    wrong(
                        "forgetting the height",
                        with_unit(a * b, &cube),
                        format!("{a} × {b} is only the floor"),
                    ),
                    wrong(
                        "computing the surface",
                        with_unit(2 * (a * b + b * c + a * c), &cube),
                        "the six faces were added",
                    ),
                    wrong(
                        "adding the height",
                        with_unit(a * b + c, &cube),
                        format!("{c} was added and not multiplied by"),
                    ),
                ],
            }
        }
    }
}
