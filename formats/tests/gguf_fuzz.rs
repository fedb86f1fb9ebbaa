//! The reader is total: no bytes make it panic, hang, or take memory out of proportion.

use std::time::{Duration, Instant};

use alloc::{Counting, peak_of};
use proptest::prelude::*;
use weft_formats::gguf::{Array, File, Metadata, Value, Writer};
use weft_formats::quant::Type;

#[path = "support/alloc.rs"]
mod alloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads everything that a caller can reach; the number of tensor bytes.
fn touch(file: &File) -> u64 {
    let mut sum = 0u64;
    for t in file.tensors() {
        let bytes = file.bytes(t);
        assert_eq!(bytes.len() as u64, t.size);
        assert_eq!(file.tensor(&t.name), Some(t));
        sum += bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
        file.release(t);
    }
    assert!(file.tensors().iter().map(|t| t.size).sum::<u64>() <= file.size());
    sum
}

/// Opens the bytes. Checks that an error is one line, and that the memory for either outcome is in
/// proportion: an empty string of 8 bytes becomes one of 24, a vector may hold twice what it needs.
fn open(bytes: &[u8]) -> Result<File, String> {
    let copy = bytes.to_vec();
    let (result, peak) = peak_of(|| File::from_bytes(copy));
    assert!(peak <= 16 * bytes.len() + 4096, "{peak} bytes held for a file of {}", bytes.len());
    let result = result.map_err(|e| e.to_string());
    if let Err(message) = &result {
        assert!(!message.contains(['\n', '\r']), "{message}");
    }
    result
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Metadata::new();
    all.set("general.architecture", Value::Str("llama".into()));
    all.set("general.alignment", Value::U32(64));
    all.set("a.u8", Value::U8(1));
    all.set("a.i8", Value::I8(-1));
    all.set("a.u16", Value::U16(2));
    all.set("a.i16", Value::I16(-2));
    all.set("a.i32", Value::I32(-3));
    all.set("a.f32", Value::F32(1.5));
    all.set("a.bool", Value::Bool(true));
    all.set("a.u64", Value::U64(1 << 40));
    all.set("a.i64", Value::I64(-1 << 40));
    all.set("a.f64", Value::F64(0.1));
    all.set("t.tokens", Value::Array(Array::Str((0..40).map(|i| format!("tök{i}")).collect())));
    all.set("t.scores", Value::Array(Array::F32((0..40).map(|i| i as f32).collect())));
    all.set("t.flags", Value::Array(Array::Bool(vec![true, false, true])));
    let inner = Array::Nested(vec![Array::I32(vec![1, 2]), Array::Str(vec!["x".into(), String::new()])]);
    all.set("t.nested", Value::Array(Array::Nested(vec![inner, Array::F64(vec![0.5])])));

    let build = |metadata: &Metadata, tensors: &[(&str, Vec<u64>, Type)]| {
        let writer = Writer::new(metadata, tensors.iter().map(|(n, s, t)| (*n, s.clone(), *t))).unwrap();
        let data: Vec<Vec<u8>> = writer.tensors().iter().map(|t| vec![0x5a; t.size as usize]).collect();
        writer.to_bytes(&data).unwrap()
    };
    let mut small = Metadata::new();
    small.set("general.architecture", Value::Str("qwen3".into()));
    vec![
        build(&all, &[("token_embd.weight", vec![256, 3], Type::Q4_K), ("norm", vec![7], Type::F32)]),
        build(
            &small,
            &[
                ("a", vec![32, 2, 2, 2], Type::Q8_0),
                ("b", vec![], Type::F32),
                ("c", vec![5, 3], Type::F16),
                ("blk.0.ffn_up.weight", vec![64], Type::IQ4_NL),
            ],
        ),
        build(&all, &[]),
    ]
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers that break arithmetic.
const HUGE: [u64; 10] =
    [0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 60, i64::MAX as u64, u64::MAX - 31, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], r: &mut Random) {
    let at = r.below(bytes.len());
    match r.below(7) {
        0 => {
            if let Some(b) = bytes.get_mut(at) {
                *b ^= 1 << r.below(8);
            }
        }
        1 => bytes.truncate(at),
        2 => {
            // At any byte, so that some land on counts, lengths, dimensions and offsets.
            let value = HUGE[r.below(HUGE.len())].to_le_bytes();
            let n = [1, 2, 4, 8][r.below(4)].min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&value[..n]);
        }
        3 => {
            let from = r.below(other.len());
            let n = r.below(64).min(other.len() - from).min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&other[from..from + n]);
        }
        4 => {
            let n = r.below(32).min(bytes.len() - at);
            bytes.drain(at..at + n);
        }
        5 => {
            let from = r.below(other.len());
            let n = r.below(64).min(other.len() - from);
            bytes.splice(at..at, other[from..from + n].iter().copied());
        }
        _ => {
            if let Some(b) = bytes.get_mut(at) {
                // The small values that types, counts and dimensions take.
                *b = r.below(45) as u8;
            }
        }
    }
}

