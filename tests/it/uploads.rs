//! Uses grants from `handle` on an S3 server, as an uploader would: the files can be read back byte for byte, and every
//! altered upload is rejected.
//!
//! The server is `s3s`, backed by a folder. It sometimes responds with 400 where S3 responds with 403, so most tests
//! assert only that it rejects the upload and stores nothing.

use std::{
    env,
    time::{Duration, SystemTime},
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_types::region::Region;
use presigned_upload::app::{App, Nondeterminism};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    app::{Endpoints, REAL, app, config, grant, grant_post, grant_put, sdk_config, sdk_config_with_api_key},
    client::{client, client_builder},
    s3::S3,
    upload::{
        Upload,
        alterations::{Server, unexpected_outcomes},
        file,
    },
};

/// A clock that is two minutes slow.
const TWO_MINUTES_AGO: Nondeterminism = Nondeterminism { now: || SystemTime::now() - Duration::from_mins(2), ..REAL };

const PATH_STYLE: (&str, &str) = ("S3_FORCE_PATH_STYLE", "true");

/// File names that some parser on the way to S3 might read differently.
const FILE_NAMES: [&str; 12] = [
    "web-app-manifest-512x512.png",
    "two words.png",
    "a+b.png",
    "100%.png",
    "%41%2F%2e.png",
    "it's \"quoted\".png",
    "a&b=c?d#e.png",
    "$key;<b>&amp;.png",
    "naïve.png",
    "図面 (最終版).png",
    "👩🏽‍🚀🇪🇺.png",
    "~a!b@c^d*e{f}[g]|h`i.png",
];

async fn send_post(grant: &Value, file: Vec<u8>) -> Response {
    Upload::post(grant, file).request(&client()).send().await.unwrap()
}

async fn send_put(grant: &Value, content_type: Option<&str>, file: Vec<u8>) -> Response {
    Upload::put(grant, content_type, file).request(&client()).send().await.unwrap()
}

/// Asserts that the server rejected an upload and stored nothing.
#[track_caller]
fn assert_refused(response: &Response, s3: &S3) {
    assert!(response.status().is_client_error(), "{}", response.status());
    assert!(s3.is_empty());
}

/// Reads an object with the function's own credentials, and returns its type and its bytes.
async fn read_back(s3: &S3, object_key: &Value) -> (Option<String>, Vec<u8>) {
    let endpoints = Endpoints { s3: Some(s3.url()), secrets_manager: None };
    let config = aws_sdk_s3::config::Builder::from(&sdk_config(endpoints).build()).force_path_style(true).build();
    let object = aws_sdk_s3::Client::from_conf(config)
        .get_object()
        .bucket("uploads")
        .key(object_key.as_str().unwrap())
        .send()
        .await
        .unwrap();
    (object.content_type, object.body.collect().await.unwrap().to_vec())
}

/// Returns a server, and the function with these settings.
async fn start(variables: &[(&str, &str)]) -> (S3, App) {
    let s3 = S3::start().await;
    let app = app(&[&[PATH_STYLE], variables].concat(), Some(&s3), REAL).await;
    (s3, app)
}

#[tokio::test]
async fn stores_a_posted_file_under_the_object_key_in_the_response() {
    let (s3, app) = start(&[]).await;

    for name in FILE_NAMES {
        let grant = grant_post(&app, name, "image/png").await;
        let response = send_post(&grant, file()).await;

        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{name}");
        assert!(grant["fileKey"].as_str().unwrap().ends_with(&format!("/{name}")));
        assert_eq!(read_back(&s3, &grant["fileKey"]).await, (Some("image/png".to_owned()), file()), "{name}");
    }
}

#[tokio::test]
async fn stores_a_put_file_under_the_object_key_in_the_response() {
    let (s3, app) = start(&[]).await;

    for name in FILE_NAMES {
        let grant = grant_put(&app, &json!({ "fileName": name, "fileType": "image/png" })).await;
        let response = send_put(&grant, Some("image/png"), file()).await;

        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert!(grant["key"].as_str().unwrap().ends_with(&format!("/{name}")));
        assert_eq!(read_back(&s3, &grant["key"]).await, (Some("image/png".to_owned()), file()), "{name}");
    }
}

#[tokio::test]
async fn a_url_without_a_type_accepts_any_type() {
    let (s3, app) = start(&[]).await;

    for content_type in [None, Some("text/plain")] {
        let grant = grant_put(&app, &json!({})).await;
        let response = send_put(&grant, content_type, file()).await;

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(read_back(&s3, &grant["key"]).await.1, file());
    }
}

