//! Whole responses: status, headers and body.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future::ProvideCredentials as ProvideCredentialsFuture},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{Body, Response};
use presigned_upload::{
    app::{App, Nondeterminism},
    body::MAX_BYTES,
    handler::handle,
};
use serde_json::{Map, Value, json};

use crate::support::{
    app::{FIXED, app, config, grant, grant_put, granted, json_of, sdk_config_with_api_key},
    events::HttpApiEvent,
    files::read,
};

/// Converts a response to JSON, for comparison.
pub(crate) fn whole(response: &Response<Body>) -> Value {
    let headers = response.headers().iter();
    let headers: Map<_, _> = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    json!({ "status": response.status().as_u16(), "headers": headers, "body": json_of(response) })
}

/// Reads a response from `answers/`.
pub(crate) fn snapshot(name: &str) -> Value {
    serde_json::from_str(&read(&format!("tests/it/answers/{name}"))).unwrap()
}

/// Returns the response with this body; a problem has its own content type, and sometimes one more header.
pub(crate) fn expected(body: &Value, header: Option<(&str, &str)>) -> Value {
    let content_type = if body["code"].is_null() { "application/json" } else { "application/problem+json" };
    let mut headers = json!({ "cache-control": "no-store", "content-type": content_type });
    if let Some((name, value)) = header {
        headers[name] = json!(value);
    }
    json!({ "status": body["status"].as_u64().unwrap_or(200), "headers": headers, "body": body })
}

/// Returns the request of `events/media.json`, at another path.
fn media(path: &str) -> HttpApiEvent {
    HttpApiEvent::post(path, &json!({ "fileName": "web-app-manifest-512x512.png", "fileType": "image/png" }))
}

async fn assert_problem(event: HttpApiEvent, header: Option<(&str, &str)>, body: Value) {
    let app = app(&[], None, FIXED).await;

    let response = handle(&app, event.request()).await;

    assert_eq!(whole(&response), expected(&body, header), "{event:.1000}");
}

#[tokio::test]
async fn rejects_a_missing_api_key_before_it_reads_the_body() {
    let problem = json!({
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "unauthorized",
        "detail": "missing API key; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
    });
    let too_long = " ".repeat(MAX_BYTES + 1);

    for (path, body) in [
        ("/media/", "{}"),
        ("/v1/assets/presign", "{}"),
        ("/v1/uploads", "{}"),
        ("/v1/uploads/sign", "{}"),
        ("/v1/uploads/sign", &too_long),
    ] {
        let event = media(path).body(body).without_header("authorization");
        assert_problem(event, Some(("www-authenticate", "Bearer")), problem.clone()).await;
    }
}

#[tokio::test]
async fn rejects_an_unknown_api_key() {
    let problem = json!({
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "unauthorized",
        "detail": "unknown API key",
    });

    for path in ["/media/", "/v1/assets/presign", "/v1/uploads", "/v1/uploads/sign"] {
        let event = media(path).api_key("another-api-key");
        assert_problem(event, Some(("www-authenticate", "Bearer")), problem.clone()).await;
    }
}

#[tokio::test]
async fn rejects_an_unknown_path() {
    let problem = json!({
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "not_found",
        "detail": "unknown path; expected `POST /media/`, `POST /v1/assets/presign`, `POST /v1/uploads`, \
             `POST /v1/uploads/sign` or `GET /healthz`",
    });

    for path in ["/media/web-app-manifest-512x512.png", "/multimedia/", "/"] {
        assert_problem(media(path), None, problem.clone()).await;
    }
}

#[tokio::test]
async fn rejects_an_unsupported_method_and_names_the_supported_one() {
    for (method, path, allow) in
        [("GET", "/media/", "POST"), ("PUT", "/v1/assets/presign", "POST"), ("DELETE", "/healthz", "GET, HEAD")]
    {
        let problem = json!({
            "type": "about:blank",
            "title": "Method Not Allowed",
            "status": 405,
            "code": "method_not_allowed",
            "detail": format!("method not allowed; expected {allow}"),
        });

        assert_problem(HttpApiEvent::new(method, path), Some(("allow", allow)), problem).await;
    }
}

#[tokio::test]
async fn rejects_a_body_that_is_not_json() {
    let event = media("/media/").header("content-type", "application/x-www-form-urlencoded");
    let problem = json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "bad_request",
        "detail": "request body is not valid JSON (line 1, column 2)",
    });

    assert_problem(event.body("fileName=a.png&fileType=image/png"), None, problem).await;
}

