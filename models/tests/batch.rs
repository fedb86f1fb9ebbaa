//! Several slots at a time: each gets the tokens that it would get alone.

use weft_models::{CacheType, DeviceOptions, Error, Model, Options, Profile, Sampling, Stop, Without};
use weft_runtime::Budget;

use crate::golden_model::{build, exact, load};

const CONTEXT: u32 = 96;

fn model(case: &str, device: DeviceOptions, cache: Option<CacheType>, integers: bool) -> Model {
    let options =
        Options { device, chunk: Some(16), context: Some(CONTEXT), cache, integers: Some(integers) };
    Model::open(build(case), &options).unwrap()
}

/// Prompts of different lengths, some with a common beginning, drawn in different ways.
fn prompts(case: &str) -> Vec<(Vec<u32>, Sampling)> {
    let tokens = load(case).tokens;
    let hot = |seed| Sampling { temperature: 1.3, seed, ..Sampling::default() };
    let wary = Sampling { repeat_penalty: 1.3, repeat_last_n: 9, ..Sampling::greedy() };
    [
        (0..3, Sampling::greedy()),
        (0..40, wary),
        (7..8, hot(1)),
        (0..21, hot(2)),
        (5..30, Sampling::greedy()),
        (0..40, hot(3)),
        (2..19, Sampling { top_k: 0, top_p: 0.9, ..hot(4) }),
    ]
    .map(|(range, sampling)| (tokens[range].to_vec(), sampling))
    .into()
}

fn alone(model: &Model, prompts: &[(Vec<u32>, Sampling)], n: usize) -> Vec<Vec<u32>> {
    let answer = |(prompt, sampling): &(Vec<u32>, Sampling)| {
        let mut session = model.session(CONTEXT).unwrap();
        let mut g = session.generate(prompt, sampling, n).unwrap();
        std::iter::from_fn(|| g.next_token().unwrap()).collect()
    };
    prompts.iter().map(answer).collect()
}

fn borrowed(prompts: &[(Vec<u32>, Sampling)]) -> Vec<(&[u32], Sampling)> {
    prompts.iter().map(|(p, s)| (&p[..], *s)).collect()
}

/// Whatever the device, however memory is cut, and whichever slots run at the time.
#[test]
fn every_slot_gets_the_tokens_that_it_gets_alone() {
    let splitting = Budget { max_binding: 40 << 10, ..Budget::WEBGPU };
    let minimal = DeviceOptions { profile: Some(Profile::Minimal), ..exact() };
    let bare = DeviceOptions { without: Without::ALL, ..Default::default() };
    let bare_minimal = DeviceOptions { profile: Some(Profile::Minimal), ..bare.clone() };
    for (case, device, cache, slots) in [
        ("qwen3-f32", exact(), None, 7),
        ("qwen3-q4_k_m", bare, None, 3),
        ("gemma3-f32", exact(), None, 7),
        ("smollm3-f32", exact(), None, 3),
        ("llama3-q4_k_m", minimal, Some(CacheType::F16), 7),
        ("qwen2-q4_k_m", bare_minimal, Some(CacheType::Q8_0), 3),
        ("qwen3-mixed", exact(), Some(CacheType::Q4_0), 3),
        ("llama2-f16", DeviceOptions { budget: Some(splitting.clone()), ..exact() }, None, 7),
        ("smollm-q4_k_m", DeviceOptions { budget: Some(splitting), ..exact() }, Some(CacheType::Q8_0), 3),
    ] {
        let model = model(case, device, cache, false);
        let prompts = prompts(case);
        let want = alone(&model, &prompts, 8);
        assert!(want.iter().all(|w| !w.is_empty()), "{case}");
        let got = model.batch(slots, CONTEXT).unwrap().generate(&borrowed(&prompts), 8).unwrap();
        assert_eq!(got, want, "{case} with {slots} slots");
    }
}

