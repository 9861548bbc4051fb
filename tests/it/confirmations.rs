//! `POST /v1/uploads/confirm`: the request that it sends to S3, and what it makes of the response.

use hyper::StatusCode;
use lambda_http::{Body, Response};
use presigned_upload::{app::App, handler::handle};
use serde_json::{Value, json};

use crate::{
    responses::{expected, invalid_members, whole},
    support::{
        app::{FIXED, app, confirming_app, grant, grant_post, grant_put, granted},
        client::client,
        events::{HttpApiEvent, event, request},
        s3::S3,
        s3_head::{HeadResponse, S3Head, STORED},
        upload::{Upload, file},
    },
};

const CONFIRM: &str = "/v1/uploads/confirm";
const OBJECT_KEY: &str = "tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148/holiday.mp4";

async fn confirm(app: &App, object_key: &Value) -> Response<Body> {
    handle(app, HttpApiEvent::post(CONFIRM, &json!({ "key": object_key })).request()).await
}

/// Returns the response to a confirmation while S3 responds like this.
async fn response_to(response: HeadResponse) -> Response<Body> {
    let s3 = S3Head::start(response).await;
    confirm(&confirming_app(&s3.url, &[]).await, &json!(OBJECT_KEY)).await
}

/// Returns the headers of an object with another one, or with another value.
fn stored_with(name: &'static str, value: &'static [u8]) -> HeadResponse {
    let others = STORED.into_iter().filter(|header| header.0 != name);
    HeadResponse::Object(others.chain([(name, value)]).collect())
}

fn problem(status: u16, title: &str, code: &str, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": title, "status": status, "code": code, "detail": detail })
}

#[tokio::test]
async fn returns_what_s3_has_stored() {
    let response = response_to(HeadResponse::Object(STORED.to_vec())).await;

    let body = json!({
        "key": OBJECT_KEY,
        "size": 1_000_000_000,
        "type": "video/mp4",
        "etag": "\"d41d8cd98f00b204e9800998ecf8427e-60\"",
        "versionId": "3HL4kqtJvjVBH40Nrjfkd",
        "checksumCrc64Nvme": "a8ugLNUDOsM=",
        "lastModified": "2026-01-02T03:09:10Z",
    });
    assert_eq!(whole(&response), expected(&body, None));
}

#[tokio::test]
async fn leaves_out_what_s3_does_not_have() {
    let response = response_to(HeadResponse::Object(STORED[..4].to_vec())).await;

    let members = granted(&response);
    let names: Vec<_> = members.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["key", "size", "type", "etag", "lastModified"]);
    let without_type = STORED.into_iter().filter(|header| header.0 != "Content-Type").collect();
    assert_eq!(granted(&response_to(HeadResponse::Object(without_type)).await)["type"], "binary/octet-stream");
}

#[tokio::test]
async fn asks_s3_for_the_checksum_with_a_signed_request() {
    let s3 = S3Head::start(HeadResponse::Object(STORED.to_vec())).await;
    let app = confirming_app(&s3.url, &[]).await;

    confirm(&app, &json!(OBJECT_KEY)).await;

    let [request] = &s3.take_requests()[..] else { panic!("expected one request") };
    let header = |name: &str| request.headers[name].to_str().unwrap();
    assert_eq!(request.uri.to_string(), format!("/uploads/{OBJECT_KEY}"));
    assert_eq!(header("x-amz-checksum-mode"), "ENABLED");
    assert_eq!(header("x-amz-security-token"), "FwoGZXIvYXdzE/session+token==");
    assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/"));
    assert!(header("authorization").contains("x-amz-checksum-mode"));
}

