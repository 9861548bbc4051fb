//! One request, from top to bottom: route → authenticate → parse → name the object → sign → respond, and its log line.
//!
//! Not here: how any of these steps is done.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, error::CredentialsError},
};
use futures_util::FutureExt as _;
use lambda_http::{Body, Request, RequestExt as _, Response, http::StatusCode, request::RequestContext};
use tokio::time::timeout;
use tracing::{error, info};
use uuid::Uuid;

use crate::{
    app::App,
    auth::{ApiKeyDigest, CallerName},
    error::Error,
    key_store::KeySetCondition,
    logs::Chain,
    metrics::RequestMetrics,
    object_key::ObjectKey,
    presigned_post::PostGrant,
    presigned_url::UrlGrant,
    request::{MAX_BODY_BYTES, MediaRequest, PresignRequest},
    response,
};

/// How long an answer may take. Less than the `Timeout` of `template.yaml`, so that the caller has an answer and the log
/// has a line before Lambda ends the process. Reading the API keys has a bound of its own, the credentials have none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Answers one request, whatever it is, within 8 s, and writes its one `info` line, which is its metrics as well; a
/// failure of ours has an `error` line before it.
pub async fn handle(app: &App, request: Request) -> Response<Body> {
    let now = (app.sources.now)();
    let id = (app.sources.new_id)();
    #[expect(clippy::disallowed_methods, reason = "the log says how long a request took; no answer depends on it")]
    let started_at = Instant::now();

    let route = Route::of(&request);
    let mut seen = Seen { is_cold_start: app.is_cold.swap(false, Ordering::Relaxed), ..Seen::default() };
    let in_time = timeout(ANSWER_TIMEOUT, answer(app, route, &request, &mut seen, now, id));
    let outcome = match AssertUnwindSafe(in_time).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::TimedOut),
        Err(_) => Err(Error::Panicked),
    };

    log_request(app, &request, route, &seen, &outcome, now, started_at.elapsed());
    outcome.unwrap_or_else(|error| response::problem(&error))
}

/// What comes to light on the way to an answer, for the log line.
#[derive(Default)]
struct Seen {
    is_cold_start: bool,
    caller: Option<CallerName>,
    key_set: Option<KeySetCondition>,
}

async fn answer(
    app: &App,
    route: Option<Route>,
    request: &Request,
    seen: &mut Seen,
    now: SystemTime,
    id: Uuid,
) -> Result<Response<Body>, Error> {
    let route = route.ok_or(Error::NotFound)?;
    if request.method().as_str() != route.method() {
        return Err(Error::MethodNotAllowed { allow: route.method() });
    }
    match route {
        Route::Healthz => Ok(response::healthz(now)),
        Route::Media => {
            authenticate(app, request, seen, now).await?;
            presign_post(app, bounded_body(request)?, now, id).await
        }
        Route::Presign => {
            authenticate(app, request, seen, now).await?;
            presign_put(app, bounded_body(request)?, now, id).await
        }
    }
}

async fn authenticate(app: &App, request: &Request, seen: &mut Seen, now: SystemTime) -> Result<(), Error> {
    let presented = ApiKeyDigest::presented_in(request.headers()).ok_or(Error::MissingApiKey)?;
    let caller = app.key_store.verify(&presented, now).await;
    seen.key_set = Some(app.key_store.take_condition(now).await);
    seen.caller = caller.map_err(Error::ApiKeysUnavailable)?;
    if seen.caller.is_some() { Ok(()) } else { Err(Error::UnknownApiKey) }
}

fn bounded_body(request: &Request) -> Result<&[u8], Error> {
    let body: &[u8] = request.body();
    let length = body.len();
    if length > MAX_BODY_BYTES { Err(Error::PayloadTooLarge { length, maximum: MAX_BODY_BYTES }) } else { Ok(body) }
}

async fn presign_post(app: &App, body: &[u8], now: SystemTime, id: Uuid) -> Result<Response<Body>, Error> {
    let MediaRequest { file_name, content_type } = MediaRequest::parse(body, &app.config.limits)?;
    let object_key = ObjectKey::new(&app.config.limits.prefix, id, Some(&file_name));
    let credentials = credentials(app, now).await?;
    let grant = PostGrant {
        bucket: &app.config.bucket,
        object_key: &object_key,
        content_type: &content_type,
        max_bytes: app.config.limits.max_bytes,
        expires_in: app.config.limits.expires_in,
    };
    let post = grant.sign(&credentials, &app.region, now).map_err(Error::PresignedPost)?;
    Ok(response::media(&app.bucket_url, &post, &object_key))
}

