//! Intervals and tests beside values known otherwise.

use weft_evals::stats::{bootstrap, bootstrap_groups, kappa, mcnemar, paired};

#[test]
fn a_bootstrap_of_shares_is_as_wide_as_the_binomial() {
    let values: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 7))).collect();
    let i = bootstrap(&values);
    let error = (0.7f64 * 0.3 / 1000.0).sqrt();
    assert!((i.mean - 0.7).abs() < 1e-12 && i.n == 1000);
    assert!((i.low - (0.7 - 1.96 * error)).abs() < 0.1 * error * 1.96, "{i:?}");
    assert!((i.high - (0.7 + 1.96 * error)).abs() < 0.1 * error * 1.96, "{i:?}");
    assert_eq!(bootstrap(&values), i, "the same values give the same interval");
    let none = bootstrap(&[]);
    assert_eq!((none.mean, none.low, none.high, none.n), (0.0, 0.0, 0.0, 0));
}

#[test]
fn groups_count_the_same_whatever_their_size() {
    let (small, large) = (vec![1.0; 2], vec![0.0; 98]);
    let i = bootstrap_groups(&[&small, &large]);
    assert_eq!((i.mean, i.low, i.high, i.n), (0.5, 0.5, 0.5, 100));
}

#[test]
fn mcnemar_is_the_binomial_s_tail() {
    // Worked out with exact fractions: 2 (1 + 10 + 45) / 1024 for 2 against 8.
    assert!((mcnemar(2, 8) - 112.0 / 1024.0).abs() < 1e-12);
    assert!((mcnemar(8, 2) - 112.0 / 1024.0).abs() < 1e-12);
    assert_eq!((mcnemar(0, 0), mcnemar(5, 5)), (1.0, 1.0));
    assert!((mcnemar(0, 10) - 2.0 / 1024.0).abs() < 1e-12);
    assert!(mcnemar(1000, 2000) < 1e-70);
}

#[test]
fn a_comparison_pairs_questions() {
    let first: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < 60))).collect();
    let second: Vec<f64> = (0..100).map(|i| f64::from(u8::from((10..50).contains(&i)))).collect();
    let p = paired(&[&first], &[&second]);
    assert_eq!((p.only_first, p.only_second), (20, 0));
    assert!((p.difference.mean - 0.2).abs() < 1e-12 && p.difference.low > 0.1 && p.p < 1e-5, "{p:?}");
    let same = paired(&[&first], &[&first]);
    assert_eq!((same.difference.mean, same.p), (0.0, 1.0));
}

#[test]
fn kappa_takes_chance_away() {
    // 20 both yes, 15 both no, 5 and 10 apart: agreement 0.7, chance 0.5, kappa 0.4.
    let pairs = [((true, true), 20), ((false, false), 15), ((true, false), 5), ((false, true), 10)];
    let all: Vec<(bool, bool)> = pairs.iter().flat_map(|(p, n)| vec![*p; *n]).collect();
    assert!((kappa(&all).expect("defined") - 0.4).abs() < 1e-12);
    assert_eq!(kappa(&[(true, true); 4]), None);
    assert_eq!(kappa(&[]), None);
}
