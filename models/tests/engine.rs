//! Many answers at a time over a cache in blocks: each request gets the tokens that it gets alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use weft_formats::gguf::File;
use weft_models::engine::{Engine, Event, Finish, Id, Logprobs, Mask, Options as Room, Request, Usage};
use weft_models::{CacheType, DeviceOptions, Error, Model, Options, Profile, Rows, Sampling, Without};
use weft_runtime::{Budget, Pool};

use crate::golden_model::{build, exact, load};
use crate::lora::{PARTS, adapter};

const CONTEXT: u32 = 96;

fn model(case: &str, device: DeviceOptions, cache: Option<CacheType>, integers: bool) -> Model {
    let options = Options {
        device,
        chunk: Some(16),
        context: Some(CONTEXT),
        cache,
        integers: Some(integers),
        ..Options::default()
    };
    Model::open(build(case), &options).unwrap()
}

fn engine(model: &Model, slots: u32) -> Engine {
    let room = Room { slots, context: Some(CONTEXT), together: Some(true), ..Room::default() };
    Engine::new(model, &room).unwrap()
}

type Asked = (Vec<u32>, Sampling);

/// Prompts of different lengths, some with a common beginning, drawn in different ways.
fn prompts(case: &str) -> Vec<Asked> {
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

fn alone(model: &Model, prompts: &[Asked], n: usize) -> Vec<Vec<u32>> {
    let answer = |(prompt, sampling): &Asked| {
        let mut session = model.session(CONTEXT).unwrap();
        let mut g = session.generate(prompt, sampling, n).unwrap();
        std::iter::from_fn(|| g.next_token().unwrap()).collect()
    };
    prompts.iter().map(answer).collect()
}

/// What came of a request.
#[derive(Debug, Default)]
struct Answer {
    tokens: Vec<u32>,
    usage: Usage,
    finish: Option<Finish>,
    error: Option<String>,
    /// Log-probabilities of its prompt, and of which token they begin.
    scored: Vec<Logprobs>,
    from: Option<usize>,
}

/// Has an engine do all that was asked of it.
fn finish(engine: &mut Engine) -> BTreeMap<Id, Answer> {
    let mut all: BTreeMap<Id, Answer> = BTreeMap::new();
    loop {
        let events = engine.step().unwrap();
        if events.is_empty() {
            assert_eq!(engine.blocks().0, 0, "blocks are left");
            return all;
        }
        for event in events {
            let answer = all.entry(event.id()).or_default();
            match event {
                Event::Token { token, .. } => answer.tokens.push(token),
                Event::Finished { reason, usage, .. } => {
                    (answer.finish, answer.usage) = (Some(reason), usage);
                }
                Event::Failed { error, .. } => answer.error = Some(error.to_string()),
                Event::Prompt { first, logprobs, .. } => {
                    let begin = *answer.from.get_or_insert(first);
                    assert_eq!(first, begin + answer.scored.len());
                    answer.scored.extend(logprobs);
                }
                _ => {}
            }
        }
    }
}

fn ask(engine: &mut Engine, (prompt, sampling): &Asked, n: usize) -> Id {
    engine.submit(Request::new(prompt.clone(), *sampling, n)).unwrap()
}

fn tokens(engine: &mut Engine, prompts: &[Asked], n: usize) -> Vec<Vec<u32>> {
    let ids: Vec<Id> = prompts.iter().map(|p| ask(engine, p, n)).collect();
    let mut all = finish(engine);
    ids.iter().map(|id| all.remove(id).unwrap().tokens).collect()
}

/// Whatever the device, however memory is cut, and whichever slots run at the time; and once more when all prompts are in
/// the cache.
#[test]
fn every_request_gets_the_tokens_that_it_gets_alone() {
    let splitting = Budget { max_binding: 40 << 10, ..Budget::WEBGPU };
    let profile = |p| DeviceOptions { profile: Some(p), ..exact() };
    let bare = DeviceOptions { without: Without::ALL, ..profile(Profile::Minimal) };
    for (case, device, cache, slots) in [
        ("qwen3-f32", exact(), None, 7),
        ("gemma3-f32", exact(), None, 7),
        ("smollm3-f32", exact(), None, 3),
        ("llama3-q4_k_m", profile(Profile::Adreno), Some(CacheType::Q8_0), 5),
        ("gemma3-f32", profile(Profile::Mali), Some(CacheType::F16), 4),
        ("qwen2-q4_k_m", bare, Some(CacheType::Q8_0), 3),
        ("qwen3-mixed", exact(), Some(CacheType::Q4_0), 3),
        ("llama2-f16", DeviceOptions { budget: Some(splitting), ..exact() }, None, 7),
    ] {
        let model = model(case, device, cache, false);
        let prompts = prompts(case);
        let want = alone(&model, &prompts, 8);
        assert!(want.iter().all(|w| !w.is_empty()), "{case}");
        let mut engine = engine(&model, slots);
        for round in 0..2 {
            assert_eq!(tokens(&mut engine, &prompts, 8), want, "{case}, {slots} slots, round {round}");
        }
        let ran = engine.explain();
        assert!(ran.iter().any(|l| l.contains("of several prompts")), "{case}: {ran:?}");
    }
}

/// Products in integers of 8 bits as GPUs take them, on a device that would not choose them: up to eight slots, and
/// guesses beside them, are computed as one slot is, bit by bit.
#[test]
fn requests_in_integers_get_the_same_tokens() {
    for without in [Without::default(), Without { subgroups: true, ..Without::default() }] {
        let device = DeviceOptions { without, ..DeviceOptions::default() };
        let model = model("qwen3-q4_k_m", device, None, true);
        let prompts = prompts("qwen3-q4_k_m");
        let want = alone(&model, &prompts, 10);
        // A prompt of three tokens is multiplied in integers, too, and one that shares a program is not.
        let room = Room { slots: 5, context: Some(CONTEXT), together: Some(false), ..Room::default() };
        let mut engine = Engine::new(&model, &room).unwrap();
        assert_eq!(tokens(&mut engine, &prompts, 10), want);
        let ran = engine.explain();
        assert!(ran.iter().any(|l| l.contains("chain") && l.contains("_t8_")), "{ran:?}");
        assert_eq!(guessed(&model, &prompts, 10, CONTEXT).0, want);
    }
}

/// Slots whose contexts end within a block have room for all of them at once.
#[test]
fn slots_are_filled_to_the_end_beside_each_other() {
    let model = model("qwen3-f32", exact(), None, false);
    let room = Room { slots: 2, context: Some(70), ..Room::default() };
    let mut engine = Engine::new(&model, &room).unwrap();
    let prompt = load("qwen3-f32").tokens[..3].to_vec();
    let greedy = Sampling { ignore_eos: true, ..Sampling::greedy() };
    let done = tokens(&mut engine, &[(prompt.clone(), greedy), (prompt, greedy)], 67);
    assert!(done.iter().all(|t| t.len() == 67), "{:?}", done.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(engine.preempted(), 0);
}

/// Prompts that begin alike are computed from where they part, side by side, one after the other, and behind other
/// traffic; those of another salt are not.
#[test]
fn what_prompts_begin_with_is_computed_once() {
    let model = model("gemma3-f32", exact(), None, false);
    let tokens = load("gemma3-f32").tokens;
    let common = [&tokens[..40], &tokens[..30]].concat();
    let prompt = |end: &[u32]| ([&common[..], end].concat(), Sampling::greedy());
    let all = [prompt(&tokens[3..9]), prompt(&tokens[11..14]), prompt(&[])];
    let want = alone(&model, &all, 6);
    let other = (tokens[5..35].to_vec(), Sampling::greedy());
    for order in [[0, 1, 2], [2, 1, 0]] {
        let mut engine = engine(&model, 4);
        for (round, which) in order.into_iter().enumerate() {
            let id = ask(&mut engine, &all[which], 6);
            let stranger = ask(&mut engine, &other, 3);
            let done = finish(&mut engine);
            assert_eq!(done[&id].tokens, want[which]);
            let (length, cached) = (all[which].0.len(), done[&id].usage.cached);
            // Whole blocks of 32, and the last token of a prompt is always computed.
            let expected = if round == 0 { 0 } else { 64 };
            assert_eq!(cached, expected, "{length} tokens, round {round}");
            assert_eq!(done[&stranger].tokens.len(), 3);
        }
        let salted = Request { salt: 9, ..Request::new(all[0].0.clone(), Sampling::greedy(), 6) };
        let id = engine.submit(salted).unwrap();
        let done = finish(&mut engine);
        assert_eq!((done[&id].usage.cached, &done[&id].tokens), (0, &want[0]));
    }
}

/// With room for two answers in full and four slots, answers lose their slots and are computed again, and are the same.
#[test]
fn answers_that_lose_their_room_come_back() {
    let model = model("qwen3-f32", exact(), None, false);
    let prompts = prompts("qwen3-f32");
    let want = alone(&model, &prompts, 50);
    let room = Room { slots: 4, context: Some(CONTEXT), positions: Some(160), ..Room::default() };
    let mut engine = Engine::new(&model, &room).unwrap();
    assert_eq!(tokens(&mut engine, &prompts, 50), want);
    assert!(engine.preempted() > 0, "no answer lost its slot");
}

/// Answers with several adapters, at several strengths and without any are rows of the same steps, and each is what a model
/// with its adapters alone says; once more when all prompts are in the cache.
#[test]
fn answers_with_adapters_and_without_run_together() {
    for (case, device, slots, guesses) in
        [("qwen3-f32", exact(), 3, 4), ("llama3-q4_k_m", profile_minimal(), 5, 0)]
    {
        let file = File::from_bytes(build(case)).unwrap();
        let (a, b) = (adapter(&file, &PARTS, 5, 1), adapter(&file, &PARTS[1..5], 17, 2));
        let model = model(case, device, Some(CacheType::F16), false);
        let room = Room { slots, guesses, context: Some(CONTEXT), ..Room::default() };
        let mut engine = Engine::with_adapters(&model, &room, &[&a, &b]).unwrap();
        let sets: [&[(usize, f32)]; 5] = [&[], &[(0, 1.0)], &[(1, 0.5)], &[(1, -0.7), (0, 0.4)], &[(0, 0.0)]];
        let prompts = prompts(case);
        let plain = alone(&model, &prompts, 8);
        let mut asked = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let set = sets[i % sets.len()];
            let with: Vec<_> = set.iter().map(|&(i, strength)| ([&a, &b][i], strength)).collect();
            let want = match set.iter().any(|(_, strength)| *strength != 0.0) {
                true => {
                    alone(&model.with_adapters(&with).unwrap(), std::slice::from_ref(prompt), 8).remove(0)
                }
                false => plain[i].clone(),
            };
            asked.push((prompt, set, want));
        }
        let differ = asked.iter().zip(&plain).filter(|((.., want), plain)| want != *plain).count();
        assert!(differ >= 2, "{case}: the adapters change {differ} answers");
        for round in 0..2 {
            let submit = |((prompt, sampling), set, _): &(&Asked, &[(usize, f32)], Vec<u32>)| {
                let request = Request::new(prompt.clone(), *sampling, 8);
                engine.submit(Request { adapters: set.to_vec(), ..request }).unwrap()
            };
            let ids: Vec<Id> = asked.iter().map(submit).collect();
            let done = finish(&mut engine);
            for (id, (.., set, want)) in ids.iter().zip(&asked) {
                assert_eq!(done[id].tokens, *want, "{case}, {set:?}, round {round}");
            }
        }
        // What a model has for all of its answers, an answer cannot choose.
        let with = model.with_adapters(&[(&a, 1.0)]).unwrap();
        let error = Engine::with_adapters(&with, &room, &[&b]).err().unwrap();
        assert!(error.to_string().contains("adapters by request"), "{error}");
    }
}

fn profile_minimal() -> DeviceOptions {
    DeviceOptions { profile: Some(Profile::Minimal), ..exact() }
}

/// Log-probabilities of a prompt are those of the logits that a session has for it, whatever runs beside it; of its last
/// tokens alone, too, before which it may lie in the cache.
#[test]
fn prompts_are_scored_as_a_session_does() {
    for case in ["qwen3-f32", "gemma3-f32"] {
        let model = model(case, exact(), None, false);
        let mut engine = engine(&model, 3);
        let prompts = prompts(case);
        for (round, told) in [(0, 3), (1, 3), (0, 0), (1, 0)] {
            let score = |i: usize| (i % 2 == 1).then_some(told);
            let from = |prompt: &[u32]| if round == 0 { 1 } else { (2 * prompt.len() / 3).max(1) };
            let ids: Vec<Id> = (prompts.iter().enumerate())
                .map(|(i, (prompt, sampling))| {
                    let request = Request::new(prompt.clone(), *sampling, 4 * (i % 3));
                    let prompt_logprobs_from = from(prompt);
                    let request = Request { prompt_logprobs: score(i), prompt_logprobs_from, ..request };
                    engine.submit(request).unwrap()
                })
                .collect();
            let done = finish(&mut engine);
            for (i, (prompt, _)) in prompts.iter().enumerate() {
                let got = &done[&ids[i]].scored;
                if score(i).is_none() {
                    assert!(got.is_empty());
                    continue;
                }
                let mut session = model.session(CONTEXT).unwrap();
                let mut want = Vec::new();
                let each = &mut |_, row: &[f32]| {
                    let top = row.iter().copied().fold(f32::MIN, f32::max);
                    let sum: f64 = row.iter().map(|v| f64::from(v - top).exp()).sum();
                    want.push(row.iter().map(|v| f64::from(v - top) - sum.ln()).collect::<Vec<f64>>());
                    ControlFlow::Continue(())
                };
                session.logits(prompt, Rows::Prefill, each).unwrap();
                let from = from(prompt);
                assert_eq!(got.len(), prompt.len() - from, "{case}, prompt {i}, round {round}");
                assert_eq!(done[&ids[i]].from, (from < prompt.len()).then_some(from));
                for ((got, want), &token) in got.iter().zip(&want[from - 1..]).zip(&prompt[from..]) {
                    let near = |got: f32, id: u32| (f64::from(got) - want[id as usize]).abs() < 1e-4;
                    assert!(near(got.logprob, token), "{case}: {} {}", got.logprob, want[token as usize]);
                    assert!(got.top.len() == told && got.top.iter().all(|&(id, logprob)| near(logprob, id)));
                    let likeliest = want.iter().copied().fold(f64::MIN, f64::max);
                    assert!(got.top.first().is_none_or(|top| (f64::from(top.1) - likeliest).abs() < 1e-4));
                }
            }
        }
    }
}

/// The options of a question are scored by one program, as they are by programs of their own.
#[test]
fn options_of_a_question_are_one_program() {
    for (case, cache) in [("qwen3-q4_k_m", None), ("gemma3-f32", Some(CacheType::Q8_0))] {
        let options = Options { device: exact(), chunk: Some(128), cache, ..Options::default() };
        let model = Model::open(build(case), &options).unwrap();
        let tokens = load(case).tokens;
        let question: Vec<u32> = tokens.iter().copied().cycle().take(40).collect();
        let wholes: Vec<Vec<u32>> = (0..4).map(|i| [&question[..], &tokens[i..i + 6]].concat()).collect();
        let scored = |together: bool| {
            let room = Room { slots: 4, context: Some(CONTEXT), together: Some(together), ..Room::default() };
            let mut engine = Engine::new(&model, &room).unwrap();
            let ask = |whole: &Vec<u32>| {
                let told = (Some(0), question.len());
                let request = Request::new(whole.clone(), Sampling::greedy(), 0);
                let request = Request { prompt_logprobs: told.0, prompt_logprobs_from: told.1, ..request };
                engine.submit(request).unwrap()
            };
            let ids: Vec<Id> = wholes.iter().map(ask).collect();
            let done = finish(&mut engine);
            let of = |id: &Id| done[id].scored.iter().map(|l| l.logprob).collect::<Vec<_>>();
            let mut ran: Vec<String> = engine.explain();
            ran.retain(|l| l.contains("prefill"));
            let cached: Vec<usize> = ids.iter().map(|id| done[id].usage.cached).collect();
            (ids.iter().map(of).collect::<Vec<_>>(), ran, cached)
        };
        let (together, ran, cached) = scored(true);
        assert!(ran.iter().all(|l| l.starts_with("prefill of 96 tokens of several prompts")), "{ran:#?}");
        assert_eq!(cached, [0, 32, 32, 32], "{case}");
        let (apart, ran, _) = scored(false);
        assert!(!ran.iter().any(|l| l.contains("several prompts")), "{ran:#?}");
        for (a, b) in together.iter().flatten().zip(apart.iter().flatten()) {
            assert!((a - b).abs() < 1e-4, "{case}: {a} {b}");
        }
        assert_eq!(together.iter().flatten().count(), 24);
    }
}

/// Answers start, end and are cancelled while others are being drawn; a full context ends an answer.
#[test]
fn requests_come_and_go() {
    let model = model("qwen3-f32", exact(), None, false);
    let prompts = prompts("qwen3-f32");
    let want = alone(&model, &prompts, 70);
    let mut engine = engine(&model, 2);
    let ids: Vec<Id> = prompts[..4].iter().map(|p| ask(&mut engine, p, 70)).collect();
    let mut first = 0;
    while first < 9 {
        let of_first = |e: &Event| matches!(e, Event::Token { id, .. } if *id == ids[0]);
        first += engine.step().unwrap().iter().filter(|e| of_first(e)).count();
    }
    // One that is being drawn, and one in the queue.
    assert!(engine.cancel(ids[0]) && engine.cancel(ids[2]) && !engine.cancel(ids[2]));
    let done = finish(&mut engine);
    assert!(!done.contains_key(&ids[0]) && !done.contains_key(&ids[2]));
    // 40 tokens of the prompt leave room for 56.
    assert_eq!(done[&ids[1]].finish, Some(Finish::Context));
    assert!(want[1].ends_with(&done[&ids[1]].tokens) && want[1].len() == 56);
    assert_eq!((&done[&ids[3]].tokens, &done[&ids[3]].finish), (&want[3], &Some(Finish::MaxTokens)));
}

/// Lets every third token come, from a different one on each time.
struct Thirds(u32);

impl Mask for Thirds {
    fn allowed(&mut self, bits: &mut [u32]) -> Result<(), String> {
        let all = (0..bits.len() as u32 * 32).filter(|t| t % 3 == self.0 % 3);
        all.for_each(|t| bits[t as usize / 32] |= 1 << (t % 32));
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        assert_eq!(token % 3, self.0 % 3, "a token that was not allowed");
        self.0 += 1;
        Ok(())
    }
}

/// A prompt of more than a thousand tokens, whose attention is cut, is answered as it is by a session.
#[test]
fn long_prompts_are_cut() {
    const LONG: u32 = 1120;
    let options = Options { device: exact(), chunk: Some(256), context: Some(LONG), ..Options::default() };
    let model = Model::open(build("qwen3-f32"), &options).unwrap();
    let few = load("qwen3-f32").tokens;
    let many: Vec<u32> = few.iter().copied().cycle().take(1100).collect();
    let prompts = [(many, Sampling::greedy())];
    let want: Vec<Vec<u32>> = prompts
        .iter()
        .map(|(prompt, sampling)| {
            let mut session = model.session(LONG).unwrap();
            let mut g = session.generate(prompt, sampling, 4).unwrap();
            std::iter::from_fn(|| g.next_token().unwrap()).collect()
        })
        .collect();
    let room = Room { slots: 2, context: Some(LONG), ..Room::default() };
    let mut engine = Engine::new(&model, &room).unwrap();
    assert_eq!(tokens(&mut engine, &prompts, 4), want);
}

/// Masked answers keep to their masks, and those beside them are what they are alone.
#[test]
fn masks_hold_for_their_own_request() {
    let model = model("qwen3-f32", exact(), None, false);
    let prompts = prompts("qwen3-f32");
    let want = alone(&model, &prompts, 12);
    let mut engine = engine(&model, 5);
    let masked = |(p, s): &Asked| {
        let hot = Sampling { ignore_eos: true, ..*s };
        let mask = Some(Box::new(Thirds(1)) as Box<dyn Mask>);
        Request { mask, logprobs: Some(2), ..Request::new(p.clone(), hot, 12) }
    };
    let mut ids = Vec::new();
    for p in &prompts {
        ids.push((ask(&mut engine, p, 12), engine.submit(masked(p)).unwrap()));
    }
    let done = finish(&mut engine);
    for ((plain, masked), want) in ids.iter().zip(&want) {
        assert_eq!(&done[plain].tokens, want);
        assert_eq!(done[masked].tokens.len(), 12, "{:?}", done[masked]);
    }
}

/// Memory is what was planned, and one that does not fit is refused before anything is taken.
#[test]
fn memory_is_as_planned() {
    let options = Options { device: exact(), chunk: Some(256), context: Some(CONTEXT), ..Options::default() };
    let model = Model::open(build("gemma3-f32"), &options).unwrap();
    let used = || model.gpu().memory().pools.values().map(|p| p.used).sum::<u64>();
    for together in [false, true] {
        let room = Room {
            slots: 6,
            context: Some(CONTEXT),
            positions: Some(300),
            together: Some(together),
            ..Room::default()
        };
        let plan = Engine::plan(&model, &room).unwrap();
        assert!(plan.positions >= 300 && plan.positions < 6 * u64::from(CONTEXT) && plan.block_bytes > 0);
        // Prompts of several slots are more tokens than one slot has positions.
        assert_eq!(plan.chunk, if together { 256 } else { CONTEXT });
        let before = used();
        let mut engine = Engine::new(&model, &room).unwrap();
        let taken = used() - before;
        // Each allocation is rounded up.
        assert!(taken >= plan.total() && taken <= plan.total() + (1 << 14), "{taken} of {plan:?}");
        for round in 0..2 {
            tokens(&mut engine, &prompts("gemma3-f32"), 20);
            let parameters = model.gpu().memory().pools.get(&Pool::Params).map_or(0, |p| p.used);
            assert_eq!(used() - before - parameters, taken, "round {round} took more");
        }
    }
}

#[test]
fn what_cannot_be_is_an_error() {
    let model = model("qwen3-f32", DeviceOptions::default(), None, false);
    for slots in [0, 257] {
        let room = Room { slots, context: Some(CONTEXT), ..Room::default() };
        let Err(e) = Engine::new(&model, &room) else { panic!("{slots} slots") };
        assert_eq!(e.to_string(), format!("{slots} slots were asked for; it must be from 1 to 256"));
    }
    let mut engine = engine(&model, 2);
    let mut refused =
        |prompt: Vec<u32>| engine.submit(Request::new(prompt, Sampling::greedy(), 1)).unwrap_err();
    assert!(matches!(refused(vec![]), Error::EmptyPrompt));
    assert!(matches!(refused(vec![1; 97]), Error::PromptTooLong { .. }));
    assert!(matches!(refused(vec![1 << 30]), Error::TokenRange { .. }));
    // The engine is none the worse for it.
    assert_eq!(tokens(&mut engine, &[(vec![1, 2], Sampling::greedy())], 3)[0].len(), 3);
}

/// Guesses change no token, greedy or sampled, with and without penalties, over full and windowed layers.
#[test]
fn guesses_change_nothing() {
    for (case, cache) in [("gemma3-f32", None), ("qwen3-f32", Some(CacheType::Q8_0))] {
        let model = model(case, exact(), cache, false);
        let prompts = prompts(case);
        let want = alone(&model, &prompts, 50);
        let (got, _) = guessed(&model, &prompts, 50, CONTEXT);
        assert_eq!(got, want, "{case}");
    }
}

/// Most guesses are right where the model on board repeats itself.
#[test]
fn guesses_are_right_where_a_text_repeats_itself() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weft-mini.gguf");
    let options = Options { device: exact(), context: Some(256), ..Options::default() };
    let model = Model::open(path, &options).unwrap();
    // Its division of that goes round and round.
    let text = "Add 123456 and 654321.";
    let prompt = model.chat(&[weft_models::Message::user(text)], None).unwrap();
    let on = |temperature| Sampling { temperature, ..Sampling::greedy() };
    let prompts = [0.0, 0.3].map(|t| (prompt.clone(), on(t)));
    let want: Vec<Vec<u32>> = prompts
        .iter()
        .map(|(prompt, sampling)| {
            let mut session = model.session(256).unwrap();
            let mut g = session.generate(prompt, sampling, 200).unwrap();
            std::iter::from_fn(|| g.next_token().unwrap()).collect()
        })
        .collect();
    let (got, usage) = guessed(&model, &prompts, 200, 256);
    assert_eq!(got, want);
    let (made, right) = usage[0].drafted;
    assert!(right > 40 && made >= right, "{right} of {made} guesses were right");
}

