//! Who may ask: checks that every request passes before any route sees it.
//!
//! Loopback is no border: any web page on this computer can send requests to it, and a name that someone else controls
//! can point at it. So `Host` must name this server, and a browser's request must come from a page of ours or from an
//! origin that whoever runs the server has named.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Request, Uri, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weft_formats::hex;

use crate::app::Config;
use crate::error::{ApiError, Result};

/// The keys that open a server, as hashes.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// Characters of a key at least.
const SHORTEST_KEY: usize = 16;

impl Keys {
    /// The keys of a file: one a line; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// No key, or one that can be guessed.
    pub fn parse(text: &str) -> std::result::Result<Keys, String> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let mut keys = Vec::new();
        for (n, key) in lines.enumerate() {
            let visible = key.bytes().all(|b| b.is_ascii_graphic());
            if key.len() < SHORTEST_KEY || !visible {
                let rule = format!("at least {SHORTEST_KEY} visible ASCII characters, without spaces");
                return Err(format!("key {} must have {rule}", n + 1));
            }
            keys.push(Sha256::digest(key).into());
        }
        if keys.is_empty() { Err("holds no key; write one a line".into()) } else { Ok(Keys(keys)) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names whose something is, in what outlives the server: the order of its keys may be another next time. What is named
    /// says nothing of the key.
    pub(crate) fn owner(&self, who: Who) -> String {
        if who.is_peer() {
            return format!("peer-{:016x}", who.0);
        }
        let key = (who.0 as usize).checked_sub(1).and_then(|i| self.0.get(i));
        key.map_or_else(String::new, |hash| hex(&Sha256::digest(hash)[..16]))
    }

    /// Which key this is, in a time that says nothing of how much of it is right.
    fn find(&self, given: &str) -> Option<usize> {
        let hash: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for (i, key) in self.0.iter().enumerate() {
            if bool::from(key.ct_eq(&hash)) {
                found = Some(i);
            }
        }
        found
    }
}

/// Who asks: the number of their key, from 1 on; 0 where the server is open; a number with the highest bit for another
/// machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who(pub(crate) u64);

impl Who {
    const PEER: u64 = 1 << 63;

    /// Another machine, told apart by a number.
    pub(crate) fn peer(number: u64) -> Who {
        Who(number | Who::PEER)
    }

    /// Whether it is another machine.
    pub(crate) fn is_peer(self) -> bool {
        self.0 & Who::PEER != 0
    }
}

/// Routes that need no key.
const PUBLIC: &[&str] = &["/health", "/v1/health"];

/// Lets a request through, and says who asks.
///
/// # Errors
/// 401, 403 or 415.
pub(crate) fn check<B>(config: &Config, request: &Request<B>) -> Result<Who> {
    let headers = request.headers();
    check_head(request.uri(), headers)?;
    let host = host(headers, request.uri().host())?;
    if !is_ours(config, host) {
        let shown: String = host.chars().take(80).collect();
        let line = format!("this server is not called \"{shown}\"; --allow-host names further names of it");
        return Err(ApiError::forbidden("host_not_allowed", line));
    }
    check_origin(config, request.method(), headers)?;
    if request.method() == Method::OPTIONS {
        // A preflight has no key, and what it asks of is checked when it comes.
        return Ok(Who(0));
    }
    let path = request.uri().path();
    let public =
        PUBLIC.contains(&path) || (crate::routes::page::has(path) && request.method() != Method::POST);
    let who = match config.keys.is_empty() || public {
        true => Who(0),
        false => key(&config.keys, headers)?,
    };
    if request.method() == Method::POST {
        check_type(path, headers)?;
    }
    Ok(who)
}

/// Bytes of a request's head at most.
pub(crate) const HEAD: usize = 64 << 10;

/// Refuses a head that is too long for this server, and a path that is no text.
fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if uri.path().len() + uri.query().map_or(0, str::len) + lines.sum::<usize>() > HEAD {
        let line = format!("the head of the request is larger than {} KiB", HEAD >> 10);
        let status = axum::http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::http(status, "head_too_large", line));
    }
    match is_text(uri.path().as_bytes()) {
        true => Ok(()),
        false => Err(ApiError::bad("invalid_path", "the path of the request is no UTF-8")),
    }
}

/// Whether a path is text once its `%` are read.
fn is_text(path: &[u8]) -> bool {
    let digit = |at: usize| path.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut bytes, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(&byte) = path.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// The same for a request of another machine, which its channel has named.
///
/// # Errors
/// 415.
pub(crate) fn check_peer<B>(request: &Request<B>) -> Result<()> {
    if request.method() == Method::POST {
        check_type(request.uri().path(), request.headers())
    } else {
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).map(|v| v.to_str().unwrap_or("?"))
}

/// The host that is asked for, with its port.
fn host<'a>(headers: &'a HeaderMap, uri: Option<&'a str>) -> Result<&'a str> {
    let mut all = headers.get_all(header::HOST).iter();
    let first = all.next().map(|v| v.to_str().unwrap_or("?"));
    if all.next().is_some() {
        return Err(ApiError::forbidden("host_not_allowed", "there is more than one Host header"));
    }
    // A proxy's form of a request names the host twice; both must be ours.
    match (first, uri) {
        (Some(host), None) => Ok(host),
        (Some(host), Some(uri)) if name(host) == name(uri) => Ok(host),
        _ => Err(ApiError::forbidden(
            "host_not_allowed",
            "the Host header is missing, or differs from the address",
        )),
    }
}

/// The name in `name:port` or `[address]:port`.
fn name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') { name } else { host }
        }),
    }
}

