//! Biology: genetic crosses, population growth, DNA complement, transcription, codons, base pairs.

use super::problem::{Problem, say, with_unit, wrong};
use super::rng::Rng;
use super::steps::{add, decimal, div, mul, shift_down, sub};
use super::{Domain, Family};

/// The domain.
pub const DOMAIN: Domain = Domain {
    name: "biology",
    core: true,
    families: &[
        Family { name: "genetic_crosses", draw: genetic_crosses },
        Family { name: "population_growth", draw: population_growth },
        Family { name: "dna_complement", draw: dna_complement },
        Family { name: "transcription", draw: transcription },
        Family { name: "codons", draw: codons },
        Family { name: "base_pairs", draw: base_pairs },
    ],
};

/// Letters whose small form is told apart from the capital at a glance.
const LETTERS: &[char] = &['A', 'B', 'D', 'E', 'F', 'G', 'H', 'L', 'M', 'N', 'P', 'Q', 'R', 'T'];

/// What is asked of a cross: its name in the question, and which genotypes (0, 1 or 2 small letters) count.
const ASKED: &[(&str, &str, &[usize])] = &[
    ("show the dominant trait", "dominant trait", &[0, 1]),
    ("show the recessive trait", "recessive trait", &[2]),
    ("are heterozygous", "heterozygous", &[1]),
    ("are homozygous dominant", "homozygous dominant", &[0]),
    ("are homozygous recessive", "homozygous recessive", &[2]),
];

fn genetic_crosses(r: &mut Rng) -> Problem {
    let letter = r.of(LETTERS);
    let small = letter.to_ascii_lowercase();
    let genotype = |k: usize| match k {
        0 => format!("{letter}{letter}"),
        1 => format!("{letter}{small}"),
        _ => format!("{small}{small}"),
    };
    // Half of the crosses are the textbook's two heterozygotes or a test cross.
    let (p, q) = r.of(&[(1, 1), (1, 1), (1, 2), (2, 1), (1, 0), (0, 1), (0, 2), (2, 0)]);
    let (first, second) = (genotype(p), genotype(q));
    let gametes = |k: usize| match k {
        0 => [0, 0],
        1 => [0, 1],
        _ => [1, 1],
    };
    let squares: Vec<usize> = gametes(p).iter().flat_map(|a| gametes(q).map(|b| a + b)).collect();
    let (what, short, counts) = r.of(ASKED);
    let what = match counts {
        [one] if !short.ends_with("trait") && r.one_in(3) => {
            r.pick(&["have the genotype ", "are "]).to_string() + &genotype(*one)
        }
        _ if r.one_in(4) => what
            .replace("show the dominant trait", "show the dominant phenotype")
            .replace("show the recessive trait", "show the recessive phenotype"),
        _ => what.to_string(),
    };
    let hits = squares.iter().filter(|k| counts.contains(k)).count() as u64;
    let names: Vec<String> = squares.iter().map(|&k| genotype(k)).collect();
    let table = format!(
        "{first} gives {}, {}. {second} gives {}, {}.\nSquares: {}.\n{short}: {hits} of 4.",
        &first[..1],
        &first[1..],
        &second[..1],
        &second[1..],
        names.join(", ")
    );
    if r.one_in(2) {
        let question = say(
            r,
            &[
                "In a cross {p} × {q}, what percentage of the offspring {what}?",
                "Two parents {p} and {q} are crossed. What percentage of the offspring {what}?",
                "Cross {p} x {q}: what percent {what}?",
                "What percentage of the offspring of {p} × {q} {what}?",
                "Parents {p} and {q}: how many percent of the offspring {what}?",
                "Cross {p} x {q}. What percentage of the offspring {what}?",
                "In a cross of {p} and {q}, what percentage of the offspring {what}?",
                "Parents {p} and {q} have children. What percentage of the children {what}?",
            ],
            &[("p", &first), ("q", &second), ("what", &what)],
        );
        let value = 25 * hits;
        let percent = |n: u64| format!("{n}%");
        Problem {
            key: format!("percent {first},{second},{short}"),
            question,
            work: format!("{table}\n{hits} of 4 = {value}%."),
            answer: percent(value),
            wrong: vec![
                wrong(
                    "counting the other phenotype",
                    percent(100 - value),
                    "the squares that do not count were taken",
                ),
                wrong(
                    "counting one square too few",
                    percent(25 * hits.abs_diff(1)),
                    "one square was overlooked",
                ),
                wrong(
                    "counting one square too many",
                    percent((25 * (hits + 1)).min(100)),
                    "one square was counted twice",
                ),
                wrong("assuming equal halves", percent(50), "a cross is not always one to one"),
                wrong("assuming three to one", percent(75), "3 : 1 holds only for two heterozygotes"),
                wrong(
                    "assuming a quarter",
                    percent(25),
                    "each square is a quarter, but here it is not one square",
                ),
            ],
        }
    } else {
        let n = 4 * r.range(1, 60);
        let question = say(
            r,
            &[
                "A cross {p} × {q} gives {n} offspring. How many of them {what}, on average?",
                "Parents {p} and {q} have {n} offspring. How many are expected that {what}?",
                "Cross {p} x {q} with {n} offspring: how many {what}?",
                "Of {n} offspring of {p} × {q}, how many {what}?",
            ],
            &[("p", &first), ("q", &second), ("what", &what), ("n", &n)],
        );
        let quarter = n / 4;
        let value = quarter * hits;
        Problem {
            key: format!("number {first},{second},{short},{n}"),
            question,
            work: format!("{table}\n{}\n{}", div(n, 4), mul(quarter, hits)),
            answer: value.to_string(),
            wrong: vec![
                wrong("counting the other phenotype", n - value, "the squares that do not count were taken"),
                wrong("counting one square too few", quarter * hits.abs_diff(1), "one square was overlooked"),
                wrong("counting one square too many", quarter * (hits + 1), "one square was counted twice"),
                wrong("taking all offspring", n, "every offspring was counted"),
                wrong("giving a percentage", 25 * hits, "the share was given and not the number"),
            ],
        }
    }
}

