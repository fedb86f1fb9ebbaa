//! The page: its files are in the binary, and nothing is read from a disk when it is asked for.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

use crate::app::App;

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    tag: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What a browser may do on the page: nothing inline, nothing from elsewhere, in no frame.
const POLICY: &str = include_str!("../../../web/csp.txt");

/// Whether there is a file of the page at `path`. It holds nothing secret, so it is given without a key.
pub(crate) fn has(path: &str) -> bool {
    FILES.iter().any(|f| f.path == path)
}

/// Adds a route for each file.
pub(super) fn add(router: Router<Arc<App>>) -> Router<Arc<App>> {
    FILES.iter().fold(router, |router, file| {
        router.route(file.path, get(move |headers| async move { answer(file, &headers) }))
    })
}

/// Whether a header that holds a list names `word`, and not with the weight 0.
fn names(headers: &HeaderMap, header: HeaderName, word: &str) -> bool {
    let all = headers.get_all(header).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    all.map(|part| part.split(';').map(str::trim)).any(|mut part| {
        let is = part.next().is_some_and(|name| name.eq_ignore_ascii_case(word) || name == "*");
        is && !part.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
    })
}

fn answer(file: &'static File, headers: &HeaderMap) -> Response {
    let gzip = file.gzip.filter(|_| names(headers, header::ACCEPT_ENCODING, "gzip"));
    // Both forms of a file are the same file, but not the same bytes.
    let tag = format!("\"{}{}\"", file.tag, if gzip.is_some() { "-gzip" } else { "" });
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known
        .flat_map(|v| v.split(','))
        .map(|t| t.trim().trim_start_matches("W/"))
        .any(|t| t == tag || t == "*");
    let mut response = Response::new(match known {
        true => Body::empty(),
        false => Body::from(gzip.unwrap_or(file.plain)),
    });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let to = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            to.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, file.kind);
    set(header::ETAG, &tag);
    // A newer server has a newer page: the browser asks each time, and is told that nothing changed.
    set(header::CACHE_CONTROL, "no-cache");
    set(header::VARY, "accept-encoding");
    set(header::CONTENT_SECURITY_POLICY, POLICY.trim());
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    );
    if gzip.is_some() {
        set(header::CONTENT_ENCODING, "gzip");
    }
    response
}
