//! Connections: bounded in number and in time, ended in order.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::app::{App, Told};
use crate::error::{ApiError, Result};
use crate::guard::{HEAD, Who};
use crate::peers::forward;
use crate::peers::listen::{self, Key};
use crate::{guard, routes};

/// Headers of answers that pages of other origins may read.
const EXPOSED: &str = "x-request-id, retry-after, x-weft-machine, x-weft-away, x-weft-queue-position, x-weft-queue-ms, \
                       x-weft-prefill-ms, x-weft-decode-ms, x-weft-cached-tokens, x-weft-draft-tokens, \
                       x-weft-draft-tokens-accepted";

/// All routes behind the guard.
pub fn router(app: Arc<App>) -> Router {
    let forward = from_fn_with_state(app.clone(), forward::forward);
    routes::router().layer(forward).layer(from_fn_with_state(app.clone(), enter)).with_state(app)
}

/// The routes that other machines may ask, for one whose channel says who it is.
pub(crate) fn peer_router(app: Arc<App>) -> Router {
    routes::peer_router().layer(from_fn_with_state(app.clone(), enter_peer)).with_state(app)
}

/// What every request passes.
async fn enter(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = guard::allowed_origin(&app.config, request.headers()).map(str::to_owned);
    let preflight = *request.method() == Method::OPTIONS;
    // A page of a named origin may send what its client sends: OpenAI's and Anthropic's have headers of their own.
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = match guard::check(&app.config, &request) {
        Ok(_) if preflight => StatusCode::NO_CONTENT.into_response(),
        checked => answer(&app, request, next, checked).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        let mut set = |name: header::HeaderName, value: &str| set(headers, name, value);
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        set(header::VARY, "origin");
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE");
            let wanted = wanted.as_ref().and_then(|w| w.to_str().ok()).filter(|w| w.len() <= 1024);
            let usual = "authorization, content-type, last-event-id, x-api-key";
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(usual));
            set(header::ACCESS_CONTROL_MAX_AGE, "600");
        }
    }
    response
}

/// What every request of another machine passes.
async fn enter_peer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let known = request.extensions().get::<Key>().is_some_and(|key| key.is_known(&app));
    let checked = match request.extensions().get::<Who>() {
        Some(who) if known => guard::check_peer(&request).map(|()| *who),
        _ => Err(ApiError::forbidden("not_paired", "this machine is no longer paired")),
    };
    answer(&app, request, next, checked).await
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The answer to a request that the guard has looked at.
async fn answer(app: &App, mut request: Request, next: Next, checked: Result<Who>) -> Response {
    let id = format!("req_{:016x}", app.id());
    let began = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(120).collect();
    // A machine has no line in the file of keys.
    let key = checked.as_ref().ok().filter(|who| !who.is_peer()).map_or(0, |who| who.0);
    let mut response = match checked {
        Err(e) => e.into_response(),
        Ok(_) if app.ending.load(Ordering::Relaxed) && method == Method::POST => {
            ApiError::unavailable("ending", "the server is ending", 10).into_response()
        }
        Ok(who) => {
            request.extensions_mut().insert(who);
            caught(next.run(request)).await
        }
    };
    if let Some(e) = response.extensions().get::<ApiError>() {
        if e.status.is_server_error() {
            (app.config.log)(&format!("{id} {method} {path}: {} {}", e.status.as_u16(), e.message));
        }
        // Whoever refused it: a route, what no route takes, or the guard.
        let body = routes::error_body(&path, e);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = body.into();
    }
    if let Some(hear) = &app.config.requests {
        let (method, status) = (method.as_str(), response.status().as_u16());
        hear(&Told { id: &id, method, path: &path, status, took: began.elapsed(), key });
    }
    let headers = response.headers_mut();
    set(headers, header::HeaderName::from_static("x-request-id"), &id);
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(peers) = &app.peers
        && !headers.contains_key(forward::MACHINE)
    {
        set(headers, forward::MACHINE, peers.name());
    }
    response
}

/// A panic of one request is an answer of its own.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    let mut answer = Box::pin(answer);
    poll_fn(move |cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        poll.unwrap_or_else(|_| {
            ApiError::fault("a bug in the server ended this request").into_response().into()
        })
    })
    .await
}

/// Answers on `listener` until `end` is done; then the streams that are open may go on for the time of
/// [`Config::grace`](crate::Config).
pub async fn serve_until(app: Arc<App>, listener: TcpListener, end: impl Future<Output = ()>) {
    let router = router(app.clone());
    let room = Arc::new(Semaphore::new(app.config.connections));
    let (ending, is_ending) = watch::channel(false);
    let mut end = pin!(end);
    tokio::spawn(listen::listen(app.clone(), room.clone(), is_ending.clone()));
    if !app.shelves.is_empty() {
        tokio::spawn(sweep(Arc::downgrade(&app)));
    }
    loop {
        let next = async {
            // A connection beyond the bound waits in the system's queue.
            let permit = room.clone().acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        tokio::select! {
            () = &mut end => break,
            next = next => match next {
                Some((permit, Ok((stream, _)))) => {
                    // Tokens go out when they come.
                    let _ = stream.set_nodelay(true);
                    let one = connection(app.clone(), router.clone(), stream, is_ending.clone());
                    tokio::spawn(async move {
                        one.await;
                        drop(permit);
                    });
                }
                // Too many open files, for instance: others may close theirs.
                Some((_, Err(_))) => tokio::time::sleep(Duration::from_millis(50)).await,
                None => break,
            },
        }
    }
    drop(listener);
    app.ending.store(true, Ordering::Relaxed);
    if let Some(jobs) = &app.jobs {
        jobs.end();
    }
    if let Some(pulls) = &app.config.pulls {
        pulls.stop();
    }
    if let Some(exams) = &app.exams {
        exams.lane.end();
    }
    if let Some(tasks) = &app.tasks {
        tasks.lane.end();
    }
    let deadline = Instant::now() + app.config.grace;
    for engine in app.open_models().iter().filter_map(|m| m.engine.as_ref()) {
        engine.end(deadline.into_std());
    }
    // Who asked nothing is sent away, who waits for an answer gets it.
    ending.send_replace(true);
    let all = u32::try_from(app.config.connections).unwrap_or(u32::MAX);
    let drained = room.acquire_many(all);
    let _ = tokio::time::timeout_at(deadline + Duration::from_secs(1), drained).await;
}

/// Closes models that nobody asks for, as long as there is a server.
async fn sweep(app: Weak<App>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(app) = app.upgrade() else { return };
        for shelf in &app.shelves {
            tokio::task::block_in_place(|| shelf.sweep());
        }
    }
}

/// Speaks HTTP over one connection until either side ends it.
pub(crate) async fn connection(
    app: Arc<App>,
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut ending: watch::Receiver<bool>,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(app.config.read_timeout).max_buf_size(HEAD);
    let mut conn = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let mut told = false;
    loop {
        tokio::select! {
            // A client that breaks off is no fault of anybody's.
            _ = conn.as_mut() => return,
            changed = ending.changed(), if !told => {
                told = true;
                if changed.is_ok() {
                    conn.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