#[tokio::test]
async fn keeps_the_parameters_of_a_type() {
    let (s3, app) = start(&[]).await;
    let content_type = "text/plain ;  charset=\"utf-8\"; x=\"a\\\"b;c, d\"";

    let post = grant_post(&app, "a.txt", content_type).await;
    let put = grant_put(&app, &json!({ "fileType": content_type })).await;

    assert_eq!(send_post(&post, file()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(send_put(&put, Some(content_type), file()).await.status(), StatusCode::OK);
    assert_eq!(read_back(&s3, &post["fileKey"]).await.0.as_deref(), Some(content_type));
}

#[tokio::test]
async fn accepts_uploads_to_a_host_named_after_the_bucket() {
    let s3 = S3::start().await;
    let sdk_config = sdk_config_with_api_key(Some(&format!("http://{}", S3::DOMAIN))).build();
    let app = App::from_sdk_config(config(&[]), &sdk_config, REAL).await.unwrap();
    let host = format!("uploads.{}", S3::DOMAIN);
    let client = client_builder().resolve(&host, s3.address).build().unwrap();

    let post = grant_post(&app, "é.png", "image/png").await;
    let put = grant_put(&app, &json!({ "fileName": "é.png", "fileType": "image/png" })).await;
    let post_response = Upload::post(&post, file()).request(&client).send().await.unwrap();
    let put_response = Upload::put(&put, Some("image/png"), file()).request(&client).send().await.unwrap();

    assert_eq!(post["url"], format!("http://{host}/"));
    assert_eq!(post_response.status(), StatusCode::NO_CONTENT);
    assert_eq!(put_response.status(), StatusCode::OK);
    assert_eq!(read_back(&s3, &post["fileKey"]).await.1, file());
    assert_eq!(read_back(&s3, &put["key"]).await.1, file());
}

#[tokio::test]
async fn a_form_accepts_only_sizes_within_the_limits() {
    let (s3, app) = start(&[("UPLOAD_MAX_BYTES", "1000")]).await;

    for size in [0, 1001] {
        let grant = grant_post(&app, "a.png", "image/png").await;

        assert_refused(&send_post(&grant, vec![b'a'; size]).await, &s3);
    }
    for size in [1, 1000] {
        let grant = grant_post(&app, "a.png", "image/png").await;

        assert_eq!(send_post(&grant, vec![b'a'; size]).await.status(), StatusCode::NO_CONTENT, "{size}");
        assert_eq!(read_back(&s3, &grant["fileKey"]).await.1.len(), size);
    }
}

#[tokio::test]
async fn a_url_without_a_size_accepts_any_size() {
    let (s3, app) = start(&[]).await;

    for size in [0, 1001] {
        let grant = grant_put(&app, &json!({})).await;
        let response = send_put(&grant, None, vec![b'a'; size]).await;

        assert_eq!(response.status(), StatusCode::OK, "{size}");
        assert_eq!(read_back(&s3, &grant["key"]).await.1.len(), size);
    }
}

#[tokio::test]
async fn rejects_every_altered_upload() {
    let (s3, app) = start(&[]).await;

    let grant = async |path: &str, body: &Value| grant(&app, path, body).await;
    let take_objects = async || Some(s3.take_objects());
    let unexpected = unexpected_outcomes(Server::S3s, &client(), "session", grant, take_objects).await;

    assert_eq!(unexpected, [""; 0]);
}

/// `S3_ENDPOINT_URL` names the server, `UPLOAD_BUCKET` one of its buckets, and `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` are used to sign. The server should have a bucket called `other` as
/// well.
#[tokio::test]
#[ignore = "needs a third S3, in S3_ENDPOINT_URL"]
async fn a_third_server_rejects_every_altered_upload() {
    let environment = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let credentials = Credentials::new(
        environment("AWS_ACCESS_KEY_ID"),
        environment("AWS_SECRET_ACCESS_KEY"),
        Some(environment("AWS_SESSION_TOKEN")),
        None,
        "environment",
    );
    let sdk_config = sdk_config_with_api_key(Some(&environment("S3_ENDPOINT_URL")))
        .region(Region::new(environment("AWS_REGION")))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let settings = config(&[PATH_STYLE, ("UPLOAD_BUCKET", &environment("UPLOAD_BUCKET"))]);
    let app = App::from_sdk_config(settings, &sdk_config, REAL).await.unwrap();
    let unaltered = send_post(&grant_post(&app, "a.png", "image/png").await, file()).await;
    assert_eq!(unaltered.status(), StatusCode::NO_CONTENT);

    let grant = async |path: &str, body: &Value| grant(&app, path, body).await;
    let unexpected = unexpected_outcomes(Server::Third, &client(), "session", grant, async || None).await;

    assert_eq!(unexpected, [""; 0]);
}

/// Returns the function with a slow clock and grants that live for this many seconds by it.
async fn app_two_minutes_ago(s3: &S3, expires_in: &str) -> App {
    app(&[PATH_STYLE, ("UPLOAD_EXPIRES_IN", expires_in)], Some(s3), TWO_MINUTES_AGO).await
}

#[tokio::test]
async fn rejects_a_form_that_has_expired() {
    let s3 = S3::start().await;
    let expired = grant_post(&app_two_minutes_ago(&s3, "60").await, "a.png", "image/png").await;
    let valid = grant_post(&app_two_minutes_ago(&s3, "180").await, "a.png", "image/png").await;

    assert_refused(&send_post(&expired, file()).await, &s3);
    assert_eq!(send_post(&valid, file()).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rejects_a_url_that_has_expired() {
    let s3 = S3::start().await;
    let expired = grant_put(&app_two_minutes_ago(&s3, "60").await, &json!({})).await;
    let valid = grant_put(&app_two_minutes_ago(&s3, "180").await, &json!({})).await;

    assert_refused(&send_put(&expired, None, file()).await, &s3);
    assert_eq!(send_put(&valid, None, file()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_url_neither_reads_nor_deletes_its_object() {
    let (s3, app) = start(&[]).await;
    let grant = grant_put(&app, &json!({})).await;
    let url = grant["url"].as_str().unwrap();
    assert_eq!(send_put(&grant, None, file()).await.status(), StatusCode::OK);

    let read = client().get(url).send().await.unwrap();
    let deleted = client().delete(url).send().await.unwrap();

    assert!(read.status().is_client_error(), "{}", read.status());
    assert!(deleted.status().is_client_error(), "{}", deleted.status());
    assert_eq!(read_back(&s3, &grant["key"]).await.1, file());
}
