//! The function with settings, clock, id, credentials and endpoints that a test knows, and requests to it.

use std::{ffi::OsString, path::Path, time::SystemTime};

use aws_config::BehaviorVersion;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::config::Region;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::DateTime;
use aws_types::{
    SdkConfig,
    service_config::{LoadServiceConfig, ServiceConfigKey},
};
use lambda_http::{Body, Request, Response};
use presigned_upload::{
    app::{App, Nondeterminism},
    config::Config,
    event::sanitize,
    handler::handle,
};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::loopback::S3;

pub(crate) const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const SESSION_TOKEN: &str = "FwoGZXIvYXdzE/session+token==";
/// The API key that the files of `events/` present.
pub(crate) const API_KEY: &str = "local-api-key";

/// 2026-01-02T03:04:05Z, and always the id of the example in the API's own documentation.
pub(crate) const FIXED: Nondeterminism = Nondeterminism {
    now: || DateTime::from_secs(1_767_323_045).try_into().unwrap(),
    new_id: || Uuid::from_u128(0x1087_13b0_1f81_42cf_a16c_c83b_1d4d_4148),
};

/// The real clock, and a random id.
pub(crate) const REAL: Nondeterminism = Nondeterminism { now: SystemTime::now, new_id: Uuid::new_v4 };

/// A file of the project.
#[track_caller]
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The settings: a bucket, a secret, and what `pairs` says.
pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    let required = [("UPLOAD_BUCKET", "uploads"), ("API_KEYS_SECRET_ID", "api-keys")];
    let lookup = |name: &str| pairs.iter().chain(&required).find(|pair| pair.0 == name).map(|pair| pair.1);
    Config::from_lookup(|name| lookup(name).map(OsString::from)).unwrap()
}

/// What the SDK reads from `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
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

/// What the SDK finds in a function's environment: temporary credentials and a region.
pub(crate) fn sdk_config(endpoints: Endpoints) -> aws_types::sdk_config::Builder {
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, Some(SESSION_TOKEN.to_owned()), None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .service_config(endpoints)
}

/// An SDK whose network is a Secrets Manager that holds [`API_KEY`]: a grant takes nothing else from it.
pub(crate) fn sdk_config_with_api_key(s3: Option<&str>) -> aws_types::sdk_config::Builder {
    let secret = json!({ "SecretString": API_KEY }).to_string();
    let network = infallible_client_fn(move |_| Response::new(secret.clone()));
    sdk_config(Endpoints { s3: s3.map(str::to_owned), secrets_manager: None }).http_client(network)
}

/// The function with [`API_KEY`], over `s3` where there is one.
pub(crate) async fn app(pairs: &[(&str, &str)], s3: Option<&S3>, sources: Nondeterminism) -> App {
    let sdk_config = sdk_config_with_api_key(s3.map(S3::url).as_deref()).build();
    App::from_sdk_config(config(pairs), &sdk_config, sources).await.unwrap()
}

/// A `POST` of the JSON `body` with [`API_KEY`], as an HTTP API hands it to the function.
pub(crate) fn post(path: &str, body: &Value) -> Request {
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "authorization": format!("Bearer {API_KEY}"), "content-type": "application/json" },
        "requestContext": { "http": { "method": "POST", "path": path }, "stage": "$default" },
        "body": body.to_string(),
        "isBase64Encoded": false,
    });
    request(&event.to_string())
}

/// The request of an event, read as `main` has it read.
#[track_caller]
pub(crate) fn request(event: &str) -> Request {
    sanitize(serde_json::from_str(event).unwrap()).into()
}

/// What the function answers to `request`, which has to be a grant.
#[track_caller]
pub(crate) fn granted(response: &Response<Body>) -> Value {
    let body = json_of(response);
    assert_eq!(response.status(), 200, "{body}");
    body
}

/// The JSON body of an answer.
#[track_caller]
pub(crate) fn json_of(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// Asks for a presigned POST of `name` and `content_type`.
pub(crate) async fn ask_post(app: &App, name: &str, content_type: &str) -> Value {
    granted(&handle(app, post("/media/", &json!({ "fileName": name, "fileType": content_type }))).await)
}

/// Asks for a presigned PUT with the members of `body`.
pub(crate) async fn ask_put(app: &App, body: &Value) -> Value {
    granted(&handle(app, post("/v1/assets/presign", body)).await)
}

/// A client of HTTP, and of HTTPS where it is told whom to trust.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // Fails where another test was faster, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
}

/// A client of HTTP.
pub(crate) fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

/// A YAML document as JSON, with the long form of a function of CloudFormation (`{"Fn::Sub": ..}`) for its tag.
#[track_caller]
pub(crate) fn yaml(text: &str) -> Value {
    let [document] = &Yaml::load_from_str(text).unwrap()[..] else { panic!("expected one document") };
    from_yaml(document)
}

#[track_caller]
fn from_yaml(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(from_yaml).collect(),
        Yaml::Mapping(members) => members.iter().map(|(name, it)| (name.as_str().unwrap(), from_yaml(it))).collect(),
        Yaml::Tagged(tag, value) => match tag.suffix.as_str() {
            name @ ("Ref" | "Condition") => json!({ name: from_yaml(value) }),
            name => json!({ format!("Fn::{name}"): from_yaml(value) }),
        },
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => panic!("expected no {yaml:?}"),
    }
}