fn population_growth(r: &mut Rng) -> Problem {
    if r.one_in(3) {
        let (n, p) = (100 * r.range(1, 90), r.range(2, 30));
        let gain = n / 100 * p;
        let animal = r.pick(&["deer", "fish", "rabbits", "birds", "people"]);
        let question = say(
            r,
            &[
                "A population of {n} {animal} grows by {p}% in a year. How large is it after one year?",
                "A lake has {n} {animal}. Their number grows by {p}% a year. How many are there after one year?",
                "There are {n} {animal}. How many are there after a growth of {p}%?",
                "Population {n}, growth {p}%. What is the new population?",
            ],
            &[("n", &n), ("p", &p), ("animal", &animal)],
        );
        return Problem {
            key: format!("percent {n},{p}"),
            question,
            work: format!("1% of {n} = {}.\n{}\n{}", n / 100, mul(n / 100, p), add(n, gain)),
            answer: (n + gain).to_string(),
            wrong: vec![
                wrong("giving only the growth", gain, format!("{p}% of {n} must still be added")),
                wrong("subtracting the growth", n - gain, "the population shrinks in this result"),
                wrong("adding the percentage as a number", n + p, format!("{p} is not {p}%")),
                wrong("growing twice", n + 2 * gain, "two years were counted"),
            ],
        };
    }
    let doublings = r.range(1, 5);
    let n = if r.one_in(2) { r.range(2, 60) } else { 10 * r.range(1, 60) };
    let (period, unit, total, total_unit, conversion) = if r.one_in(2) {
        let (period, hours) = r.of(&[(20, 1), (30, 1), (30, 2), (15, 1), (20, 1)]);
        let k = hours * 60 / period;
        (period, "minutes", hours, if hours == 1 { "hour" } else { "hours" }, Some(k))
    } else {
        let period = r.range(1, 12);
        let unit = r.pick(&["hours", "days", "years"]);
        (period, unit, period * doublings, unit, None)
    };
    let doublings = conversion.unwrap_or(doublings);
    let every = if period == 1 { unit.trim_end_matches('s').to_string() } else { format!("{period} {unit}") };
    let total_unit = if total == 1 { total_unit.trim_end_matches('s') } else { total_unit };
    let question = say(
        r,
        &[
            "A colony of {n} bacteria doubles every {every}. How many are there after {total} {tu}?",
            "{n} cells double every {every}. How many cells are there after {total} {tu}?",
            "A population of {n} doubles every {every}. What is it after {total} {tu}?",
            "Bacteria double every {every}. Starting with {n}, how many are there after {total} {tu}?",
            "A bacterial culture of {n} cells doubles every {every}. How many cells are there after {total} {tu}?",
            "A culture starts with {n} cells and doubles every {every}. How many are there after {total} {tu}?",
            "Start {n}, doubling every {every}, time {total} {tu}. How many are there?",
        ],
        &[("n", &n), ("every", &every), ("total", &total), ("tu", &total_unit)],
    );
    let mut lines = Vec::new();
    let span = if conversion.is_some() {
        lines.push(format!("{total} {total_unit} = {} minutes.", total * 60));
        total * 60
    } else {
        total
    };
    lines.push(div(span, period));
    lines.push(format!("{doublings} doublings."));
    let mut size = n;
    for _ in 0..doublings {
        lines.push(mul(size, 2));
        size *= 2;
    }
    Problem {
        key: format!("doubling {n},{period},{span}"),
        question,
        work: lines.join("\n"),
        answer: size.to_string(),
        wrong: vec![
            wrong("missing one doubling", size / 2, format!("only {} doublings were counted", doublings - 1)),
            wrong("doubling once too often", size * 2, format!("{} doublings were counted", doublings + 1)),
            wrong(
                "multiplying by the number of doublings",
                n * doublings,
                format!("{n} × {doublings} grows in a line"),
            ),
            wrong("adding the start each time", n * (doublings + 1), "growth was taken as linear"),
            wrong("tripling", n * 3u64.pow(doublings as u32), "each period was taken as a factor of 3"),
        ],
    }
}

