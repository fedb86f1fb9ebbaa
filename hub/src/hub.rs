//! What a hub says that a repository holds, in the shape that Hugging Face's has.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::http::{self, Answer, Patience};
use crate::name::{Which, has_quant, split, stem};
use crate::url::Url;

/// Bytes of a repository's description at most.
const MOST: usize = 32 << 20;

/// A file that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) url: Url,
    /// Its name there, without folders.
    pub(crate) file: String,
    pub(crate) size: Option<u64>,
    /// SHA-256 in hexadecimal.
    pub(crate) sha256: Option<String>,
}

/// A checksum, if it is one.
pub(crate) fn sha256(text: &str) -> Option<String> {
    let text = text.trim().trim_matches('"').trim_start_matches("sha256:");
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// What a status says, other than that all is well. `what` is what was asked for.
pub(crate) fn refused(answer: &Answer, what: &str, token: bool) -> Error {
    let host = &answer.url.host;
    let code = answer.header("x-error-code").unwrap_or_default();
    let (kind, line) = match answer.status {
        401 | 403 => {
            let way = match token {
                true => "the token of HF_TOKEN may not have it; its page may ask to accept terms first",
                false => {
                    "it is private, or asks to accept terms, or there is none; a token is given by HF_TOKEN"
                }
            };
            (Kind::Denied, format!("{what}: {host} does not give it ({}); {way}", answer.status))
        }
        404 | 410 => {
            let line = match code {
                "EntryNotFound" => "has no such file",
                _ => "has no such model",
            };
            (Kind::Missing, format!("{what}: {host} {line}"))
        }
        429 => (Kind::Limited, format!("{what}: {host} says that too much was asked of it lately (429)")),
        408 | 500..=599 => (Kind::Network, format!("{what}: {host} fails with {}", answer.status)),
        status => (Kind::Protocol, format!("{what}: {host} answers with {status}")),
    };
    let after = answer.header("retry-after").and_then(|v| v.parse().ok()).map(std::time::Duration::from_secs);
    Error { kind, line, after }
}

/// The files of a repository that are meant, a split model's in order, and the revision that they are of.
pub(crate) fn files(
    endpoint: &Url,
    (repo, which): (&str, &Which),
    token: Option<&str>,
    patience: &Patience<'_>,
) -> Result<(Vec<Remote>, Option<String>)> {
    let url = endpoint.below(&format!("api/models/{repo}/revision/main?blobs=true"));
    let mut answer = http::get(&url, &[], token, patience)?;
    if answer.status != 200 {
        return Err(refused(&answer, repo, token.is_some()));
    }
    let text = answer.text(MOST, patience)?;
    let odd =
        |why: &str| Error::new(Kind::Protocol, format!("{url}: {why}; is it a hub as Hugging Face's is?"));
    let told: Value = serde_json::from_slice(&text).map_err(|_| odd("the answer is no JSON"))?;
    let siblings = told["siblings"].as_array().ok_or_else(|| odd("no files are listed"))?;
    let revision =
        told["sha"].as_str().filter(|s| s.len() <= 64 && s.bytes().all(|b| b.is_ascii_alphanumeric()));
    let at = revision.unwrap_or("main");
    let mut all = BTreeMap::new();
    for one in siblings {
        let Some(path) = one["rfilename"].as_str() else { continue };
        // What no name here can mean is not offered.
        if stem(path).is_none() || crate::Name::parse(&format!("{repo}/{path}")).is_err() {
            continue;
        }
        let remote = Remote {
            url: endpoint.below(&format!("{repo}/resolve/{at}/{path}")),
            file: path.rsplit('/').next().unwrap_or_default().to_owned(),
            size: one["lfs"]["size"].as_u64().or_else(|| one["size"].as_u64()),
            sha256: one["lfs"]["sha256"].as_str().or_else(|| one["lfs"]["oid"].as_str()).and_then(sha256),
        };
        all.insert(path.to_owned(), remote);
    }
    let first = choose(&all, repo, which)?;
    let parts = shards(&all, first)?;
    Ok((parts, revision.map(str::to_owned)))
}

/// The path of the first file of the model that is meant.
fn choose<'a>(all: &'a BTreeMap<String, Remote>, repo: &str, which: &Which) -> Result<&'a str> {
    let known = |p: &&String| {
        let file = p.rsplit('/').next().unwrap_or_default();
        // Projectors of pictures and importance matrices are no models.
        let other = ["mmproj", "imatrix"].iter().any(|w| file.to_ascii_lowercase().contains(w));
        !other && stem(file).and_then(split).is_none_or(|(_, no, _)| no == 1)
    };
    let models: Vec<&String> = all.keys().filter(known).collect();
    let list = || {
        let mut names: Vec<&str> = models.iter().map(|p| p.as_str()).take(24).collect();
        if models.len() > names.len() {
            names.push("...");
        }
        names.join(", ")
    };
    let fail = |kind, line: String| Err(Error::new(kind, line));
    if let Which::File(path) = which {
        return match all.get_key_value(path) {
            Some((path, _)) => Ok(path),
            None => fail(Kind::Missing, format!("{repo} has no file {path}; there are: {}", list())),
        };
    }
    if models.is_empty() {
        return fail(
            Kind::Missing,
            format!("{repo} holds no GGUF file; `weft convert` makes one of what it holds"),
        );
    }
    let quant = match which {
        Which::Quant(quant) => quant,
        _ if models.len() == 1 => return Ok(models[0]),
        _ => "Q4_K_M",
    };
    let fits: Vec<&&String> = models.iter().filter(|p| has_quant(p, quant)).collect();
    match (&fits[..], which) {
        ([one], _) => Ok(one),
        ([], Which::Usual) => fail(
            Kind::Name,
            format!("{repo} holds several models, name one as {repo}:QUANT; there are: {}", list()),
        ),
        ([], _) => fail(Kind::Missing, format!("{repo} has no {quant}; there are: {}", list())),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|p| p.as_str()).collect();
            let line =
                format!("{repo} has several of {quant}, name one as {repo}/FILE: {}", names.join(", "));
            fail(Kind::Name, line)
        }
    }
}

