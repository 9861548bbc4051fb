//! Events, as API Gateway passes them to the function.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::Request;
use presigned_upload::event::Event;
use serde_json::{Value, json};

use crate::support::{app::API_KEY, files::read};

/// Reads a file of `events/`.
#[track_caller]
pub(crate) fn event(name: &str) -> String {
    read(&format!("events/{name}"))
}

/// Converts an event to a request, as `main` does.
#[track_caller]
pub(crate) fn request(event: &str) -> Request {
    let Event::Request(request) = serde_json::from_str(event).unwrap() else { panic!("{event} is not a request") };
    (*request).into()
}

/// An event of an HTTP API (payload 2.0): `events/media.json` with another method, path, headers or body.
#[derive(Clone, Debug)]
pub(crate) struct HttpApiEvent(Value);

impl HttpApiEvent {
    /// A request with [`API_KEY`] and no body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let mut event: Value = serde_json::from_str(&event("media.json")).unwrap();
        event["rawPath"] = json!(path);
        event["requestContext"]["http"]["path"] = json!(path);
        event["requestContext"]["http"]["method"] = json!(method);
        event.as_object_mut().unwrap().remove("body");
        Self(event).without_header("content-length").api_key(API_KEY)
    }

    /// A `POST` of a JSON body with [`API_KEY`].
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).body(&body.to_string())
    }

    pub(crate) fn api_key(self, api_key: &str) -> Self {
        self.header("authorization", &format!("Bearer {api_key}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"][name] = json!(value);
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.0["headers"].as_object_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.0["body"] = json!(body);
        self
    }

    pub(crate) fn base64_body(mut self, body: &[u8]) -> Self {
        self.0["body"] = json!(BASE64_STANDARD.encode(body));
        self.0["isBase64Encoded"] = json!(true);
        self
    }

    pub(crate) fn request(&self) -> Request {
        request(&self.to_string())
    }
}

/// Writes the event as JSON.
impl fmt::Display for HttpApiEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
