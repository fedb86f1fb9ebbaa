//! Tests of the curriculum: splits, determinism, options, and every answer computed a second time from
//! the question's parameters by formulas that share nothing with the generator.

use super::score::*;
use super::*;
use std::collections::{HashMap, HashSet};

fn take(seed: u64, count: u64, split: Split, format: Format) -> impl Iterator<Item = Sample> {
    generate(seed, count, split, format, select(&[]).unwrap())
}

/// As [`take`], of every domain.
fn every(seed: u64, count: u64, split: Split, format: Format) -> impl Iterator<Item = Sample> {
    generate(seed, count, split, format, DOMAINS.to_vec())
}

#[test]
fn train_and_test_share_no_question() {
    let name = |s: Sample| format!("{}/{}/{}", s.domain, s.family, s.key);
    let train: HashSet<String> = every(1, 50_000, Split::Train, Format::Chat).map(name).collect();
    let test: HashSet<String> = every(1, 50_000, Split::Test, Format::Mcq).map(name).collect();
    assert!(train.len() > 15_000 && test.len() > 3_000, "{} {}", train.len(), test.len());
    assert_eq!(train.intersection(&test).count(), 0);
}

#[test]
fn texts_of_train_and_test_differ() {
    let train: HashSet<String> = every(2, 50_000, Split::Train, Format::Chat).map(|s| s.prompt).collect();
    let shared = every(3, 50_000, Split::Test, Format::Chat).filter(|s| train.contains(&s.prompt)).count();
    assert_eq!(shared, 0);
}

#[test]
fn the_bytes_are_fixed() {
    let mut sum = 0u64;
    for format in [Format::Chat, Format::Mcq, Format::Document] {
        for split in [Split::Train, Split::Test] {
            let mut bytes = Vec::new();
            write_jsonl(take(7, 400, split, format), &mut bytes).unwrap();
            sum = rng::mix(sum ^ rng::hash(&bytes));
        }
    }
    assert_eq!(sum, CHECKSUM, "the generator's output changed: {sum:#018x}");
}

/// The digest of 400 samples in each format and split, seed 7. The on-board model was trained on these texts.
const CHECKSUM: u64 = 0x96cf_7a64_7b61_dce9;

#[test]
fn options_are_four_different_values_with_named_mistakes() {
    for s in every(4, 60_000, Split::Train, Format::Mcq) {
        let o = s.options.as_ref().unwrap();
        assert_eq!(o.values[o.correct], s.answer);
        for i in 0..4 {
            assert!(!o.values[i].is_empty(), "{s:?}");
            assert_eq!(o.mistakes[i].is_empty(), i == o.correct, "{s:?}");
            for j in 0..i {
                assert!(!same(&o.values[i], &o.values[j]), "{} and {}: {s:?}", o.values[i], o.values[j]);
            }
        }
        assert!(score_generation(&s, &s.target), "{s:?}");
        assert!(!score_generation(&s, "<think>\nstill thinking"));
    }
}

/// An exact number as `n / d`.
fn ratio_of(text: &str) -> Option<(u128, u128)> {
    if let Some((n, d)) = text.split_once('/') {
        return Some((n.parse().ok()?, d.parse().ok()?));
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    Some((format!("{whole}{part}").parse().ok()?, 10u128.pow(part.len() as u32)))
}

fn numbers(key: &str) -> Vec<f64> {
    key.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|w| w.parse().ok()).collect()
}

