//! Requests for a model of another machine go there; what cannot go there is answered here where that was asked for.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

use super::Peers;
use super::folder::Machine;
use super::relay::{Parts, Relay, Rename};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::routes;

/// Says which machine answers.
pub(crate) const MACHINE: HeaderName = HeaderName::from_static("x-weft-machine");
/// Says which machine would have, had it not been away.
pub(crate) const AWAY: HeaderName = HeaderName::from_static("x-weft-away");

/// Bytes of an answer that comes at once.
const WHOLE: usize = 256 << 20;

/// A body that was read on the way to its route.
#[derive(Clone)]
pub(crate) struct Read(pub(crate) Result<Value>);

/// A model of another machine.
struct Asked {
    model: String,
    machine: Machine,
}

impl Peers {
    /// What a name of a model means, if it is one of another machine's.
    fn asked(&self, app: &App, name: &str) -> Option<Asked> {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let (model, machine) = name.rsplit_once('@')?;
        if app.names().iter().any(|n| n == name) {
            return None;
        }
        Some(Asked { model: model.into(), machine: self.machine(machine)? })
    }

    /// The answer of another machine, with the name that the model has here.
    async fn answer(
        &self,
        asked: &Asked,
        what: (&Method, &str, Bytes),
    ) -> std::result::Result<Response, String> {
        let (method, target, body) = what;
        let reach = self.reach(asked.machine.clone())?;
        let (parts, body) = reach.ask(method, target, body).await?.into_parts();
        let body = Body::new(body);
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let rename = Rename::new(&asked.model, &asked.machine.name);
        let streamed = match kind {
            k if k.starts_with("text/event-stream") => Some(Parts::Events),
            k if k.starts_with("application/x-ndjson") => Some(Parts::Lines),
            _ => None,
        };
        let body = match streamed {
            Some(kind) => {
                let (path, machine) = (target.to_owned(), asked.machine.name.clone());
                let broken = Box::new(move |count| routes::last_words(&path, &lost(&machine), count));
                Body::from_stream(Relay::new(body, kind, rename, broken))
            }
            None => {
                let read = axum::body::to_bytes(body, WHOLE).await;
                let read = read.map_err(|_| "it broke off in the middle of its answer".to_owned())?;
                let mut whole = Vec::with_capacity(read.len() + 64);
                rename.write(&read, &mut whole);
                Body::from(whole)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        let keep = [
            header::CONTENT_TYPE,
            header::CACHE_CONTROL,
            header::RETRY_AFTER,
            HeaderName::from_static("x-accel-buffering"),
        ];
        for name in keep {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        name_machine(&mut response, MACHINE, &asked.machine.name);
        Ok(response)
    }

    /// The model of this machine that answers in place of another machine's: the one of the same name, or the one that whoever
    /// runs the server named.
    fn stand_in(&self, app: &App, model: &str) -> Option<String> {
        let own = app.names();
        [Some(model), self.fallback.as_deref()]
            .into_iter()
            .flatten()
            .find(|m| own.iter().any(|n| n == m))
            .map(str::to_owned)
    }
}

/// Says in a header which machine it was.
pub(crate) fn name_machine(response: &mut Response, header: HeaderName, name: &str) {
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert(header, name);
    }
}

fn lost(machine: &str) -> ApiError {
    let line = format!("\"{machine}\" broke off in the middle of the answer; ask again");
    ApiError::unavailable("machine_lost", line, 1)
}

/// What every request passes that the guard let in.
pub(crate) async fn forward(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(peers) = &app.peers else { return next.run(request).await };
    let path = request.uri().path();
    if *request.method() == Method::GET && path == "/props" {
        return props(&app, peers, request, next).await;
    }
    if *request.method() != Method::POST || !routes::is_inference(path) {
        return next.run(request).await;
    }
    let target = path.to_owned();
    let (parts, body) = request.into_parts();
    let mut read = routes::read(body, &app).await;
    let field = |v: &Value| ["model", "name"].into_iter().find(|f| v[*f].is_string());
    let named = read.as_ref().ok().and_then(|v| field(v).map(|f| (f, v[f].as_str().unwrap_or_default())));
    let asked = named.and_then(|(f, name)| Some((f, peers.asked(&app, name)?)));
    let mut away = None;
    if let (Ok(body), Some((field, asked))) = (&mut read, asked) {
        body[field] = asked.model.as_str().into();
        let bytes = Bytes::from(body.to_string());
        match peers.answer(&asked, (&Method::POST, &target, bytes)).await {
            Ok(response) => return response,
            Err(why) => {
                let machine = asked.machine.name;
                match peers.stand_in(&app, &asked.model) {
                    Some(model) => {
                        (app.config.log)(&format!(
                            "\"{model}\" answers for \"{machine}\", which is away: {why}"
                        ));
                        body[field] = model.into();
                        away = Some(machine);
                    }
                    None => {
                        let line = format!(
                            "\"{machine}\" is away: {why}; --fallback names a model that answers then"
                        );
                        read = Err(ApiError::unavailable("machine_away", line, 5).at("model"));
                    }
                }
            }
        }
    }
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(Read(read));
    let mut response = next.run(request).await;
    if let Some(machine) = away {
        name_machine(&mut response, AWAY, &machine);
    }
    response
}

/// GET /props says how another machine's model is, too.
async fn props(app: &App, peers: &Peers, request: Request, next: Next) -> Response {
    let named = routes::query(request.uri().query(), "model");
    let Some(asked) = named.and_then(|name| peers.asked(app, &name)) else { return next.run(request).await };
    let target = format!("/props?model={}", asked.model.replace('+', "%2B"));
    match peers.answer(&asked, (&Method::GET, &target, Bytes::new())).await {
        Ok(response) => response,
        Err(why) => {
            let line = format!("\"{}\" is away: {why}", asked.machine.name);
            axum::response::IntoResponse::into_response(ApiError::unavailable("machine_away", line, 5))
        }
    }
}
