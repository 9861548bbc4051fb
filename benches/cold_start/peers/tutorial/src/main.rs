//! A function as one writes it from the tutorials: default features, `#[tokio::main]`, the secret on the first call.

use std::{env, time::Duration};

use aws_sdk_s3::presigning::PresigningConfig;
use lambda_http::{Body, Error, Request, Response, run, service_fn, tracing};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

struct Clients {
    s3: aws_sdk_s3::Client,
    secrets_manager: aws_sdk_secretsmanager::Client,
    api_keys: OnceCell<Value>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_from_env().await;
    let clients = Clients {
        s3: aws_sdk_s3::Client::new(&config),
        secrets_manager: aws_sdk_secretsmanager::Client::new(&config),
        api_keys: OnceCell::new(),
    };
    run(service_fn(|request| handler(&clients, request))).await
}

async fn handler(clients: &Clients, request: Request) -> Result<Response<Body>, Error> {
    let api_keys = clients.api_keys.get_or_try_init(|| read_api_keys(clients)).await?;
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let presented = authorization.and_then(|value| value.strip_prefix("Bearer "));
    let is_known = api_keys.as_object().is_some_and(|keys| keys.values().any(|key| key.as_str() == presented));
    if !is_known {
        return Ok(Response::builder().status(401).body("unauthorized".into())?);
    }
    let body: Value = serde_json::from_slice(request.body())?;
    let key = format!("tmp/{}/{}", Uuid::new_v4(), body["fileName"].as_str().ok_or("no fileName")?);
    let presigned = clients
        .s3
        .put_object()
        .bucket(env::var("UPLOAD_BUCKET")?)
        .key(&key)
        .content_type(body["fileType"].as_str().ok_or("no fileType")?)
        .presigned(PresigningConfig::expires_in(Duration::from_secs(3600))?)
        .await?;
    tracing::info!(key, "granted");
    let answer = json!({ "url": presigned.uri(), "key": key });
    Ok(Response::builder().header("content-type", "application/json").body(answer.to_string().into())?)
}

async fn read_api_keys(clients: &Clients) -> Result<Value, Error> {
    let secret_id = env::var("API_KEYS_SECRET_ID")?;
    let secret = clients.secrets_manager.get_secret_value().secret_id(secret_id).send().await?;
    Ok(serde_json::from_str(secret.secret_string().ok_or("the secret is binary")?)?)
}