/// The answer's value and unit by a second way, from the family and the parameters alone. Values are
/// floating-point and compared with a tolerance: the generator itself uses integers.
fn again(s: &Sample) -> (Option<f64>, String) {
    let k = &s.key;
    let n = numbers(k);
    let word = k.split(' ').next().unwrap_or("");
    let at = |i: usize| n[i];
    let value = match (s.family, word) {
        ("addition", _) => at(0) + at(1),
        ("subtraction", _) => at(0) - at(1),
        ("multiplication", _) => at(0) * at(1),
        ("division", _) => at(0) / at(1),
        ("fractions", _) if k.contains("of") => at(0) * at(2) / at(1),
        ("fractions", _) => {
            let (x, y) = (at(0) / at(1), at(2) / at(3));
            if k.contains('+') {
                x + y
            } else if k.contains('-') {
                x - y
            } else {
                x * y
            }
        }
        ("linear_equations", _) => (at(2) - if k.contains('-') { -at(1) } else { at(1) }) / at(0),
        ("percentages", _) => at(0) / 100.0 * at(1),
        ("geometry", "triangle") => at(0) * at(1) / 2.0,
        ("geometry", "box") => at(0) * at(1) * at(2),
        ("geometry", _) if k.contains("perimeter") => at(0) + at(0) + at(1) + at(1),
        ("geometry", _) => at(0) * at(1),
        ("kinematics", "final") => at(0) + at(1) * at(2),
        ("kinematics", "speed" | "time") => at(0) / at(1),
        ("kinematics", _) if n.len() == 3 => at(2) * (at(0) + 0.5 * at(1) * at(2)),
        ("kinematics", _) => at(0) * at(1),
        ("ohms_law", "voltage" | "power") => at(0) * at(1),
        ("ohms_law", _) => at(0) / at(1),
        ("density", "mass") => at(0) * at(1),
        ("density", _) => at(0) / at(1),
        ("energy", "kinetic") => 0.5 * at(0) * at(1).powi(2),
        ("energy", "potential") => at(0) * 10.0 * at(1),
        ("energy", _) => at(0) * at(1),
        ("unit_conversion", _) => {
            let (from, to) = k.split_once(' ').unwrap().1.split_once('>').unwrap();
            let size = |u: &str| match u {
                "km" | "kg" | "kW" | "L" => 1000.0,
                "m" | "g" | "W" => 1.0,
                "cm" => 0.01,
                "mm" | "mg" => 0.001,
                "mL" => 1.0,
                "s" => 1.0,
                "min" => 60.0,
                "h" => 3600.0,
                "days" => 86400.0,
                "weeks" => 604800.0,
                "km/h" => 1000.0 / 3600.0,
                "m/s" => 1.0,
                other => panic!("unit {other}"),
            };
            if from == "°C" { at(0) + 273.0 } else { at(0) * size(from) / size(to) }
        }
        ("genetic_crosses", kind) => {
            let mut fields = k.split_once(' ').unwrap().1.split(',');
            let (p, q, what) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
            let mut hits = 0;
            for a in p.chars() {
                for b in q.chars() {
                    let small = u32::from(a.is_lowercase()) + u32::from(b.is_lowercase());
                    hits += u32::from(match what {
                        "dominant trait" => small < 2,
                        "recessive trait" | "homozygous recessive" => small == 2,
                        "heterozygous" => small == 1,
                        "homozygous dominant" => small == 0,
                        other => panic!("{other}"),
                    });
                }
            }
            f64::from(hits) * if kind == "percent" { 25.0 } else { at(0) / 4.0 }
        }
        ("population_growth", "percent") => at(0) * (1.0 + at(1) / 100.0),
        ("population_growth", _) => at(0) * 2f64.powf(at(2) / at(1)),
        ("codons", "codons") => at(0) / 3.0,
        ("codons", _) => at(0) * 3.0,
        ("base_pairs", _) => {
            let purine = |b: &str| b == "adenine" || b == "guanine";
            let weak = |b: &str| b == "adenine" || b == "thymine";
            let mut fields = k.split(',').skip(1);
            let (from, to) = (fields.next().unwrap(), fields.next().unwrap());
            assert!(from != to);
            if weak(from) == weak(to) && purine(from) != purine(to) { at(0) } else { 50.0 - at(0) }
        }
        ("dosage", "mg") => at(0) * at(1),
        ("dosage", "mL" | "each") => at(0) / at(1),
        ("dosage", _) => at(0) * at(1) * at(2),
        ("bmi", _) => (at(0) / (at(1) * at(1)) * 10.0 + 1e-9).round() / 10.0,
        ("drip_rate", "pump") => at(0) / at(1),
        ("drip_rate", _) => at(0) * at(2) / (at(1) * 60.0),
        ("half_life", _) => at(0) * 0.5f64.powf(at(2) / at(1)),
        ("molar_mass", "molar") => mass_of(k.split_once(' ').unwrap().1),
        ("molar_mass", "mass") => at(0) * mass_of(k.split_once(',').unwrap().1),
        ("molar_mass", _) => at(0),
        ("dilution", "volume" | "concentration") => at(0) * at(1) / at(2),
        ("dilution", "first") => at(2) * at(1) / at(0),
        ("dilution", _) => at(0) * at(1) / at(2) - at(1),
        ("ph", "pH" | "pOH") => 14.0 - at(0),
        ("ph", "acid") => at(0) + at(1),
        ("ph", "base") => at(0) - at(1),
        ("ph", _) => 10f64.powf(at(1) - at(0)),
        ("stoichiometry", _) => at(0) * at(n.len() - 1) / at(n.len() - 2),
        ("balancing", "a") => at(0) + at(1) / 4.0 - at(2) / 2.0,
        ("balancing", "b") => at(0),
        ("balancing", "c") => at(1) / 2.0,
        ("balancing", _) => {
            let mut fields = k.split_once(' ').unwrap().1.split(',').skip(1);
            let (symbol, formula) = (fields.next().unwrap(), fields.next().unwrap());
            at(0) * f64::from(atoms_of(formula)[symbol])
        }
        ("dna_complement", _) => return (None, k.chars().map(|c| pair(c, 'T')).collect()),
        ("transcription", _) => return (None, k.chars().map(|c| pair(c, 'U')).collect()),
        ("vital_signs", _) => {
            let (low, high, unit) = match k.split(',').next().unwrap() {
                "heart rate" => (60.0, 100.0, " beats/min"),
                "respiratory rate" => (12.0, 20.0, " breaths/min"),
                "body temperature" => (36.1, 37.2, " °C"),
                "systolic blood pressure" => (90.0, 120.0, " mmHg"),
                "diastolic blood pressure" => (60.0, 80.0, " mmHg"),
                "oxygen saturation" => (95.0, 100.0, "%"),
                "fasting blood glucose" => (70.0, 99.0, " mg/dL"),
                other => panic!("{other}"),
            };
            let text = if at(0) < low {
                format!("low, below {low}{unit}")
            } else if at(0) > high {
                format!("high, above {high}{unit}")
            } else {
                format!("normal, {low} to {high}{unit}")
            };
            return (None, text);
        }
        other => panic!("no second way for {other:?}"),
    };
    (Some(value), String::new())
}

