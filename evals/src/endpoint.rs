//! A model behind an OpenAI-compatible endpoint, over plain HTTP. For one behind HTTPS, put a proxy in front.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ask::{Answer, Generate, Job};
use crate::{Error, Result};

/// Bytes of an answer at most.
const LONGEST: usize = 64 << 20;

/// How often a request is tried.
const TRIES: u32 = 4;

/// An endpoint and the model to ask it for.
#[derive(Debug, Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// What stands in front of `/chat/completions`.
    prefix: String,
    /// None is the one that the endpoint takes by itself.
    model: Option<String>,
    /// A key, if it wants one; from `OPENAI_API_KEY`.
    key: Option<String>,
    /// Requests at a time.
    pub parallel: usize,
    /// How long an answer may take.
    pub patience: Duration,
    /// Is told in one line of what is tried again.
    pub notice: fn(&str),
}

impl Endpoint {
    /// Reads `http://HOST:PORT/v1` or `http://HOST:PORT/v1#MODEL`.
    ///
    /// # Errors
    /// Another scheme; no host.
    pub fn parse(url: &str) -> Result<Endpoint> {
        let wrong = |what: &str| Error::input(format!("{url}: {what}"));
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(wrong("only http:// is spoken; put a proxy in front of an endpoint of https"));
        };
        let (rest, model) = rest.split_once('#').map_or((rest, None), |(rest, model)| (rest, Some(model)));
        let (address, path) = rest.split_once('/').unwrap_or((rest, "v1"));
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "80"));
        let port = port.parse().map_err(|_| wrong("its port is no number"))?;
        if host.is_empty() {
            return Err(wrong("has no host; give http://HOST:PORT/v1"));
        }
        Ok(Endpoint {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            prefix: format!("/{}", path.trim_matches('/')),
            model: model.map(str::to_owned),
            key: std::env::var("OPENAI_API_KEY").ok().filter(|k| !k.is_empty()),
            parallel: 8,
            patience: Duration::from_secs(600),
            notice: |_| {},
        })
    }

    /// Asks for the name of the model where none was given, since most servers want one.
    ///
    /// # Errors
    /// Nobody answers there; there are several models.
    pub fn settle(mut self) -> Result<Endpoint> {
        if self.model.is_some() {
            return Ok(self);
        }
        let wrong = |what: String| Error::Model { who: self.name(), what };
        // Not all servers have such a list.
        let list = self.exchange("GET", "/models", "", &|status, text| match status {
            401 | 403 | 429 | 502..=504 => Err(format!("answers with status {status}: {}", clip(text))),
            _ => Ok(serde_json::from_str::<Value>(text).unwrap_or_default()),
        })?;
        // Weft says which of its models write text.
        let all = list["data"].as_array().into_iter().flatten().filter(|m| m["meta"]["answers"] != false);
        let names: Vec<&str> = all.filter_map(|m| m["id"].as_str()).collect();
        match names[..] {
            // One that takes requests without a name, perhaps.
            [] => Ok(self),
            [name] => {
                self.model = Some(name.to_owned());
                Ok(self)
            }
            [first, ..] => Err(wrong(format!(
                "has the models {}; name one behind the address, such as #{first}",
                clip(&names.join(", "))
            ))),
        }
    }

    fn body(&self, job: &Job) -> Value {
        let messages: Vec<Value> =
            job.turns.iter().map(|t| json!({ "role": t.role, "content": t.content })).collect();
        let mut body = json!({
            "messages": messages,
            "temperature": job.drawing.temperature,
            "top_p": job.drawing.top_p,
            "seed": job.drawing.seed,
            "max_tokens": job.max_tokens,
        });
        if let Some(model) = &self.model {
            body["model"] = model.as_str().into();
        }
        if job.drawing.top_k > 0 {
            body["top_k"] = job.drawing.top_k.into();
        }
        if let Some(thinking) = job.thinking {
            body["chat_template_kwargs"] = json!({ "enable_thinking": thinking });
        }
        if let Some(schema) = &job.schema {
            body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema } });
        }
        body
    }

    /// One answer.
    fn ask(&self, job: &Job) -> Result<Answer> {
        let start = Instant::now();
        self.exchange("POST", "/chat/completions", &self.body(job).to_string(), &|status, text| {
            if status != 200 {
                return Err(format!("answers with status {status}: {}", clip(text)));
            }
            let value: Value = serde_json::from_str(text)
                .map_err(|e| format!("answers with no JSON ({e}): {}", clip(text)))?;
            let answer = self.answer(&value, start);
            answer.ok_or_else(|| format!("answers without choices[0].message: {}", clip(text)))
        })
    }

    /// Sends a request and reads what comes; again where the network or the server may do better: one that answers
    /// well, but not with what was asked for, is often about to start or behind a proxy that is.
    fn exchange<T>(
        &self,
        method: &str,
        path: &str,
        body: &str,
        read: &dyn Fn(u16, &str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, again) = match self.once(method, path, body) {
                Ok((status, text)) => match read(status, &text) {
                    Ok(read) => return Ok(read),
                    Err(why) => (why, status == 200 || status == 429 || status >= 500),
                },
                Err(e) => (e.to_string(), true),
            };
            if !again {
                return Err(Error::Model { who: self.name(), what: why });
            }
            if tries == TRIES {
                let what = format!("{why} ({TRIES} times; with --output the same command goes on later)");
                return Err(Error::Model { who: self.name(), what });
            }
            (self.notice)(&format!("{}: {why}; trying again ({tries} of {})", self.name(), TRIES - 1));
            std::thread::sleep(Duration::from_millis(250 << tries));
        }
    }

    fn answer(&self, value: &Value, start: Instant) -> Option<Answer> {
        let choice = value.get("choices")?.get(0)?;
        let message = choice.get("message")?;
        let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let content = text("content").unwrap_or_default();
        // Servers that take thinking out of the answer give it beside it.
        let text = match text("reasoning_content").or(text("reasoning")) {
            Some(thinking) => format!("<think>\n{thinking}\n</think>\n\n{content}"),
            None => content.to_owned(),
        };
        let usage = |key: &str| value["usage"][key].as_u64().unwrap_or(0);
        Some(Answer {
            text,
            prompt_tokens: usage("prompt_tokens"),
            tokens: usage("completion_tokens"),
            cut: choice.get("finish_reason").and_then(Value::as_str) == Some("length"),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn once(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut last = std::io::Error::other("has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                Ok(stream) => return self.send(stream, method, path, body),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn send(
        &self,
        mut stream: TcpStream,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let key = self.key.as_ref().map_or_else(String::new, |k| format!("Authorization: Bearer {k}\r\n"));
        let head = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAccept: \
             application/json\r\n{key}Connection: close\r\n\r\n",
            self.prefix,
            self.host,
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut reader = BufReader::new(stream.take(LONGEST as u64));
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split_whitespace().nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("does not speak HTTP"))?;
        let (mut length, mut chunked) = (None, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<usize>().ok(),
                "transfer-encoding" => chunked = value.to_ascii_lowercase().contains("chunked"),
                _ => {}
            }
        }
        let bytes = match (chunked, length) {
            (true, _) => unchunk(&mut reader)?,
            (false, Some(n)) => {
                let mut bytes = vec![0; n.min(LONGEST)];
                reader.read_exact(&mut bytes)?;
                bytes
            }
            (false, None) => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                bytes
            }
        };
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A body that comes in chunks, each behind its length.
fn unchunk(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or("");
        let size =
            usize::from_str_radix(size, 16).map_err(|_| std::io::Error::other("sends broken chunks"))?;
        if size == 0 {
            return Ok(out);
        }
        if out.len() + size > LONGEST {
            return Err(std::io::Error::other("sends too much"));
        }
        let at = out.len();
        out.resize(at + size, 0);
        reader.read_exact(&mut out[at..])?;
        line.clear();
        reader.read_line(&mut line)?;
    }
}

fn clip(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

impl Generate for Endpoint {
    fn name(&self) -> String {
        let model = self.model.as_ref().map_or_else(String::new, |m| format!("#{m}"));
        format!("http://{}:{}{model}", self.host, self.port)
    }

    fn generate(&mut self, jobs: &[Job], done: &mut dyn FnMut(usize, Answer) -> Result<()>) -> Result<()> {
        let next = AtomicUsize::new(0);
        let (give, take) = mpsc::channel();
        let give = Mutex::new(give);
        let (this, next, give) = (&*self, &next, &give);
        std::thread::scope(|scope| {
            for _ in 0..self.parallel.clamp(1, jobs.len().max(1)) {
                let Ok(give) = give.lock().map(|g| g.clone()) else { break };
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(i) else { break };
                        let answer = this.ask(job);
                        let failed = answer.is_err();
                        if give.send((i, answer)).is_err() || failed {
                            break;
                        }
                    }
                });
            }
            let mut outcome = Ok(());
            for _ in 0..jobs.len() {
                let Ok((i, answer)) = take.recv() else { break };
                outcome = answer.and_then(|a| done(i, a));
                if outcome.is_err() {
                    // Nobody begins another.
                    next.store(jobs.len(), Ordering::Relaxed);
                    break;
                }
            }
            outcome
        })
    }
}
