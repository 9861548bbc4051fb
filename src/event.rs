//! Events of API Gateway and function URLs, made safe for `lambda_http`.
//!
//! `lambda_http` builds a whole URL from an event and panics if that URL is not valid: a query string with a `<` in it
//! or an odd `Host` header is enough. The only place to prevent this is its `LambdaRequest`, which is
//! `#[doc(hidden)]`, so an update may move it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{http::header::HOST, request::LambdaRequest};

/// The maximum length of stage and path together, in bytes: far more than any route needs, far less than a URL allows.
const MAX_PATH_BYTES: usize = 1024;

/// Removes the parts of an event that could make `lambda_http` panic and that this function does not read.
///
/// The query string and the host are removed. A path that has no leading slash or is too long becomes `/`. A body that
/// is marked as base64 but is not base64 is treated as plain text.
#[must_use]
#[expect(clippy::default_trait_access, reason = "the query string has types of a crate that we do not depend on")]
pub fn sanitize(event: LambdaRequest) -> LambdaRequest {
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