fn strand(r: &mut Rng, low: u64, high: u64) -> Vec<char> {
    let n = r.range(low, high);
    (0..n).map(|_| r.of(&['A', 'C', 'G', 'T'])).collect()
}

fn text(bases: &[char]) -> String {
    bases.iter().collect()
}

fn swap(base: char, pairs: &[(char, char)]) -> char {
    pairs.iter().find(|p| p.0 == base).map_or(base, |p| p.1)
}

fn map(bases: &[char], pairs: &[(char, char)]) -> Vec<char> {
    bases.iter().map(|&b| swap(b, pairs)).collect()
}

const COMPLEMENT: &[(char, char)] = &[('A', 'T'), ('T', 'A'), ('G', 'C'), ('C', 'G')];
const TRANSCRIBE: &[(char, char)] = &[('A', 'U'), ('T', 'A'), ('G', 'C'), ('C', 'G')];
const SAME_KIND: &[(char, char)] = &[('A', 'G'), ('G', 'A'), ('C', 'T'), ('T', 'C')];
const THIRD_WAY: &[(char, char)] = &[('A', 'C'), ('C', 'A'), ('G', 'T'), ('T', 'G')];
const T_TO_U: &[(char, char)] = &[('T', 'U')];

/// "A-T, C-G": one pair a base.
fn paired(bases: &[char], other: &[char]) -> String {
    bases.iter().zip(other).map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>().join(", ")
}

fn dna_complement(r: &mut Rng) -> Problem {
    let bases = strand(r, 4, 12);
    let other = map(&bases, COMPLEMENT);
    let question = say(
        r,
        &[
            "What is the complement of the DNA strand {s}?",
            "What is the complementary DNA strand of {s}?",
            "Give the complementary strand of {s}.",
            "Write the DNA complement of {s}.",
            "DNA complement of {s}?",
            "Find the complement of {s}.",
            "What is the complement of {s}?",
            "What is the complementary strand of {s}?",
            "What is the DNA complement of {s}?",
            "Which DNA strand pairs with {s}?",
            "A DNA strand reads {s}. What does the complementary strand read?",
        ],
        &[("s", &text(&bases))],
    );
    let reversed: Vec<char> = other.iter().rev().copied().collect();
    Problem {
        key: text(&bases),
        question,
        work: format!("A pairs with T, C with G.\n{}.\nTogether {}.", paired(&bases, &other), text(&other)),
        answer: text(&other),
        wrong: vec![
            wrong("copying the strand", text(&bases), "each base was kept"),
            wrong("writing U for T", text(&map(&other, T_TO_U)), "U stands in RNA only"),
            wrong(
                "pairing bases of the same kind",
                text(&map(&bases, SAME_KIND)),
                "A was paired with G and C with T",
            ),
            wrong("pairing A with C and G with T", text(&map(&bases, THIRD_WAY)), "these pairs do not form"),
            wrong("reading backwards", text(&reversed), "the complement was written from the other end"),
        ],
    }
}

fn transcription(r: &mut Rng) -> Problem {
    let bases = strand(r, 4, 12);
    let other = map(&bases, TRANSCRIBE);
    let question = say(
        r,
        &[
            "What mRNA is transcribed from the DNA template {s}?",
            "Transcribe the DNA template strand {s} into mRNA.",
            "Transcribe {s} into mRNA.",
            "Which mRNA does the template {s} give?",
            "The template strand reads {s}. What does the mRNA read?",
            "mRNA of the DNA template {s}?",
            "What is the mRNA of the DNA template {s}?",
            "Transcribe the DNA {s} into RNA.",
            "Transcribe {s}.",
            "What mRNA does the DNA template strand {s} give?",
            "Write the mRNA for the DNA template {s}.",
        ],
        &[("s", &text(&bases))],
    );
    let reversed: Vec<char> = other.iter().rev().copied().collect();
    Problem {
        key: text(&bases),
        question,
        work: format!(
            "A gives U, T gives A, C gives G, G gives C.\n{}.\nTogether {}.",
            paired(&bases, &other),
            text(&other)
        ),
        answer: text(&other),
        wrong: vec![
            wrong("writing T for U", text(&map(&bases, COMPLEMENT)), "RNA has U in place of T"),
            wrong(
                "copying the strand with U for T",
                text(&map(&bases, T_TO_U)),
                "the template was not complemented",
            ),
            wrong(
                "pairing bases of the same kind",
                text(&map(&map(&bases, SAME_KIND), T_TO_U)),
                "A was paired with G",
            ),
            wrong(
                "pairing A with C and G with T",
                text(&map(&map(&bases, THIRD_WAY), T_TO_U)),
                "these pairs do not form",
            ),
            wrong("reading backwards", text(&reversed), "the mRNA was written from the other end"),
        ],
    }
}

