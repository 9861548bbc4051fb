//! The function in this process, with settings, clock, id, credentials and endpoints that the test chooses.

use std::{ffi::OsString, time::SystemTime};

use aws_config::BehaviorVersion;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::config::Region;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::DateTime;
use aws_types::{
    SdkConfig,
    sdk_config::Builder,
    service_config::{LoadServiceConfig, ServiceConfigKey},
};
use lambda_http::{Body, Response};
use presigned_upload::{
    app::{App, Nondeterminism},
    config::{Config, ConfigError},
    handler::handle,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{events::HttpApiEvent, s3::S3, secrets_manager::SecretsManager};

pub(crate) const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const SESSION_TOKEN: &str = "FwoGZXIvYXdzE/session+token==";
/// The API key in the files of `events/`.
pub(crate) const API_KEY: &str = "local-development-key";

/// 2026-01-02T03:04:05Z, and the id of the example in the API's documentation.
pub(crate) const FIXED: Nondeterminism = Nondeterminism {
    now: || DateTime::from_secs(1_767_323_045).try_into().unwrap(),
    new_id: || Uuid::from_u128(0x1087_13b0_1f81_42cf_a16c_c83b_1d4d_4148),
};

/// The real clock and random ids.
pub(crate) const REAL: Nondeterminism = Nondeterminism { now: SystemTime::now, new_id: Uuid::new_v4 };

/// Returns settings with a bucket, a secret and `variables`.
#[track_caller]
pub(crate) fn config(variables: &[(&str, &str)]) -> Config {
    try_config(variables).unwrap()
}

pub(crate) fn try_config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let required = [("UPLOAD_BUCKET", "uploads"), ("API_KEYS_SECRET_ID", "api-keys")];
    let lookup = |name: &str| variables.iter().chain(&required).find(|pair| pair.0 == name).map(|pair| pair.1);
    Config::from_lookup(|name| lookup(name).map(OsString::from))
}

/// The endpoints that the SDK would read from `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) s3: Option<String>,
    pub(crate) secrets_manager: Option<String>,
}

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, name: ServiceConfigKey<'_>) -> Option<String> {
        match (name.service_id(), name.env()) {
            ("S3", "AWS_ENDPOINT_URL") => self.s3.clone(),
            ("Secrets Manager", "AWS_ENDPOINT_URL") => self.secrets_manager.clone(),
            _ => None,
        }
    }
}

/// Returns an SDK with the region and the temporary credentials of a function.
pub(crate) fn sdk_config(endpoints: Endpoints) -> Builder {
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, Some(SESSION_TOKEN.to_owned()), None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .service_config(endpoints)
}

/// Returns the same SDK, except that every request reaches a Secrets Manager that contains this secret. A grant makes
/// no other call.
pub(crate) fn sdk_config_with_secret(secret: &str, s3: Option<&str>) -> Builder {
    let response = json!({ "SecretString": secret }).to_string();
    let network = infallible_client_fn(move |_| Response::new(response.clone()));
    sdk_config(Endpoints { s3: s3.map(str::to_owned), secrets_manager: None }).http_client(network)
}

/// Does the same with [`API_KEY`] as the secret.
pub(crate) fn sdk_config_with_api_key(s3: Option<&str>) -> Builder {
    sdk_config_with_secret(API_KEY, s3)
}

/// Returns the function with these settings and [`API_KEY`]; its uploads go to `s3`, or to AWS.
pub(crate) async fn app(variables: &[(&str, &str)], s3: Option<&S3>, nondeterminism: Nondeterminism) -> App {
    let sdk_config = sdk_config_with_api_key(s3.map(S3::url).as_deref()).build();
    App::from_sdk_config(config(variables), &sdk_config, nondeterminism).await.unwrap()
}

/// Returns the function with these settings and [`API_KEY`], which confirms uploads to the S3 server with this URL.
pub(crate) async fn confirming_app(s3_url: &str, variables: &[(&str, &str)]) -> App {
    let confirming = [("ALLOW_CONFIRMATION", "true"), ("S3_FORCE_PATH_STYLE", "true")];
    let secrets_manager = SecretsManager::start(API_KEY).await.url;
    let endpoints = Endpoints { s3: Some(s3_url.to_owned()), secrets_manager: Some(secrets_manager) };
    let config = config(&[variables, &confirming].concat());
    App::from_sdk_config(config, &sdk_config(endpoints).build(), REAL).await.unwrap()
}

/// Asks for a presigned POST.
pub(crate) async fn grant_post(app: &App, file_name: &str, content_type: &str) -> Value {
    let body = json!({ "fileName": file_name, "fileType": content_type });
    grant(app, "/media/", &body).await
}

/// Asks for a presigned PUT.
pub(crate) async fn grant_put(app: &App, body: &Value) -> Value {
    grant(app, "/v1/assets/presign", body).await
}

pub(crate) async fn grant(app: &App, path: &str, body: &Value) -> Value {
    granted(&handle(app, HttpApiEvent::post(path, body).request()).await)
}

/// Returns the grant in a response, which must be a 200.
#[track_caller]
pub(crate) fn granted(response: &Response<Body>) -> Value {
    let body = json_of(response);
    assert_eq!(response.status(), 200, "{body}");
    body
}

/// Returns the JSON body of a response.
#[track_caller]
pub(crate) fn json_of(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}
