//! This is as much of HTTP as fetching files takes: GET over a connection of its own, redirects, ranges, proxies. Nothing
//! of an answer is believed before it is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::tls;
use crate::url::Url;

/// Bytes of an answer's head at most.
const HEAD: usize = 64 << 10;
/// Redirects of one request at most.
const HOPS: usize = 10;
/// How often a wait looks whether it was stopped.
const BEAT: Duration = Duration::from_millis(200);

/// How long a silent server is waited for, and who may end that.
pub(crate) struct Patience<'a> {
    /// Further authorities of certificates.
    pub(crate) authorities: Option<&'a std::path::Path>,
    pub(crate) stall: Duration,
    pub(crate) stop: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Whether a wait for `host` that began at `since` may go on.
    pub(crate) fn check(&self, host: &str, since: Instant) -> Result<()> {
        if (self.stop)() {
            return Err(Error::stopped());
        }
        if since.elapsed() >= self.stall {
            let line = format!("{host}: nothing came for {} s", self.stall.as_secs_f32().ceil());
            return Err(Error::new(Kind::Network, line));
        }
        Ok(())
    }

    /// Waits, and ends early where it is stopped.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            if (self.stop)() {
                return Err(Error::stopped());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(BEAT));
        }
    }
}

/// A connection that failed, in words.
/// Whether nothing has come yet, so that it may be waited on.
pub(crate) fn is_late(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

pub(crate) fn broke(host: &str, e: &std::io::Error) -> Error {
    let text = match e.kind() {
        ErrorKind::ConnectionRefused => "nobody answers there".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            "the connection broke off".to_owned()
        }
        ErrorKind::UnexpectedEof => "the connection ended early".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "it does not answer".to_owned(),
        _ => e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
    };
    Error::new(Kind::Network, format!("{host}: {text}"))
}

fn protocol(url: &Url, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Protocol, format!("{url}: {why}"))
}

enum Wire {
    Plain(TcpStream),
    Tls(tls::Tls),
}

impl Wire {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Wire::Plain(s) => s.write_all(bytes),
            Wire::Tls(s) => s.write_all(bytes).and_then(|()| s.flush()),
        }
    }

    fn read(&mut self, to: &mut [u8], host: &str, patience: &Patience<'_>) -> Result<usize> {
        let since = Instant::now();
        loop {
            let read = match self {
                Wire::Plain(s) => s.read(to),
                Wire::Tls(s) => s.read(to),
            };
            match read {
                Ok(n) => return Ok(n),
                Err(e) if is_late(&e) => patience.check(host, since)?,
                // TLS ended without saying so: what was promised and did not come is noticed by its length.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) => return Err(broke(host, &e)),
            }
        }
    }
}

/// How an answer's body ends.
enum Framing {
    Length(u64),
    /// What is left of this chunk, and whether there was one before it.
    Chunks(u64, bool),
    Done,
    Close,
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Where it came from, behind redirects.
    pub(crate) url: Url,
    wire: Wire,
    ahead: Vec<u8>,
    framing: Framing,
    /// The headers of the first answer, where it was a redirect.
    first: Vec<(String, String)>,
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A header of whoever was asked first, before a redirect.
    pub(crate) fn first_header(&self, name: &str) -> Option<&str> {
        find(&self.first, name).or_else(|| self.header(name))
    }