#[tokio::test]
async fn names_every_invalid_member_with_its_reason() {
    for (body, [file_name, file_type]) in [
        (json!({}), ["is required", "is required"]),
        (
            json!({ "fileName": "../secrets.txt", "fileType": "image/*" }),
            ["must not contain `/` or `\\`", "must not contain a wildcard"],
        ),
    ] {
        let problem = json!({
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "code": "bad_request",
            "detail": "missing or invalid members: fileName, fileType",
            "details": {
                "fields": [
                    { "name": "fileName", "reason": file_name },
                    { "name": "fileType", "reason": file_type },
                ],
            },
        });

        assert_problem(HttpApiEvent::post("/media/", &body), None, problem).await;
    }
}

#[tokio::test]
async fn rejects_a_body_that_is_too_long() {
    let problem = json!({
        "type": "about:blank",
        "title": "Payload Too Large",
        "status": 413,
        "code": "payload_too_large",
        "detail": "request body is 65537 bytes long; expected at most 65536",
    });

    for path in ["/media/", "/v1/assets/presign", "/v1/uploads", "/v1/uploads/sign"] {
        assert_problem(media(path).body(&" ".repeat(MAX_BYTES + 1)), None, problem.clone()).await;
    }
}

#[tokio::test]
async fn matches_the_end_of_a_path_with_or_without_a_trailing_slash() {
    let app = app(&[], None, FIXED).await;

    for (event, same_as) in [
        (media("/media"), "media.json"),
        (media("/api/v1/media/"), "media.json"),
        (HttpApiEvent::new("POST", "/v1/assets/presign/").body("{}"), "presign.json"),
        (HttpApiEvent::new("POST", "/prod/v1/assets/presign/"), "presign.json"),
        (HttpApiEvent::new("GET", "/healthz/"), "healthz.json"),
    ] {
        let response = handle(&app, event.request()).await;

        assert_eq!(whole(&response), snapshot(same_as), "{event}");
    }
}

#[tokio::test]
async fn responds_to_head_without_a_body() {
    let app = app(&[], None, FIXED).await;

    for (path, status) in [("/healthz", 200), ("/healthz/", 200), ("/media/", 405), ("/", 404)] {
        let response = handle(&app, HttpApiEvent::new("HEAD", path).request()).await;

        assert_eq!(response.status(), status, "{path}");
        assert!(response.body().is_empty(), "{path}");
    }
}

/// A file name in several scripts, with characters that have a meaning in URLs and in JSON.
const FILE_NAME: &str = "naïve 100%+1 \"図面\" 👩🏽‍🚀.pdf";
/// The object key of [`FILE_NAME`].
const OBJECT_KEY: &str = "tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148/naïve 100%+1 \"図面\" 👩🏽‍🚀.pdf";

#[tokio::test]
async fn grants_a_form_for_a_file_name_in_any_language() {
    let app = app(&[], None, FIXED).await;
    let content_type = "application/pdf; version=\"1.7\"";
    let body = json!({ "fileName": FILE_NAME, "fileType": content_type, "note": "unknown members are ignored" });

    let response = handle(&app, HttpApiEvent::post("/media/", &body).request()).await;

    let policy = concat!(
        r#"{"expiration":"2026-01-02T04:04:05Z","conditions":[{"bucket":"uploads"},"#,
        r#"{"key":"tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148/"#,
        r#"na\u00efve 100%+1 \"\u56f3\u9762\" \ud83d\udc69\ud83c\udffd\u200d\ud83d\ude80.pdf"},"#,
        r#"{"Content-Type":"application/pdf; version=\"1.7\""},{"x-amz-algorithm":"AWS4-HMAC-SHA256"},"#,
        r#"{"x-amz-credential":"ASIAIOSFODNN7EXAMPLE/20260102/eu-central-1/s3/aws4_request"},"#,
        r#"{"x-amz-date":"20260102T030405Z"},{"x-amz-security-token":"FwoGZXIvYXdzE/session+token=="},"#,
        r#"["content-length-range",1,5368709120]]}"#
    );
    let fields = json!({
        "key": OBJECT_KEY,
        "Content-Type": content_type,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": "ASIAIOSFODNN7EXAMPLE/20260102/eu-central-1/s3/aws4_request",
        "x-amz-date": "20260102T030405Z",
        "x-amz-security-token": "FwoGZXIvYXdzE/session+token==",
        "policy": BASE64_STANDARD.encode(policy),
        "x-amz-signature": "cd77b8b848f8849f72fff59d3ee1b2c5357bae8162eb9854ae73a7f95f6dcde4",
    });
    let url = "https://uploads.s3.eu-central-1.amazonaws.com/";
    let body = json!({ "url": url, "fields": fields, "fileKey": OBJECT_KEY });
    assert_eq!(whole(&response), expected(&body, None));
}