#[test]
fn twenty_thousand_mutated_files() {
    let seeds = seeds();
    seeds.iter().for_each(|s| {
        touch(&open(s).unwrap());
    });
    let mut r = Random(2);
    let start = Instant::now();
    let (mut opened, mut refused) = (0, std::collections::BTreeSet::new());
    for i in 0..20_000 {
        let mut bytes = seeds[i % seeds.len()].clone();
        let other = &seeds[r.below(seeds.len())];
        for _ in 0..1 + r.below(4) {
            mutate(&mut bytes, other, &mut r);
        }
        let one = Instant::now();
        match open(&bytes) {
            Ok(file) => {
                touch(&file);
                opened += 1;
            }
            // The message without its numbers and what it quotes, so as to count kinds of refusal.
            Err(e) => {
                let own: String = e.split('"').step_by(2).collect();
                refused.insert(own.replace(|c: char| c.is_ascii_digit(), ""));
            }
        }
        assert!(one.elapsed() < Duration::from_secs(2), "file {i} took {:?}", one.elapsed());
    }
    println!("{opened} of 20000 opened, {} kinds of error, {:?}", refused.len(), start.elapsed());
    assert!(opened > 500, "the mutations no longer leave anything to read: {opened}");
    assert!(refused.len() > 20, "the mutations no longer reach far: {refused:?}");
    assert!(start.elapsed() < Duration::from_secs(120));
}

#[test]
fn cut_at_every_byte() {
    for seed in seeds() {
        let whole = open(&seed).unwrap();
        let end = whole.tensors().iter().map(|t| t.offset + t.size).max();
        for n in 0..seed.len() {
            match open(&seed[..n]) {
                // Only padding may be missing, after the last tensor or after the header.
                Ok(file) => {
                    touch(&file);
                    assert!(end.is_none_or(|end| n as u64 >= end));
                    assert_eq!(file.metadata(), whole.metadata());
                }
                Err(e) if n == 0 => assert_eq!(e, "(memory): the file is empty"),
                Err(e) => assert!(e.starts_with("(memory): truncated: "), "{n}: {e}"),
            }
        }
    }
}

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i8>(), 0..9).prop_map(Array::I8),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Array::U16),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(Array::U32),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(Array::I32),
        prop::collection::vec(-1e30f32..1e30, 0..9).prop_map(Array::F32),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(".{0,12}", 0..9).prop_map(Array::Str),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Array::U64),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(Array::I64),
        prop::collection::vec(-1e300f64..1e300, 0..9).prop_map(Array::F64),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Nested))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        (-1e30f32..1e30).prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,40}".prop_map(Value::Str),
        array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        (-1e300f64..1e300).prop_map(Value::F64),
    ]
}

fn tensor() -> impl Strategy<Value = (Vec<u64>, Type)> {
    let types: Vec<Type> = Type::all().collect();
    (prop::sample::select(types), 1u64..3, prop::collection::vec(1u64..4, 0..3)).prop_map(
        |(ty, blocks, rest)| {
            let mut shape = vec![blocks * ty.block_len() as u64];
            shape.extend(rest);
            (shape, ty)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        entries in prop::collection::vec((".{0,20}", value()), 0..12),
        tensors in prop::collection::vec(tensor(), 0..6),
        alignment in prop::option::of(3u32..13),
    ) {
        let mut metadata = Metadata::new();
        entries.into_iter().for_each(|(k, v)| metadata.set(k, v));
        if let Some(log) = alignment {
            metadata.set("general.alignment", Value::U32(1 << log));
        }
        let named = tensors.into_iter().enumerate().map(|(i, (shape, ty))| (format!("t{i}"), shape, ty));
        let writer = Writer::new(&metadata, named).unwrap();
        let data: Vec<Vec<u8>> =
            writer.tensors().iter().enumerate().map(|(i, t)| vec![i as u8 + 1; t.size as usize]).collect();
        let bytes = writer.to_bytes(&data).unwrap();
        prop_assert_eq!(bytes.len() as u64, writer.size());
        let file = File::from_bytes(bytes).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors(), writer.tensors());
        for (t, d) in file.tensors().iter().zip(&data) {
            prop_assert_eq!(file.bytes(t), &d[..]);
        }
    }

    #[test]
    fn any_bytes_after_a_sound_start(tail in prop::collection::vec(any::<u8>(), 0..200), version in 2u8..4) {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend([version, 0, 0, 0]);
        bytes.extend(tail);
        if let Ok(file) = open(&bytes) {
            touch(&file);
        }
    }
}
