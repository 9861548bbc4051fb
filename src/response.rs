//! HTTP responses: JSON bodies, their headers, and the problem format (RFC 9457).

use lambda_http::{
    Body, Response,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;

use crate::{
    body::{BodyError, FieldError},
    error::Error,
};

/// The initial capacity in bytes: enough for most bodies, to avoid reallocations.
const BODY_CAPACITY: usize = 4096;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// When a caller may try again after a 503, in seconds: S3 needs a moment to recover or to scale.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("5");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Returns a 200 response with a JSON body.
#[must_use]
pub fn ok(body: &impl Serialize) -> Response<Body> {
    respond(StatusCode::OK, JSON, body)
}

/// Returns the response to a request that was rejected or failed: a problem (RFC 9457).
#[must_use]
pub fn problem(error: &Error) -> Response<Body> {
    let status = error.status();
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason(),
        status: status.as_u16(),
        code: error.code(),
        detail: match error {
            Error::ObjectStore(_) => Error::CONFIRMATION_FAILED.to_owned(),
            _ if status.is_server_error() => Error::UPLOAD_FAILED.to_owned(),
            _ => error.to_string(),
        },
        details: match error {
            Error::Body(BodyError::Fields(fields)) => Some(Details { fields }),
            _ => None,
        },
    };
    let mut response = respond(status, PROBLEM_JSON, &problem);
    match error {
        Error::MissingApiKey | Error::UnknownApiKey => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Error::MethodNotAllowed { allow } => {
            response.headers_mut().extend(HeaderValue::from_str(allow).ok().map(|allow| (ALLOW, allow)));
        }
        _ if status == StatusCode::SERVICE_UNAVAILABLE => {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECS);
        }
        _ => {}
    }
    response
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: Option<&'static str>,
    status: u16,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    fields: &'a [FieldError],
}

#[expect(
    clippy::expect_used,
    reason = "strings, integers and objects with string names are always JSON, which is UTF-8"
)]
fn respond(status: StatusCode, content_type: HeaderValue, body: &impl Serialize) -> Response<Body> {
    let mut json = Vec::with_capacity(BODY_CAPACITY);
    serde_json::to_writer(&mut json, body).expect("the body is JSON");
    let body = String::from_utf8(json).expect("JSON is UTF-8");
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
