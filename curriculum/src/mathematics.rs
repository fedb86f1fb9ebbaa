//! Mathematics: the four operations with carries shown, fractions, linear equations, percentages, geometry.

use super::geometry::geometry;
use super::problem::{Problem, Wrong, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{add, decimal, div, fraction, gcd, mul, reduce, shift_down, sub};
use super::{Domain, Family};

/// The domain.
pub const DOMAIN: Domain = Domain {
    name: "mathematics",
    core: true,
    families: &[
        Family { name: "addition", draw: addition },
        Family { name: "subtraction", draw: subtraction },
        Family { name: "multiplication", draw: multiplication },
        Family { name: "division", draw: division },
        Family { name: "fractions", draw: fractions },
        Family { name: "linear_equations", draw: linear_equations },
        Family { name: "percentages", draw: percentages },
        Family { name: "geometry", draw: geometry },
    ],
};

/// A number of one to four digits, short ones often.
fn number(r: &mut Rng) -> u64 {
    let top = r.of(&[20, 99, 99, 999, 999, 9999]);
    r.range(1, top)
}

/// The digit sums of `a` and `b` without any carry.
fn add_without_carry(a: u64, b: u64) -> u64 {
    let (mut a, mut b, mut place, mut sum) = (a, b, 1, 0);
    while a > 0 || b > 0 {
        sum += (a % 10 + b % 10) % 10 * place;
        (a, b, place) = (a / 10, b / 10, place * 10);
    }
    sum
}

/// The digit differences of `a` and `b`, the smaller digit always taken from the larger.
fn sub_without_borrow(a: u64, b: u64) -> u64 {
    let (mut a, mut b, mut place, mut out) = (a, b, 1, 0);
    while a > 0 || b > 0 {
        out += (a % 10).abs_diff(b % 10) * place;
        (a, b, place) = (a / 10, b / 10, place * 10);
    }
    out
}

fn addition(r: &mut Rng) -> Problem {
    let (a, b) = (number(r), number(r));
    let sum = a + b;
    let question = say(
        r,
        &[
            "What is {a} + {b}?",
            "What is {a} + {b}?",
            "{a} + {b}",
            "{a} + {b} = ?",
            "{a}+{b}=",
            "What is {a}+{b}?",
            "What's {a} + {b}?",
            "Calculate {a} + {b}.",
            "Compute {a} + {b}.",
            "Add {a} and {b}.",
            "What is {a} plus {b}?",
            "What is the sum of {a} and {b}?",
            "Find the sum of {a} and {b}.",
            "How much is {a} plus {b}?",
            "How much is {a} + {b}?",
            "Can you tell me what {a} plus {b} is?",
            "Please add {a} and {b}.",
            "{a} plus {b}",
            "I have {a} apples and buy {b} more. How many do I have?",
            "I have {a} euros and get {b} more. How many euros do I have now?",
            "There are {a} girls and {b} boys. How many children are there?",
            "Anna read {a} pages on Monday and {b} on Tuesday. How many pages did she read in all?",
            "A box holds {a} screws and another holds {b}. How many screws are there in all?",
            "Mia has {a} stamps and gets {b} more. How many stamps does she have now?",
            "A library has {a} books and buys {b} more. How many books does it have then?",
        ],
        &[("a", &a), ("b", &b)],
    );
    let lost = add_without_carry(a, b);
    Problem {
        key: format!("{a},{b}"),
        question,
        work: add(a, b),
        answer: sum.to_string(),
        wrong: vec![
            wrong("forgetting the carry", lost, "each column was added alone and nothing was carried over"),
            wrong(
                "subtracting instead of adding",
                a.abs_diff(b),
                "the smaller number was taken from the larger",
            ),
            wrong("carrying one too many", sum + 10, "the tens got a carry that is not there"),
            wrong(
                "writing the numbers side by side",
                format!("{a}{b}"),
                "the digits were joined and not added",
            ),
        ],
    }
}

fn subtraction(r: &mut Rng) -> Problem {
    let (x, y) = (number(r), number(r));
    let (a, b) = (x.max(y), x.min(y));
    let rest = a - b;
    let question = say(
        r,
        &[
            "What is {a} - {b}?",
            "What is {a} - {b}?",
            "{a} - {b}",
            "{a} - {b} = ?",
            "{a}-{b}=",
            "What's {a} - {b}?",
            "Calculate {a} - {b}.",
            "Compute {a} - {b}.",
            "Subtract {b} from {a}.",
            "What is {a} minus {b}?",
            "How much is {a} minus {b}?",
            "What is the difference between {a} and {b}?",
            "Take {b} away from {a}.",
            "Can you tell me what {a} minus {b} is?",
            "{a} minus {b}",
            "I have {a} euros and spend {b}. How many euros are left?",
            "I had {a} apples and ate {b}. How many do I have left?",
            "There are {a} people on a train and {b} get off. How many stay on?",
            "A shop has {a} apples and sells {b}. How many are left?",
            "Tom has {a} coins and spends {b}. How many coins are left?",
            "A tank holds {a} litres. {b} litres are drained. How many litres remain?",
        ],
        &[("a", &a), ("b", &b)],
    );
    Problem {
        key: format!("{a},{b}"),
        question,
        work: sub(a, b),
        answer: rest.to_string(),
        wrong: vec![
            wrong(
                "taking the smaller digit from the larger",
                sub_without_borrow(a, b),
                "in each column the smaller digit was taken from the larger and nothing was borrowed",
            ),
            wrong("adding instead of subtracting", a + b, "the two numbers were added"),
            wrong(
                "forgetting to pay back the borrow",
                rest + 10,
                "ten was borrowed but the tens were not lowered",
            ),
            wrong("borrowing twice", rest.abs_diff(10), "the tens were lowered once too often"),
        ],
    }
}

fn multiplication(r: &mut Rng) -> Problem {
    let (a, b) = match r.below(4) {
        0 => (r.range(2, 12), r.range(2, 12)),
        1 => (r.range(11, 99), r.range(2, 9)),
        2 => (r.range(11, 99), r.range(11, 99)),
        _ => (r.range(101, 999), r.range(2, 9)),
    };
    let (a, b) = if r.one_in(4) { (b, a) } else { (a, b) };
    let product = a * b;
    let question = say(
        r,
        &[
            "What is {a} × {b}?",
            "What is {a} x {b}?",
            "What is {a} * {b}?",
            "{a} × {b}",
            "{a} x {b} = ?",
            "{a} * {b}",
            "{a}*{b}=",
            "What's {a} times {b}?",
            "What is {a} times {b}?",
            "Multiply {a} by {b}.",
            "Calculate {a} × {b}.",
            "Compute {a} * {b}.",
            "How much is {a} times {b}?",
            "What is the product of {a} and {b}?",
            "Can you tell me what {a} times {b} is?",
            "{a} times {b}",
            "Each of {b} boxes holds {a} eggs. How many eggs are there?",
            "I buy {b} books for {a} euros each. How much do I pay in euros?",
            "A crate holds {a} bottles. How many bottles are in {b} crates?",
            "There are {b} rows of {a} seats. How many seats are there?",
            "One ticket costs {a} euros. What do {b} tickets cost in euros?",
        ],
        &[("a", &a), ("b", &b)],
    );
    Problem {
        key: format!("{a},{b}"),
        question,
        work: mul(a, b),
        answer: product.to_string(),
        wrong: vec![
            wrong("adding instead of multiplying", a + b, "the two factors were added"),
            wrong("counting one group too few", a * (b - 1), format!("{a} was taken {} times", b - 1)),
            wrong("counting one group too many", a * (b + 1), format!("{a} was taken {} times", b + 1)),
            wrong("losing a carry", product.abs_diff(10), "a carry into the tens was dropped"),
        ],
    }
}

fn division(r: &mut Rng) -> Problem {
    let d = r.range(2, 12);
    let q = match r.below(3) {
        0 => r.range(2, 12),
        1 => r.range(11, 99),
        _ => r.range(2, 160),
    };
    let a = q * d;
    let question = say(
        r,
        &[
            "What is {a} ÷ {d}?",
            "What is {a} / {d}?",
            "{a} ÷ {d}",
            "{a} / {d} = ?",
            "{a}/{d}=",
            "What's {a} divided by {d}?",
            "What is {a} divided by {d}?",
            "Divide {a} by {d}.",
            "Calculate {a} ÷ {d}.",
            "Compute {a} / {d}.",
            "How much is {a} divided by {d}?",
            "Can you tell me what {a} divided by {d} is?",
            "{a} divided by {d}",
            "I share {a} sweets among {d} friends. How many does each friend get?",
            "{a} students are split into {d} equal groups. How large is a group?",
            "{a} pencils are shared equally by {d} children. How many does each get?",
            "How many bags of {d} can be filled with {a} oranges?",
            "A rope of {a} cm is cut into {d} equal pieces. How many cm long is each?",
        ],
        &[("a", &a), ("d", &d)],
    );
    Problem {
        key: format!("{a},{d}"),
        question,
        work: div(a, d),
        answer: q.to_string(),
        wrong: vec![
            wrong("subtracting instead of dividing", a - d, format!("{d} was taken away once")),
            wrong("stopping one group early", q - 1, format!("{} × {d} is only {}", q - 1, (q - 1) * d)),
            wrong(
                "counting one group too many",
                q + 1,
                format!("{} × {d} is already {}", q + 1, (q + 1) * d),
            ),
            wrong("multiplying instead of dividing", a * d, "the two numbers were multiplied"),
            wrong("appending a zero", q * 10, "a digit of the quotient was written in the wrong place"),
        ],
    }
}

/// A fraction of a whole number, chosen so that the result is whole.
fn fraction_of(r: &mut Rng) -> Problem {
    let b = r.range(2, 12);
    let (a, k) = (r.range(1, b - 1), r.range(2, 60));
    let n = b * k;
    let question = say(
        r,
        &[
            "What is {a}/{b} of {n}?",
            "{a}/{b} of {n}",
            "How much is {a}/{b} of {n}?",
            "Find {a}/{b} of {n}.",
            "Calculate {a}/{b} of {n}.",
            "A class has {n} books and {a}/{b} of them are lent. How many are lent?",
        ],
        &[("a", &a), ("b", &b), ("n", &n)],
    );
    Problem {
        key: format!("{a}/{b}of{n}"),
        question,
        work: format!("1/{b} of {n}: {}\n{}", div(n, b), mul(k, a)),
        answer: (k * a).to_string(),
        wrong: vec![
            wrong("forgetting the numerator", k, format!("this is 1/{b} of {n}")),
            wrong("taking the other part", n - k * a, format!("this is what is left of {n}")),
            wrong("multiplying by the denominator", n * b, format!("{n} was multiplied by {b}")),
            wrong(
                "forgetting the denominator",
                n * a,
                format!("{n} was multiplied by {a} and not divided by {b}"),
            ),
        ],
    }
}

fn fractions(r: &mut Rng) -> Problem {
    if r.one_in(4) {
        return fraction_of(r);
    }
    let (b, d) = (r.range(2, 10), r.range(2, 10));
    let (mut a, mut c) = (r.range(1, b - 1), r.range(1, d - 1));
    let (mut b, mut d) = (b, d);
    let op = r.of(&['+', '-', '×', '+']);
    if op == '-' && a * d < c * b {
        (a, b, c, d) = (c, d, a, b);
    }
    let slots: &[(&str, &dyn std::fmt::Display)] = &[("a", &a), ("b", &b), ("c", &c), ("d", &d)];
    let cross = b * d / gcd(b, d);
    let (x, y) = (a * (cross / b), c * (cross / d));
    let to_common =
        format!("Common denominator of {b} and {d}: {cross}. {a}/{b} = {x}/{cross}, {c}/{d} = {y}/{cross}.");
    let flipped = |n: u64, m: u64| if n == 0 { "0".to_string() } else { fraction(m, n) };
    let (question, work, (n, m), wrong_list): (String, String, (u64, u64), Vec<Wrong>) = match op {
        '+' => (
            say(
                r,
                &[
                    "What is {a}/{b} + {c}/{d}?",
                    "{a}/{b} + {c}/{d}",
                    "{a}/{b} + {c}/{d} = ?",
                    "Add {a}/{b} and {c}/{d}.",
                    "Calculate {a}/{b} + {c}/{d}.",
                    "What is the sum of {a}/{b} and {c}/{d}?",
                    "What is {a}/{b} plus {c}/{d}?",
                    "Compute {a}/{b} + {c}/{d} in lowest terms.",
                ],
                slots,
            ),
            format!("{to_common}\n{x} + {y} = {}.", x + y),
            (x + y, cross),
            vec![
                wrong(
                    "adding the denominators",
                    fraction(a + c, b + d),
                    format!("tops and bottoms were added: {}/{}", a + c, b + d),
                ),
                wrong(
                    "not widening the numerators",
                    fraction(a + c, cross),
                    format!("{a} + {c} was put over {cross}"),
                ),
                wrong(
                    "multiplying instead of adding",
                    fraction(a * c, b * d),
                    "the fractions were multiplied",
                ),
                wrong("inverting the fraction", flipped(x + y, cross), "top and bottom were exchanged"),
            ],
        ),
        '-' => (
            say(
                r,
                &[
                    "What is {a}/{b} - {c}/{d}?",
                    "{a}/{b} - {c}/{d}",
                    "{a}/{b} - {c}/{d} = ?",
                    "Subtract {c}/{d} from {a}/{b}.",
                    "Calculate {a}/{b} - {c}/{d}.",
                    "What is {a}/{b} minus {c}/{d}?",
                ],
                slots,
            ),
            format!("{to_common}\n{x} - {y} = {}.", x - y),
            (x - y, cross),
            vec![
                wrong("adding instead of subtracting", fraction(x + y, cross), "the fractions were added"),
                wrong(
                    "keeping the sum of the denominators",
                    fraction(x - y, b + d),
                    format!("{b} + {d} was used"),
                ),
                wrong("multiplying the fractions", fraction(a * c, b * d), "the fractions were multiplied"),
                wrong(
                    "not widening the numerators",
                    fraction(a.abs_diff(c), cross),
                    "the tops were left as they were",
                ),
                wrong("forgetting to subtract", fraction(a, b), "only the first fraction was kept"),
            ],
        ),
        _ => (
            say(
                r,
                &[
                    "What is {a}/{b} × {c}/{d}?",
                    "{a}/{b} × {c}/{d}",
                    "What is {a}/{b} x {c}/{d}?",
                    "{a}/{b} * {c}/{d} = ?",
                    "Multiply {a}/{b} by {c}/{d}.",
                    "What is {a}/{b} times {c}/{d}?",
                    "Calculate {a}/{b} × {c}/{d}.",
                ],
                slots,
            ),
            format!("Tops: {a} × {c} = {}. Bottoms: {b} × {d} = {}.", a * c, b * d),
            (a * c, b * d),
            vec![
                wrong("inverting the second fraction", fraction(a * d, b * c), "this divides by it"),
                wrong("adding instead of multiplying", fraction(x + y, cross), "the fractions were added"),
                wrong("adding the denominators", fraction(a * c, b + d), format!("{b} + {d} was used")),
                wrong("inverting the fraction", fraction(b * d, a * c), "top and bottom were exchanged"),
            ],
        ),
    };
    let (answer, work) = if n == 0 {
        ("0".to_string(), work)
    } else {
        let (text, steps) = reduce(n, m);
        (text, format!("{work}\n{steps}"))
    };
    Problem { key: format!("{a}/{b}{op}{c}/{d}"), question, work, answer, wrong: wrong_list }
}

fn linear_equations(r: &mut Rng) -> Problem {
    let (a, x, b) = (r.range(2, 12), r.range(1, 30), r.range(1, 60));
    let minus = a * x > b && r.one_in(2);
    let c = if minus { a * x - b } else { a * x + b };
    let sign = if minus { '-' } else { '+' };
    let name = r.pick(&["x", "x", "x", "y", "n"]);
    let question = say(
        r,
        &[
            "Solve {a}{v} {s} {b} = {c}.",
            "Solve for {v}: {a}{v} {s} {b} = {c}",
            "Solve {a}{v} {s} {b} = {c} for {v}.",
            "If {a}{v} {s} {b} = {c}, what is {v}?",
            "What is {v} if {a}{v} {s} {b} = {c}?",
            "Solve the equation {a}{v} {s} {b} = {c}.",
            "Find {v} if {a}{v} {s} {b} = {c}.",
            "{a}{v} {s} {b} = {c}. What is {v}?",
            "What is {v} in {a}{v} {s} {b} = {c}?",
            "{a}{v} {s} {b} = {c}",
        ],
        &[("a", &a), ("b", &b), ("c", &c), ("s", &sign), ("v", &name)],
    );
    let (moved, other) = if minus { (c + b, c.abs_diff(b)) } else { (c - b, c + b) };
    let move_work = if minus { add(c, b) } else { sub(c, b) };
    let does = if minus { "Add" } else { "Subtract" };
    let answer = |value: u64| format!("{name} = {value}");
    Problem {
        key: format!("{a},{sign}{b},{c}"),
        question,
        work: format!(
            "{does} {b}: {a}{name} = {c} {} {b}.\n{move_work}\n{a}{name} = {moved}.\n{}",
            if minus { '+' } else { '-' },
            div(moved, a)
        ),
        answer: answer(x),
        wrong: vec![
            wrong(
                "moving the term with the wrong sign",
                answer(other / a),
                format!("{b} kept its sign when it moved"),
            ),
            wrong("forgetting to divide", answer(moved), format!("{a}{name} was taken for {name}")),
            wrong(
                "subtracting the coefficient",
                answer(moved.abs_diff(a)),
                format!("{a} was taken away and not divided by"),
            ),
            wrong("forgetting the constant", answer(c / a), format!("{c} was divided by {a} at once")),
            wrong("a division slip by one", answer(x + 1), format!("{a} × {} is {}", x + 1, a * (x + 1))),
            wrong("a division slip by two", answer(x + 2), format!("{a} × {} is {}", x + 2, a * (x + 2))),
        ],
    }
}

fn percentages(r: &mut Rng) -> Problem {
    let p = if r.one_in(2) { 5 * r.range(1, 19) } else { r.range(1, 99) };
    let n = if r.one_in(3) { r.range(2, 99) } else { 10 * r.range(1, 99) };
    let (unit, wordings): (&str, &[&str]) = match r.below(4) {
        0 => (
            "euros",
            &[
                "A coat costs {n} euros. How much is {p}% of that?",
                "A tax of {p}% is paid on {n} euros. How much is the tax?",
                "A shop takes {p}% off a price of {n} euros. How much is the discount?",
            ],
        ),
        _ => (
            "",
            &[
                "What is {p}% of {n}?",
                "What is {p}% of {n}?",
                "{p}% of {n}",
                "Find {p}% of {n}.",
                "Calculate {p}% of {n}.",
                "How much is {p}% of {n}?",
                "What is {p} percent of {n}?",
                "Compute {p} percent of {n}.",
            ],
        ),
    };
    let question = say(r, wordings, &[("p", &p), ("n", &n)]);
    let (value, shift) = shift_down(decimal(p * n, 0), 2);
    Problem {
        key: format!("{p},{n}"),
        question,
        work: format!("{p}% of {n} is {p} × {n} ÷ 100.\n{}\n{shift}", mul(p, n)),
        answer: with_unit(value, unit),
        wrong: vec![
            wrong(
                "dividing by ten and not by a hundred",
                with_unit(decimal(p * n, 1), unit),
                "per cent means per hundred",
            ),
            wrong(
                "taking the percentage away",
                with_unit(decimal(n * (100 - p), 2), unit),
                format!("this is {}% of {n}", 100 - p),
            ),
            wrong(
                "dividing by a thousand",
                with_unit(decimal(p * n, 3), unit),
                "the point was moved one place too far",
            ),
            wrong(
                "subtracting the number itself",
                with_unit(n.abs_diff(p), unit),
                format!("{p} was taken from {n}"),
            ),
        ],
    }
}
