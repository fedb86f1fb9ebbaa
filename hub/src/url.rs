//! Addresses of http and https.

use crate::error::{Error, Kind, Result};

/// Characters of an address at most; signed ones of hubs have a thousand.
const LONGEST: usize = 8192;

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether it is reached by TLS.
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path with the query, from its slash on.
    pub(crate) target: String,
}

fn wrong(text: &str, why: &str) -> Error {
    let shown: String = text.split('?').next().unwrap_or_default().chars().take(120).collect();
    Error::new(Kind::Name, format!("{shown}: {why}"))
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH][?QUERY]`, or the same with https.
    ///
    /// # Errors
    /// Another scheme, no host, a name and password, or characters that no address has.
    pub fn parse(text: &str) -> Result<Url> {
        let (tls, rest) = match text.split_once("://") {
            Some((s, rest)) if s.eq_ignore_ascii_case("http") => (false, rest),
            Some((s, rest)) if s.eq_ignore_ascii_case("https") => (true, rest),
            _ => return Err(wrong(text, "is no address; it begins with http:// or https://")),
        };
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b))
        {
            return Err(wrong("the address", "has characters that no address has, or too many"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(cut);
        if authority.contains('@') {
            return Err(wrong("the address", "holds a name or a password; give a token by HF_TOKEN"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or_else(|| wrong(text, "a ']' is missing"))?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong(text, "its host is no address"))?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let known = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(known) {
            return Err(wrong(text, "has no host"));
        }
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(wrong(text, "its port is no number from 1 to 65535")),
            },
        };
        let target = match target.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{target}"),
            Some(_) => target.to_owned(),
        };
        Ok(Url { tls, host: host.to_ascii_lowercase(), port, target })
    }

    /// What a `Location` of an answer from here means.
    pub(crate) fn join(&self, location: &str) -> Result<Url> {
        let scheme = if self.tls { "https" } else { "http" };
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let path = self.path();
        let target = match location.starts_with('/') {
            true => location.to_owned(),
            false => format!("{}/{location}", path.rsplit_once('/').map_or("", |p| p.0)),
        };
        Url::parse(&format!("{scheme}://{}{target}", self.authority()))
    }

    /// The same server, another path below this one's.
    pub(crate) fn below(&self, path: &str) -> Url {
        let base = self.path().trim_end_matches('/');
        Url { target: format!("{base}/{path}"), ..self.clone() }
    }

    /// Host and port, as the `Host` header has them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn is_same_server(&self, other: &Url) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Whether nobody between here and there can read along.
    pub(crate) fn is_private(&self) -> bool {
        let loopback = self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.tls || loopback || self.host == "localhost"
    }
}

/// Without the query, which may hold a signature.
impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path();
        let path = if path == "/" { "" } else { path };
        write!(f, "http{}://{}{path}", if self.tls { "s" } else { "" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn addresses_are_read() {
        for (text, shown, target) in [
            ("http://a", "http://a", "/"),
            (
                "HTTPS://Hub.Example:8443/x/y.gguf?sig=1#top",
                "https://hub.example:8443/x/y.gguf",
                "/x/y.gguf?sig=1",
            ),
            ("http://[::1]:80/a", "http://[::1]/a", "/a"),
            ("http://a?b", "http://a", "/?b"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.target.as_str()), (shown, target));
        }
        for text in [
            "ftp://a",
            "a",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:x",
            "http://a:70000",
            "http://u:p@a/",
            "http://a/ b",
            "http://a/\r\nX: y",
            "http://[::1/",
            "http://a b/",
            "file:///etc/passwd",
            "http://ä/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirects_are_followed_as_written() {
        let from = Url::parse("https://hub/a/b?c").unwrap();
        for (location, want) in [
            ("https://cdn/x?s=1", "https://cdn/x"),
            ("//cdn/x", "https://cdn/x"),
            ("/x", "https://hub/x"),
            ("x", "https://hub/a/x"),
            ("http://cdn/x", "http://cdn/x"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), want);
        }
        assert!(from.join("gopher://x/").is_err());
    }
}
