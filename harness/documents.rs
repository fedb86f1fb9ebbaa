//! Documents with models of this machine, and PDF files read in a process of their own.

use std::io::{Read, Seek, SeekFrom};
use std::process::Command;
use std::time::Duration;

use weft_documents::{About, Embed, Fault, Rerank};
use weft_models::{Embedder, Pooling};

use crate::options::ModelFlag;
use crate::{Error, Result, interrupt, mini};

/// How long reading a PDF may take, and how much memory.
const PDF_TIME: Duration = Duration::from_secs(60);
const PDF_MEMORY: u64 = 2 << 30;

/// An embedder of this process.
#[derive(Debug)]
pub struct Local {
    embedder: Embedder,
    about: About,
}

impl Local {
    /// An embedder that was made from a model's file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(flag: &ModelFlag, embedder: Embedder) -> Result<Local> {
        let about = about(flag, embedder.width() as usize, embedder.pooling())?;
        Ok(Local { embedder, about })
    }
}

fn fault(e: weft_models::Error) -> Fault {
    match e {
        weft_models::Error::Cancelled => Fault::Cancelled,
        e => Fault::Failed(e.to_string()),
    }
}

impl Embed for Local {
    fn about(&self) -> &About {
        &self.about
    }

    fn context(&self) -> usize {
        self.embedder.context() as usize
    }

    fn tokens(&self, text: &str) -> usize {
        self.embedder.sequence(text).map_or(usize::MAX, |s| s.ids.len())
    }

    fn embed(&mut self, texts: &[String]) -> std::result::Result<Vec<Vec<f32>>, Fault> {
        let all = texts.iter().map(|t| self.embedder.sequence(t)).collect::<weft_models::Result<Vec<_>>>();
        self.embedder.embed(&all.map_err(fault)?, &mut |_| interrupt::flow()).map_err(fault)
    }
}

/// A reranker of this process.
#[derive(Debug)]
pub struct Judge(pub Embedder);

impl Rerank for Judge {
    fn score(&mut self, query: &str, texts: &[String]) -> std::result::Result<Vec<f32>, Fault> {
        let pairs = texts.iter().map(|t| self.0.pair(query, t)).collect::<weft_models::Result<Vec<_>>>();
        self.0.score(&pairs.map_err(fault)?, &mut |_| interrupt::flow()).map_err(fault)
    }
}

/// What tells an embedder from others: its file's length, beginning and end, and how its vectors are pooled.
///
/// # Errors
/// The file cannot be read.
pub fn about(flag: &ModelFlag, width: usize, pooling: Pooling) -> Result<About> {
    let part = 1 << 20;
    let mut seen = Vec::new();
    let name = match &flag.model {
        None => {
            seen.extend_from_slice(mini::GGUF);
            mini::NAME.to_owned()
        }
        Some(path) => {
            let io = |e| Error::io(path, e);
            let mut file = std::fs::File::open(path).map_err(io)?;
            let length = file.seek(SeekFrom::End(0)).map_err(io)?;
            seen.extend_from_slice(&length.to_le_bytes());
            for at in [0, length.saturating_sub(part)] {
                file.seek(SeekFrom::Start(at)).map_err(io)?;
                (&mut file).take(part).read_to_end(&mut seen).map_err(io)?;
            }
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
    };
    seen.extend_from_slice(pooling.name().as_bytes());
    Ok(About { name, width, mark: weft_documents::models::mark(&seen) })
}

/// The pages of a PDF, read by this program once more: what a file that is made to do harm does there ends that process.
///
/// # Errors
/// A line that says why there are none.
pub fn read_pdf(bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
    let program = std::env::current_exe().map_err(|e| format!("its reader cannot be started: {e}"))?;
    let mut command = Command::new(program);
    command.args(["rag", "read-pdf"]);
    weft_documents::apart::pages(command, bytes, PDF_TIME).map_err(|why| {
        match why.contains("memory of this machine") {
            true => format!("reading it takes more than {} GiB of memory", PDF_MEMORY >> 30),
            false => why,
        }
    })
}

/// Bounds the memory and the time of this process, as far as the system knows bounds.
pub fn bound_this_process() {
    #[cfg(unix)]
    for (what, most) in [(libc::RLIMIT_AS, PDF_MEMORY), (libc::RLIMIT_CPU, PDF_TIME.as_secs() + 1)] {
        let limit = libc::rlimit { rlim_cur: most as libc::rlim_t, rlim_max: most as libc::rlim_t };
        // SAFETY: reads one value of ours. A system that refuses has no such bound; the time is watched from outside too.
        unsafe { libc::setrlimit(what, &limit) };
    }
}
