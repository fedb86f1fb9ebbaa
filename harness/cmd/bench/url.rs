//! `weft bench --url`: how fast a server is to its clients. Any server that speaks OpenAI's completions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use weft_kernels::testing::Rng;

use super::arrivals::arrivals;
use super::table::Format;
use crate::{Error, Result, interrupt, output};

/// Flags that say how a model is opened and measured here, which another process does where a server is asked.
const UNREAD: [&str; 12] = [
    "model",
    "synthetic",
    "profile",
    "output_err",
    "no_warmup",
    "chunk",
    "variant",
    "cache_type",
    "device",
    "limits",
    "without",
    "tuning",
];

/// A server to measure, and how it is asked.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Measure a server in place of a model: times of answers to made-up prompts of -p tokens, -n tokens each
    #[arg(long, value_name = "URL", group = "asked",
          conflicts_with_all = UNREAD, help_heading = "A server")]
    url: Option<String>,
    /// Requests that are on their way at a time
    #[arg(long, value_name = "N", default_value_t = 32, requires = "url", help_heading = "A server",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// Requests a second, at random times (a Poisson process) [default: the next when one is answered]
    #[arg(long, value_name = "X", requires = "url", help_heading = "A server", value_parser = super::rate)]
    rate: Option<f64>,
    /// Name of the model in requests [default: the first that the server lists]
    #[arg(long, value_name = "NAME", requires = "url", help_heading = "A server")]
    model_name: Option<String>,
    /// File whose first line is the server's key
    #[arg(long, value_name = "FILE", requires = "url", help_heading = "A server")]
    key_file: Option<std::path::PathBuf>,
}

impl Flags {
    /// Whether a server is to be measured.
    pub(super) fn is_asked(&self) -> bool {
        self.url.is_some()
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// `host:port`.
    at: String,
    /// What stands in front of `/completions`.
    prefix: String,
    key: Option<String>,
}

impl Target {
    fn parse(url: &str) -> std::result::Result<Target, String> {
        let rest = url.strip_prefix("http://").ok_or("the address must begin with http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err("the address names no host".into());
        }
        let at = if host.rsplit(':').next().is_some_and(|p| p.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { "/v1".to_owned() } else { format!("/{path}") };
        Ok(Target { at, prefix, key: None })
    }

    /// Sends a request, and gives what follows the head of the answer.
    fn send(&self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        let key = self.key.as_ref().map_or_else(String::new, |k| format!("authorization: Bearer {k}\r\n"));
        let head = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n{key}\
             content-length: {}\r\n\r\n{body}",
            self.prefix,
            self.at,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        Answer::open(BufReader::new(stream))
    }
}

/// An answer whose head is read.
struct Answer {
    status: u16,
    from: BufReader<TcpStream>,
    /// Bytes left of a chunk; None for a body that is not chunked.
    chunk: Option<usize>,
    rest: Vec<u8>,
}

impl Answer {
    fn open(mut from: BufReader<TcpStream>) -> std::io::Result<Answer> {
        let (mut status, mut chunk) = (0, None);
        for i in 0.. {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            match i {
                0 => status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
                _ if line.is_empty() => break,
                _ if line.starts_with("transfer-encoding:") && line.contains("chunked") => chunk = Some(0),
                _ => {}
            }
        }
        Ok(Answer { status, from, chunk, rest: Vec::new() })
    }

    /// Reads on; whether there was anything.
    fn more(&mut self) -> std::io::Result<bool> {
        if self.chunk == Some(0) {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                if self.from.read_line(&mut line)? == 0 {
                    return Ok(false);
                }
            }
            let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if length == 0 {
                return Ok(false);
            }
            self.chunk = Some(length);
        }
        let have = self.from.fill_buf()?;
        let n = self.chunk.unwrap_or(usize::MAX).min(have.len());
        self.rest.extend_from_slice(&have[..n]);
        self.from.consume(n);
        if let Some(left) = &mut self.chunk {
            *left -= n;
        }
        Ok(n > 0)
    }

