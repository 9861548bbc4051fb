//! Multipart uploads, as a client and as a hostile one would send them, and the upload tokens that the function accepts.
//!
//! The server is `s3s`, backed by a folder; `deployed` tries the same requests on the local AWS.

use std::time::{Duration, UNIX_EPOCH};

use lambda_http::{Body, Response};
use presigned_upload::{
    app::{App, Nondeterminism},
    handler::handle,
};
use serde_json::{Value, json};

use crate::support::{
    app::{API_KEY, FIXED, REAL, app, config, grant, granted, json_of, sdk_config_with_secret},
    client::client,
    events::HttpApiEvent,
    s3::S3,
    upload::{
        alterations::{Server, multipart::unexpected_outcomes},
        multipart::{Uploader, large_file, upload_and_resume},
    },
};

const PATH_STYLE: (&str, &str) = ("S3_FORCE_PATH_STYLE", "true");

#[tokio::test]
async fn s3_accepts_only_the_upload_that_was_granted() {
    let s3 = S3::start().await;
    let app = app(&[PATH_STYLE], Some(&s3), REAL).await;
    let api = async |path: &str, body: &Value| grant(&app, path, body).await;
    let uploader = Uploader { client: client(), api };

    let stored = async |object_key: &Value| s3.object(object_key);
    let unexpected = unexpected_outcomes(Server::S3s, &uploader, stored, async || s3.take_objects()).await;

    assert_eq!(unexpected, [""; 0]);
}

#[tokio::test]
async fn another_process_resumes_an_upload_that_was_killed() {
    let s3 = S3::start().await;
    let app = app(&[PATH_STYLE], Some(&s3), REAL).await;
    let api = async |path: &str, body: &Value| grant(&app, path, body).await;

    let object_key = upload_and_resume([client(), client()], &api).await;

    assert!(s3.object(&object_key).is_some_and(|object| object == large_file()));
}

/// The API key of another caller.
const OTHER_API_KEY: &str = "another-development-key";

/// Returns the function with this secret and these settings.
async fn app_with_secret(secret: &Value, variables: &[(&str, &str)]) -> App {
    let sdk_config = sdk_config_with_secret(&secret.to_string(), None).build();
    App::from_sdk_config(config(variables), &sdk_config, FIXED).await.unwrap()
}

/// Returns a token for 10 MiB of video that is signed with [`API_KEY`].
async fn token() -> String {
    let app = app(&[], None, FIXED).await;
    let body = json!({ "fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 10 << 20 });
    grant(&app, "/v1/uploads", &body).await["uploadToken"].as_str().unwrap().to_owned()
}

fn sign(token: &str) -> HttpApiEvent {
    HttpApiEvent::post("/v1/uploads/sign", &json!({ "uploadToken": token, "uploadId": "a", "partNumbers": [1] }))
}

/// Asserts that the function rejects a request, with this status and this code.
#[track_caller]
fn assert_rejected(response: &Response<Body>, status: u16, code: &str, context: &str) {
    let body = json_of(response);
    assert_eq!((response.status().as_u16(), &body["code"]), (status, &json!(code)), "{context}: {body}");
}

#[tokio::test]
async fn a_token_is_worth_nothing_without_the_api_key_it_was_signed_for() {
    let token = token().await;

    for (secret, api_key, status, code) in [
        (json!({ "storefront": API_KEY, "mobile": OTHER_API_KEY }), OTHER_API_KEY, 403, "invalid_upload_token"),
        (json!({ "storefront": OTHER_API_KEY }), OTHER_API_KEY, 403, "invalid_upload_token"), // rotated
        (json!({ "mobile": OTHER_API_KEY }), API_KEY, 401, "unauthorized"),                   // removed
    ] {
        let app = app_with_secret(&secret, &[]).await;

        let response = handle(&app, sign(&token).api_key(api_key).request()).await;

        assert_rejected(&response, status, code, &secret.to_string());
    }
}

/// A header of another caller does not help.
#[tokio::test]
async fn a_token_is_verified_with_the_api_key_that_authenticates_the_request() {
    let token = token().await;
    let app = app_with_secret(&json!({ "mobile": OTHER_API_KEY }), &[]).await;

    let response = handle(&app, sign(&token).header("x-api-key", OTHER_API_KEY).request()).await;

    assert_rejected(&response, 403, "invalid_upload_token", "");
}

#[tokio::test]
async fn a_token_permits_nothing_beyond_limits_that_were_narrowed_since() {
    let token = token().await;

    for (settings, limits, is_accepted) in [
        (&[][..], json!({}), true),
        (&[("UPLOAD_MAX_BYTES", "10485760")], json!({ "allowedTypes": "video/*" }), true),
        (&[("UPLOAD_MAX_BYTES", "10485759")], json!({}), false),
        (&[("UPLOAD_ALLOWED_TYPES", "image/*")], json!({}), false),
        (&[("UPLOAD_PREFIX", "temp/")], json!({}), false),
        (&[], json!({ "maxBytes": 10_485_759 }), false),
        (&[], json!({ "allowedTypes": "image/*" }), false),
        (&[], json!({ "prefix": "shop/" }), false),
    ] {
        let mut entry = limits.clone();
        entry["key"] = API_KEY.into();
        let app = app_with_secret(&json!({ "storefront": entry }), settings).await;

        let response = handle(&app, sign(&token).request()).await;

        if is_accepted {
            granted(&response);
        } else {
            assert_rejected(&response, 403, "invalid_upload_token", &format!("{settings:?} {limits}"));
        }
    }
}

#[tokio::test]
async fn a_token_lasts_a_day() {
    const GRANTED_AT: Duration = Duration::from_secs(1_767_323_045);
    const DAY: Duration = Duration::from_hours(24);
    let token = token().await;
    let response_at = async |now| {
        let app = app(&[], None, Nondeterminism { now, ..FIXED }).await;
        handle(&app, sign(&token).request()).await
    };

    granted(&response_at(|| UNIX_EPOCH + GRANTED_AT + DAY - Duration::from_millis(1)).await);
    let expired = response_at(|| UNIX_EPOCH + GRANTED_AT + DAY).await;

    assert_rejected(&expired, 403, "upload_token_expired", "");
}

#[tokio::test]
async fn a_token_with_another_byte_is_invalid() {
    let token = token().await;
    let app = app(&[], None, FIXED).await;

    for index in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();

        let response = handle(&app, sign(&altered).request()).await;

        assert_rejected(&response, 403, "invalid_upload_token", &altered);
    }
}
