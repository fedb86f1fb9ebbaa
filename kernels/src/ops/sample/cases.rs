//! Cases of the sampler: the token must be the reference's.

use bytemuck::Zeroable;
use weft_runtime::{Pool, Recorder};

use super::{IDLE, State};
use crate::select::BASELINE;
use crate::testing::{Case, Rng, input};

/// Greedy with ties, each filter alone and all together, penalties, and vocabularies from 1 to 151,936; a threshold
/// between neighbours.
pub fn cases() -> Vec<Case> {
    let base = State { temperature: 0.8, top_p: 1.0, penalty: 1.0, last_n: 64, ..State::zeroed() };
    let kinds = [
        ("greedy", State { temperature: 0.0, ..base }),
        ("temperature", base),
        ("hot", State { temperature: 5.0, ..base }),
        ("top-k 40", State { top_k: 40, ..base }),
        ("top-k 1", State { top_k: 1, ..base }),
        ("top-k 700", State { top_k: 700, ..base }),
        ("top-p 0.9", State { top_p: 0.9, ..base }),
        ("top-p 0.05", State { top_p: 0.05, ..base }),
        ("min-p 0.05", State { min_p: 0.05, ..base }),
        ("penalty 1.3", State { penalty: 1.3, temperature: 0.0, ..base }),
        ("all", State { top_k: 40, top_p: 0.95, min_p: 0.05, penalty: 1.1, ..base }),
    ];
    let mut all = Vec::new();
    for (label, state) in kinds {
        for vocab in [1, 255, 4096, 151_936] {
            all.push(case(label, state, vocab));
        }
    }
    for vocab in [255, 151_936] {
        all.push(case(ULP, State { top_k: 40, temperature: 5.0, ..base }, vocab));
    }
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (label, state) in [kinds[0], kinds[1], kinds[10]] {
            all.push(not_finite_case(label, state, value));
        }
    }
    all.push(slots_case(kinds.map(|k| k.1).into(), 255));
    all.push(slots_case(kinds.map(|k| k.1).into(), 3000));
    all
}

/// As many logits as top-k keeps are one unit in the last place above all others.
const ULP: &str = "top-k 40 by an ulp";

/// A slot for each way of drawing, every third of them idle.
fn slots_case(kinds: Vec<State>, vocab: u32) -> Case {
    const CAPACITY: usize = 40;
    let name = format!("{} slots vocabulary {vocab}", kinds.len());
    Case::new("sample", BASELINE, name, 0.0, move |gpu, _, inputs| {
        let mut rng = Rng::seeded(vocab, inputs);
        let n = kinds.len();
        let logits: Vec<f32> = rng.values(n * vocab as usize).iter().map(|v| v * 3.0).collect();
        let mut history = vec![u32::MAX; n * CAPACITY];
        let mut states = kinds.clone();
        for (i, s) in states.iter_mut().enumerate() {
            s.seed = i as u32;
            // One of them fills its context.
            s.position = if i == 4 { CAPACITY as u32 - 1 } else { 5 + 2 * i as u32 };
            history[i * CAPACITY..][..=s.position as usize].fill_with(|| rng.below(vocab as usize) as u32);
        }
        let known = history.clone();
        let sent: Vec<State> = (0..n)
            .map(|i| if i % 3 == 2 { State { position: IDLE, ..states[i] } } else { states[i] })
            .collect();
        let s_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&sent), "states")?;
        let ids = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&vec![7u32; n]), "ids")?;
        let history = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&history), "history")?;
        let logits_gpu = input(gpu, &logits)?;
        let bytes = super::scratch_bytes(vocab, n as u32);
        let maxima = gpu.alloc(Pool::Activations, bytes, "maxima")?;
        let mut rec = Recorder::new(gpu);
        super::Sample {
            state: &s_gpu,
            logits: &logits_gpu,
            maxima: &maxima,
            ids: &ids,
            history: &history,
            vocab,
            slots: n as u32,
            tokens: 1,
        }
        .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let (ids, got) = (gpu.read_vec::<u32>(&ids)?, gpu.read_vec::<State>(&s_gpu)?);
        let history = gpu.read_vec::<u32>(&history)?;
        let mut wrong = 0.0;
        for (i, s) in states.iter().enumerate() {
            let (before, after) = (&known[i * CAPACITY..][..CAPACITY], &history[i * CAPACITY..][..CAPACITY]);
            let mut want = before.to_vec();
            let mut id = 7;
            let mut state = sent[i];
            if sent[i].position != IDLE {
                let position = s.position + 1;
                let row = &logits[i * vocab as usize..][..vocab as usize];
                id = super::reference::sample(s, row, &before[..position as usize], position);
                state.position = position;
                if let Some(place) = want.get_mut(position as usize) {
                    *place = id;
                }
            }
            if ids[i] != id || got[i] != state || after != want {
                wrong += 1.0;
            }
        }
        Ok(wrong)
    })
}

