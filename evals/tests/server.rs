//! The endpoint, against a server of this test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use weft_evals::ask::{Answer, Generate, Job};
use weft_evals::endpoint::Endpoint;

/// Serves what `reply` gives for (request number, body): the status and the whole rest of the response.
fn serve(reply: impl Fn(usize, &Value) -> String + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1#tiny", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, reply) = (count.clone(), Arc::new(reply));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (counted, reply) = (counted.clone(), reply.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let (mut line, mut length) = (String::new(), 0);
                reader.read_line(&mut line).expect("a line");
                let asked = ["POST /v1/chat/completions HTTP/1.1", "GET /v1/models HTTP/1.1"];
                assert!(asked.iter().any(|a| line.starts_with(a)), "{line}");
                while !line.trim().is_empty() {
                    line.clear();
                    reader.read_line(&mut line).expect("a line");
                    if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().expect("a number");
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let body: Value =
                    if length == 0 { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
                let n = counted.fetch_add(1, Ordering::SeqCst);
                let _ = reader.into_inner().write_all(reply(n, &body).as_bytes());
            });
        }
    });
    (url, count)
}

fn answer(text: &str) -> Value {
    json!({
        "choices": [{ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 3 },
    })
}

fn ok(value: &Value) -> String {
    let body = value.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn ask(url: &str, jobs: &[Job]) -> weft_evals::Result<Vec<Option<Answer>>> {
    let mut answers = vec![None; jobs.len()];
    let mut endpoint = Endpoint::parse(url).expect("an address");
    endpoint.generate(jobs, &mut |i, a| {
        answers[i] = Some(a);
        Ok(())
    })?;
    Ok(answers)
}

#[test]
fn every_job_is_answered_with_what_it_asked_for() {
    let (url, _) = serve(|n, body| {
        assert_eq!((body["model"].as_str(), body["max_tokens"].as_u64()), (Some("tiny"), Some(7)));
        let value = answer(&format!("to {}", body["messages"][0]["content"].as_str().expect("a text")));
        if n % 2 == 0 {
            return ok(&value);
        }
        // In two chunks, as servers without a length send.
        let body = value.to_string();
        let (a, b) = body.split_at(10);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
            a.len(),
            b.len()
        )
    });
    let jobs: Vec<Job> = (0..30).map(|i| Job::user(format!("job {i}"), 7)).collect();
    let answers = ask(&url, &jobs).expect("answered");
    for (i, a) in answers.iter().enumerate() {
        let a = a.as_ref().expect("an answer");
        assert_eq!(
            (a.text.as_str(), a.prompt_tokens, a.tokens, a.cut),
            (format!("to job {i}").as_str(), 5, 3, false)
        );
    }
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_told() {
    let (url, count) = serve(|n, _| match n {
        0 => "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
        1 => String::new(),
        _ => ok(&answer("at last")),
    });
    assert_eq!(ask(&url, &[Job::user("x", 1)]).expect("answered")[0].as_ref().expect("one").text, "at last");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let (url, count) = serve(|_, _| "HTTP/1.1 404 No\r\nContent-Length: 8\r\n\r\nno model".to_owned());
    let e = ask(&url, &[Job::user("x", 1)]).expect_err("refused").to_string();
    assert!(e.contains("status 404: no model") && e.contains("#tiny"), "{e}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let (url, count) = serve(|_, _| ok(&json!({ "error": "x" })));
    let e = ask(&url, &[Job::user("x", 1)]).expect_err("no answer").to_string();
    assert!(e.contains("choices[0].message") && e.contains("4 times") && e.contains("goes on later"), "{e}");
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

/// A proxy in front of a server that starts says so in HTML, and with status 200.
#[test]
fn an_answer_that_is_none_is_asked_for_again() {
    static TOLD: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>";
    let (url, count) = serve(move |n, _| match n {
        0 => page.to_owned(),
        1 => ok(&json!({ "choices": [] })),
        _ => ok(&answer("at last")),
    });
    let mut endpoint = Endpoint::parse(&url).expect("an address");
    endpoint.notice = |line| TOLD.lock().expect("nobody fails").push(line.to_owned());
    let mut said = String::new();
    let told = endpoint.generate(&[Job::user("x", 1)], &mut |_, a| {
        said = a.text;
        Ok(())
    });
    told.expect("answered");
    assert_eq!((said.as_str(), count.load(Ordering::SeqCst)), ("at last", 3));
    let lines = TOLD.lock().expect("nobody fails");
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("no JSON") && lines[0].contains("<html>") && lines[0].contains("1 of 3"),
        "{lines:?}"
    );
    assert!(lines[1].contains("choices[0].message") && lines[1].contains("2 of 3"), "{lines:?}");
}

#[test]
fn thinking_beside_the_answer_is_put_in_front_and_grammars_are_asked_for() {
    let (url, _) = serve(|_, body| {
        assert_eq!(body["response_format"]["json_schema"]["schema"], json!({ "type": "object" }));
        assert_eq!(body["chat_template_kwargs"]["enable_thinking"], false);
        let mut value = answer("B");
        value["choices"][0]["message"]["reasoning_content"] = "hmm".into();
        value["choices"][0]["finish_reason"] = "length".into();
        ok(&value)
    });
    let job = Job { schema: Some(json!({ "type": "object" })), thinking: Some(false), ..Job::user("x", 1) };
    let a = ask(&url, &[job]).expect("answered")[0].clone().expect("one");
    assert_eq!((a.text.as_str(), a.cut), ("<think>\nhmm\n</think>\n\nB", true));
}

#[test]
fn no_model_is_named_where_none_was_given() {
    let (url, _) = serve(|_, body| ok(&answer(if body.get("model").is_none() { "none" } else { "one" })));
    let url = url.trim_end_matches("#tiny");
    assert_eq!(ask(url, &[Job::user("x", 1)]).expect("answered")[0].as_ref().expect("one").text, "none");
}

#[test]
fn addresses_are_read_or_refused() {
    for (url, want) in
        [("https://x/v1", "put a proxy"), ("http://:80/v1", "no host"), ("http://x:y/v1", "port")]
    {
        assert!(Endpoint::parse(url).expect_err("wrong").to_string().contains(want), "{url}");
    }
    assert_eq!(Endpoint::parse("http://h:8080").expect("right").name(), "http://h:8080");
}

#[test]
fn a_server_is_asked_for_the_name_of_its_model() {
    let listed = |models: &'static [(&'static str, bool)]| {
        let (url, _) = serve(move |_, body| match body {
            Value::Null => {
                let all =
                    models.iter().map(|(id, answers)| json!({ "id": id, "meta": { "answers": answers } }));
                ok(&json!({ "data": all.collect::<Vec<_>>() }))
            }
            body => ok(&answer(&format!("I am {}", body["model"].as_str().unwrap_or("nobody")))),
        });
        let url = url.strip_suffix("#tiny").expect("a name").to_owned();
        let mut endpoint = Endpoint::parse(&url).expect("an address").settle().map_err(|e| e.to_string())?;
        let mut said = String::new();
        let told = endpoint.generate(&[Job::user("Who?", 7)], &mut |_, a| {
            said = a.text;
            Ok(())
        });
        told.map(|()| said).map_err(|e| e.to_string())
    };
    assert_eq!(listed(&[("vectors", false), ("small", true)]), Ok("I am small".into()));
    assert_eq!(listed(&[]), Ok("I am nobody".into()));
    let several = listed(&[("small", true), ("large", true)]).expect_err("which one is not said");
    assert!(several.contains("has the models small, large; name one behind the address, such as #small"));
}
