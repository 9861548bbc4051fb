//! Compares the response to each file of `events/`, one for each kind of event, with the file of the same name in
//! `answers/`.
//!
//! The responses are snapshots; `uploads` and `signatures` check that their signatures are correct.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use presigned_upload::handler::handle;
use serde_json::{Value, json};

use crate::{
    responses::{snapshot, whole},
    support::{
        app::{FIXED, app},
        events::{event, request},
    },
};

/// Returns the names of the JSON files in a folder.
fn json_files(folder: &str) -> BTreeSet<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let names = fs::read_dir(folder).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    names.filter(|name| name.extension().is_some_and(|extension| extension == "json")).collect()
}

#[tokio::test]
async fn every_event_gets_the_response_in_its_snapshot() {
    let app = app(&[], None, FIXED).await;
    let names = json_files("events");
    assert_eq!(names, json_files("tests/it/answers"));

    for name in names.iter().map(|name| name.to_str().unwrap()) {
        let response = handle(&app, request(&event(name))).await;

        assert_eq!(whole(&response), snapshot(name), "{name}");
    }
}

/// A REST API passes the path without the stage.
#[tokio::test]
async fn accepts_a_stage_named_like_a_segment_of_the_path() {
    let app = app(&[], None, FIXED).await;
    let mut event: Value = serde_json::from_str(&event("media-rest-api.json")).unwrap();
    event["path"] = json!("/v1/assets/presign");
    event["requestContext"]["path"] = json!("/v1/v1/assets/presign");
    event["requestContext"]["stage"] = json!("v1");
    event["body"] = Value::Null;

    let response = handle(&app, request(&event.to_string())).await;

    assert_eq!(whole(&response), snapshot("presign.json"));
}

/// Most of these would make `lambda_http` panic if `sanitize` left them in the event.
#[tokio::test]
async fn responds_to_events_that_would_make_lambda_http_panic() {
    let app = app(&[], None, FIXED).await;
    let http_api: Value = serde_json::from_str(&event("media.json")).unwrap();
    let rest_api: Value = serde_json::from_str(&event("media-rest-api.json")).unwrap();

    for (event, pointer, value, status) in [
        (&http_api, "/rawQueryString", json!("a=<b>"), 200),
        (&http_api, "/rawQueryString", json!("a=\" b"), 200),
        (&http_api, "/headers/host", json!("a b"), 200),
        (&http_api, "/headers/x-forwarded-proto", json!("https,http"), 200),
        (&http_api, "/requestContext/domainName", json!("a b"), 200),
        (&http_api, "/requestContext/stage", json!("\u{e9}?#"), 200),
        (&http_api, "/rawPath", json!(""), 404),
        (&http_api, "/rawPath", json!(":99999"), 404),
        (&http_api, "/rawPath", json!("/media/\u{0}\n <>?#\u{e9}"), 404),
        (&http_api, "/rawPath", json!("/\u{e9}".repeat(40_000)), 404),
        (&http_api, "/requestContext/stage", json!("\u{e9}".repeat(40_000)), 404),
        (&http_api, "/isBase64Encoded", json!(true), 200),
        (&http_api, "/body", json!("\u{0}"), 400),
        (&rest_api, "/queryStringParameters", json!({ "a": "<b>" }), 200),
        (&rest_api, "/multiValueQueryStringParameters", json!({ "<": ["\u{0}"] }), 200),
        (&rest_api, "/headers/Host", json!("a b"), 200),
        (&rest_api, "/multiValueHeaders/Host", json!(["a b"]), 200),
        (&rest_api, "/multiValueHeaders/X-Forwarded-Proto", json!(["ht tp"]), 200),
        (&rest_api, "/requestContext/domainName", json!("a b"), 200),
        (&rest_api, "/path", json!("media"), 404),
        (&rest_api, "/isBase64Encoded", json!(true), 200),
    ] {
        let mut event = event.clone();
        *event.pointer_mut(pointer).unwrap() = value.clone();

        let response = handle(&app, request(&event.to_string())).await;

        assert_eq!(response.status(), status, "{pointer} = {value:.60}");
    }
}
