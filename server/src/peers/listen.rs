//! Answering machines that come: few at a time until they are known, and then as clients of the routes of inference.

use std::sync::Arc;

use axum::Extension;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use weft_formats::hex;

use super::{Peers, handshake, lock, reach, who};
use crate::app::App;
use crate::http;

/// Connections at a time of which nobody knows yet whose they are.
const UNKNOWN: usize = 16;

/// The key of the machine at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    /// Whether it may still ask: it may have been forgotten since it came.
    pub(crate) fn is_known(&self, app: &App) -> bool {
        let paired = app.peers.as_ref().and_then(|p| p.paired().ok());
        paired.is_some_and(|p| p.guests.iter().any(|g| g.key == self.0))
    }
}

/// Answers machines until the server ends, if this one is to be used by others.
pub(crate) async fn listen(app: Arc<App>, room: Arc<Semaphore>, ending: watch::Receiver<bool>) {
    let Some(listener) = app.peers.as_ref().and_then(|p| lock(&p.listener).take()) else { return };
    let set = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = match set {
        Ok(listener) => listener,
        Err(e) => return (app.config.log)(&format!("other machines cannot be answered: {e}")),
    };
    let unknown = Arc::new(Semaphore::new(UNKNOWN));
    let mut is_ending = ending.clone();
    loop {
        let accepted = tokio::select! {
            _ = is_ending.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, for instance: others may close theirs.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = unknown.clone().try_acquire_owned() else {
            // Nothing of it is kept but the byte that it is told.
            tokio::spawn(handshake::turn_away(stream));
            continue;
        };
        let (app, room, ending) = (app.clone(), room.clone(), ending.clone());
        tokio::spawn(async move {
            let known = greet(&app, stream).await;
            drop(permit);
            let (Some((channel, key)), Ok(permit)) = (known, room.try_acquire_owned()) else { return };
            let router = http::peer_router(app.clone());
            let router = router.layer(Extension(who(&key))).layer(Extension(Key(hex(&key))));
            http::connection(app, router, channel, ending).await;
            drop(permit);
        });
    }
}

type Known = (super::channel::Channel<TcpStream>, [u8; 32]);

/// Finds out who comes; None for whoever is to go.
async fn greet(app: &App, stream: TcpStream) -> Option<Known> {
    let peers: &Peers = app.peers.as_ref()?;
    reach::alive(&stream);
    let from = stream.peer_addr().map_or_else(|_| "somewhere".to_owned(), |a| a.ip().to_string());
    let own = peers.identity().ok()?;
    match handshake::answer(stream, &own, &peers.name, peers).await {
        Ok(Some(known)) => Some(known),
        Ok(None) => {
            (app.config.log)(&format!("a machine at {from} was paired, and may ask from now on"));
            None
        }
        Err(why) => {
            (app.config.log)(&format!("a machine at {from} was sent away: {why}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use axum::body::Bytes;
    use axum::http::Method;

    use crate::{App, Config, Peers};

    /// Whatever a machine asks, it reaches the routes of inference and no others.
    #[test]
    fn a_guest_reaches_inference_alone() {
        let folder = std::env::temp_dir().join(format!("weft-guest-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let desk = Peers::new(&folder.join("desk"), "desk").listen(listener).expect("a key");
        let code = desk.open_door().expect("a code");
        let app = App::new(Config::default(), Vec::new()).with_peers(desk);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let server = tokio::spawn(crate::serve_until(app.into(), http, std::future::pending()));
            let laptop = Peers::new(&folder.join("laptop"), "laptop");
            let machine = laptop.pair(&format!("{code}@{at}"), None).await.expect("paired");
            let ask = async |method: Method, path: &'static str| {
                let reach = laptop.reach(machine.clone()).expect("a way");
                let asked = reach.ask(&method, path, Bytes::from_static(b"{}")).await;
                asked.expect("an answer").status().as_u16()
            };
            assert_eq!(ask(Method::GET, "/v1/models").await, 200);
            for path in crate::routes::PATHS.iter().map(|p| p.0) {
                let may = crate::routes::is_inference(path) || ["/v1/models", "/props"].contains(&path);
                let path = if path.contains('{') { "/v1/responses/resp_1" } else { path };
                let said = [ask(Method::GET, path).await, ask(Method::POST, path).await];
                // There is no model, so that what is reached says 400 or 404 of its own.
                assert_eq!(may, said != [404, 404], "{path}: {said:?}");
            }
            for path in ["/", "/js/main.js", "/v1/machines/laptop"] {
                assert_eq!(ask(Method::GET, path).await, 404, "{path}");
                assert_eq!(ask(Method::DELETE, path).await, 404, "{path}");
            }
            server.abort();
        });
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