/// The server checks the signature of each request.
#[tokio::test]
async fn confirms_uploads_with_names_that_have_a_meaning_in_urls() {
    let s3 = S3::start().await;
    let app = confirming_app(&s3.url(), &[]).await;
    let missing = json!("tmp/108713b0-1f81-42cf-a16c-c83b1d4d4149");

    for name in ["a b.png", "$a$.png", "👩🏽‍🚀 図面.png", "a+b.png", "100%25.png", "a%2Fb?c=d&e#f.png", "it's \"*\".png"]
    {
        let grant = grant_put(&app, &json!({ "fileName": name, "fileType": "image/png" })).await;
        let uploaded = Upload::put(&grant, Some("image/png"), file()).request(&client()).send().await.unwrap();
        assert_eq!(uploaded.status(), StatusCode::OK, "{name}");

        let confirmed = granted(&confirm(&app, &grant["key"]).await);

        assert_eq!((&confirmed["key"], &confirmed["type"]), (&grant["key"], &json!("image/png")), "{name}");
        assert_eq!(confirmed["size"], file().len(), "{name}");
    }
    assert_eq!(confirm(&app, &missing).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn responds_with_404_if_nothing_has_been_uploaded() {
    let not_uploaded = problem(404, "Not Found", "not_uploaded", "nothing has been uploaded with this object key");

    for response in [HeadResponse::Status(StatusCode::NOT_FOUND), HeadResponse::DeleteMarker] {
        assert_eq!(whole(&response_to(response).await), expected(&not_uploaded, None));
    }
}

/// `ObjectKey::granted` has a test of more object keys.
#[tokio::test]
async fn rejects_object_keys_of_other_callers_without_asking_s3() {
    let s3 = S3Head::start(HeadResponse::Object(STORED.to_vec())).await;
    let app = confirming_app(&s3.url, &[("UPLOAD_PREFIX", "tmp/shop/")]).await;
    let detail = "object key was not granted to this caller; expected `tmp/shop/UUID` or `tmp/shop/UUID/FILENAME`";
    let not_granted = problem(403, "Forbidden", "key_not_granted", detail);
    let id = "108713b0-1f81-42cf-a16c-c83b1d4d4148";

    for object_key in [
        "",
        &format!("tmp/{id}"),
        &format!("tmp/shop{id}"),
        &format!("tmp/shopping/{id}/a.png"),
        &format!("tmp/shop/mobile/{id}/a.png"),
        &format!("tmp/shop/{id}/../../../{id}"),
        &format!("tmp/shop/{id}/{}", "a".repeat(1024)),
    ] {
        let response = confirm(&app, &json!(object_key)).await;

        assert_eq!(whole(&response), expected(&not_granted, None), "{object_key}");
    }
    assert_eq!(s3.take_requests().len(), 0);
    granted(&confirm(&app, &json!(format!("tmp/shop/{id}/a.png"))).await);
}

#[tokio::test]
async fn names_an_invalid_member() {
    let app = confirming_app("http://127.0.0.1:1", &[]).await;

    for (body, reason) in
        [(json!({}), "is required"), (json!({ "key": null }), "is required"), (json!({ "key": 1 }), "must be a string")]
    {
        let response = handle(&app, HttpApiEvent::post(CONFIRM, &body).request()).await;

        assert_eq!(whole(&response), expected(&invalid_members(&[("key", reason)]), None), "{body}");
    }
}

#[tokio::test]
async fn is_an_ordinary_404_unless_the_settings_allow_it() {
    let app = app(&[], None, FIXED).await;
    let detail = "unknown path; expected `POST /media/`, `POST /v1/assets/presign`, `POST /v1/uploads`, \
                  `POST /v1/uploads/sign` or `GET /healthz`";
    let not_found = expected(&problem(404, "Not Found", "not_found", detail), None);

    for path in [CONFIRM, "/prod/v1/uploads/confirm/"] {
        let post = HttpApiEvent::post(path, &json!({ "key": OBJECT_KEY }));
        for event in [post.clone(), post.without_header("authorization"), HttpApiEvent::new("GET", path)] {
            assert_eq!(whole(&handle(&app, event.request()).await), not_found, "{event}");
        }
    }
}

#[tokio::test]
async fn needs_an_api_key_and_a_post() {
    let app = confirming_app("http://127.0.0.1:1", &[]).await;
    let post = HttpApiEvent::post(CONFIRM, &json!({ "key": OBJECT_KEY }));

    for (event, status) in [
        (post.clone().without_header("authorization"), StatusCode::UNAUTHORIZED),
        (post.api_key("another-api-key"), StatusCode::UNAUTHORIZED),
        (HttpApiEvent::new("GET", CONFIRM), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        assert_eq!(handle(&app, event.request()).await.status(), status, "{event}");
    }
}

#[tokio::test]
async fn no_other_route_asks_s3() {
    let s3 = S3Head::start(HeadResponse::Object(STORED.to_vec())).await;
    let app = confirming_app(&s3.url, &[]).await;

    grant_post(&app, "a.png", "image/png").await;
    grant_put(&app, &json!({})).await;
    let upload = grant(&app, "/v1/uploads", &json!({ "fileName": "a", "fileType": "a/b", "fileSize": 1 })).await;
    let body = json!({ "uploadToken": upload["uploadToken"], "uploadId": "a", "partNumbers": [1] });
    grant(&app, "/v1/uploads/sign", &body).await;
    granted(&handle(&app, request(&event("healthz.json"))).await);

    assert_eq!(s3.take_requests().len(), 0);
    granted(&confirm(&app, &json!(OBJECT_KEY)).await);
    assert_eq!(s3.take_requests().len(), 1);
}

/// The uploader of a PUT chooses these headers. The SDK alone would reject the response, or panic.
#[tokio::test]
async fn reads_a_response_whose_headers_are_not_utf_8() {
    for name in ["Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires"] {
        let response = response_to(stored_with(name, b"caf\xe9")).await;

        assert_eq!(granted(&response)["size"], 1_000_000_000, "{name}");
    }
    let response = response_to(stored_with("Content-Type", b"caf\xe9/mp4")).await;
    assert_eq!(granted(&response)["type"], "caf\u{fffd}/mp4");
}
