//! Every event of `events/` through `handle`: status, headers and body against the file of the same name in `answers/`.
//!
//! The answers are snapshots, made by this code; that the signatures in them are right is shown in `uploads` and
//! `signatures`.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future::ProvideCredentials as ProvideCredentialsFuture},
};
use lambda_http::{Body, Response, http::HeaderMap};
use presigned_upload::{app::App, body::MAX_BYTES, handler::handle};
use serde_json::{Map, Value, json};

use crate::fixture::{FIXED, app, ask_put, config, granted, json_of, post, read, request, sdk_config_with_api_key};

fn names(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn whole(response: &Response<Body>) -> Value {
    json!({
        "status": response.status().as_u16(),
        "headers": headers(response.headers()),
        "body": json_of(response),
    })
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect()
}

#[tokio::test]
async fn every_event_gets_its_answer() {
    let app = app(&[], None, FIXED).await;
    let events = names("events");
    assert_eq!(events, names("tests/it/answers"), "an answer for each event, and an event for each answer");

    for name in events {
        let event = request(&read(&format!("events/{name}")));
        let expected: Value = serde_json::from_str(&read(&format!("tests/it/answers/{name}"))).unwrap();

        let answer = whole(&handle(&app, event).await);

        assert_eq!(answer, expected, "events/{name} was answered with {answer:#}");
    }
}

#[tokio::test]
async fn same_request_gets_the_same_bytes() {
    let app = app(&[], None, FIXED).await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });

    let first = handle(&app, post("/media/", &body)).await;
    let second = handle(&app, post("/media/", &body)).await;

    assert_eq!(first.body(), second.body());
}

#[tokio::test]
async fn members_and_form_fields_come_in_the_order_of_the_documentation() {
    let app = app(&[], None, FIXED).await;

    let answer = handle(&app, post("/media/", &json!({ "fileName": "a.png", "fileType": "image/png" }))).await;

    let body = std::str::from_utf8(answer.body()).unwrap();
    let names = [
        "url",
        "fields",
        "key",
        "Content-Type",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "policy",
        "x-amz-signature",
        "fileKey",
    ];
    let places: Vec<_> = names.iter().map(|name| body.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{body}");
}

#[tokio::test]
async fn takes_a_body_of_64_kib_and_no_more() {
    let app = app(&[], None, FIXED).await;
    let body = |length: usize| {
        let mut body = json!({ "fileName": "a.png", "fileType": "image/png", "padding": "" });
        body["padding"] = "a".repeat(length - body.to_string().len()).into();
        assert_eq!(body.to_string().len(), length);
        body
    };

    let longest = handle(&app, post("/media/", &body(MAX_BYTES))).await;
    let too_long = handle(&app, post("/media/", &body(MAX_BYTES + 1))).await;

    granted(&longest);
    assert_eq!(
        whole(&too_long),
        json!({
            "status": 413,
            "headers": { "cache-control": "no-store", "content-type": "application/problem+json" },
            "body": {
                "type": "about:blank",
                "title": "Payload Too Large",
                "status": 413,
                "code": "payload_too_large",
                "detail": "request body is 65537 bytes long; expected at most 65536",
            },
        })
    );
}

#[tokio::test]
async fn api_key_is_checked_before_the_body_is_read() {
    let app = app(&[], None, FIXED).await;
    let mut request = post("/media/", &json!("a".repeat(MAX_BYTES)));
    request.headers_mut().remove("authorization");

    let answer = handle(&app, request).await;

    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn longest_name_is_what_the_object_key_has_room_for() {
    let app = app(&[], None, FIXED).await;
    // `tmp/`, the id and a slash are 41 bytes; 983 are left of 1,024.
    let longest = "\u{10ffff}".repeat(243) + &"a".repeat(11);

    let granted = ask_put(&app, &json!({ "fileName": longest })).await;
    let refused = handle(&app, post("/v1/assets/presign", &json!({ "fileName": longest + "a" }))).await;

    assert_eq!(granted["key"].as_str().unwrap().len(), 1024);
    assert_eq!(
        json_of(&refused)["details"],
        json!({ "fields": [{ "name": "fileName", "reason": "must be at most 983 bytes of UTF-8 long" }] })
    );
}

/// Most of these make `lambda_http` panic where they come through as they are.
#[tokio::test]
async fn what_lambda_http_panics_at_is_answered() {
    let app = app(&[], None, FIXED).await;
    let media: Value = serde_json::from_str(&read("events/media.json")).unwrap();
    let rest: Value = serde_json::from_str(&read("events/media-rest-api.json")).unwrap();

    for (event, pointer, value, status) in [
        (&media, "/rawQueryString", json!("a=<b>"), 200),
        (&media, "/rawQueryString", json!("a=\" b"), 200),
        (&media, "/headers/host", json!("a b"), 200),
        (&media, "/headers/x-forwarded-proto", json!("https,http"), 200),
        (&media, "/requestContext/domainName", json!("a b"), 200),
        (&media, "/requestContext/stage", json!("\u{e9}?#"), 200),
        (&media, "/rawPath", json!(""), 404),
        (&media, "/rawPath", json!(":99999"), 404),
        (&media, "/rawPath", json!("/media/\u{0}\n <>?#\u{e9}"), 404),
        (&media, "/rawPath", json!("/\u{e9}".repeat(40_000)), 404),
        (&media, "/requestContext/stage", json!("\u{e9}".repeat(40_000)), 404),
        (&media, "/isBase64Encoded", json!(true), 200),
        (&media, "/body", json!("\u{0}"), 400),
        (&rest, "/queryStringParameters", json!({ "a": "<b>" }), 200),
        (&rest, "/multiValueQueryStringParameters", json!({ "<": ["\u{0}"] }), 200),
        (&rest, "/headers/Host", json!("a b"), 200),
        (&rest, "/multiValueHeaders/Host", json!(["a b"]), 200),
        (&rest, "/multiValueHeaders/X-Forwarded-Proto", json!(["ht tp"]), 200),
        (&rest, "/requestContext/domainName", json!("a b"), 200),
        (&rest, "/path", json!("media"), 404),
        (&rest, "/isBase64Encoded", json!(true), 200),
    ] {
        let mut event = event.clone();
        *event.pointer_mut(pointer).unwrap() = value.clone();

        let answer = handle(&app, request(&event.to_string())).await;

        assert_eq!(answer.status(), status, "{pointer} = {value:.60}");
    }
}

/// Credentials that a fault of the code cannot read, but for the first time and the third.
#[derive(Debug, Default)]
struct Faulty(AtomicUsize);

impl ProvideCredentials for Faulty {
    fn provide_credentials<'a>(&'a self) -> ProvideCredentialsFuture<'a>
    where
        Self: 'a,
    {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) != 1, "a fault of the code");
        ProvideCredentialsFuture::ready(Ok(Credentials::new("ASIA", "SECRET", None, None, "test")))
    }
}

#[tokio::test]
async fn a_panic_costs_one_500_and_the_next_request_is_served() {
    let sdk_config = sdk_config_with_api_key(None);
    let sdk_config = sdk_config.credentials_provider(SharedCredentialsProvider::new(Faulty::default())).build();
    let app = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.unwrap();
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });
    app.key_store.load(SystemTime::now()).await.unwrap();

    let failed = handle(&app, post("/media/", &body)).await;
    let served = handle(&app, post("/media/", &body)).await;

    assert_eq!(failed.status(), 500);
    assert_eq!(json_of(&failed)["detail"], "could not generate upload URL");
    granted(&served);
}
