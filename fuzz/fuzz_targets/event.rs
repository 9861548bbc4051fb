//! Passes a whole event of the Lambda Runtime API to `handle`, which must not return a 5xx response, nor a URL for which
//! S3 expects other headers than the response lists.
#![no_main]

use std::{cell::LazyCell, collections::BTreeSet, ffi::OsString, time::UNIX_EPOCH};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_s3::config::BehaviorVersion;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_types::{SdkConfig, region::Region};
use lambda_http::Response;
use libfuzzer_sys::fuzz_target;
use presigned_upload::{
    app::{App, Nondeterminism},
    config::Config,
    event::Event,
    handler::handle,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Starts the function with a Secrets Manager that returns the API key of the files in `events/`.
fn start() -> (Runtime, App) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let network = infallible_client_fn(|_| Response::new(r#"{"SecretString":"local-development-key"}"#));
    let credentials = Credentials::new("ASIAIOSFODNN7EXAMPLE", "SECRET", Some("TOKEN".to_owned()), None, "fuzz");
    let sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(network)
        .build();
    let config = Config::from_lookup(|name| match name {
        "UPLOAD_BUCKET" => Some(OsString::from("uploads")),
        "API_KEYS_SECRET_ID" => Some(OsString::from("api-keys")),
        _ => None,
    });
    let sources = Nondeterminism { now: || UNIX_EPOCH, new_id: Uuid::nil };
    let app = runtime.block_on(App::from_sdk_config(config.unwrap(), &sdk_config, sources)).unwrap();
    (runtime, app)
}

/// If the response lists headers, they are those that its URL signs. Every HTTP client sends the other two by itself.
fn check_headers(grant: &Value) {
    let Some(headers) = grant["headers"].as_object() else { return };
    let mut query = grant["url"].as_str().unwrap().split(['?', '&']);
    let signed = query.find_map(|parameter| parameter.strip_prefix("X-Amz-SignedHeaders=")).unwrap().split("%3B");
    let expected = signed.filter(|name| !["content-length", "host"].contains(name)).map(str::to_owned);
    let listed = headers.keys().map(|name| name.to_ascii_lowercase());
    assert_eq!(listed.collect::<BTreeSet<_>>(), expected.collect());
}

thread_local! {
    static FUNCTION: LazyCell<(Runtime, App)> = const { LazyCell::new(start) };
}

fuzz_target!(|event: &[u8]| {
    let Ok(Event::Request(request)) = serde_json::from_slice(event) else { return };
    FUNCTION.with(|function| {
        let (runtime, app) = &**function;
        let response = runtime.block_on(handle(app, (*request).into()));
        assert!(response.status().is_success() || response.status().is_client_error(), "{}", response.status());
        // A response to HEAD has no body.
        check_headers(&serde_json::from_slice(response.body()).unwrap_or_default());
    });
});