async fn presign_put(app: &App, body: &[u8], now: SystemTime, id: Uuid) -> Result<Response<Body>, Error> {
    let PresignRequest { file_name, content_type } = PresignRequest::parse(body, &app.config.limits)?;
    let object_key = ObjectKey::new(&app.config.limits.prefix, id, file_name.as_ref());
    let credentials = credentials(app, now).await?;
    let headers: Vec<_> = content_type.iter().map(|content_type| ("content-type", content_type.as_str())).collect();
    let grant = UrlGrant {
        method: "PUT",
        bucket_url: &app.bucket_url,
        object_key: &object_key,
        query: &[("x-id", "PutObject")],
        headers: &headers,
        expires_in: app.config.limits.expires_in,
    };
    let url = grant.sign(&credentials, &app.region, now).map_err(Error::PresignedUrl)?;
    Ok(response::presign(&url, &object_key))
}

/// The credentials of this moment, unless they are known to be over: S3 would refuse what they sign.
async fn credentials(app: &App, now: SystemTime) -> Result<Credentials, Error> {
    let provided = app.credentials_provider.provide_credentials().await;
    let is_over = |credentials: &Credentials| credentials.expiry().is_some_and(|expiry| expiry <= now);
    match provided {
        Ok(credentials) if is_over(&credentials) => {
            Err(Error::CredentialsUnavailable(CredentialsError::provider_error("they have expired")))
        }
        provided => provided.map_err(Error::CredentialsUnavailable),
    }
}

/// Writes the line of a request; CloudWatch reads its metrics from it, by what `_aws` says.
fn log_request(
    app: &App,
    request: &Request,
    route: Option<Route>,
    seen: &Seen,
    outcome: &Result<Response<Body>, Error>,
    now: SystemTime,
    duration: Duration,
) {
    let context = request.lambda_context_ref();
    let function_name = context.map(|context| context.env_config.function_name.as_str());
    let request_id = context.map(|context| context.request_id.as_str());
    let api_request_id = api_context(request).and_then(|context| context.request_id);
    let caller = seen.caller.as_ref().map(CallerName::as_str);
    let error = outcome.as_ref().err();
    let is_granted = error.is_none() && route != Some(Route::Healthz);
    let is_bounded = is_granted && route == Some(Route::Media);
    let metrics = RequestMetrics {
        duration_ms: duration.as_secs_f64() * 1000.0,
        cold_start: seen.is_cold_start.into(),
        granted: is_granted.then_some(1),
        granted_bytes: is_bounded.then(|| app.config.limits.max_bytes.as_u64()),
        errors: error.map(|_| 1),
        key_set_age_seconds: seen.key_set.and_then(|key_set| key_set.age).map(|age| age.as_secs()),
        failed_refreshes: seen.key_set.map(|key_set| key_set.failed_reads),
    };
    if let Some(error) = error.filter(|error| error.status().is_server_error()) {
        error!(request_id, api_request_id, error = %Chain(error), "request failed");
    }
    info!(
        function_name,
        request_id,
        api_request_id,
        method = request.method().as_str(),
        route = route.map(Route::path),
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

/// What is served, each with one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Media,
    Presign,
    Healthz,
}

impl Route {
    /// The route of a request: by its path, or by what is left of it behind the stage.
    ///
    /// API Gateway puts the name of a stage in front of the path of an HTTP API, and not in front of a REST API's:
    /// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
    fn of(request: &Request) -> Option<Self> {
        let path = request.raw_http_path();
        Self::of_path(path).or_else(|| {
            let behind_stage = path.strip_prefix('/')?.strip_prefix(api_context(request)?.stage?)?;
            Self::of_path(behind_stage)
        })
    }

    fn of_path(path: &str) -> Option<Self> {
        match path {
            "/media/" | "/media" => Some(Self::Media),
            "/v1/assets/presign" | "/v1/assets/presign/" => Some(Self::Presign),
            "/healthz" => Some(Self::Healthz),
            _ => None,
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Media | Self::Presign => "POST",
            Self::Healthz => "GET",
        }
    }

    /// The path as the documentation writes it, for the log.
    fn path(self) -> &'static str {
        match self {
            Self::Media => "/media/",
            Self::Presign => "/v1/assets/presign",
            Self::Healthz => "/healthz",
        }
    }
}

/// What API Gateway says of a request, whichever payload it sends: 1.0, or 2.0 as function URLs do as well.
struct ApiContext<'a> {
    stage: Option<&'a str>,
    /// What the caller of an HTTP API finds in the header `apigw-requestid` of the answer.
    request_id: Option<&'a str>,
}

fn api_context(request: &Request) -> Option<ApiContext<'_>> {
    let (stage, request_id) = match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => (&context.stage, &context.request_id),
        RequestContext::ApiGatewayV2(context) => (&context.stage, &context.request_id),
        _ => return None,
    };
    Some(ApiContext { stage: stage.as_deref(), request_id: request_id.as_deref() })
}