/// The atoms of a formula such as Al2(SO4)3, read from its text.
fn atoms_of(formula: &str) -> HashMap<String, u32> {
    let mut stack = vec![HashMap::<String, u32>::new()];
    let mut rest = formula.chars().peekable();
    while let Some(c) = rest.next() {
        let mut part = HashMap::new();
        match c {
            '(' => {
                stack.push(HashMap::new());
                continue;
            }
            ')' => part = stack.pop().unwrap(),
            _ => {
                let mut symbol = c.to_string();
                symbol.extend(rest.next_if(char::is_ascii_lowercase));
                part.insert(symbol, 1);
            }
        }
        let mut digits = String::new();
        while let Some(d) = rest.next_if(char::is_ascii_digit) {
            digits.push(d);
        }
        for (symbol, n) in part {
            *stack.last_mut().unwrap().entry(symbol).or_default() += n * digits.parse().unwrap_or(1);
        }
    }
    stack.pop().unwrap()
}

fn mass_of(formula: &str) -> f64 {
    let mass = |symbol: &str| match symbol {
        "H" => 1.0,
        "Li" => 7.0,
        "C" => 12.0,
        "N" => 14.0,
        "O" => 16.0,
        "F" => 19.0,
        "Na" => 23.0,
        "Mg" => 24.0,
        "Al" => 27.0,
        "P" => 31.0,
        "S" => 32.0,
        "K" => 39.0,
        "Ca" => 40.0,
        "Fe" => 56.0,
        "Zn" => 65.0,
        "Br" => 80.0,
        other => panic!("{other}"),
    };
    atoms_of(formula).iter().map(|(symbol, &n)| mass(symbol) * f64::from(n)).sum()
}

#[test]
fn reactions_are_balanced() {
    for (left, right) in chemistry::REACTIONS {
        let [a, b] = [left, right].map(|side| {
            let mut all: HashMap<String, u32> = HashMap::new();
            for (n, formula) in *side {
                for (symbol, count) in atoms_of(formula) {
                    *all.entry(symbol).or_default() += *n as u32 * count;
                }
            }
            all
        });
        assert_eq!(a, b, "{left:?} -> {right:?}");
    }
}

fn pair(base: char, of_a: char) -> char {
    match base {
        'A' => of_a,
        'T' => 'A',
        'G' => 'C',
        _ => 'G',
    }
}