    /// The next line.
    fn line(&mut self) -> std::io::Result<Option<String>> {
        loop {
            if let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn whole(mut self) -> std::io::Result<String> {
        while self.more()? {}
        if self.chunk.is_none() {
            self.from.read_to_end(&mut self.rest)?;
        }
        Ok(String::from_utf8_lossy(&self.rest).into_owned())
    }
}

/// What one request saw.
#[derive(Debug, Clone)]
struct Seen {
    /// To the first token, from when it was due.
    first: Duration,
    /// Between tokens.
    gaps: Vec<Duration>,
    whole: Duration,
    tokens: usize,
}

fn ask(target: &Target, body: &str, due: Instant) -> std::result::Result<Seen, String> {
    let mut answer = target.send("POST", "/completions", body).map_err(|e| e.to_string())?;
    if answer.status != 200 {
        let status = answer.status;
        let text = answer.whole().unwrap_or_default();
        return Err(format!("status {status}: {}", text.chars().take(200).collect::<String>()));
    }
    let (mut first, mut last, mut gaps, mut tokens, mut done) = (None, due, Vec::new(), 0, false);
    while let Some(line) = answer.line().map_err(|e| e.to_string())? {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        let now = Instant::now();
        if data == "[DONE]" {
            done = true;
            break;
        }
        // Whole trees of JSON would cost more than the server takes.
        if data.contains("\"error\"") {
            return Err(data.chars().take(200).collect());
        }
        if let Some(n) = data.split("\"completion_tokens\":").nth(1) {
            let digits: String = n.trim_start().chars().take_while(char::is_ascii_digit).collect();
            tokens = digits.parse().unwrap_or(tokens);
        }
        if data.contains("\"choices\":[]") || data.contains("\"text\":\"\"") {
            continue;
        }
        match first {
            None => first = Some(now - due),
            Some(_) => gaps.push(now - last),
        }
        last = now;
    }
    match first {
        Some(first) if done => Ok(Seen { first, gaps, whole: last - due, tokens }),
        _ => Err("the stream ended early".into()),
    }
}

/// The value that so many percent lie below.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

fn first_model(target: &Target) -> Result<String> {
    let bad = |why: String| Error::input(format!("http://{}: {why}", target.at));
    let answer = target.send("GET", "/models", "").map_err(|e| bad(e.to_string()))?;
    let text = answer.whole().map_err(|e| bad(e.to_string()))?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["data"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| bad("lists no model".into()))
}

/// Asks a server, and tells how fast it was.
///
/// # Errors
/// It does not answer; every request failed.
pub(super) fn run(f: &Flags, n: u32, (prompt, tokens): (u32, u32), form: Format) -> Result<()> {
    interrupt::install(1);
    let mut target = Target::parse(f.url.as_deref().unwrap_or_default())
        .map_err(|why| Error::usage(format!("--url: {why}")))?;
    if let Some(path) = &f.key_file {
        target.key = crate::options::read_text(path)?.lines().next().map(|l| l.trim().to_owned());
    }
    let model = f.model_name.clone().map_or_else(|| first_model(&target), Ok)?;
    let mut rng = Rng::new(1);
    let due = arrivals(f.rate.unwrap_or(f64::INFINITY), n, &mut rng);
    // No two prompts share more than chance has it, so that no cache helps.
    let bodies: Vec<String> = (0..n)
        .map(|_| {
            let ids: Vec<u32> = (0..prompt).map(|_| 100 + rng.below(900) as u32).collect();
            json!({ "model": model, "prompt": ids, "max_tokens": tokens, "stream": true, "ignore_eos": true,
                    "stream_options": { "include_usage": true } })
            .to_string()
        })
        .collect();
    let bar = output::bar(n.into(), "{bar:30} {pos} of {len} requests, {elapsed}");
    let (next, seen) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Vec::new())));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..f.clients {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(body) = bodies.get(i) else { return };
                    let mut when = start + due[i];
                    std::thread::sleep(when.saturating_duration_since(Instant::now()));
                    if f.rate.is_none() {
                        when = Instant::now();
                    }
                    let one = ask(&target, body, when);
                    bar.inc(1);
                    let mut all = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match one {
                        Ok(one) => all.0.push(one),
                        Err(why) => all.1.push(why),
                    }
                }
            });
        }
    });
    let took = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let (seen, failed) = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report((f, form), &seen, &failed, took, (prompt, tokens))
}

fn report(
    (f, form): (&Flags, Format),
    seen: &[Seen],
    failed: &[String],
    took: f64,
    (prompt, asked): (u32, u32),
) -> Result<()> {
    if let Some(why) = failed.first() {
        output::note(&format!(
            "{} of {} requests failed; the first: {why}",
            failed.len(),
            failed.len() + seen.len()
        ));
    }
    if seen.is_empty() {
        return Err(Error::input("no request was answered"));
    }
    let figures = |mut all: Vec<Duration>| {
        all.sort_unstable();
        let some = |percent| Some(percentile(&all, percent)).filter(|ms| ms.is_finite());
        json!({ "p50": some(50), "p99": some(99) })
    };
    let tokens: usize = seen.iter().map(|s| s.tokens).sum();
    let value = json!({
        "clients": f.clients,
        "rate": f.rate.filter(|rate| rate.is_finite()),
        "prompt_tokens": prompt,
        "answer_tokens": asked,
        "requests": seen.len() + failed.len(),
        "answered": seen.len(),
        "seconds": took,
        "tokens_per_s": tokens as f64 / took,
        "first_token_ms": figures(seen.iter().map(|s| s.first).collect()),
        "between_tokens_ms": figures(seen.iter().flat_map(|s| s.gaps.iter().copied()).collect()),
        "whole_ms": figures(seen.iter().map(|s| s.whole).collect()),
    });
    if form == Format::Json {
        return output::json(&value);
    }
    let at = |key: &str, part: &str| value[key][part].as_f64().unwrap_or(f64::NAN);
    output::line(
        "| clients | rate | in/out | answered | output t/s | TTFT p50 / p99, ms | between tokens p50 / p99, ms | whole p50, ms |",
    )?;
    output::line("|---|---|---|---|---|---|---|---|")?;
    output::line(&format!(
        "| {} | {} | {prompt}/{asked} | {} of {} | {:.0} | {:.0} / {:.0} | {:.2} / {:.2} | {:.0} |",
        f.clients,
        f.rate.map_or("-".into(), |r| format!("{r}/s")),
        seen.len(),
        seen.len() + failed.len(),
        tokens as f64 / took,
        at("first_token_ms", "p50"),
        at("first_token_ms", "p99"),
        at("between_tokens_ms", "p50"),
        at("between_tokens_ms", "p99"),
        at("whole_ms", "p50"),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Target, percentile};

    #[test]
    fn addresses_are_read() {
        let target = |url| Target::parse(url).map(|t| (t.at, t.prefix));
        assert_eq!(target("http://a:81"), Ok(("a:81".into(), "/v1".into())));
        assert_eq!(target("http://a/v1/"), Ok(("a:80".into(), "/v1".into())));
        assert_eq!(target("http://127.0.0.1:8080/x/v1"), Ok(("127.0.0.1:8080".into(), "/x/v1".into())));
        assert!(target("https://a").is_err() && target("http://").is_err());
    }

    #[test]
    fn percentiles_are_of_what_there_is() {
        let all: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile(&all, 50), percentile(&all, 99)), (51.0, 100.0));
        assert!(percentile(&[], 50).is_nan());
    }
}