/// All files of the model that `path` is a file of.
fn shards(all: &BTreeMap<String, Remote>, path: &str) -> Result<Vec<Remote>> {
    let Some((name, _, count)) = stem(path).and_then(split) else { return Ok(vec![all[path].clone()]) };
    let part = |no: u32| {
        let path = format!("{name}-{no:05}-of-{count:05}.gguf");
        all.get(&path)
            .cloned()
            .ok_or_else(|| Error::new(Kind::Missing, format!("a part of it is missing there: {path}")))
    };
    (1..=count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Remote, choose, sha256, shards};
    use crate::Url;
    use crate::name::Which;

    fn holds(paths: &[&str]) -> BTreeMap<String, Remote> {
        let remote = |path: &str| {
            let url = Url::parse("http://hub/").unwrap().below(path);
            Remote { url, file: path.rsplit('/').next().unwrap().into(), size: None, sha256: None }
        };
        paths.iter().map(|p| ((*p).to_owned(), remote(p))).collect()
    }

    #[test]
    fn one_model_is_chosen_or_the_names_are_told() {
        let quant = |q: &str| Which::Quant(q.into());
        let all = holds(&[
            "m-Q4_K_M.gguf",
            "m-Q8_0.gguf",
            "mmproj-m-F16.gguf",
            "F16/m-F16-00001-of-00002.gguf",
            "F16/m-F16-00002-of-00002.gguf",
        ]);
        assert_eq!(choose(&all, "a/b", &Which::Usual), Ok("m-Q4_K_M.gguf"));
        assert_eq!(choose(&all, "a/b", &quant("q8_0")), Ok("m-Q8_0.gguf"));
        assert_eq!(choose(&all, "a/b", &quant("F16")), Ok("F16/m-F16-00001-of-00002.gguf"));
        let missing = choose(&all, "a/b", &quant("Q2_K")).unwrap_err();
        assert!(
            missing.line.contains("there are: F16/m-F16-00001-of-00002.gguf, m-Q4_K_M.gguf, m-Q8_0.gguf"),
            "{missing}"
        );
        assert_eq!(shards(&all, "F16/m-F16-00002-of-00002.gguf").unwrap().len(), 2);
        assert_eq!(choose(&holds(&["x.gguf"]), "a/b", &Which::Usual), Ok("x.gguf"));
        assert!(choose(&holds(&["x-Q2_K.gguf", "x-Q8_0.gguf"]), "a/b", &Which::Usual).is_err());
        assert!(choose(&holds(&["x/m-Q8_0.gguf", "y/m-Q8_0.gguf"]), "a/b", &quant("Q8_0")).is_err());
        assert!(choose(&holds(&[]), "a/b", &Which::Usual).is_err());
        let broken = holds(&["m-00001-of-00002.gguf"]);
        assert!(shards(&broken, "m-00001-of-00002.gguf").unwrap_err().line.contains("m-00002-of-00002.gguf"));
    }

    #[test]
    fn checksums_are_64_digits() {
        assert_eq!(sha256(&format!("\"{}\"", "A0".repeat(32))), Some("a0".repeat(32)));
        assert_eq!((sha256("a0"), sha256(&"g0".repeat(32))), (None, None));
    }
}
