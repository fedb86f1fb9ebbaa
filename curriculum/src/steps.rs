//! Arithmetic written out step by step, in one wording that every domain shares: a small model learns
//! each skill once, digit by digit, and meets it again in every kind of question.

use std::fmt;

/// A decimal number: `mantissa / 10^scale`. Prints without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// All digits, without the point.
    pub mantissa: u64,
    /// Digits after the point.
    pub scale: u32,
}

/// `mantissa / 10^scale`.
pub fn decimal(mantissa: u64, scale: u32) -> Decimal {
    Decimal { mantissa, scale }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut m, mut s) = (self.mantissa, self.scale);
        while s > 0 && m.is_multiple_of(10) {
            (m, s) = (m / 10, s - 1);
        }
        let ten = 10u64.pow(s);
        match s {
            0 => write!(f, "{m}"),
            _ => write!(f, "{}.{:0width$}", m / ten, m % ten, width = s as usize),
        }
    }
}

const PLACES: [&str; 8] = [
    "ones",
    "tens",
    "hundreds",
    "thousands",
    "ten-thousands",
    "hundred-thousands",
    "millions",
    "ten-millions",
];

fn digits(mut n: u64) -> Vec<u64> {
    let mut out = vec![n % 10];
    while n >= 10 {
        n /= 10;
        out.push(n % 10);
    }
    out
}

/// Greatest common divisor; `gcd(n, 0) = n`.
pub fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `a + b` with its carries.
pub fn add(a: u64, b: u64) -> String {
    let sum = a + b;
    if a < 10 && b < 10 {
        return format!("{a} + {b} = {sum}.");
    }
    let (da, db) = (digits(a), digits(b));
    let places = da.len().max(db.len());
    let mut carry = 0;
    let mut parts = Vec::new();
    for (i, name) in PLACES.iter().enumerate().take(places) {
        let (x, y) = (da.get(i).copied().unwrap_or(0), db.get(i).copied().unwrap_or(0));
        let t = x + y + carry;
        let terms = if carry > 0 { format!("{x}+{y}+{carry}={t}") } else { format!("{x}+{y}={t}") };
        let write = if i + 1 == places {
            carry = 0;
            format!("write {t}")
        } else {
            carry = t / 10;
            if carry > 0 { format!("write {} carry 1", t % 10) } else { format!("write {t}") }
        };
        parts.push(format!("{name} {terms}, {write}"));
    }
    format!("{a} + {b}: {}. {a} + {b} = {sum}.", parts.join("; "))
}

/// `a - b` with its borrows; `b <= a`.
pub fn sub(a: u64, b: u64) -> String {
    let rest = a - b;
    if a < 20 && b < 10 {
        return format!("{a} - {b} = {rest}.");
    }
    let (da, db) = (digits(a), digits(b));
    let mut borrow = 0;
    let mut parts = Vec::new();
    for (i, &x) in da.iter().enumerate() {
        let y = db.get(i).copied().unwrap_or(0);
        let tail = if borrow > 0 { format!("-{y}-1") } else { format!("-{y}") };
        if x < y + borrow {
            parts.push(format!("{} {x}{tail}, borrow, {}{tail}={}", PLACES[i], x + 10, x + 10 - y - borrow));
            borrow = 1;
        } else {
            parts.push(format!("{} {x}{tail}={}", PLACES[i], x - y - borrow));
            borrow = 0;
        }
    }
    format!("{a} - {b}: {}. {a} - {b} = {rest}.", parts.join("; "))
}

/// `a × d` for one digit `d`, with its carries.
fn mul_digit(a: u64, d: u64) -> String {
    let da = digits(a);
    if da.len() == 1 || d <= 1 {
        return format!("{a} × {d} = {}.", a * d);
    }
    let mut carry = 0;
    let mut parts = Vec::new();
    for (i, &x) in da.iter().enumerate() {
        let product = x * d;
        let t = product + carry;
        let terms =
            if carry > 0 { format!("{x}×{d}={product}, +{carry}={t}") } else { format!("{x}×{d}={t}") };
        let last = i + 1 == da.len();
        carry = if last { 0 } else { t / 10 };
        let write = match (last, carry) {
            (true, _) | (_, 0) => format!("write {t}"),
            _ => format!("write {} carry {carry}", t % 10),
        };
        parts.push(format!("{} {terms}, {write}", PLACES[i]));
    }
    format!("{a} × {d}: {}. {a} × {d} = {}.", parts.join("; "), a * d)
}

