//! What is wrong with a request, as a client is told: one shape for every route of OpenAI's.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// `Result` with this crate's [`ApiError`].
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// An answer that says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// The field that is at fault.
    pub param: Option<String>,
    /// A word for programs.
    pub code: &'static str,
    /// A line for people.
    pub message: String,
    /// After how many seconds it is worth trying again.
    pub retry_after: Option<u64>,
    /// Tokens of a prompt that is too long, and those that there is room for.
    pub tokens: Option<(u32, u32)>,
    /// Whether the same request fails until somebody mends what it needs, so that clients should not repeat it.
    pub lasts: bool,
}

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        let message = message.into();
        ApiError { status, kind, param: None, code, message, retry_after: None, tokens: None, lasts: false }
    }

    /// 400: the request cannot be honoured.
    pub fn bad(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// 400 for the value of a field.
    pub fn value(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::bad("invalid_value", message).at(param)
    }

    /// 400 for a field, or a value of one, that makes sense and is not served here.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::bad("unsupported_parameter", message).at(param)
    }

    /// 401: no key, or a wrong one.
    pub fn key(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// 403: who asks may not.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", code, message)
    }

    /// 404.
    pub fn missing(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found_error", code, message)
    }

    /// A status of HTTP itself: 405, 413, 415.
    pub fn http(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(status, "invalid_request_error", code, message)
    }

    /// 429: whoever holds this key has asked for their share.
    pub fn too_many(message: impl Into<String>, retry_after: u64) -> ApiError {
        let e = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full", message);
        ApiError { retry_after: Some(retry_after), ..e }
    }

    /// 503: not now.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after: u64) -> ApiError {
        let e = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", code, message);
        ApiError { retry_after: Some(retry_after), ..e }
    }

    /// 500: a fault of ours.
    pub fn fault(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// 500 for a model that cannot be opened, now or later: its file is broken, or too large for the device.
    pub fn broken_model(message: impl Into<String>) -> ApiError {
        let kind = "server_error";
        let e = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind, "model_failed", message);
        ApiError { lasts: true, ..e }
    }

    /// 400: more tokens than there is room for, with both numbers.
    pub fn too_long(message: impl Into<String>, tokens: usize, room: usize) -> ApiError {
        let e = ApiError::bad("context_length_exceeded", message);
        ApiError { tokens: Some((tokens as u32, room as u32)), ..e }
    }

    /// The same, with the field that is at fault.
    #[must_use]
    pub fn at(self, param: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.into()), ..self }
    }

    /// `{"error": {...}}`, as an answer and as an event of a stream.
    pub fn json(&self) -> String {
        let mut error = serde_json::json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        });
        if let Some((prompt, context)) = self.tokens {
            // As llama.cpp's clients read them.
            error["n_prompt_tokens"] = prompt.into();
            error["n_ctx"] = context.into();
        }
        serde_json::json!({ "error": error }).to_string()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.lasts {
            // OpenAI's and Anthropic's clients repeat what ends in a 500, but for this.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::ApiError;

    /// What no repetition mends is not repeated by the clients that repeat what ends in a 500.
    #[test]
    fn a_broken_model_is_not_asked_for_again() {
        let header = |e: ApiError, name: &str| e.into_response().headers().get(name).cloned();
        assert_eq!(header(ApiError::broken_model("x"), "x-should-retry").expect("told"), "false");
        assert_eq!(header(ApiError::broken_model("x"), "retry-after"), None);
        assert_eq!(header(ApiError::fault("x"), "x-should-retry"), None);
        assert_eq!(header(ApiError::unavailable("overloaded", "x", 3), "retry-after").expect("told"), "3");
    }

    #[test]
    fn errors_have_openai_s_shape() {
        let e = ApiError::value("top_p", "\"top_p\" must be from 0 to 1, not \"x\"");
        let want = r#"{"error":{"message":"\"top_p\" must be from 0 to 1, not \"x\"","type":"invalid_request_error","param":"top_p","code":"invalid_value"}}"#;
        assert_eq!(e.json(), want);
    }
}
