//! What is planned against what is taken.

use std::ops::ControlFlow;

use weft_formats::gguf::File;
use weft_models::engine::{Engine, Options as Room, Request};
use weft_models::{CacheType, DeviceOptions, Error, Model, Options, Profile, Rows, Sampling, Spec, plan};
use weft_runtime::Pool;

use crate::golden_model::{build, load};

/// `inspect` and the loader plan by one function: it says what the pools hold after a model is opened and a session
/// begun.
#[test]
fn the_plan_is_what_loading_takes() {
    let limited = |profile| DeviceOptions { profile: Some(profile), ..DeviceOptions::default() };
    for (case, device, context, cache) in [
        ("qwen3-q4_k_m", DeviceOptions::default(), 700, None),
        ("qwen2-f16", limited(Profile::Minimal), 300, Some(CacheType::F32)),
        ("llama3-f32", limited(Profile::Mali), 128, None),
        ("gemma3-q8_0", DeviceOptions::default(), 700, Some(CacheType::Q8_0)),
        ("smollm3-q4_k_m", limited(Profile::WebGpu), 64, None),
    ] {
        let bytes = build(case);
        let options = Options { device, context: Some(context), cache, ..Options::default() };
        let model = Model::begin(bytes.clone(), &options).unwrap().outline();
        let gpu = model.gpu().clone();
        let file = File::from_bytes(bytes).unwrap();
        let spec = Spec::read(&file).unwrap();
        let plan = plan(&file, &spec, context, &options, (gpu.caps(), gpu.budget())).unwrap();
        let session = model.session(context).unwrap();
        let used = |pool| gpu.memory().pools.get(&pool).map_or(0, |p| p.used);
        assert_eq!(plan.weights, used(Pool::Weights), "{case}: weights");
        assert_eq!(plan.kv_cache, used(Pool::KvCache), "{case}: KV cache");
        assert_eq!(plan.activations.next_multiple_of(gpu.budget().align), used(Pool::Activations), "{case}");
        assert_eq!(plan.state, used(Pool::State), "{case}: state");
        assert_eq!(plan.chunk, session.chunk(), "{case}: chunk");
    }
}

/// Sessions and slots that were opened, used, given up in the middle or refused, and closed, leave no memory taken.
#[test]
fn what_is_closed_leaves_nothing() {
    let options = Options { context: Some(96), chunk: Some(16), ..Options::default() };
    let model = Model::open(build("qwen3-q4_k_m"), &options).unwrap();
    let tokens = load("qwen3-q4_k_m").tokens;
    let round = || {
        let mut session = model.session(96).unwrap();
        let mut whole = session.generate(&tokens[..21], &Sampling::greedy(), 4).unwrap();
        while whole.next_token().unwrap().is_some() {}
        drop(session.generate(&tokens[..9], &Sampling::greedy(), 50).unwrap());
        session.logits(&tokens[..20], Rows::Prefill, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let refused = session.generate(&[0; 97], &Sampling::greedy(), 1).map(drop);
        assert!(matches!(refused, Err(Error::PromptTooLong { .. })), "{refused:?}");
        let room = |slots| Room { slots, context: Some(96), ..Room::default() };
        let mut engine = Engine::new(&model, &room(3)).unwrap();
        for n in [3, 50] {
            engine.submit(Request::new(tokens[..9].to_vec(), Sampling::greedy(), n)).unwrap();
        }
        (0..5).for_each(|_| drop(engine.step().unwrap()));
        drop(engine);
        assert!(Engine::new(&model, &room(257)).is_err());
        model.gpu().sync().unwrap();
    };
    let before = model.gpu().memory();
    for n in 0..8 {
        round();
        assert_eq!(model.gpu().memory(), before, "after round {n}");
    }
}