/// A model that guesses for itself is nearly always right, greedy and sampled: both add the same noise.
#[test]
fn a_model_guesses_for_another() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weft-mini.gguf");
    let options = Options { device: exact(), context: Some(CONTEXT), ..Options::default() };
    let mini = Model::open(path, &options).unwrap();
    let prompt = mini.chat(&[weft_models::Message::user("Add 123456 and 654321.")], None).unwrap();
    let hot = Sampling { temperature: 0.9, seed: 3, ..Sampling::default() };
    let asked = [Sampling::greedy(), hot].map(|s| (prompt.clone(), s));
    let want = alone(&mini, &asked, 40);
    let room = Room { slots: 2, context: Some(CONTEXT), guesses: 6, ..Room::default() };
    let mut engine = Engine::new(&mini, &room).unwrap();
    engine.draft_with(&mini).unwrap();
    engine.always_guess();
    let ids: Vec<Id> = asked.iter().map(|a| ask(&mut engine, a, 40)).collect();
    let done = finish(&mut engine);
    for (id, want) in ids.iter().zip(&want) {
        assert_eq!(&done[id].tokens, want);
        let (made, right) = done[id].usage.drafted;
        assert!(right > 15 && right * 10 >= made * 8, "{right} of {made}");
    }
    // One without a tokenizer cannot be told apart from one of another vocabulary.
    let bare = model("qwen3-f32", exact(), None, false);
    let why = engine.draft_with(&bare).unwrap_err().to_string();
    assert!(why.contains("tokenizer"), "{why}");
}

