//! The published test sets: where each comes from, and which of its columns holds what. A table, not code.

use std::path::{Path, PathBuf};

use crate::columns::{AnswerKind, Columns};
use crate::hash::sha256;
use crate::question::{Question, name_apart};
use crate::{Error, Result, records};

/// How the scores of subjects make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mean {
    /// Each question counts the same.
    Questions,
    /// Each subject counts the same.
    Subjects,
}

/// A published test set.
#[derive(Debug, Clone)]
pub struct Suite {
    /// What `--suite` calls it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where it is published, by the name of its data set.
    pub from: &'static str,
    /// The file that holds the questions that are scored.
    pub file: &'static str,
    /// A word in the names of these files, for a folder of them.
    pub word: &'static str,
    /// Under which licence.
    pub licence: &'static str,
    /// Questions that are asked, as published.
    pub questions: &'static str,
    /// What the file or the download takes.
    pub size: &'static str,
    /// How to fetch it.
    pub fetch: &'static str,
    /// The score of the whole.
    pub mean: Mean,
    /// Only these subjects; empty for all.
    pub subjects: &'static [&'static str],
    /// What holds what. The first whose columns a file has is taken.
    pub columns: fn() -> Vec<Columns>,
}

/// The six subjects of MMLU that make its score in health.
pub const MMLU_HEALTH: [&str; 6] = [
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
];

/// The 19 subjects of MMLU that Genesis is scored on.
pub const MMLU_STEM: [&str; 19] = [
    "astronomy",
    "electrical_engineering",
    "high_school_geography",
    "college_biology",
    "high_school_biology",
    "college_medicine",
    "professional_medicine",
    "college_mathematics",
    "high_school_mathematics",
    "college_physics",
    "high_school_physics",
    "conceptual_physics",
    "college_chemistry",
    "high_school_chemistry",
    "college_computer_science",
    "high_school_computer_science",
    "machine_learning",
    "high_school_statistics",
    "econometrics",
];

const MMLU_FETCH: &str =
    "huggingface-cli download --repo-type dataset cais/mmlu --include 'all/*' --local-dir mmlu";

fn text(s: &str) -> Option<String> {
    Some(s.to_owned())
}

