//! Asking another machine: connections that are kept for the next request, and what is asked over them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::folder::{Identity, Machine, unhex};
use super::handshake::ask_to_talk;
use super::{lock, near};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a machine is looked for that is not where it was, and after which time it is looked for again.
const LOOK: Duration = Duration::from_millis(1200);
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Connections to one machine that are kept.
const KEPT: usize = 16;

/// Bytes of a list of models at most.
const LIST: usize = 4 << 20;

type Senders = Vec<SendRequest<Body>>;

/// What is known of the ways to other machines.
#[derive(Default)]
pub(super) struct Pool {
    /// Whether a machine that is not where it was is looked for in the network.
    pub(super) looks: bool,
    /// Connections by the key of the machine at their other end. One that is busy lies there too, and is not taken.
    senders: Mutex<HashMap<String, Senders>>,
    /// When a machine was looked for, and where it was found.
    found: Mutex<HashMap<String, (Instant, Option<String>)>>,
}

impl Pool {
    /// One that looks for machines that are not where they were.
    pub(super) fn looking() -> Pool {
        Pool { looks: true, ..Pool::default() }
    }
}

/// Connects to `host:port`.
pub(super) async fn connect(address: &str) -> Result<TcpStream, String> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| "it does not answer in time".to_owned())?;
    let stream = stream.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => e.to_string(),
    })?;
    alive(&stream);
    Ok(stream)
}

/// Lets a connection end whose other side is gone without a word: a cable, a lid.
pub(super) fn alive(stream: &TcpStream) {
    let probe = socket2::TcpKeepalive::new().with_time(Duration::from_secs(10));
    #[cfg(not(target_os = "openbsd"))]
    let probe = probe.with_interval(Duration::from_secs(5));
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "windows"))]
    let probe = probe.with_retries(3);
    let socket = socket2::SockRef::from(stream);
    // Without it an answer that is lost takes longer to be found out.
    let _ = socket.set_tcp_keepalive(&probe);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(25)));
    // Tokens go out when they come.
    let _ = stream.set_nodelay(true);
}

/// What one machine is asked.
pub(super) struct Reach {
    pub(super) pool: Arc<Pool>,
    pub(super) own: Identity,
    pub(super) machine: Machine,
}

impl Reach {
    /// A connection that was used before and is free.
    fn kept(&self) -> Option<SendRequest<Body>> {
        let mut all = lock(&self.pool.senders);
        let senders = all.get_mut(&self.machine.key)?;
        senders.retain(|s| !s.is_closed());
        let free = senders.iter().position(SendRequest::is_ready)?;
        Some(senders.swap_remove(free))
    }

    /// Keeps one for later; while its answer is read it is not ready, and nobody takes it.
    fn keep(&self, sender: SendRequest<Body>) {
        let mut all = lock(&self.pool.senders);
        let senders = all.entry(self.machine.key.clone()).or_default();
        senders.retain(|s| !s.is_closed());
        if senders.len() < KEPT {
            senders.push(sender);
        }
    }

    /// A new connection, to where the machine was found last, is said to be, or is found now.
    async fn open(&self) -> Result<SendRequest<Body>, String> {
        let key = unhex(&self.machine.key).ok_or("its key is none")?;
        let known = lock(&self.pool.found).get(&self.machine.key).cloned();
        if let Some((_, Some(address))) = &known
            && let Ok(sender) = self.open_at(address, &key).await
        {
            return Ok(sender);
        }
        let why = match self.open_at(&self.machine.address, &key).await {
            Err(why) if self.pool.looks && known.is_none_or(|(at, _)| at.elapsed() > LOOK_AGAIN) => why,
            other => return other,
        };
        let id = near::id(&key);
        lock(&self.pool.found).insert(self.machine.key.clone(), (Instant::now(), None));
        let found = tokio::task::spawn_blocking(move || near::find(Some(&id), LOOK)).await;
        for address in found.unwrap_or_default() {
            if let Ok(sender) = self.open_at(&address, &key).await {
                lock(&self.pool.found).insert(self.machine.key.clone(), (Instant::now(), Some(address)));
                return Ok(sender);
            }
        }
        Err(why)
    }

    async fn open_at(&self, address: &str, key: &[u8; 32]) -> Result<SendRequest<Body>, String> {
        let stream = connect(address).await?;
        let channel = ask_to_talk(stream, &self.own, key).await?;
        let (sender, connection) = handshake(TokioIo::new(channel)).await.map_err(|e| e.to_string())?;
        // It ends with its sender, or with the other side.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Asks, and waits for the head of the answer.
    ///
    /// # Errors
    /// A line: the machine is away, or is another one, or knows this one no longer.
    pub(super) async fn ask(
        &self,
        method: &Method,
        target: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let request = || {
            let request = Request::builder().method(method).uri(target).header(header::HOST, "peer");
            let request = match method == Method::POST {
                true => request.header(header::CONTENT_TYPE, "application/json"),
                false => request,
            };
            request.body(Body::from(body.clone())).map_err(|e| e.to_string())
        };
        if let Some(mut sender) = self.kept()
            && let Ok(response) = sender.send_request(request()?).await
        {
            self.keep(sender);
            return Ok(response);
        }
        // There was none, or the other side had ended it meanwhile.
        let mut sender = self.open().await?;
        let response = sender.send_request(request()?).await;
        let response = response.map_err(|_| "it broke the connection off before it answered".to_owned())?;
        self.keep(sender);
        Ok(response)
    }

    /// The models that it has itself.
    ///
    /// # Errors
    /// A line that says why that is not known.
    pub(super) async fn models(self) -> Result<Vec<Value>, String> {
        let response = self.ask(&Method::GET, "/v1/models", Bytes::new()).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answers with {}", status.as_u16()));
        }
        let body = axum::body::to_bytes(Body::new(response.into_body()), LIST).await;
        let list: Option<Value> = body.ok().and_then(|b| serde_json::from_slice(&b).ok());
        let list = list.and_then(|mut l| l["data"].as_array_mut().map(std::mem::take));
        list.ok_or_else(|| "what it says of its models is not understood".into())
    }
}