fn codons(r: &mut Rng) -> Problem {
    let k = r.range(2, 330);
    let n = 3 * k;
    let backwards = r.one_in(2);
    let wordings: &[&str] = if backwards {
        &[
            "How many bases code for {k} amino acids?",
            "A protein has {k} amino acids. How many mRNA bases code for it, without the stop codon?",
            "How many nucleotides are in {k} codons?",
        ]
    } else {
        &[
            "How many codons are in an mRNA of {n} bases?",
            "A coding sequence has {n} bases. How many codons is that?",
            "An mRNA has {n} nucleotides. How many codons does it have?",
            "How many amino acids do {n} bases code for, without a stop codon?",
        ]
    };
    let question = say(r, wordings, &[("k", &k), ("n", &n)]);
    let (value, work, name) = if backwards {
        (n, format!("One codon has 3 bases.\n{}", mul(k, 3)), "bases")
    } else {
        (k, format!("One codon has 3 bases.\n{}", div(n, 3)), "codons")
    };
    let given = if backwards { k } else { n };
    Problem {
        key: format!("{name} {given}"),
        question,
        work,
        answer: value.to_string(),
        wrong: vec![
            wrong("taking one base a codon", given, "the number was kept"),
            wrong(
                "going the wrong way",
                if backwards { (k / 3).max(1) } else { n * 3 },
                "the factor 3 was used upside down",
            ),
            wrong(
                "taking four bases a codon",
                if backwards { 4 * k } else { n / 4 },
                "there are four kinds of base, but three in a codon",
            ),
            wrong(
                "taking two bases a codon",
                if backwards { 2 * k } else { n / 2 },
                "a codon has three bases",
            ),
            wrong("counting one too many", value + 1, "one was added"),
        ],
    }
}

fn base_pairs(r: &mut Rng) -> Problem {
    let tenths = r.range(50, 450);
    let given = decimal(tenths, 1);
    let (from, to) = r.of(&[
        ("adenine", "thymine"),
        ("adenine", "guanine"),
        ("adenine", "cytosine"),
        ("thymine", "adenine"),
        ("thymine", "guanine"),
        ("thymine", "cytosine"),
        ("guanine", "cytosine"),
        ("guanine", "adenine"),
        ("guanine", "thymine"),
        ("cytosine", "guanine"),
        ("cytosine", "adenine"),
        ("cytosine", "thymine"),
    ]);
    let partner = |b: &str| match b {
        "adenine" => "thymine",
        "thymine" => "adenine",
        "guanine" => "cytosine",
        _ => "guanine",
    };
    let question = say(
        r,
        &[
            "A DNA sample is {g}% {from}. What percentage is {to}?",
            "DNA contains {g}% {from}. How much {to} does it contain?",
            "If {g}% of the bases in DNA are {from}, what percent are {to}?",
            "{g}% of a DNA molecule is {from}. What percentage is {to}?",
        ],
        &[("g", &given), ("from", &from), ("to", &to)],
    );
    let pair = partner(from);
    let pairs = partner(from) == to;
    let (value, work) = if pairs {
        (given, format!("{from} pairs with {to}, so both are {given}%."))
    } else {
        let rest = decimal(500 - tenths, 1);
        (
            rest,
            format!(
                "{from} and {pair} are equal, {to} and {} are equal, so {from} + {to} = 50%.\nIn tenths: {}\n{}",
                partner(to),
                sub(500, tenths),
                shift_down(decimal(500 - tenths, 0), 1).1
            ),
        )
    };
    let percent = |tenths: u64| format!("{}%", decimal(tenths, 1));
    Problem {
        key: format!("{given},{from},{to}"),
        question,
        work,
        answer: format!("{value}%"),
        wrong: vec![
            wrong(
                "taking the rest to 100%",
                percent(1000 - tenths),
                format!("100 - {given} is all that is not {from}"),
            ),
            wrong("taking the pair for equal", percent(tenths), format!("{from} pairs with {pair}")),
            wrong(
                "taking the rest to 50%",
                percent(500 - tenths),
                format!("{from} and {to} pair with each other"),
            ),
            wrong("adding both strands", percent(2 * tenths), "the share was doubled"),
            wrong("halving the share", with_unit(decimal(tenths * 5, 2), "%"), "the share was halved"),
        ],
    }
}
