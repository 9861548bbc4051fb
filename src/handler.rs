//! The steps that all requests share: clock, id, time limit, panics, route, authentication, log line.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt as _;
use lambda_http::{
    Body, Request, RequestExt as _, Response,
    http::{HeaderMap, Method, StatusCode},
    request::RequestContext,
};
use tokio::time::timeout;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    app::App,
    auth::{Authenticated, Caller, PresentedKeys},
    endpoints::{Call, Granted, Reply},
    error::Error,
    key_store::KeySetHealth,
    logs::Chain,
    metrics::RequestMetrics,
    response,
    route::{self, Endpoint},
};

/// The time limit of a request. It is less than the `Timeout` in `template.yaml`, so that the caller gets a response
/// and the log gets a line before Lambda ends the process. Reading the API keys and asking S3 have time limits of their
/// own; fetching credentials has none.
pub const TIME_LIMIT: Duration = Duration::from_secs(8);

/// Responds to any request within [`TIME_LIMIT`], and logs one `info` line, which also carries the metrics. An `error`
/// line precedes it for a 500, and a `warn` line for a 503.
pub async fn handle(app: &App, request: Request) -> Response<Body> {
    let now = (app.nondeterminism.now)();
    let id = (app.nondeterminism.new_id)();
    #[expect(clippy::disallowed_methods, reason = "the log reports how long a request took; no response depends on it")]
    let started_at = Instant::now();

    let mut record = Record {
        is_cold_start: app.is_cold.swap(false, Ordering::Relaxed),
        path: route::match_path(route::served(app), request.raw_http_path()),
        ..Record::default()
    };
    let in_time = timeout(TIME_LIMIT, reply(app, &request, &mut record, now, id));
    // A panic breaks no invariant. In `app`, only two things change: the key store, where a read that panics just delays the
    // next one, and the client of the object store, which exists or does not. `record` is only logged.
    let outcome = match AssertUnwindSafe(in_time).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::TimedOut { limit: TIME_LIMIT }),
        Err(_) => Err(Error::Panicked),
    };

    let granted = outcome.as_ref().ok().and_then(|reply| reply.granted);
    log_request(&request, &record, granted, outcome.as_ref().err(), now, started_at.elapsed());
    let mut response = outcome.map_or_else(|error| response::problem(&error), |reply| reply.response);
    if request.method() == Method::HEAD {
        // RFC 9110 §9.3.2
        *response.body_mut() = Body::Empty;
    }
    response
}

/// Facts about a request for its log line, collected while it is handled.
#[derive(Default)]
struct Record {
    is_cold_start: bool,
    path: Option<&'static str>,
    caller: Option<Arc<Caller>>,
    key_set: Option<KeySetHealth>,
}

async fn reply(app: &App, request: &Request, record: &mut Record, now: SystemTime, id: Uuid) -> Result<Reply, Error> {
    let route = route::find(route::served(app), record.path, request.method())?;
    let call = Call { app, body: request.body(), now, id };
    match route.endpoint {
        Endpoint::Open(serve) => Ok(serve(call)),
        Endpoint::Authenticated(serve) => {
            let authenticated = authenticate(app, request.headers(), record, now).await?;
            serve(call, &authenticated).await
        }
    }
}

async fn authenticate<'a>(
    app: &App,
    headers: &'a HeaderMap,
    record: &mut Record,
    now: SystemTime,
) -> Result<Authenticated<'a>, Error> {
    let presented = PresentedKeys::from_headers(headers).ok_or(Error::MissingApiKey)?;
    let verified = app.key_store.verify(&presented, now).await;
    record.key_set = Some(app.key_store.take_health(now).await);
    let authenticated = verified.map_err(Error::ApiKeysUnavailable)?.ok_or(Error::UnknownApiKey)?;
    record.caller = Some(Arc::clone(&authenticated.caller));
    Ok(authenticated)
}

/// Logs a request. CloudWatch extracts the metrics that the member `_aws` describes.
fn log_request(
    request: &Request,
    record: &Record,
    granted: Option<Granted>,
    error: Option<&Error>,
    now: SystemTime,
    duration: Duration,
) {
    let context = request.lambda_context_ref();
    let function_name = context.map(|context| context.env_config.function_name.as_str());
    let request_id = context.map(|context| context.request_id.as_str());
    let api_request_id = api_request_id(request);
    let caller = record.caller.as_ref().map(|caller| caller.name.as_str());
    let metrics = RequestMetrics {
        duration_ms: duration.as_secs_f64() * 1000.0,
        cold_start: record.is_cold_start.into(),
        granted: granted.map(|_| 1),
        granted_bytes: granted.and_then(|granted| granted.max_bytes),
        errors: error.map(|_| 1),
        key_set_age_seconds: record.key_set.and_then(|key_set| key_set.age).map(|age| age.as_secs()),
        failed_refreshes: record.key_set.map(|key_set| key_set.failed_reads),
    };
    match error {
        Some(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => {
            warn!(request_id, api_request_id, error = %Chain(error), "request failed");
        }
        Some(error) if error.status().is_server_error() => {
            error!(request_id, api_request_id, error = %Chain(error), "request failed");
        }
        _ => {}
    }
    info!(
        function_name,
        request_id,
        api_request_id,
        method = request.method().as_str(),
        route = record.path,
        status = error.map_or(StatusCode::OK, Error::status).as_u16(),
        code = error.map(Error::code),
        reason = error.map(Error::to_string),
        caller,
        duration_ms = metrics.duration_ms,
        cold_start = metrics.cold_start,
        granted = metrics.granted,
        granted_bytes = metrics.granted_bytes,
        errors = metrics.errors,
        key_set_age_seconds = metrics.key_set_age_seconds,
        failed_refreshes = metrics.failed_refreshes,
        _aws = function_name.map(|_| display(metrics.embedded(caller, now))),
        "request"
    );
}

/// Returns API Gateway's id of the request. An HTTP API sends it to the caller in the header `apigw-requestid`.
fn api_request_id(request: &Request) -> Option<&str> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => context.request_id.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.request_id.as_deref(),
        _ => None,
    }
}
