//! The formats that are enforced, read in another way than by regular expressions.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn is_valid(format: &str, text: &str) -> bool {
    match format {
        "date" => date(text),
        "time" => time(text),
        "date-time" => text.split_once('T').is_some_and(|(d, t)| date(d) && time(t)),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uuid" => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12])
                && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
        }
        "email" => text.rsplit_once('@').is_some_and(|(user, host)| {
            let dots = !user.starts_with('.') && !user.ends_with('.') && !user.contains("..");
            !user.is_empty() && dots && !host.is_empty() && text.is_ascii() && !text.contains(' ')
        }),
        "hostname" => {
            let label = |l: &str| {
                let ends = !l.starts_with('-') && !l.ends_with('-');
                (1..64).contains(&l.len())
                    && ends
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            text.split('.').all(label)
        }
        "uri" => {
            let scheme = text.split_once(':').map(|(s, _)| s).unwrap_or_default();
            let plain = |b: u8| b.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&b);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(plain)
        }
        "duration" => text.starts_with('P') && text.len() > 2 && !text.ends_with('T') && text.is_ascii(),
        _ => panic!("the format {format} is not enforced"),
    }
}

fn digits(text: &str, len: usize) -> Option<u32> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [y, m, d] = parts[..] else { return false };
    let (Some(y), Some(m), Some(d)) = (digits(y, 4), digits(m, 2), digits(d, 2)) else { return false };
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    (1..13).contains(&m) && (1..=days[m as usize - 1]).contains(&d)
}

fn clock(text: &str, parts: usize) -> bool {
    let all: Vec<&str> = text.split(':').collect();
    let limits = [24, 60, 60];
    all.len() == parts && all.iter().zip(limits).all(|(p, most)| digits(p, 2).is_some_and(|v| v < most))
}

fn time(text: &str) -> bool {
    let (time, zone) = match text.strip_suffix('Z') {
        Some(time) => (time, true),
        None => match text.rfind(['+', '-']) {
            Some(at) => (&text[..at], clock(&text[at + 1..], 2)),
            None => return false,
        },
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    zone && clock(time, 3) && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit())
}
