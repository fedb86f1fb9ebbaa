//! What a question costs among a million passages: `cargo test --release -p weft-documents -- --ignored --nocapture
//! million`. Takes minutes and gigabytes.

use std::time::{Duration, Instant};

use weft_documents::{About, Embed, Fault, Options, Store, add, find};

use crate::support::{File, go_on, here};

const WIDTH: usize = 384;
const PASSAGES: u64 = 1_000_000;
/// Passages of a document.
const PART: u64 = 40_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

/// Vectors that follow from a text's bytes alone.
struct Quick(About);

impl Embed for Quick {
    fn about(&self) -> &About {
        &self.0
    }

    fn context(&self) -> usize {
        64
    }

    fn tokens(&self, text: &str) -> usize {
        text.split(' ').count()
    }

    fn embed(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        let one = |text: &String| {
            let mut random =
                Random(text.bytes().fold(7, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)));
            let row: Vec<f32> = (0..WIDTH).map(|_| random.next() - 0.5).collect();
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / length).collect()
        };
        Ok(texts.iter().map(one).collect())
    }
}

/// A document of passages of 40 words; the n-th word of the language is used as often as 1/n, and the first few are in
/// nearly every passage.
fn document(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..PART {
        let word = |random: &mut Random| format!("word{} ", (200_000_f32.powf(random.next())) as u32);
        let words: String = (0..40).map(|_| word(random)).collect();
        text += &format!("# Part\n\n{}.\n\n", words.trim_end());
    }
    text
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn a_million_passages_are_searched_within_a_second() {
    let file = File::new("million.redb");
    let mut embedder = Quick(About { name: "quick".into(), width: WIDTH, mark: "quick".into() });
    let mut random = Random(1);
    let start = Instant::now();
    let store = Store::open(&file.0).expect("a store");
    for i in 0..PASSAGES / PART {
        let text = document(&mut random);
        let name = format!("part-{i}.md");
        add(&store, &mut embedder, &name, text.as_bytes(), &here, &mut go_on).expect("added");
    }
    let passages: u64 = store.list().iter().map(|r| r.passages).sum();
    println!("{passages} passages added in {:.0} s", start.elapsed().as_secs_f64());
    drop(store);
    let start = Instant::now();
    let store = Store::open(&file.0).expect("a store");
    println!("opened in {:.1} s", start.elapsed().as_secs_f64());
    assert!(passages >= PASSAGES);
    for (what, question) in
        [("rare words", "word150000 word99999"), ("common words", "word1 word2 word3 word4 word777")]
    {
        let mut times: Vec<Duration> = (0..11)
            .map(|_| {
                let start = Instant::now();
                let hits = find(&store, &mut embedder, None, question, Options::default()).expect("found");
                assert_eq!(hits.len(), 5);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: {:?} at the median, {:?} at most", times[5], times[10]);
        assert!(times[5] < Duration::from_secs(1), "{what}: {times:?}");
    }
}