    /// Bytes of the body, if they are told.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(n) => Some(n),
            Framing::Done => Some(0),
            _ => None,
        }
    }

    fn more(&mut self, to: &mut [u8], patience: &Patience<'_>) -> Result<usize> {
        if self.ahead.is_empty() {
            return self.wire.read(to, &self.url.host, patience);
        }
        let n = to.len().min(self.ahead.len());
        to[..n].copy_from_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        Ok(n)
    }

    fn line(&mut self, patience: &Patience<'_>) -> Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            if self.more(&mut byte, patience)? == 0 {
                return Err(self.early());
            }
            match byte[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim().to_owned()),
                _ if line.len() > 1024 => return Err(protocol(&self.url, "a chunk's head has no end")),
                b => line.push(b),
            }
        }
    }

    fn early(&self) -> Error {
        Error::new(Kind::Network, format!("{}: the connection broke off", self.url.host))
    }

    /// The next bytes of the body; 0 at its end.
    pub(crate) fn read(&mut self, to: &mut [u8], patience: &Patience<'_>) -> Result<usize> {
        if let Framing::Chunks(0, later) = self.framing {
            if later {
                self.line(patience)?;
            }
            let line = self.line(patience)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let left =
                u64::from_str_radix(size, 16).map_err(|_| protocol(&self.url, "a chunk has no size"))?;
            self.framing = if left == 0 { Framing::Done } else { Framing::Chunks(left, true) };
        }
        let left = match self.framing {
            Framing::Done | Framing::Length(0) => return Ok(0),
            Framing::Length(n) | Framing::Chunks(n, _) => n,
            Framing::Close => u64::MAX,
        };
        let most = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.more(&mut to[..most], patience)?;
        match &mut self.framing {
            Framing::Length(left) | Framing::Chunks(left, _) => {
                if n == 0 {
                    return Err(self.early());
                }
                *left -= n as u64;
            }
            Framing::Close | Framing::Done => {}
        }
        Ok(n)
    }

    /// The whole body, of `most` bytes at most.
    pub(crate) fn text(&mut self, most: usize, patience: &Patience<'_>) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            match self.read(&mut piece, patience)? {
                0 => return Ok(all),
                n if all.len() + n > most => {
                    return Err(protocol(&self.url, format!("the answer is larger than {} MiB", most >> 20)));
                }
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }
}

/// A proxy that the environment names for this address.
fn proxy(url: &Url) -> Result<Option<Url>> {
    let of = |names: &[&str]| names.iter().find_map(|n| std::env::var(n).ok()).filter(|v| !v.is_empty());
    if url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(None);
    }
    let no = of(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let is = |rule: &str| {
        let rule = rule.trim().trim_start_matches('.');
        rule == "*" || (!rule.is_empty() && (url.host == rule || url.host.ends_with(&format!(".{rule}"))))
    };
    let names: &[&str] = if url.tls { &["https_proxy", "HTTPS_PROXY"] } else { &["http_proxy"] };
    match of(names).or_else(|| of(&["all_proxy", "ALL_PROXY"])) {
        Some(text) if !no.split(',').any(is) => {
            let text = if text.contains("://") { text } else { format!("http://{text}") };
            let proxy = Url::parse(&text)
                .map_err(|e| Error::new(Kind::Name, format!("the proxy of the environment: {e}")))?;
            match proxy.tls {
                true => {
                    Err(Error::new(Kind::Name, "a proxy that is itself reached by https is not supported"))
                }
                false => Ok(Some(proxy)),
            }
        }
        _ => Ok(None),
    }
}

fn connect(url: &Url, patience: &Patience<'_>) -> Result<TcpStream> {
    let host = &url.host;
    let addresses = (host.as_str(), url.port).to_socket_addrs().map_err(|_| {
        Error::new(Kind::Network, format!("{host}: no such host is known, or there is no network"))
    })?;
    let mut last = None;
    for address in addresses {
        if (patience.stop)() {
            return Err(Error::stopped());
        }
        match TcpStream::connect_timeout(&address, patience.stall.min(Duration::from_secs(10))) {
            Ok(socket) => {
                let set = socket
                    .set_read_timeout(Some(BEAT))
                    .and_then(|()| socket.set_write_timeout(Some(patience.stall)))
                    .and_then(|()| socket.set_nodelay(true));
                set.map_err(|e| broke(host, &e))?;
                return Ok(socket);
            }
            Err(e) => last = Some(broke(host, &e)),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(Kind::Network, format!("{host}: has no address"))))
}

/// Reads a head; gives the status, the headers, and what came behind them.
type Head = (u16, Vec<(String, String)>, Vec<u8>);

fn head(wire: &mut Wire, url: &Url, patience: &Patience<'_>) -> Result<Head> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > HEAD {
            return Err(protocol(url, "the head of the answer has no end"));
        }
        match wire.read(&mut piece, &url.host, patience)? {
            0 => return Err(Error::new(Kind::Network, format!("{}: the connection broke off", url.host))),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let rest = bytes.split_off(end + 4);
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|l| l.get(2..5)).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| protocol(url, "what answers there speaks no HTTP"))?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| protocol(url, "a header has no ':'"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers, rest))
}

