//! One request, from top to bottom: route → authenticate → parse → name the object → sign → respond, and its log line.
//!
//! Not here: how any of these steps is done.

use std::time::{Instant, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use lambda_http::{Body, Request, RequestExt as _, Response, request::RequestContext};
use tracing::{error, info};
use uuid::Uuid;

use crate::{
    app::App,
    auth::{ApiKeyDigest, CallerName},
    error::{Chain, Error},
    object_key::ObjectKey,
    presigned_post::PostGrant,
    presigned_put::PutGrant,
    request::{MAX_BODY_BYTES, MediaRequest, PresignRequest, Rules},
    response,
};

/// Answers one request, whatever it is, and writes its one `info` line; a failure of ours has an `error` line before it.
pub async fn handle(app: &App, request: Request) -> Response<Body> {
    let now = (app.sources.now)();
    let id = (app.sources.new_id)();
    #[expect(clippy::disallowed_methods, reason = "the log says how long a request took; no answer depends on it")]
    let started_at = Instant::now();

    let route = Route::of(&request);
    let mut caller = None;
    let outcome = answer(app, route, &request, &mut caller, now, id).await;

    let request_id = request.lambda_context_ref().map(|context| context.request_id.as_str());
    let api_request_id = api_context(&request).and_then(|context| context.request_id);
    let code = outcome.as_ref().err().map(Error::code);
    let reason = outcome.as_ref().err().map(Error::to_string);
    let response = outcome.unwrap_or_else(|error| {
        if error.status().is_server_error() {
            error!(request_id, api_request_id, error = %Chain(&error), "request failed");
        }
        response::problem(&error)
    });
    info!(
        request_id,
        api_request_id,
        method = request.method().as_str(),
        route = route.map(Route::path),
        status = response.status().as_u16(),
        code,
        reason,
        caller = caller.as_ref().map(CallerName::as_str),
        duration_ms = started_at.elapsed().as_secs_f64() * 1000.0,
        "request"
    );
    response
}

async fn answer(
    app: &App,
    route: Option<Route>,
    request: &Request,
    caller: &mut Option<CallerName>,
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
            *caller = Some(authenticate(app, request, now).await?);
            presign_post(app, bounded_body(request)?, now, id).await
        }
        Route::Presign => {
            *caller = Some(authenticate(app, request, now).await?);
            presign_put(app, bounded_body(request)?, now, id).await
        }
    }
}

async fn authenticate(app: &App, request: &Request, now: SystemTime) -> Result<CallerName, Error> {
    let presented = ApiKeyDigest::presented_in(request.headers()).ok_or(Error::MissingApiKey)?;
    let caller = app.key_store.verify(&presented, now).await.map_err(Error::ApiKeysUnavailable)?;
    caller.ok_or(Error::UnknownApiKey)
}

fn bounded_body(request: &Request) -> Result<&[u8], Error> {
    let body: &[u8] = request.body();
    let length = body.len();
    if length > MAX_BODY_BYTES { Err(Error::PayloadTooLarge { length, maximum: MAX_BODY_BYTES }) } else { Ok(body) }
}

async fn presign_post(app: &App, body: &[u8], now: SystemTime, id: Uuid) -> Result<Response<Body>, Error> {
    let MediaRequest { file_name, content_type } = MediaRequest::parse(body, rules(app))?;
    let object_key = ObjectKey::new(&app.config.prefix, id, Some(&file_name));
    let credentials = app.credentials_provider.provide_credentials().await.map_err(Error::CredentialsUnavailable)?;
    let grant = PostGrant {
        bucket: &app.config.bucket,
        object_key: &object_key,
        content_type: &content_type,
        max_bytes: app.config.max_bytes,
        expires_in: app.config.expires_in,
    };
    let post = grant.sign(&credentials, &app.region, now).map_err(Error::PresignedPost)?;
    Ok(response::media(&app.bucket_url, &post, &object_key))
}

async fn presign_put(app: &App, body: &[u8], now: SystemTime, id: Uuid) -> Result<Response<Body>, Error> {
    let PresignRequest { file_name, content_type } = PresignRequest::parse(body, rules(app))?;
    let object_key = ObjectKey::new(&app.config.prefix, id, file_name.as_ref());
    let grant = PutGrant {
        bucket: &app.config.bucket,
        object_key: &object_key,
        content_type: content_type.as_ref(),
        expires_in: app.config.expires_in,
    };
    let url = grant.sign(&app.s3, now).await.map_err(Error::PresignedPut)?;
    Ok(response::presign(&url, &object_key))
}

fn rules(app: &App) -> Rules<'_> {
    Rules { max_file_name_bytes: app.config.prefix.max_file_name_bytes(), allowed_types: &app.config.allowed_types }
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