fn list(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn mmlu() -> Vec<Columns> {
    let parquet = Columns {
        options: list(&["choices"]),
        kind: AnswerKind::Index(0),
        subject: text("subject"),
        ..Columns::default()
    };
    // The authors' own files: a question, four options and a letter a row, a subject a file.
    let csv = Columns {
        question: "1".to_owned(),
        options: list(&["2", "3", "4", "5"]),
        answer: "6".to_owned(),
        kind: AnswerKind::Letter,
        header: false,
        ..Columns::default()
    };
    vec![parquet, csv]
}

fn afrimedqa() -> Vec<Columns> {
    let of = |question: &str| Columns {
        id: text("sample_id"),
        question: question.to_owned(),
        options: list(&["answer_options"]),
        answer: "correct_answer".to_owned(),
        kind: AnswerKind::OptionNumber,
        subject: text("specialty"),
        only: vec![("question_type".to_owned(), list(&["mcq"]))],
        ..Columns::default()
    };
    let without_id = |c: Columns| Columns { id: None, ..c };
    vec![of("question_clean"), without_id(of("question_clean")), of("question"), without_id(of("question"))]
}

fn mmlu_pro() -> Vec<Columns> {
    vec![Columns {
        id: text("question_id"),
        answer: "answer_index".to_owned(),
        kind: AnswerKind::Index(0),
        only: vec![("category".to_owned(), list(&["health"]))],
        subject: text("category"),
        ..Columns::default()
    }]
}

fn medmcqa() -> Vec<Columns> {
    vec![Columns {
        id: text("id"),
        options: list(&["opa", "opb", "opc", "opd"]),
        answer: "cop".to_owned(),
        kind: AnswerKind::Index(0),
        subject: text("subject_name"),
        ..Columns::default()
    }]
}

fn medqa() -> Vec<Columns> {
    let lines = Columns {
        answer: "answer_idx".to_owned(),
        kind: AnswerKind::Letter,
        subject: text("meta_info"),
        ..Columns::default()
    };
    let hf = Columns {
        id: text("id"),
        question: "sent1".to_owned(),
        options: list(&["ending0", "ending1", "ending2", "ending3"]),
        answer: "label".to_owned(),
        kind: AnswerKind::Index(0),
        ..Columns::default()
    };
    vec![lines, hf]
}

fn medxpertqa() -> Vec<Columns> {
    vec![Columns {
        id: text("id"),
        cut_at: text("\nAnswer Choices:"),
        answer: "label".to_owned(),
        kind: AnswerKind::Letter,
        subject: text("medical_task"),
        ..Columns::default()
    }]
}

fn pubmedqa() -> Vec<Columns> {
    let of = |id: &str, question: &str, context: &str| Columns {
        id: text(id),
        question: question.to_owned(),
        context: text(context),
        options: Vec::new(),
        fixed: list(&["yes", "no", "maybe"]),
        answer: "final_decision".to_owned(),
        kind: AnswerKind::Text,
        ..Columns::default()
    };
    vec![of("pubid", "question", "context.contexts"), of(records::KEY, "QUESTION", "CONTEXTS")]
}

fn arc() -> Vec<Columns> {
    let of = |question: &str, options: &str| Columns {
        id: text("id"),
        question: question.to_owned(),
        options: list(&[options]),
        answer: "answerKey".to_owned(),
        kind: AnswerKind::Label,
        ..Columns::default()
    };
    vec![of("question.stem", "question.choices"), of("question", "choices")]
}

fn gpqa() -> Vec<Columns> {
    vec![Columns {
        id: text("Record ID"),
        question: "Question".to_owned(),
        options: list(&["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]),
        answer: "Correct Answer".to_owned(),
        kind: AnswerKind::First,
        subject: text("High-level domain"),
        ..Columns::default()
    }]
}

/// All of them, in the order of the list.
pub static SUITES: [Suite; 11] = [
    Suite {
        name: "mmlu-health",
        title: "MMLU, six subjects of health, each counting the same",
        from: "cais/mmlu",
        file: "all/test-00000-of-00001.parquet",
        word: "test",
        licence: "MIT",
        questions: "1,089 of 14,042",
        size: "3.5 MB",
        fetch: MMLU_FETCH,
        mean: Mean::Subjects,
        subjects: &MMLU_HEALTH,
        columns: mmlu,
    },
    Suite {
        name: "afrimedqa",
        title: "AfriMed-QA v2, multiple choice",
        from: "intronhealth/afrimedqa_v2",
        file: "afri_med_qa_15k_v2.5_phase_2_15275.csv",
        word: "",
        licence: "CC BY-NC-SA 4.0",
        questions: "3,958 of 15,275",
        size: "about 9 MB",
        fetch: "huggingface-cli download --repo-type dataset intronhealth/afrimedqa_v2 --local-dir afrimedqa (after \
                agreeing to its terms there)",
        mean: Mean::Questions,
        subjects: &[],
        columns: afrimedqa,
    },
    Suite {
        name: "mmlu-pro-health",
        title: "MMLU-Pro, category health, up to ten options",
        from: "TIGER-Lab/MMLU-Pro",
        file: "data/test-00000-of-00001.parquet",
        word: "test",
        licence: "MIT",
        questions: "818 of 12,032",
        size: "4.2 MB",
        fetch: "huggingface-cli download --repo-type dataset TIGER-Lab/MMLU-Pro --local-dir mmlu-pro",
        mean: Mean::Questions,
        subjects: &[],
        columns: mmlu_pro,
    },
    Suite {
        name: "medmcqa",
        title: "MedMCQA, validation split (the test split has no answers)",
        from: "openlifescienceai/medmcqa",
        file: "data/validation-00000-of-00001.parquet",
        word: "validation",
        licence: "Apache 2.0",
        questions: "4,183",
        size: "2.2 MB of 88 MB",
        fetch: "huggingface-cli download --repo-type dataset openlifescienceai/medmcqa --include 'data/validation*' \
                --local-dir medmcqa",
        mean: Mean::Questions,
        subjects: &[],
        columns: medmcqa,
    },
    Suite {
        name: "medqa",
        title: "MedQA, USMLE, four options, test split",
        from: "GBaker/MedQA-USMLE-4-options",
        file: "phrases_no_exclude_test.jsonl",
        word: "test",
        licence: "CC BY 4.0",
        questions: "1,273",
        size: "2.1 MB",
        fetch: "huggingface-cli download --repo-type dataset GBaker/MedQA-USMLE-4-options --local-dir medqa",
        mean: Mean::Questions,
        subjects: &[],
        columns: medqa,
    },
    Suite {
        name: "medxpertqa",
        title: "MedXpertQA, text, ten options, test split",
        from: "TsinghuaC3I/MedXpertQA",
        file: "Text/test.jsonl",
        word: "text/test",
        licence: "MIT",
        questions: "2,450",
        size: "3.6 MB",
        fetch: "huggingface-cli download --repo-type dataset TsinghuaC3I/MedXpertQA --include 'Text/*' --local-dir \
                medxpertqa",
        mean: Mean::Questions,
        subjects: &[],
        columns: medxpertqa,
    },
    Suite {
        name: "pubmedqa",
        title: "PubMedQA, labelled: yes, no or maybe from an abstract",
        from: "qiaojin/PubMedQA",
        file: "pqa_labeled/train-00000-of-00001.parquet",
        word: "pqa",
        licence: "MIT",
        questions: "1,000 (the authors score 500 of them; ori_pqal.json or its test_set.json is read too)",
        size: "1.1 MB",
        fetch: "huggingface-cli download --repo-type dataset qiaojin/PubMedQA --include 'pqa_labeled/*' --local-dir \
                pubmedqa",
        mean: Mean::Questions,
        subjects: &[],
        columns: pubmedqa,
    },
    Suite {
        name: "arc-easy",
        title: "ARC, easy set, test split",
        from: "allenai/ai2_arc",
        file: "ARC-Easy/test-00000-of-00001.parquet",
        word: "easy/test",
        licence: "CC BY-SA 4.0",
        questions: "2,376",
        size: "0.3 MB",
        fetch: "huggingface-cli download --repo-type dataset allenai/ai2_arc --local-dir arc",
        mean: Mean::Questions,
        subjects: &[],
        columns: arc,
    },
    Suite {
        name: "arc-challenge",
        title: "ARC, challenge set, test split",
        from: "allenai/ai2_arc",
        file: "ARC-Challenge/test-00000-of-00001.parquet",
        word: "challenge/test",
        licence: "CC BY-SA 4.0",
        questions: "1,172",
        size: "0.2 MB",
        fetch: "huggingface-cli download --repo-type dataset allenai/ai2_arc --local-dir arc",
        mean: Mean::Questions,
        subjects: &[],
        columns: arc,
    },
    Suite {
        name: "gpqa",
        title: "GPQA Diamond; options in an order that follows from the question",
        from: "Idavidrein/gpqa",
        file: "gpqa_diamond.csv",
        word: "diamond",
        licence: "CC BY 4.0 (its authors ask that no question be published)",
        questions: "198",
        size: "about 1 MB",
        fetch: "huggingface-cli download --repo-type dataset Idavidrein/gpqa --local-dir gpqa (after agreeing to its \
                terms there)",
        mean: Mean::Questions,
        subjects: &[],
        columns: gpqa,
    },
    Suite {
        name: "mmlu-stem",
        title: "MMLU, the 19 subjects that Genesis is scored on, each counting the same",
        from: "cais/mmlu",
        file: "all/test-00000-of-00001.parquet",
        word: "test",
        licence: "MIT",
        questions: "19 subjects of 57",
        size: "3.5 MB",
        fetch: MMLU_FETCH,
        mean: Mean::Subjects,
        subjects: &MMLU_STEM,
        columns: mmlu,
    },
];

/// How far into a file an error came: a missing column counts less than any record's own mistake.
fn reached(e: &Error) -> u64 {
    match e {
        Error::Row { what, .. } if what.starts_with("has no column") => 0,
        Error::Row { .. } => 1,
        _ => 0,
    }
}

/// The suite of that name.
pub fn find(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|s| s.name == name)
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Set {
    /// The questions, in the order of the files.
    pub questions: Vec<Question>,
    /// Records that the files hold.
    pub records: usize,
    /// The files, each with its size in bytes and its SHA-256.
    pub files: Vec<(PathBuf, u64, String)>,
}

impl Set {
    /// Reads the files that `path` names.
    ///
    /// # Errors
    /// As [`Columns::read`], by the first of `layouts` whose columns the file has, or by the first of all.
    pub fn read(
        path: &Path,
        word: Option<&str>,
        subject: &str,
        layouts: &[Columns],
        wanted: &[&str],
    ) -> Result<Set> {
        let mut set = Set { questions: Vec::new(), records: 0, files: Vec::new() };
        for file in records::files(path, word)? {
            // Each way of reading fails at something; the one that came furthest says most.
            let mut failed: Option<(u64, Error)> = None;
            // The authors' files of MMLU are called anatomy_test.csv.
            let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let of_file = ["_test", "_dev", "_val"].iter().find_map(|end| stem.strip_suffix(end));
            let named = of_file.unwrap_or(subject);
            let mut read = None;
            for columns in layouts {
                match columns.read(&file, named) {
                    Ok(all) => {
                        read = Some(all);
                        break;
                    }
                    Err(e) => {
                        let reached = reached(&e);
                        if failed.as_ref().is_none_or(|(most, _)| reached > *most) {
                            failed = Some((reached, e));
                        }
                    }
                }
            }
            let Some((questions, records)) = read else {
                return Err(failed.map_or_else(|| Error::input("no columns are known"), |(_, e)| e));
            };
            set.questions.extend(questions);
            set.records += records;
            let bytes = weft_formats::read_regular(&file).map_err(|e| Error::io(&file, e))?;
            set.files.push((file, bytes.len() as u64, sha256(&bytes)));
        }
        if !wanted.is_empty() {
            set.questions.retain(|q| wanted.contains(&q.subject.replace(' ', "_").as_str()));
            if set.questions.is_empty() {
                let what = format!("holds none of the subjects {}", wanted.join(", "));
                return Err(Error::file(path, what));
            }
        }
        name_apart(&mut set.questions);
        Ok(set)
    }

    /// One SHA-256 for all files.
    pub fn sha256(&self) -> String {
        match self.files.as_slice() {
            [(_, _, one)] => one.clone(),
            all => sha256(all.iter().map(|f| f.2.as_str()).collect::<Vec<_>>().join("\n").as_bytes()),
        }
    }
}

impl Suite {
    /// Reads its questions from a file or a folder of files.
    ///
    /// # Errors
    /// As [`Set::read`].
    pub fn read(&self, path: &Path) -> Result<Set> {
        Set::read(path, Some(self.word), self.name, &(self.columns)(), self.subjects)
    }
}
