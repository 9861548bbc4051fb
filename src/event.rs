//! Events of API Gateway and function URLs, made safe for `lambda_http`, and told apart from all other events.
//!
//! `lambda_http` builds a whole URL from an event and panics if that URL is not valid: a query string with a `<` in it
//! or an odd `Host` header is enough. The only place to prevent this is its `LambdaRequest`, which is
//! `#[doc(hidden)]`, so an update may move it.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{http::header::HOST, request::LambdaRequest};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The maximum length of stage and path together, in bytes: far more than any route needs, far less than a URL allows.
const MAX_PATH_BYTES: usize = 1024;

/// An event, as Lambda delivers it.
#[derive(Debug)]
pub enum Event {
    /// An HTTP request, which cannot make `lambda_http` panic.
    Request(Box<LambdaRequest>),
    /// Anything else, such as a scheduled event or a test event of the console.
    Other(NotARequest),
}

/// Every JSON value is one or the other. `lambda_http`'s own `Deserialize` reports only that an event is not a request.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        // In the order of `lambda_http`.
        let rest_api = serde_json::from_str(json).map(LambdaRequest::ApiGatewayV1);
        let request = rest_api.or_else(|_| serde_json::from_str(json).map(LambdaRequest::ApiGatewayV2));
        match request {
            Ok(request) => Ok(Self::Request(Box::new(sanitize(request)))),
            Err(_) => Ok(Self::Other(NotARequest::describe(json))),
        }
    }
}

/// The error for an event that is not a request. It contains names of the event's members but none of their values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is {received}; expected an HTTP request of API Gateway or of a function URL")]
pub struct NotARequest {
    received: String,
}

impl NotARequest {
    /// How many member names the error contains, and how many characters of each.
    const MAX_NAMES: usize = 10;
    const MAX_NAME_CHARS: usize = 40;

    fn describe(json: &str) -> Self {
        let received = match json.bytes().next() {
            Some(b'{') => return Self { received: Self::describe_object(json) },
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        Self { received: received.to_owned() }
    }

    fn describe_object(json: &str) -> String {
        // Fails only if a name contains an unpaired surrogate.
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
        let names = members.keys().take(Self::MAX_NAMES);
        let mut names: Vec<String> = names.map(|name| name.chars().take(Self::MAX_NAME_CHARS).collect()).collect();
        if members.len() > names.len() {
            names.push("…".to_owned());
        }
        format!("an object ({})", names.join(", "))
    }
}

/// Removes the parts of a request that could make `lambda_http` panic and that this function does not read.
///
/// The query string and the host are removed. A path that has no leading slash or is too long becomes `/`. A body that
/// is marked as base64 but is not base64 is treated as plain text.
#[expect(clippy::default_trait_access, reason = "the query string has types of a crate that we do not depend on")]
fn sanitize(event: LambdaRequest) -> LambdaRequest {
    match event {
        LambdaRequest::ApiGatewayV1(mut event) => {
            event.query_string_parameters = Default::default();
            event.multi_value_query_string_parameters = Default::default();
            event.request_context.domain_name = None;
            event.headers.remove(HOST);
            limit_path(&mut event.path, &mut event.request_context.stage);
            event.is_base64_encoded = event.is_base64_encoded && is_base64(event.body.as_deref());
            LambdaRequest::ApiGatewayV1(event)
        }
        LambdaRequest::ApiGatewayV2(mut event) => {
            event.query_string_parameters = Default::default();
            event.raw_query_string = None;
            event.request_context.domain_name = None;
            event.headers.remove(HOST);
            limit_path(&mut event.raw_path, &mut event.request_context.stage);
            event.is_base64_encoded = event.is_base64_encoded && is_base64(event.body.as_deref());
            LambdaRequest::ApiGatewayV2(event)
        }
        other => other,
    }
}

fn limit_path(path: &mut Option<String>, stage: &mut Option<String>) {
    let length = path.as_ref().map_or(0, String::len).saturating_add(stage.as_ref().map_or(0, String::len));
    let is_path = path.as_ref().is_some_and(|path| path.starts_with('/'));
    if !is_path || length > MAX_PATH_BYTES {
        *path = Some("/".to_owned());
        *stage = None;
    }
}

fn is_base64(body: Option<&str>) -> bool {
    body.is_some_and(|body| BASE64_STANDARD.decode(body).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_an_event_that_is_not_a_request() {
        let names = (0..11).map(|number| format!(r#""member-{number:02}": {number}"#)).collect::<Vec<_>>().join(",");
        let long_name = "a".repeat(41);
        for (json, received) in [
            ("{}", "an object ()"),
            (r#"{"key1": "value1", "key2": {"a": 1}}"#, "an object (key1, key2)"),
            (r#"{"a": 1, "a": 2}"#, "an object (a)"),
            (r#"{"\ud800": 1}"#, "an object ()"),
            (&format!(r#"{{"{long_name}": 1}}"#), &format!("an object ({})", "a".repeat(40))),
            (
                &format!("{{{names}}}"),
                "an object (member-00, member-01, member-02, member-03, member-04, member-05, member-06, member-07, \
                 member-08, member-09, …)",
            ),
            (" [1, 2]", "an array"),
            (r#""text""#, "a string"),
            ("true", "a boolean"),
            ("false", "a boolean"),
            ("null", "null"),
            ("-1.5", "a number"),
        ] {
            let Event::Other(error) = serde_json::from_str(json).unwrap() else { panic!("{json} is a request") };

            assert_eq!(
                error.to_string(),
                format!("the event is {received}; expected an HTTP request of API Gateway or of a function URL")
            );
        }
    }
}