fn is_ours(config: &Config, host: &str) -> bool {
    let name = name(host);
    let known = |n: &String| n.eq_ignore_ascii_case(name);
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || config.any_address || config.hosts.iter().any(known),
        Err(_) => name.eq_ignore_ascii_case("localhost") || config.hosts.iter().any(known),
    }
}

/// The origin of a page that may ask, if a page asks.
pub(crate) fn allowed_origin<'a>(config: &Config, headers: &'a HeaderMap) -> Option<&'a str> {
    let origin = text(headers, &header::ORIGIN)?;
    config.origins.iter().any(|o| o == origin).then_some(origin)
}

fn check_origin(config: &Config, method: &Method, headers: &HeaderMap) -> Result<()> {
    if allowed_origin(config, headers).is_some() {
        return Ok(());
    }
    let refused = |from: &str| {
        let shown: String = from.chars().take(80).collect();
        let line = format!("a web page of {shown} may not ask here; --allow-origin names those that may");
        Err(ApiError::forbidden("origin_not_allowed", line))
    };
    if let Some(origin) = text(headers, &header::ORIGIN) {
        let host = text(headers, &header::HOST).unwrap_or_default();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !own.is_some_and(|o| o.eq_ignore_ascii_case(host)) {
            return refused(origin);
        }
    }
    match headers.get("sec-fetch-site").map(|v| v.to_str().unwrap_or("?")) {
        None | Some("same-origin" | "none") => Ok(()),
        // A link to here: the page that has it sees nothing of the answer.
        Some(_)
            if *method == Method::GET && headers.get("sec-fetch-mode").is_some_and(|m| m == "navigate") =>
        {
            Ok(())
        }
        Some(_) => refused("another site"),
    }
}

fn key(keys: &Keys, headers: &HeaderMap) -> Result<Who> {
    let bearer = text(headers, &header::AUTHORIZATION).and_then(|v| {
        let (scheme, key) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let Some(given) = bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok())) else {
        return Err(ApiError::key(
            "a key is needed: send \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"",
        ));
    };
    let found = keys.find(given).ok_or_else(|| ApiError::key("the key is not one of this server's"))?;
    Ok(Who(found as u64 + 1))
}

/// Where a form with a file is taken, too.
const FORMS: &str = "/v1/files";

/// The boundary of a form with files.
pub(crate) fn boundary(kind: &str) -> Option<&str> {
    let (name, rest) = kind.split_once(';')?;
    if !name.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = rest.split(';').find_map(|p| p.trim().strip_prefix("boundary="))?.trim_matches('"');
    (!boundary.is_empty() && boundary.len() <= 70).then_some(boundary)
}