fn framing(status: u16, headers: &[(String, String)], url: &Url) -> Result<Framing> {
    if let Some(coding) = find(headers, "content-encoding").filter(|c| !c.eq_ignore_ascii_case("identity")) {
        return Err(protocol(url, format!("the answer is compressed ({coding:?}), which was not asked for")));
    }
    let lengths: Vec<&str> =
        headers.iter().filter(|(n, _)| n == "content-length").map(|(_, v)| v.as_str()).collect();
    match (find(headers, "transfer-encoding"), &lengths[..]) {
        _ if matches!(status, 204 | 304) => Ok(Framing::Done),
        (Some(coding), []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunks(0, false)),
        (Some(_), _) => Err(protocol(url, "how its answer ends is not clear")),
        (None, []) => Ok(Framing::Close),
        (None, [length]) => match length.parse() {
            Ok(n) if length.bytes().all(|b| b.is_ascii_digit()) => Ok(Framing::Length(n)),
            _ => Err(protocol(url, "the length of its answer is no number")),
        },
        (None, _) => Err(protocol(url, "its answer has several lengths")),
    }
}

fn once(url: &Url, headers: &[(String, String)], patience: &Patience<'_>) -> Result<Answer> {
    let proxy = proxy(url)?;
    let mut socket = connect(proxy.as_ref().unwrap_or(url), patience)?;
    let mut target = url.target.clone();
    if let Some(proxy) = &proxy {
        if url.tls {
            let ask = format!("CONNECT {0}:{1} HTTP/1.1\r\nHost: {0}:{1}\r\n\r\n", url.host, url.port);
            socket.write_all(ask.as_bytes()).map_err(|e| broke(&proxy.host, &e))?;
            let mut wire = Wire::Plain(socket);
            let (status, ..) = head(&mut wire, proxy, patience)?;
            if status != 200 {
                return Err(Error::new(Kind::Network, format!("{proxy}: the proxy refuses with {status}")));
            }
            let Wire::Plain(back) = wire else { unreachable!("it was made so above") };
            socket = back;
        } else {
            target = format!("http://{}{target}", url.authority());
        }
    }
    let mut wire = match url.tls {
        true => Wire::Tls(tls::connect(&url.host, socket, patience)?),
        false => Wire::Plain(socket),
    };
    let mut ask = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weft/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
         Connection: close\r\n",
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in headers {
        ask += &format!("{name}: {value}\r\n");
    }
    ask += "\r\n";
    wire.write_all(ask.as_bytes()).map_err(|e| broke(&url.host, &e))?;
    let (status, headers, ahead) = head(&mut wire, url, patience)?;
    let framing = framing(status, &headers, url)?;
    Ok(Answer { status, headers, url: url.clone(), wire, ahead, framing, first: Vec::new() })
}

/// Asks for `url`, and follows where it is sent. `token` goes to the server that was asked first, and to no other.
pub(crate) fn get(
    url: &Url,
    headers: &[(String, String)],
    token: Option<&str>,
    patience: &Patience<'_>,
) -> Result<Answer> {
    let mut at = url.clone();
    let mut first = None;
    for _ in 0..=HOPS {
        let mut headers = headers.to_vec();
        if let Some(token) = token.filter(|_| at.is_same_server(url)) {
            headers.push(("Authorization".into(), format!("Bearer {token}")));
        }
        let answer = once(&at, &headers, patience)?;
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(Answer { first: first.unwrap_or_default(), ..answer });
        }
        let to = answer
            .header("location")
            .ok_or_else(|| protocol(&at, "it redirects, and does not say where to"))?;
        let next = at.join(to)?;
        if at.tls && !next.tls {
            return Err(protocol(
                &at,
                format!("it redirects from https to {next}, which others could read and change"),
            ));
        }
        first.get_or_insert(answer.headers);
        at = next;
    }
    Err(protocol(url, format!("it redirects more than {HOPS} times")))
}
