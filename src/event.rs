//! The event of API Gateway or of a function URL, made fit for `lambda_http`.
//!
//! `lambda_http` builds a whole URL from an event and panics where that is not a valid one: at a query string with a `<`
//! in it, at an odd `Host`. It has no other place to mend that than its `LambdaRequest`, which it keeps out of its
//! documentation: an update may move it. Not here: what is no HTTP event, which `lambda_http` refuses.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{http::header::HOST, request::LambdaRequest};

/// The most bytes of a stage and a path: no route comes near it, and a URL has room for it.
const MAX_PATH_BYTES: usize = 1024;

/// Takes out of an event what this function does not read and `lambda_http` could panic at.
///
/// The query string goes, and so do the headers that make the URL. A path without a leading slash, or one that is too
/// long, becomes `/`. A body that is not the base64 that it is said to be is read as it stands.
#[must_use]
#[expect(clippy::default_trait_access, reason = "the types of the query string are of a crate that is none of ours")]
pub fn sanitize(event: LambdaRequest) -> LambdaRequest {
    match event {
        LambdaRequest::ApiGatewayV1(mut event) => {
            event.query_string_parameters = Default::default();
            event.multi_value_query_string_parameters = Default::default();
            event.request_context.domain_name = None;
            event.headers.remove(HOST);
            bound_path(&mut event.path, &mut event.request_context.stage);
            event.is_base64_encoded = event.is_base64_encoded && is_base64(event.body.as_deref());
            LambdaRequest::ApiGatewayV1(event)
        }
        LambdaRequest::ApiGatewayV2(mut event) => {
            event.query_string_parameters = Default::default();
            event.raw_query_string = None;
            event.request_context.domain_name = None;
            event.headers.remove(HOST);
            bound_path(&mut event.raw_path, &mut event.request_context.stage);
            event.is_base64_encoded = event.is_base64_encoded && is_base64(event.body.as_deref());
            LambdaRequest::ApiGatewayV2(event)
        }
        other => other,
    }
}

fn bound_path(path: &mut Option<String>, stage: &mut Option<String>) {
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