#[tokio::test]
async fn grants_a_url_for_a_file_name_in_any_language() {
    let app = app(&[], None, FIXED).await;
    let body = json!({ "fileName": FILE_NAME, "fileType": "application/pdf" });

    let response = handle(&app, HttpApiEvent::post("/v1/assets/presign", &body).request()).await;

    let url = "https://uploads.s3.eu-central-1.amazonaws.com/tmp/108713b0-1f81-42cf-a16c-c83b1d4d4148/\
               na%C3%AFve%20100%25%2B1%20%22%E5%9B%B3%E9%9D%A2%22%20%F0%9F%91%A9%F0%9F%8F%BD%E2%80%8D%F0%9F%9A%80.pdf\
               ?x-id=PutObject&X-Amz-Algorithm=AWS4-HMAC-SHA256\
               &X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F20260102%2Feu-central-1%2Fs3%2Faws4_request\
               &X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=content-type%3Bhost\
               &X-Amz-Signature=76a9a6d465e573f41491774fc511f7a5346a3fd573d89e623da9b60cd8130d65\
               &X-Amz-Security-Token=FwoGZXIvYXdzE%2Fsession%2Btoken%3D%3D";
    assert_eq!(whole(&response), expected(&json!({ "url": url, "key": OBJECT_KEY }), None));
}