#[test]
fn every_answer_is_right_by_a_second_way() {
    let samples =
        every(5, 100_000, Split::Train, Format::Chat).chain(every(6, 20_000, Split::Test, Format::Chat));
    for s in samples {
        let (value, text) = again(&s);
        let Some(value) = value else {
            assert_eq!(s.answer, text, "{s:?}");
            continue;
        };
        let number: String = s
            .answer
            .split([' ', '%'])
            .find_map(|w| ratio_of(w).map(|_| w.to_string()))
            .unwrap_or_else(|| panic!("no number in {s:?}"));
        let (n, d) = ratio_of(&number).unwrap();
        assert!((n as f64 / d as f64 - value).abs() < 1e-9 * value.abs().max(1.0), "{value} expected: {s:?}");
        // A fraction is in lowest terms.
        if let Some((n, d)) = number.split_once('/') {
            assert_eq!(steps::gcd(n.parse().unwrap(), d.parse().unwrap()), 1, "{s:?}");
        }
    }
}

/// Every "a op b = c." that stands in the steps holds.
#[test]
fn every_step_is_true() {
    let mut checked = 0;
    for s in every(8, 30_000, Split::Train, Format::Chat) {
        for piece in s.target.split(['\n', ';', ':']).flat_map(|p| p.split(". ")) {
            let Some((left, right)) = piece.trim().trim_end_matches('.').split_once(" = ") else { continue };
            let terms: Vec<&str> = left.split(' ').collect();
            let ([a, op, b], Ok(c)) = (terms.as_slice(), right.parse::<f64>()) else { continue };
            let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { continue };
            let value = match *op {
                "+" => a + b,
                "-" => a - b,
                "×" => a * b,
                "÷" => a / b,
                _ => continue,
            };
            checked += 1;
            // BMI quotients are cut after two decimals.
            assert!((value - c).abs() < if s.family == "bmi" { 0.01 } else { 1e-9 }, "{piece} in {s:?}");
        }
    }
    assert!(checked > 40_000, "{checked}");
}

#[test]
fn every_family_is_drawn_and_documents_explain_the_wrong_options() {
    let mut seen = HashSet::new();
    for s in every(9, 3_000, Split::Test, Format::Document) {
        seen.insert((s.domain, s.family));
        let o = s.options.as_ref().unwrap();
        for i in (0..4).filter(|&i| i != o.correct) {
            assert!(s.target.contains(o.mistakes[i]) && s.target.contains(&o.values[i]));
        }
    }
    let all: usize = DOMAINS.iter().map(|d| d.families.len()).sum();
    assert_eq!(seen.len(), all);
    assert_eq!(select(&["alchemy".into()]).unwrap_err(), "alchemy");
}

#[test]
fn answers_are_read_from_free_text() {
    let read = |t: &str| final_answer(t).unwrap();
    assert_eq!(read("<think>\n1+1\n</think>\n\nThe answer is 42 m/s."), "42 m/s");
    assert_eq!(read("So we get 17 + 25 = 42."), "42");
    assert_eq!(read("The answer is 3.5 kg.\n"), "3.5 kg");
    assert!(final_answer("<think>\nThe answer is 42.").is_none());
    assert!(same("42 m/s", "42 m/s") && same("42 m/s", "42") && same("42 m/s", " 42.0 m/s "));
    assert!(same("1200 g", "1,200 g") && same("12 cm²", "12 cm^2") && same("25%", "25 %"));
    assert!(same("x = 7", "7") && same("x = 7", "X=7") && same("3/4", "3/4"));
    assert!(
        same("high, above 100 beats/min", "High")
            && !same("high, above 100 beats/min", "high, above 20 mmHg")
    );
    assert!(!same("42 m/s", "42 m") && !same("42", "4.2") && !same("3/4", "3/5") && !same("3/4", "3"));
    assert!(!same("42", "") && !same("GATC", "GATT") && same("GATC", "gatc"));
    assert!(!same("x = 7", "y = 7"));
}

#[test]
fn letters_are_read_from_free_text() {
    assert_eq!(letter("<think>\nA\n</think>\n\nAnswer: B"), Some(1));
    assert_eq!(letter("The answer is (C)."), Some(2));
    assert_eq!(letter("D"), Some(3));
    assert_eq!(letter("Option A fits"), Some(0));
    assert_eq!(letter("none of them"), None);
    assert_eq!(choice_from_logits([0.0, 1.0, 3.0, 3.0]), 2);
}

#[test]
fn wilson_interval() {
    let (low, high) = Tally { right: 90, total: 100 }.interval();
    assert!((low - 0.8256).abs() < 1e-4 && (high - 0.9448).abs() < 1e-4, "{low} {high}");
    assert_eq!(Tally::default().interval(), (0.0, 1.0));
    let (low, high) = Tally { right: 10, total: 10 }.interval();
    assert!(low > 0.7 && high > 1.0 - 1e-9);
}