/// Products in integers of 8 bits as GPUs take them, on a device that would not choose them. A step of one
/// slot rounds at other places than one of several, so some late token may differ.
#[test]
fn slots_in_integers_get_nearly_the_same_tokens() {
    let model = model("qwen3-q4_k_m", DeviceOptions::default(), None, true);
    let prompts = prompts("qwen3-q4_k_m");
    let want = alone(&model, &prompts, 10).concat();
    let got = model.batch(5, CONTEXT).unwrap().generate(&borrowed(&prompts), 10).unwrap().concat();
    let same = want.iter().zip(&got).filter(|(a, b)| a == b).count();
    assert_eq!(got.len(), want.len());
    assert!(same * 10 >= want.len() * 9, "{same} of {}", want.len());
}

/// Answers start, end and are stopped while others are being drawn; a full context ends an answer.
#[test]
fn slots_come_and_go() {
    let model = model("qwen3-f32", DeviceOptions::default(), None, false);
    let prompts = prompts("qwen3-f32");
    let want = alone(&model, &prompts, 70);
    let mut batch = model.batch(3, CONTEXT).unwrap();
    let start = |batch: &mut weft_models::Batch, which: usize, n: usize| {
        batch.start(&prompts[which].0, &prompts[which].1, n).unwrap()
    };
    let mut got = vec![Vec::new(); prompts.len()];
    let mut stops = vec![None; prompts.len()];
    let mut on = [0, 1, 2];
    assert_eq!(start(&mut batch, 0, 70), 0);
    assert_eq!(start(&mut batch, 1, 70), 1);
    assert_eq!(start(&mut batch, 2, 5), 2);
    assert!(matches!(batch.start(&prompts[0].0, &prompts[0].1, 1), Err(Error::NoFreeSlot { slots: 3 })));
    let mut step = 0;
    loop {
        let drawn = batch.step().unwrap();
        if drawn.is_empty() {
            break;
        }
        for d in drawn {
            got[on[d.slot]].extend(d.token);
            if d.stop.is_some() {
                stops[on[d.slot]] = d.stop;
            }
        }
        step += 1;
        if step == 9 {
            batch.stop(0);
            on[2] = 4;
            on[0] = 3;
            assert_eq!(start(&mut batch, 3, 70), 0);
            assert_eq!(start(&mut batch, 4, 0), 2);
        }
    }
    // Stopped after 9 steps, of which the first gave first tokens.
    assert!(got[0].len() < 12 && got[0][..] == want[0][..got[0].len()]);
    // 40 tokens of the prompt leave room for 56.
    assert_eq!((got[1].len(), stops[1]), (56, Some(Stop::Context)));
    assert_eq!(got[1][..], want[1][..]);
    assert_eq!((&got[2][..], stops[2]), (&want[2][..5], Some(Stop::MaxTokens)));
    assert_eq!((&got[3], stops[3]), (&want[3], Some(Stop::MaxTokens)));
    assert_eq!((got[4].len(), stops[4]), (0, Some(Stop::MaxTokens)));
    assert!(got[5].is_empty() && batch.free() == Some(0));
}

#[test]
fn what_cannot_be_is_an_error() {
    let model = model("qwen3-f32", DeviceOptions::default(), None, false);
    for slots in [0, 65] {
        let Err(e) = model.batch(slots, CONTEXT) else { panic!("{slots} slots") };
        assert_eq!(e.to_string(), format!("{slots} slots were asked for; it must be from 1 to 64"));
    }
    let mut batch = model.batch(2, CONTEXT).unwrap();
    let greedy = Sampling::greedy();
    assert!(matches!(batch.start(&[], &greedy, 1), Err(Error::EmptyPrompt)));
    assert!(matches!(batch.start(&[1; 97], &greedy, 1), Err(Error::PromptTooLong { .. })));
    assert!(matches!(batch.start(&[1 << 30], &greedy, 1), Err(Error::TokenRange { .. })));
    // The batch is none the worse for it.
    assert_eq!(batch.start(&[1, 2], &greedy, 3).unwrap(), 0);
    assert_eq!(batch.step().unwrap().len(), 1);
}