#[tokio::test]
async fn grants_a_form_for_one_size() {
    let app = app(&[("UPLOAD_MAX_BYTES", "1000")], None, FIXED).await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png", "fileSize": 1000 });

    let grant = granted(&handle(&app, HttpApiEvent::post("/media/", &body).request()).await);

    let policy = BASE64_STANDARD.decode(grant["fields"]["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    let sizes: Vec<_> = policy["conditions"].as_array().unwrap().iter().filter(|it| it.is_array()).collect();
    assert_eq!(sizes, [&json!(["content-length-range", 1000, 1000])]);
    assert_eq!(grant.as_object().unwrap().len(), 3);
}

/// `printf '' | openssl dgst -sha256 -binary | base64`
const CHECKSUM: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[tokio::test]
async fn lists_the_headers_of_a_url_only_if_a_member_asks_for_them() {
    let app = app(&[], None, FIXED).await;

    for (body, signed_headers, headers) in [
        (json!({ "fileType": "a/b" }), "content-type%3Bhost", None),
        (json!({ "fileType": "a/b", "fileSize": null, "checksumSha256": null }), "content-type%3Bhost", None),
        (json!({ "overwrite": true }), "host", Some(json!({}))),
        (json!({ "fileSize": 1 }), "content-length%3Bhost", Some(json!({}))),
        (
            json!({ "fileType": "a/b", "fileSize": 5_368_709_120_u64, "checksumSha256": CHECKSUM, "overwrite": false }),
            "content-length%3Bcontent-type%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256",
            Some(json!({ "Content-Type": "a/b", "x-amz-checksum-sha256": CHECKSUM, "If-None-Match": "*" })),
        ),
    ] {
        let grant = grant_put(&app, &body).await;

        let url = grant["url"].as_str().unwrap();
        assert!(url.contains(&format!("&X-Amz-SignedHeaders={signed_headers}&")), "{url}");
        assert_eq!(grant.get("headers"), headers.as_ref(), "{body}");
        assert_eq!(grant.as_object().unwrap().len(), if headers.is_some() { 3 } else { 2 });
    }
}

#[tokio::test]
async fn requires_a_size_for_a_url_if_the_settings_limit_it() {
    let app = app(&[("UPLOAD_MAX_BYTES", "5368709119")], None, FIXED).await;

    for (body, reason) in [
        ("", "is required"),
        ("{}", "is required"),
        (r#"{"fileSize": 5368709120}"#, "is too large; expected 1 to 5368709119 bytes"),
    ] {
        let response = handle(&app, HttpApiEvent::new("POST", "/v1/assets/presign").body(body).request()).await;

        assert_eq!(json_of(&response)["details"]["fields"], json!([{ "name": "fileSize", "reason": reason }]));
    }
}

#[tokio::test]
async fn says_what_a_member_may_be() {
    let app = app(&[], None, FIXED).await;
    let number = "must be a number, without quotes; expected 1 to 5368709120 bytes";
    let size = "is too large; expected 1 to 5368709120 bytes";
    let checksum = "must be base64, not hexadecimal; expected the SHA-256 digest of the file, 44 characters";
    let boolean = "must be `true` or `false`, without quotes";
    let form = "is not enforced by S3 for a form; use `POST /v1/assets/presign`";

    for (path, body, [file_size, checksum_sha256, overwrite]) in [
        (
            "/v1/assets/presign",
            json!({ "fileSize": "5", "checksumSha256": "0".repeat(64), "overwrite": "false" }),
            [number, checksum, boolean],
        ),
        (
            "/v1/assets/presign",
            json!({ "fileSize": 5_368_709_121_u64, "checksumSha256": 5, "overwrite": 0 }),
            [size, "must be a string", boolean],
        ),
        (
            "/media/",
            json!({
                "fileName": "a", "fileType": "a/b", "fileSize": 5_368_709_121_u64, "checksumSha256": CHECKSUM,
                "overwrite": false,
            }),
            [size, form, form],
        ),
    ] {
        let response = handle(&app, HttpApiEvent::post(path, &body).request()).await;

        let fields = json!([
            { "name": "fileSize", "reason": file_size },
            { "name": "checksumSha256", "reason": checksum_sha256 },
            { "name": "overwrite", "reason": overwrite },
        ]);
        assert_eq!((response.status().as_u16(), &json_of(&response)["details"]["fields"]), (400, &fields), "{body}");
    }
}

/// Returns the problem in a response to a body with these invalid members.
pub(crate) fn invalid_members(fields: &[(&str, &str)]) -> Value {
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let fields: Vec<_> = fields.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect();
    json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "bad_request",
        "detail": format!("missing or invalid members: {}", names.join(", ")),
        "details": { "fields": fields },
    })
}

#[tokio::test]
async fn names_every_invalid_member_of_a_multipart_upload() {
    let required = "is required";
    let size = "is too large; expected 1 to 5368709120 bytes";
    let any_file = "expected 5242880 to 5368709120 bytes";

    for (body, fields) in [
        (json!({}), &[("fileName", required), ("fileType", required), ("fileSize", required)][..]),
        (
            json!({ "fileName": "..", "fileType": "a", "fileSize": "1", "partSize": "1", "overwrite": "true" }),
            &[
                ("fileName", "must not be `.` or `..`"),
                ("fileType", "must be a media type such as `image/png`"),
                ("fileSize", "must be a number, without quotes; expected 1 to 5368709120 bytes"),
                ("partSize", &format!("must be a number, without quotes; {any_file}")),
                ("overwrite", "must be `true` or `false`, without quotes"),
            ],
        ),
        (
            json!({ "fileName": "a", "fileType": "a/b", "fileSize": 5_368_709_121_u64, "partSize": 5_242_879 }),
            &[("fileSize", size), ("partSize", &format!("is too small; {any_file}"))],
        ),
        (
            json!({ "fileName": "a", "fileType": "a/b", "fileSize": 1, "partSize": 5_368_709_121_u64 }),
            &[("partSize", &format!("is too large; {any_file}"))],
        ),
    ] {
        assert_problem(HttpApiEvent::post("/v1/uploads", &body), None, invalid_members(fields)).await;
    }
}

#[tokio::test]
async fn rejects_a_part_size_that_gives_too_many_parts() {
    let app = app(&[("UPLOAD_MAX_BYTES", "5497558138880")], None, FIXED).await;
    let body = json!({
        "fileName": "a", "fileType": "a/b", "fileSize": 5_497_558_138_880_u64, "partSize": 549_755_813,
    });

    let response = handle(&app, HttpApiEvent::post("/v1/uploads", &body).request()).await;

    let reason = "is too small; expected 549755814 to 5368709120 bytes";
    assert_eq!(whole(&response), expected(&invalid_members(&[("partSize", reason)]), None));
}

/// Starts an upload of 10 MiB in two parts, and returns its token.
async fn upload_token(app: &App) -> Value {
    let body = json!({ "fileName": FILE_NAME, "fileType": "video/mp4", "fileSize": 10 << 20, "partSize": 5 << 20 });
    grant(app, "/v1/uploads", &body).await["uploadToken"].clone()
}

#[tokio::test]
async fn names_every_invalid_member_of_a_request_to_sign() {
    let token = upload_token(&app(&[], None, FIXED).await).await;
    let id = "must be 1 to 1024 visible ASCII characters";
    let array = "must be an array of 1 to 100 part numbers";
    let range = "must contain only whole numbers from 1 to 2";

    for (upload_id, part_numbers, part_numbers_reason) in [
        (json!(""), json!([]), array),
        (json!("é"), json!(1), array),
        (json!("a".repeat(1025)), json!(vec![1; 101]), array),
        (json!("a b"), json!([0]), range),
        (json!("a\n"), json!([1, 3]), range),
        (json!(" a"), json!([1.5]), range),
        (json!("\u{7f}"), json!(["1"]), range),
        (json!("a\u{0}"), json!([1, 2, 1]), "must not contain a part number twice"),
    ] {
        let body = json!({ "uploadToken": token, "uploadId": upload_id, "partNumbers": part_numbers });
        let problem = invalid_members(&[("uploadId", id), ("partNumbers", part_numbers_reason)]);
        assert_problem(HttpApiEvent::post("/v1/uploads/sign", &body), None, problem).await;
    }
    for (body, fields) in [
        (json!({}), [("uploadToken", "is required"), ("uploadId", "is required"), ("partNumbers", "is required")]),
        (
            json!({ "uploadToken": 1, "uploadId": 1, "partNumbers": [10_001] }),
            [
                ("uploadToken", "must be a string"),
                ("uploadId", "must be a string"),
                ("partNumbers", "must contain only whole numbers from 1 to 10000"),
            ],
        ),
    ] {
        assert_problem(HttpApiEvent::post("/v1/uploads/sign", &body), None, invalid_members(&fields)).await;
    }
}

#[tokio::test]
async fn rejects_an_upload_token_without_a_word_about_its_content() {
    let token = upload_token(&app(&[], None, FIXED).await).await;
    let problem = |code: &str, detail: &str| json!({ "type": "about:blank", "title": "Forbidden", "status": 403, "code": code, "detail": detail });
    let invalid = problem("invalid_upload_token", "invalid upload token; start a new upload with `POST /v1/uploads`");
    let expired =
        problem("upload_token_expired", "upload token has expired; start a new upload with `POST /v1/uploads`");
    // Its other members are not looked at.
    let body = |token: &Value| json!({ "uploadToken": token, "uploadId": "", "partNumbers": [0] });

    for token in [json!(""), json!("v1.e30.AA"), json!(token.as_str().unwrap().replacen("v1.", "v2.", 1))] {
        assert_problem(HttpApiEvent::post("/v1/uploads/sign", &body(&token)), None, invalid.clone()).await;
    }
    let a_day_later = || (FIXED.now)() + Duration::from_hours(24);
    let app = app(&[], None, Nondeterminism { now: a_day_later, ..FIXED }).await;
    let response = handle(&app, HttpApiEvent::post("/v1/uploads/sign", &body(&token)).request()).await;
    assert_eq!(whole(&response), expected(&expired, None));
}

/// As long as Lambda's session tokens.
const LAMBDA_SESSION_TOKEN: &str = include_str!("../../benches/cold_start/src/session_token.txt");

/// Lambda returns at most 6 MB, and API Gateway 10 MB.
#[tokio::test]
async fn the_longest_response_stays_below_1_mb() {
    let token = Some(LAMBDA_SESSION_TOKEN.to_owned());
    let credentials = Credentials::new("ASIAIOSFODNN7EXAMPLE", "SECRET", token, None, "test");
    let sdk_config = sdk_config_with_api_key(None);
    let sdk_config = sdk_config.credentials_provider(SharedCredentialsProvider::new(credentials)).build();
    let app = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.unwrap();
    let longest = "\u{10ffff}".repeat(243) + &"a".repeat(11);
    let body = json!({ "fileName": longest, "fileType": "a/b", "fileSize": 5_368_709_120_u64, "partSize": 5 << 20 });
    let upload = grant(&app, "/v1/uploads", &body).await;
    let part_numbers: Vec<_> = (925..=1024).collect();
    let body =
        json!({ "uploadToken": upload["uploadToken"], "uploadId": "%".repeat(1024), "partNumbers": part_numbers });

    let response = handle(&app, HttpApiEvent::post("/v1/uploads/sign", &body).request()).await;

    assert_eq!(granted(&response)["parts"].as_array().unwrap().len(), 100);
    let length = response.body().len();
    assert!((500_000..1_000_000).contains(&length), "{length}");
}

#[tokio::test]
async fn no_url_outlives_its_upload_token() {
    for (settings, now, seconds) in [
        (&[][..], FIXED.now, "3600"),
        (&[("MULTIPART_EXPIRES_IN", "60")], FIXED.now, "60"),
        (&[("MULTIPART_EXPIRES_IN", "60")], || (FIXED.now)() + Duration::from_millis(49_001), "10"),
        (&[("MULTIPART_EXPIRES_IN", "60")], || (FIXED.now)() + Duration::from_millis(59_999), "1"),
    ] {
        let token = upload_token(&app(settings, None, FIXED).await).await;
        let app = app(settings, None, Nondeterminism { now, ..FIXED }).await;
        let body = json!({ "uploadToken": token, "uploadId": "a", "partNumbers": [1, 2] });

        let signed = grant(&app, "/v1/uploads/sign", &body).await;

        let (text, parameter) = (signed.to_string(), format!("X-Amz-Expires={seconds}&"));
        assert_eq!(text.matches("X-Amz-Expires=").count(), 5);
        assert_eq!(text.matches(&parameter).count(), 5, "{settings:?} {text}");
    }
}

#[tokio::test]
async fn the_first_url_of_an_upload_outlives_neither_its_token_nor_the_settings() {
    for (settings, seconds) in [
        (&[][..], "3600"),
        (&[("MULTIPART_EXPIRES_IN", "60")], "60"),
        (&[("UPLOAD_EXPIRES_IN", "50"), ("MULTIPART_EXPIRES_IN", "60")], "50"),
    ] {
        let app = app(settings, None, FIXED).await;
        let body = json!({ "fileName": "a", "fileType": "a/b", "fileSize": 1 });

        let upload = grant(&app, "/v1/uploads", &body).await;

        let url = upload["create"]["url"].as_str().unwrap();
        assert!(url.contains(&format!("X-Amz-Expires={seconds}&")), "{url}");
    }
}

#[tokio::test]
async fn writes_members_and_form_fields_in_the_documented_order() {
    let app = app(&[], None, FIXED).await;

    let response = handle(&app, media("/media/").request()).await;

    let body = std::str::from_utf8(response.body()).unwrap();
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
    let positions: Vec<_> = names.iter().map(|name| body.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(positions.is_sorted(), "{body}");
}

/// `tmp/`, the id and a slash are 41 bytes, which leaves 983 of 1,024.
#[tokio::test]
async fn accepts_a_file_name_that_fills_the_object_key() {
    let app = app(&[], None, FIXED).await;
    let longest = "\u{10ffff}".repeat(243) + &"a".repeat(11);

    let grant = grant_put(&app, &json!({ "fileName": longest })).await;

    assert_eq!(grant["key"].as_str().unwrap().len(), 1024);
}

/// A credentials provider that panics the second time.
#[derive(Debug, Default)]
struct PanicsOnce(AtomicUsize);

impl ProvideCredentials for PanicsOnce {
    fn provide_credentials<'a>(&'a self) -> ProvideCredentialsFuture<'a>
    where
        Self: 'a,
    {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) != 1, "a bug");
        ProvideCredentialsFuture::ready(Ok(Credentials::new("ASIA", "SECRET", None, None, "test")))
    }
}

#[tokio::test]
async fn responds_to_a_panic_with_500_and_serves_the_next_request() {
    let sdk_config = sdk_config_with_api_key(None);
    let sdk_config = sdk_config.credentials_provider(SharedCredentialsProvider::new(PanicsOnce::default())).build();
    let app = App::from_sdk_config(config(&[]), &sdk_config, FIXED).await.unwrap();
    app.key_store.load(SystemTime::now()).await.unwrap();

    let failed = handle(&app, media("/media/").request()).await;
    let served = handle(&app, media("/media/").request()).await;

    let problem = json!({
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "code": "internal_error",
        "detail": "could not generate upload URL",
    });
    assert_eq!(whole(&failed), expected(&problem, None));
    granted(&served);
}
