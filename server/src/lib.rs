//! The engine behind HTTP, in the shapes that OpenAI's, Anthropic's and Ollama's clients speak.
//!
//! The engine runs on a thread of its own ([`engine`]); everything in front of it is async and holds no GPU. A field of
//! a request is honoured or refused by name, never dropped.

mod adapters;
mod app;
mod ask;
mod card;
mod disk;
mod documents;
mod draw;
pub mod engine;
mod error;
pub mod exams;
mod fields;
pub mod grammar;
mod guard;
mod http;
mod lane;
mod messages;
mod one;
mod openapi;
pub mod peers;
mod pulls;
mod reader;
mod resume;
mod routes;
mod said;
mod shape;
mod shelf;
mod store;
mod stream;
pub mod tasks;
pub mod tools;
pub mod tuning;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

pub use app::{App, Config, Log, Requests, Served, Told};
pub use card::Card;
pub use documents::{Documents, ReadPdf};
pub use error::ApiError;
pub use guard::Keys;
pub use http::{router, serve_until};
pub use lane::Each;
pub use peers::Peers;
pub use pulls::Pulls;
pub use shelf::{Library, Listed, Opened, Shelf, Unopened};

/// Threads that speak HTTP at most.
const THREADS: usize = 4;

/// Answers on `listener` until the process is asked to end (Ctrl-C, SIGTERM, SIGHUP), and then as long as streams go on,
/// within [`Config::grace`]. `ready` is told the address, `again` runs when the process is asked once more.
///
/// # Errors
/// The system gives no threads, or the listener is of no use.
pub fn serve(
    app: App,
    listener: TcpListener,
    ready: impl FnOnce(SocketAddr),
    again: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    // The work is small, and threads that wake each other cost more than it does.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    listener.set_nonblocking(true)?;
    let log = app.config.log.clone();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // Before anyone is told that the server is there: a signal that finds no handler would cut answers off.
        let mut asked = Asked::watch(app.config.hangup);
        ready(listener.local_addr()?);
        let end = async move {
            asked.once().await;
            log("ending; answers that are on their way are finished first, asked again it ends at once");
            tokio::spawn(async move {
                asked.once().await;
                again();
            });
        };
        serve_until(Arc::new(app), listener, end).await;
        Ok(())
    })
}

/// What asks the process to end: Ctrl-C, and SIGTERM and SIGHUP where there are such. Where no handler can be installed, the
/// signal ends the process by itself.
#[cfg(unix)]
struct Asked([Option<tokio::signal::unix::Signal>; 3]);

#[cfg(unix)]
impl Asked {
    /// Counts what asks from here on.
    fn watch(hangup: bool) -> Asked {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if hangup { signal(SignalKind::hangup()).ok() } else { None };
        Asked([signal(SignalKind::interrupt()).ok(), signal(SignalKind::terminate()).ok(), hangup])
    }

    async fn once(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = next(interrupt) => {}
            () = next(terminate) => {}
            () = next(hangup) => {}
        }
    }
}

#[cfg(unix)]
async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(windows)]
struct Asked(Option<tokio::signal::windows::CtrlC>);

#[cfg(windows)]
impl Asked {
    fn watch(_: bool) -> Asked {
        Asked(tokio::signal::windows::ctrl_c().ok())
    }

    async fn once(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}
