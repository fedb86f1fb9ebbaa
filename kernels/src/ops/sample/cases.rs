//! Cases of the sampler: the token must be the reference's.

use bytemuck::Zeroable;
use weft_runtime::{Pool, Recorder};

use super::State;
use crate::registry::{BASELINE, Case, Rng, input};

/// Greedy with ties, each filter alone and all together, penalties, and vocabularies from 1 to 151,936.
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
    all
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
            let before: Vec<u32> = (0..20).map(|_| rng.below(vocab as usize) as u32).collect();
            let tokens = 3;
            let s = State { position: before.len() as u32 - tokens, seed, ..state };
            let s_gpu = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&s), "state")?;
            let ids = gpu.alloc(Pool::State, 4, "ids")?;
            let mut history = before.clone();
            history.resize(64, u32::MAX);
            let history = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&history), "history")?;
            let logits_gpu = input(gpu, &logits)?;
            let maxima = gpu.alloc(Pool::Activations, super::scratch_bytes(vocab), "maxima")?;
            let mut rec = Recorder::new(gpu);
            super::sample(&mut rec, &s_gpu, &logits_gpu, &maxima, &ids, &history, vocab, tokens)?;
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