/// One value that is not finite among the logits of the second of three slots: that slot alone says so.
fn not_finite_case(label: &'static str, state: State, value: f32) -> Case {
    const VOCAB: usize = 3000;
    Case::new("sample", BASELINE, format!("{label} with {value}"), 0.0, move |gpu, _, inputs| {
        let mut wrong = 0.0;
        for place in [0, 299, VOCAB - 1] {
            let mut rng = Rng::seeded(place as u32, inputs);
            let mut logits: Vec<f32> = rng.values(3 * VOCAB).iter().map(|v| v * 3.0).collect();
            logits[VOCAB + place] = value;
            let states = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&[state; 3]), "states")?;
            let ids = gpu.alloc(Pool::State, 12, "ids")?;
            let history = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&[u32::MAX; 24]), "history")?;
            let logits = input(gpu, &logits)?;
            let maxima = gpu.alloc(Pool::Activations, super::scratch_bytes(VOCAB as u32, 3), "maxima")?;
            let mut rec = Recorder::new(gpu);
            super::Sample {
                state: &states,
                logits: &logits,
                maxima: &maxima,
                ids: &ids,
                history: &history,
                vocab: VOCAB as u32,
                slots: 3,
                tokens: 1,
            }
            .record(&mut rec)?;
            gpu.run(&rec.finish()?, None)?;
            let (ids, history) = (gpu.read_vec::<u32>(&ids)?, gpu.read_vec::<u32>(&history)?);
            let marked = ids.iter().map(|id| *id == super::NOT_FINITE).eq([false, true, false]);
            if !marked || history[9] != super::NOT_FINITE {
                wrong += 1.0;
            }
        }
        Ok(wrong)
    })
}

fn case(label: &'static str, state: State, vocab: u32) -> Case {
    Case::new("sample", BASELINE, format!("{label} vocabulary {vocab}"), 0.0, move |gpu, _, inputs| {
        let mut wrong = 0.0;
        for seed in 0..6u32 {
            let mut rng = Rng::seeded(vocab * 100 + seed, inputs);
            let mut logits: Vec<f32> = rng.values(vocab as usize).iter().map(|v| v * 3.0).collect();
            if label == "greedy" {
                // A tie for the first place: the lower id wins.
                let top = logits.iter().copied().fold(f32::MIN, f32::max);
                for _ in 0..2 {
                    let i = rng.below(vocab as usize);
                    logits[i] = top;
                }
            }
            if label == ULP {
                logits.fill(2.0);
                for k in 0..state.top_k as usize {
                    // One in each of as many stretches.
                    let stretch = vocab as usize / state.top_k as usize;
                    logits[k * stretch + rng.below(stretch)] = 2.0f32.next_up();
                }
            }
            let before: Vec<u32> = (0..20).map(|_| rng.below(vocab as usize) as u32).collect();
            let tokens = 3;
            let s = State { position: before.len() as u32 - tokens, seed, ..state };
            let s_gpu = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&s), "state")?;
            let ids = gpu.alloc(Pool::State, 4, "ids")?;
            let mut history = before.clone();
            history.resize(64, u32::MAX);
            let history = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&history), "history")?;
            let logits_gpu = input(gpu, &logits)?;
            let maxima = gpu.alloc(Pool::Activations, super::scratch_bytes(vocab, 1), "maxima")?;
            let mut rec = Recorder::new(gpu);
            super::Sample {
                state: &s_gpu,
                logits: &logits_gpu,
                maxima: &maxima,
                ids: &ids,
                history: &history,
                vocab,
                slots: 1,
                tokens,
            }
            .record(&mut rec)?;
            gpu.run(&rec.finish()?, None)?;
            let got = gpu.read_vec::<u32>(&ids)?[0];
            let position = before.len() as u32;
            let want = super::reference::sample(&s, &logits, &before, position);
            let advanced = gpu.read_vec::<u32>(&s_gpu)?[0] == position;
            let kept = gpu.read_vec::<u32>(&history)?[position as usize] == got;
            if got != want || !advanced || !kept {
                wrong += 1.0;
            }
        }
        Ok(wrong)
    })
}
