//! Passages found by their words: BM25 over words in any script.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::index::keep;

/// How fast a word that comes again stops counting, and how much longer passages are held back.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// The words of a text: in small letters, without accents, English plurals as singulars; each letter of a script that
/// has no spaces is a word, and so are two that stand together.
pub fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            all.push(stem(std::mem::take(word)));
        }
    };
    let mut dense = Vec::new();
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        if is_dense(c) {
            end(&mut word);
            dense.push(c.to_string());
            dense.extend(before.map(|b| format!("{b}{c}")));
            before = Some(c);
            continue;
        }
        before = None;
        match c.is_alphanumeric() {
            true => word.push(c),
            false => end(&mut word),
        }
    }
    end(&mut word);
    all.extend(dense);
    all
}

/// Whether a letter belongs to a script that is written without spaces.
fn is_dense(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
        | '\u{0e00}'..='\u{0eff}')
}

fn stem(mut word: String) -> String {
    let plural = word.len() > 3 && word.is_ascii() && word.ends_with('s');
    if plural && word.ends_with("ies") && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if plural && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        word.truncate(word.len() - 1);
    }
    word
}

/// Which passages have which words.
#[derive(Debug, Default)]
pub struct Words {
    /// Passages, in order, and how often they have the word.
    postings: HashMap<String, Vec<(u32, u32)>>,
    /// Words of each passage; 0 where there is none.
    lengths: Vec<u32>,
    passages: u64,
    total: u64,
}

fn counts(text: &str) -> (HashMap<String, u32>, u32) {
    let (mut counts, mut length) = (HashMap::new(), 0);
    for word in words(text) {
        *counts.entry(word).or_insert(0) += 1;
        length += 1;
    }
    (counts, length)
}

impl Words {
    /// Adds a passage, whose number is larger than that of any other so far.
    pub fn add(&mut self, number: u32, text: &str) {
        let (counts, length) = counts(text);
        self.lengths.resize(number as usize + 1, 0);
        self.lengths[number as usize] = length;
        self.passages += 1;
        self.total += u64::from(length);
        for (word, count) in counts {
            self.postings.entry(word).or_default().push((number, count));
        }
    }

    /// Takes a passage away, whose text is given once more.
    pub fn remove(&mut self, number: u32, text: &str) {
        let (counts, length) = counts(text);
        for word in counts.into_keys() {
            if let Some(list) = self.postings.get_mut(&word) {
                if let Ok(at) = list.binary_search_by_key(&number, |(n, _)| *n) {
                    list.remove(at);
                }
                if list.is_empty() {
                    self.postings.remove(&word);
                }
            }
        }
        if let Some(l) = self.lengths.get_mut(number as usize) {
            *l = 0;
            self.passages -= 1;
            self.total -= u64::from(length);
        }
    }

    /// The best `top` passages, the best first, with their scores.
    pub fn search(&self, query: &str, top: usize) -> Vec<(u32, f32)> {
        let mean = (self.total as f32 / self.passages.max(1) as f32).max(1.0);
        let mut scores = vec![0.0_f32; self.lengths.len()];
        for (word, times) in counts(query).0 {
            let Some(list) = self.postings.get(&word) else { continue };
            let (n, df) = (self.passages as f32, list.len() as f32);
            let rare = (1.0 + (n - df + 0.5) / (df + 0.5)).ln() * times as f32;
            for (number, count) in list {
                let (tf, length) = (*count as f32, self.lengths[*number as usize] as f32);
                scores[*number as usize] +=
                    rare * tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length / mean));
            }
        }
        let mut all: Vec<(u32, f32)> = (0..).zip(scores).filter(|(_, score)| *score > 0.0).collect();
        keep(&mut all, top);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, words};

    #[test]
    fn words_are_those_that_a_reader_sees() {
        assert_eq!(
            words("The Cafés' 3 QUERIES, don't: glass-houses"),
            ["the", "cafe", "3", "query", "don", "t", "glass", "house"]
        );
        assert_eq!(words("Straße ŒUVRE ﬁne"), ["straße", "œuvre", "fine"]);
        assert_eq!(words("東京 x"), ["x", "東", "京", "東京"]);
        assert_eq!(words("class bus this"), ["class", "bus", "this"]);
    }

    #[test]
    fn rare_words_count_more_and_short_passages_too() {
        let mut index = Words::default();
        for (i, text) in
            ["the cat sat", "the dog sat on the mat with the other dog", "the bird", "cat"].iter().enumerate()
        {
            index.add(i as u32, text);
        }
        let found = |q: &str| index.search(q, 9).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(found("cats"), [3, 0]);
        assert_eq!(found("the bird")[0], 2);
        assert!(found("zebra").is_empty() && found("").is_empty());
        // k1 = 1.2, b = 0.75, N = 4, df = 2, mean length 4: ln(2) * 2.2 / (1 + 1.2 * (0.25 + 0.75 / 4)).
        let score = index.search("cat", 1)[0].1;
        assert!((score - 1.000_03).abs() < 1e-3, "{score}");
        index.remove(3, "cat");
        assert_eq!(index.search("cat", 9).len(), 1);
        index.add(4, "a cat again");
        assert_eq!(index.search("cat", 9).len(), 2);
    }
}