fn check_type(path: &str, headers: &HeaderMap) -> Result<()> {
    let status = axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    if let Some(how) =
        text(headers, &header::CONTENT_ENCODING).filter(|h| !h.eq_ignore_ascii_case("identity"))
    {
        let shown: String = how.chars().take(40).collect();
        let line = format!("a body is read as it comes; send it without \"Content-Encoding: {shown}\"");
        return Err(ApiError::http(status, "unsupported_media_type", line));
    }
    let given = text(headers, &header::CONTENT_TYPE);
    // A page of elsewhere can send a form, but not with one of these headers.
    let ours = headers.contains_key(header::AUTHORIZATION) || headers.contains_key("x-api-key");
    if path == FORMS && ours && given.and_then(boundary).is_some() {
        return Ok(());
    }
    let mut parts = given.unwrap_or_default().split(';').map(str::trim);
    if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let coded =
            parts.filter_map(|p| p.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("charset"));
        let other =
            |c: &str| !["utf-8", "utf8", "us-ascii"].iter().any(|known| c.eq_ignore_ascii_case(known));
        return match coded.map(|(_, value)| value.trim_matches('"')).filter(|c| other(c)) {
            None => Ok(()),
            Some(code) => {
                let shown: String = code.chars().take(40).collect();
                let line = format!("JSON is UTF-8; send the body so, and not with \"charset={shown}\"");
                Err(ApiError::http(status, "unsupported_media_type", line))
            }
        };
    }
    let line = "a POST needs the header \"Content-Type: application/json\"";
    Err(ApiError::http(status, "unsupported_media_type", line))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::{Keys, Who, check, name};
    use crate::app::Config;

    fn ask(config: &Config, headers: &[(&str, &str)]) -> Result<u64, (u16, &'static str)> {
        let mut request = Request::post("/v1/chat/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        check(config, &request).map(|Who(n)| n).map_err(|e| (e.status.as_u16(), e.code))
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const HERE: (&str, &str) = ("host", "localhost:8080");

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let open = Config::default();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert_eq!(ask(&open, &[("host", host), JSON]), Ok(0), "{host}");
        }
        let refused = Err((403, "host_not_allowed"));
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.1.4",
            "",
            "127.0.0.1.nip.io",
            "::1",
            "[::2]:80",
        ] {
            let want = if host == "::1" { Ok(0) } else { refused };
            assert_eq!(ask(&open, &[("host", host), JSON]), want, "{host}");
        }
        assert_eq!(ask(&open, &[JSON]), refused);
        assert_eq!(ask(&open, &[HERE, ("host", "evil.example"), JSON]), refused);
        let named = Config { hosts: vec!["box.lan".into()], any_address: true, ..Config::default() };
        assert_eq!(ask(&named, &[("host", "Box.lan:80"), JSON]), Ok(0));
        assert_eq!(ask(&named, &[("host", "192.168.1.4:80"), JSON]), Ok(0));
        assert_eq!(ask(&named, &[("host", "evil.example"), JSON]), refused);
    }

    #[test]
    fn pages_of_others_are_refused() {
        let open = Config::default();
        let refused = Err((403, "origin_not_allowed"));
        assert_eq!(ask(&open, &[HERE, JSON, ("origin", "http://localhost:8080")]), Ok(0));
        for origin in ["http://evil.example", "null", "http://localhost:3000", "", "file://"] {
            assert_eq!(ask(&open, &[HERE, JSON, ("origin", origin)]), refused, "{origin}");
        }
        for (site, want) in
            [("same-origin", Ok(0)), ("none", Ok(0)), ("cross-site", refused), ("same-site", refused)]
        {
            assert_eq!(ask(&open, &[HERE, JSON, ("sec-fetch-site", site)]), want, "{site}");
        }
        let named = Config { origins: vec!["http://localhost:3000".into()], ..Config::default() };
        let from = [HERE, JSON, ("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")];
        assert_eq!(ask(&named, &from), Ok(0));
        assert_eq!(ask(&named, &[HERE, JSON, ("origin", "http://localhost:3001")]), refused);
    }

    #[test]
    fn keys_open() {
        let keys = Keys::parse("# mine\nabcdefghijklmnop\n\n  0123456789abcdef \n").unwrap();
        let shut = Config { keys, ..Config::default() };
        let refused = Err((401, "invalid_api_key"));
        assert_eq!(ask(&shut, &[HERE, JSON]), refused);
        assert_eq!(ask(&shut, &[HERE, JSON, ("authorization", "Bearer abcdefghijklmno")]), refused);
        assert_eq!(ask(&shut, &[HERE, JSON, ("authorization", "Basic abcdefghijklmnop")]), refused);
        assert_eq!(ask(&shut, &[HERE, JSON, ("authorization", "bearer abcdefghijklmnop")]), Ok(1));
        assert_eq!(ask(&shut, &[HERE, JSON, ("x-api-key", "0123456789abcdef")]), Ok(2));
        assert!(Keys::parse("short").is_err() && Keys::parse("# none\n").is_err());
        assert_eq!(format!("{shut:?}").matches("abcdef").count(), 0);
    }

    #[test]
    fn a_form_cannot_post() {
        let open = Config::default();
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            assert_eq!(
                ask(&open, &[HERE, ("content-type", kind)]),
                Err((415, "unsupported_media_type")),
                "{kind}"
            );
        }
        assert_eq!(ask(&open, &[HERE]), Err((415, "unsupported_media_type")));
        for (code, taken) in [("UTF-8", true), ("\"utf-8\"", true), ("latin-1", false), ("utf-16le", false)] {
            let kind = format!("application/json; charset={code}");
            assert_eq!(ask(&open, &[HERE, ("content-type", &kind)]).is_ok(), taken, "{code}");
        }
        let coded = |how| ask(&open, &[HERE, JSON, ("content-encoding", how)]);
        assert_eq!((coded("identity"), coded("gzip")), (Ok(0), Err((415, "unsupported_media_type"))));
    }

    #[test]
    fn a_head_has_bounds_and_its_path_is_text() {
        let open = Config::default();
        let get = |path: &str, more: usize| {
            let request = Request::get(path).header("host", "localhost").header("x", "a".repeat(more));
            check(&open, &request.body(()).expect("a request")).map_err(|e| e.status.as_u16())
        };
        assert_eq!(get("/v1/models/%C3%BC%zz", 9), Ok(Who(0)));
        assert_eq!(get("/v1/models/%ff", 9), Err(400));
        assert_eq!(get("/v1/models", 65_000), Ok(Who(0)));
        assert_eq!(get("/v1/models", 66_000), Err(431));
    }

    #[test]
    fn names_are_read_off_hosts() {
        for (host, want) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "::1"), ("::1", "::1"), ("a:b", "a:b")] {
            assert_eq!(name(host), want);
        }
    }
}