/// Answers with guesses wherever there are any.
fn guessed(model: &Model, prompts: &[Asked], n: usize, context: u32) -> (Vec<Vec<u32>>, Vec<Usage>) {
    let room = Room { slots: 2, context: Some(context), guesses: 6, ..Room::default() };
    let mut engine = Engine::new(model, &room).unwrap();
    engine.always_guess();
    let ask = |(p, s): &Asked| Request { draft: Some(5), ..Request::new(p.clone(), *s, n) };
    let ids: Vec<Id> = prompts.iter().map(|p| engine.submit(ask(p)).unwrap()).collect();
    let mut done = finish(&mut engine);
    ids.iter().map(|id| done.remove(id).unwrap()).map(|a| (a.tokens, a.usage)).unzip()
}

/// What is drawn with guesses has the distribution of the model: a chi-square test of three tokens in a row, whose
/// probabilities are computed one by one.
#[test]
fn what_is_drawn_with_guesses_has_the_models_distribution() {
    const REQUESTS: u32 = 480;
    const KINDS: usize = 3;
    let model = model("qwen3-f32", exact(), None, false);
    let room = Room { slots: 8, context: Some(CONTEXT), guesses: 24, ..Room::default() };
    let mut engine = Engine::new(&model, &room).unwrap();
    engine.always_guess();
    let hot = |seed| Sampling {
        temperature: 1.0,
        top_k: KINDS as u32,
        top_p: 1.0,
        min_p: 0.0,
        seed,
        ..Sampling::default()
    };
    // The likeliest tokens behind a text, with their share of what can be drawn.
    let likely = |engine: &mut Engine, text: &[u32]| -> Vec<(u32, f64)> {
        let asked = Request { logprobs: Some(KINDS), ..Request::new(text.to_vec(), Sampling::greedy(), 1) };
        engine.submit(asked).unwrap();
        let mut top = Vec::new();
        loop {
            let events = engine.step().unwrap();
            for event in &events {
                if let Event::Token { logprobs: Some(l), .. } = event {
                    top.clone_from(&l.top);
                }
            }
            if events.is_empty() {
                break;
            }
        }
        let all: f64 = top.iter().map(|(_, l)| f64::from(*l).exp()).sum();
        top.iter().map(|(t, l)| (*t, f64::from(*l).exp() / all)).collect()
    };
    // What comes behind [x, y] stands there already for each token that is likely, so that there is something to guess.
    let tokens = load("qwen3-f32").tokens;
    let (x, y) = (tokens[0], tokens[1]);
    let mut prompt = vec![x, y];
    for _ in 0..3 {
        let followers = likely(&mut engine, &prompt);
        prompt =
            followers.iter().flat_map(|(t, _)| [x, y, *t, likely(&mut engine, &[x, y, *t])[0].0]).collect();
        prompt.extend([x, y]);
    }
    let mut expected: BTreeMap<Vec<u32>, f64> = BTreeMap::from([(Vec::new(), 1.0)]);
    for _ in 0..3 {
        let mut longer = BTreeMap::new();
        for (text, p) in &expected {
            for (t, q) in likely(&mut engine, &[&prompt[..], text].concat()) {
                longer.insert([&text[..], &[t]].concat(), p * q);
            }
        }
        expected = longer;
    }
    for seed in 0..REQUESTS {
        engine.submit(Request::new(prompt.clone(), Sampling { ignore_eos: true, ..hot(seed) }, 3)).unwrap();
    }
    let done = finish(&mut engine);
    let verified: usize = done.values().map(|a| a.usage.drafted.0).sum();
    assert!(verified > REQUESTS as usize / 4, "{verified} guesses");
    let mut seen: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    done.into_values().for_each(|a| *seen.entry(a.tokens).or_default() += 1.0);
    assert!(seen.keys().all(|k| expected.contains_key(k)), "a token that is not among the likeliest");
    // What is rare counts together.
    let (mut chi, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
    for (text, p) in &expected {
        let (want, got) = (p * f64::from(REQUESTS), seen.get(text).copied().unwrap_or(0.0));
        match want < 5.0 {
            true => rest = (rest.0 + want, rest.1 + got),
            false => (chi, cells) = (chi + (got - want).powi(2) / want, cells + 1),
        }
    }
    if rest.0 > 0.0 {
        (chi, cells) = (chi + (rest.1 - rest.0).powi(2) / rest.0, cells + 1);
    }
    // Its mean is the degrees of freedom, its variance twice that; one in ten thousand is beyond four deviations.
    let free = f64::from(cells - 1);
    assert!(cells > 5 && chi < free + 4.0 * (2.0 * free).sqrt(), "chi-square {chi:.1} of {free} degrees");
}

/// What was saved is found by another engine and changes no token; whatever does not fit is refused by name.
#[test]
fn what_prompts_begin_with_outlives_the_engine() {
    let splitting = Budget { max_binding: 40 << 10, ..Budget::WEBGPU };
    let dir = std::env::temp_dir().join(format!("weft-prefix-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("prefix");
    let text = |case: &str| load(case).tokens.iter().copied().cycle().take(80).collect::<Vec<u32>>();
    for (case, device, cache) in [
        ("qwen3-f32", exact(), None),
        ("gemma3-f32", exact(), Some(CacheType::Q8_0)),
        ("llama2-f16", DeviceOptions { budget: Some(splitting), ..exact() }, Some(CacheType::Q4_0)),
    ] {
        let model = model(case, device, cache, false);
        let asked = (text(case), Sampling::greedy());
        let want = alone(&model, std::slice::from_ref(&asked), 8);
        let mut first = engine(&model, 2);
        assert_eq!(first.save_prefix(&path, &asked.0, 0).unwrap(), 0, "nothing is there yet");
        assert!(!path.exists());
        assert_eq!(tokens(&mut first, std::slice::from_ref(&asked), 8), want);
        assert_eq!(first.save_prefix(&path, &asked.0, 0).unwrap(), 64);
        let mut second = engine(&model, 2);
        assert_eq!(second.restore_prefix(&path, 7).unwrap(), 64);
        let id = ask(&mut second, &asked, 8);
        assert_eq!(finish(&mut second)[&id].usage.cached, 0, "another salt");
        let mut third = engine(&model, 2);
        for _ in 0..2 {
            // The second time all of it is there.
            assert_eq!(third.restore_prefix(&path, 0).unwrap(), 64);
            let id = ask(&mut third, &asked, 8);
            let answer = finish(&mut third).remove(&id).unwrap();
            assert_eq!((answer.usage.cached, &answer.tokens), (64, &want[0]), "{case}");
        }
        let whole = std::fs::read(&path).unwrap();
        let refused = |engine: &mut Engine, bytes: &[u8], why: &str| {
            std::fs::write(&path, bytes).unwrap();
            let e = engine.restore_prefix(&path, 0).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains("prefix: "), "{e}");
            assert_eq!(engine.blocks().0, 0, "blocks are left");
        };
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        let mut fourth = engine(&model, 2);
        refused(&mut fourth, &flipped, "checksum");
        refused(&mut fourth, &whole[..middle], "bytes where");
        refused(&mut fourth, b"GGUF", "is no file of");
        // What was refused is not found.
        let id = ask(&mut fourth, &asked, 8);
        assert_eq!(finish(&mut fourth)[&id].usage.cached, 0);
        let ty = if cache == Some(CacheType::Q8_0) { CacheType::Q4_0 } else { CacheType::Q8_0 };
        let other = crate::engine::model(case, exact(), Some(ty), false);
        refused(&mut engine(&other, 2), &whole, "--cache-type");
        let other = crate::engine::model("qwen3-mixed", exact(), cache, false);
        refused(&mut engine(&other, 2), &whole, "another model");
        let room = Room { slots: 1, context: Some(32), ..Room::default() };
        refused(&mut Engine::new(&model, &room).unwrap(), &whole, "more than the context");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