/// `a × b` by partial products; zeros at the ends are set aside first.
pub fn mul(a: u64, b: u64) -> String {
    let (mut x, mut y, mut zeros) = (a, b, 0usize);
    while x >= 10 && x.is_multiple_of(10) {
        (x, zeros) = (x / 10, zeros + 1);
    }
    while y >= 10 && y.is_multiple_of(10) {
        (y, zeros) = (y / 10, zeros + 1);
    }
    // The longer factor is the one that is multiplied by single digits.
    let (long, short) = if x >= y { (x, y) } else { (y, x) };
    let mut lines = Vec::new();
    if short == 1 && zeros > 0 {
        // Only zeros to append.
    } else if short < 10 {
        lines.push(mul_digit(long, short));
    } else {
        let mut total = 0;
        let mut place = 1;
        for d in digits(short) {
            if d > 0 {
                let part = long * d * place;
                lines.push(mul_digit(long, d));
                if place > 1 {
                    lines.push(format!("{long} × {} = {part}.", d * place));
                }
                if total > 0 {
                    lines.push(add(total, part));
                }
                total += part;
            }
            place *= 10;
        }
        lines.push(format!("{long} × {short} = {}.", long * short));
    }
    if zeros > 0 {
        lines.push(format!("Append {}: {a} × {b} = {}.", "0".repeat(zeros), a * b));
    } else if (a, b) != (long, short) {
        lines.push(format!("{a} × {b} = {}.", a * b));
    }
    lines.join("\n")
}

/// Long division `a ÷ d`, exact or with a remainder; `d >= 1`.
pub fn div(a: u64, d: u64) -> String {
    let q = a / d;
    let tail = if a.is_multiple_of(d) { format!("{q}.") } else { format!("{q} remainder {}.", a % d) };
    if d == 1 || a < 10 || (q < 10 && d < 13) {
        return format!("{a} ÷ {d} = {tail}");
    }
    format!("{a} ÷ {d}: {}. {a} ÷ {d} = {tail}", long_division(a, d))
}

/// The steps of a long division. From three digits on, the subtractions are worked as well.
fn long_division(a: u64, d: u64) -> String {
    let mut current = 0;
    let mut parts = Vec::new();
    let table: Vec<String> = (1..10).map(|t| (t * d).to_string()).collect();
    let table = if d < 100 { String::new() } else { format!("Multiples of {d}: {}.\n", table.join(", ")) };
    for &x in digits(a).iter().rev() {
        current = current * 10 + x;
        if current < d && parts.is_empty() {
            continue;
        }
        let t = current / d;
        let rest = current - t * d;
        parts.push(if d < 100 {
            format!("{current}: {t}×{d}={}, left {rest}", t * d)
        } else if t == 0 {
            format!("{current}: {d} is more, 0×{d}=0, left {rest}")
        } else {
            let more = if t < 9 { format!("{} is more, ", (t + 1) * d) } else { String::new() };
            format!("{current}: {more}{t}×{d}={}\n{}\nleft {rest}", t * d, sub(current, t * d))
        });
        current = rest;
    }
    table + &parts.join("; ")
}

/// `a ÷ d` rounded to one decimal: the quotient and the steps. One more digit is worked to round on.
pub fn div_round(a: u64, d: u64) -> (Decimal, String) {
    let hundredths = a * 100 / d;
    let rounded = decimal((hundredths + 5) / 10, 1);
    let direction = if hundredths % 10 >= 5 { "up" } else { "down" };
    let work = format!(
        "{a}00 ÷ {d}: {}. {a} ÷ {d} = {}.{:02}. The last digit is {}, round {direction}: {rounded}.",
        long_division(a * 100, d),
        hundredths / 100,
        hundredths % 100,
        hundredths % 10,
    );
    (rounded, work)
}

/// `n × 10^places`, the point moved one place at a time.
pub fn shift_up(n: Decimal, places: u32) -> (Decimal, String) {
    let mut value = n;
    let mut parts = Vec::new();
    for _ in 0..places {
        value = if value.scale > 0 {
            decimal(value.mantissa, value.scale - 1)
        } else {
            decimal(value.mantissa * 10, 0)
        };
        parts.push(format!("×10 = {value}"));
    }
    (value, format!("{n}: {}.", parts.join(", ")))
}

/// `n ÷ 10^places`, the point moved one place at a time.
pub fn shift_down(n: Decimal, places: u32) -> (Decimal, String) {
    let mut value = n;
    let mut parts = Vec::new();
    for _ in 0..places {
        value = decimal(value.mantissa, value.scale + 1);
        parts.push(format!("÷10 = {value}"));
    }
    (value, format!("{n}: {}.", parts.join(", ")))
}

/// `n/d` in lowest terms, through Euclid's algorithm: the result as text and the steps.
pub fn reduce(n: u64, d: u64) -> (String, String) {
    let (mut big, mut small) = (n.max(d), n.min(d));
    let mut lines = Vec::new();
    while small > 0 {
        lines.push(format!("{big} = {}×{small} + {}", big / small, big % small));
        (big, small) = (small, big % small);
    }
    let g = gcd(n, d);
    let result = fraction(n, d);
    let close = match g {
        1 => format!("gcd 1, so {result}."),
        _ => format!("gcd {g}. {n} ÷ {g} = {}, {d} ÷ {g} = {}, so {result}.", n / g, d / g),
    };
    (result, format!("Reduce {n}/{d}: {}; {close}", lines.join("; ")))
}

/// `n/d` in lowest terms; a whole number stands alone.
pub fn fraction(n: u64, d: u64) -> String {
    let g = gcd(n, d).max(1);
    if d / g == 1 { format!("{}", n / g) } else { format!("{}/{}", n / g, d / g) }
}
