//! The same function the way tutorials build it: default features, `#[tokio::main]`, API keys read by the first
//! request. It presigns a PUT, because the SDK for Rust cannot sign a POST policy.

use std::{env, time::Duration};

use aws_sdk_s3::presigning::PresigningConfig;
use lambda_http::{Body, Error, Request, Response, run, service_fn, tracing};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

static API_KEYS: OnceCell<Value> = OnceCell::const_new();

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let s3 = aws_sdk_s3::Client::new(&config);
    let secrets_manager = aws_sdk_secretsmanager::Client::new(&config);
    run(service_fn(|request| handle(&s3, &secrets_manager, request))).await
}

async fn handle(
    s3: &aws_sdk_s3::Client,
    secrets_manager: &aws_sdk_secretsmanager::Client,
    request: Request,
) -> Result<Response<Body>, Error> {
    let api_keys = API_KEYS.get_or_try_init(|| read_api_keys(secrets_manager)).await?;
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let presented = authorization.and_then(|value| value.strip_prefix("Bearer "));
    if !api_keys.as_object().is_some_and(|keys| keys.values().any(|key| key.as_str() == presented)) {
        return Ok(Response::builder().status(401).body("unauthorized".into())?);
    }
    let body: Value = serde_json::from_slice(request.body())?;
    let key = format!("tmp/{}/{}", Uuid::new_v4(), body["fileName"].as_str().ok_or("no fileName")?);
    let content_type = body["fileType"].as_str().ok_or("no fileType")?;
    let put = s3.put_object().bucket(env::var("UPLOAD_BUCKET")?).key(&key).content_type(content_type);
    let presigned = put.presigned(PresigningConfig::expires_in(Duration::from_secs(3600))?).await?;
    tracing::info!(key, "granted");
    let reply = json!({ "url": presigned.uri(), "key": key });
    Ok(Response::builder().header("content-type", "application/json").body(reply.to_string().into())?)
}

async fn read_api_keys(secrets_manager: &aws_sdk_secretsmanager::Client) -> Result<Value, Error> {
    let secret_id = env::var("API_KEYS_SECRET_ID")?;
    let secret = secrets_manager.get_secret_value().secret_id(secret_id).send().await?;
    Ok(serde_json::from_str(secret.secret_string().ok_or("the secret is binary")?)?)
}
