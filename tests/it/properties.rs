//! What holds for whatever a caller sends: an answer in time, which is a problem of the documented form, or a grant for
//! exactly one object.
//!
//! The strings lean towards what is read as something else somewhere; `proptest` shrinks what fails.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{Body, Response};
use percent_encoding::percent_decode_str;
use presigned_upload::{app::App, handler::handle};
use proptest::{collection::vec, option, prelude::*, proptest, test_runner::Config};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    fixture::{API_KEY, REAL, app, client, json_of, post, request},
    loopback::S3,
    tampering::Upload,
};

/// Longer than any answer takes, on a machine under load as well.
const PATIENCE: Duration = Duration::from_secs(5);

/// The function over an S3, for all cases of a property.
struct Fixture {
    runtime: Runtime,
    s3: S3,
    app: App,
    client: Client,
}

impl Fixture {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (s3, app) = runtime.block_on(async {
            let s3 = S3::start().await;
            let app = app(&[("S3_FORCE_PATH_STYLE", "true")], Some(&s3), REAL).await;
            (s3, app)
        });
        Self { runtime, s3, app, client: client() }
    }

    /// The answer to a request, which has to come in time.
    #[track_caller]
    fn answer(&self, request: lambda_http::Request) -> Response<Body> {
        let started_at = Instant::now();
        let answer = self.runtime.block_on(handle(&self.app, request));
        assert!(started_at.elapsed() < PATIENCE, "{:?}", started_at.elapsed());
        answer
    }

    fn send(&self, upload: Upload) -> StatusCode {
        self.runtime.block_on(async { upload.request(&self.client).send().await.unwrap().status() })
    }

    /// Sends an upload, which has to be taken, and to make this object and no other.
    #[track_caller]
    fn upload(&self, upload: Upload, object_key: &str) {
        let status = self.send(upload);
        assert!([StatusCode::OK, StatusCode::NO_CONTENT].contains(&status), "{status}");
        assert_eq!(self.s3.take_objects(), [object_key]);
    }

    /// Sends an upload that was turned to another object, which has to be refused.
    #[track_caller]
    fn upload_elsewhere(&self, upload: Upload) {
        let status = self.send(upload);
        assert!(status.is_client_error(), "{status}");
        assert!(self.s3.is_empty());
    }
}

/// A name of a file, or what somebody sends as one.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"[a-z0-9._ -]{1,40}",
        r#"[a-c./\\$%{}"'<>&?#+~;:@!*|^`\[\] ]{0,20}"#,
        r"[\x00-\x20\u{80}-\u{a0}\u{200b}-\u{2069}\u{fe00}-\u{ffff}a]{0,10}",
        r"(%2[eEfF]|%5c|\.\./|/|\.|a|\$\{filename\}){1,6}",
        r"\p{Any}{250,256}",
    ]
}

/// A media type, or what somebody sends as one.
fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"(image|text|application)/[a-z0-9.+-]{1,20}",
        r#"[a-z*]{1,5}/[a-z*]{1,5}; ?[a-z]{1,5}=("[ -~]{0,10}"|[a-z0-9]{1,5})"#,
        r"[a-z/;=\r\n \x00,*]{0,12}",
    ]
}

/// Asserts that an answer is a refusal of the documented form.
#[track_caller]
fn assert_problem(answer: &Response<Body>) {
    let (status, body) = (answer.status(), json_of(answer));
    assert!(status.is_client_error(), "{status} {body}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["status"], status.as_u16());
    for member in ["title", "code", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    for field in body["details"]["fields"].as_array().into_iter().flatten() {
        assert!(["fileName", "fileType"].contains(&field["name"].as_str().unwrap()), "{body}");
        assert!(!field["reason"].as_str().unwrap().is_empty(), "{body}");
    }
}

/// Asserts that an object key is the prefix, one id, and the name if there is one.
#[track_caller]
fn assert_object_key(object_key: &str, name: Option<&str>) {
    let rest = object_key.strip_prefix("tmp/").unwrap();
    let (id, held) = rest.split_once('/').map_or((rest, None), |(id, name)| (id, Some(name)));
    assert_eq!(Uuid::parse_str(id).unwrap().to_string(), id);
    assert_eq!(held, name);
}

/// Asserts that a policy has one exact condition for each field, those on the bucket and on the size, and no others.
#[track_caller]
fn assert_pinned(fields: &Value) {
    let policy = BASE64_STANDARD.decode(fields["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    let pinned = fields.as_object().unwrap().iter();
    let pinned = pinned.filter(|(name, _)| !["policy", "x-amz-signature"].contains(&name.as_str()));
    let mut expected: Vec<_> = pinned.map(|(name, value)| json!({ name: value })).collect();
    expected.insert(0, json!({ "bucket": "uploads" }));
    expected.push(json!(["content-length-range", 1, 5_368_709_120_u64]));
    assert_eq!(policy["conditions"], Value::from(expected));
}

/// The longest name that a file can have here.
fn fits_the_file_system(name: &str) -> bool {
    name.len() <= 255
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_form_is_for_one_object_or_refused(
        name in name(),
        content_type in content_type(),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);

        let answer = FIXTURE.answer(post("/media/", &json!({ "fileName": name, "fileType": content_type })));

        if answer.status() == StatusCode::OK {
            let grant = json_of(&answer);
            let object_key = grant["fields"]["key"].as_str().unwrap();
            assert_object_key(object_key, Some(&name));
            assert_eq!(grant["fileKey"], object_key);
            assert_eq!(grant["fields"]["Content-Type"], content_type);
            assert_pinned(&grant["fields"]);
            if fits_the_file_system(&name) {
                FIXTURE.upload(Upload::post(&grant, b"a".to_vec()), object_key);
                for other in [elsewhere.clone(), format!("tmp/{elsewhere}"), format!("{object_key}{elsewhere}")] {
                    let mut turned = grant.clone();
                    turned["fields"]["key"] = other.into();
                    FIXTURE.upload_elsewhere(Upload::post(&turned, b"a".to_vec()));
                }
            }
        } else {
            assert_problem(&answer);
        }
    }

    #[test]
    fn a_url_is_for_one_object_or_refused(
        name in option::of(name()),
        content_type in option::of(content_type()),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);

        let answer = FIXTURE.answer(post("/v1/assets/presign", &json!({ "fileName": name, "fileType": content_type })));

        if answer.status() == StatusCode::OK {
            let grant = json_of(&answer);
            let object_key = grant["key"].as_str().unwrap();
            assert_object_key(object_key, name.as_deref());
            let path = grant["url"].as_str().unwrap().strip_prefix(&format!("{}/uploads/", FIXTURE.s3.url())).unwrap();
            let (path, _) = path.split_once('?').unwrap();
            assert_eq!(percent_decode_str(path).decode_utf8().unwrap(), object_key);
            if name.as_deref().is_none_or(fits_the_file_system) {
                FIXTURE.upload(Upload::put(&grant, content_type.as_deref(), b"a".to_vec()), object_key);
                let turn = |from: &str, to: &str| {
                    let mut turned = grant.clone();
                    turned["url"] = turned["url"].as_str().unwrap().replacen(from, to, 1).into();
                    FIXTURE.upload_elsewhere(Upload::put(&turned, content_type.as_deref(), b"a".to_vec()));
                };
                turn("/uploads/tmp/", &format!("/uploads/{elsewhere}/"));
                turn("/uploads/tmp/", &format!("/uploads/tmp/{elsewhere}/"));
                turn("/uploads/", "/other/");
                turn("?", &format!("{elsewhere}?"));
                turn("127.0.0.1", "localhost");
            }
        } else {
            assert_problem(&answer);
        }
    }

    #[test]
    fn whatever_comes_in_is_answered(
        method in prop_oneof![Just("POST".to_owned()), "[A-Z]{1,10}"],
        path in prop_oneof![
            Just("/media/".to_owned()),
            Just("/v1/assets/presign".to_owned()),
            r"/(media|healthz|v1|assets|presign|[ -~]{0,5}|/){0,5}",
            any::<String>(),
        ],
        headers in vec(("[a-z][a-z0-9-]{0,20}", "[ -~\t]{0,40}"), 0..5),
        authorization in prop_oneof![Just(format!("Bearer {API_KEY}")), "[ -~]{0,60}"],
        body in prop_oneof![vec(any::<u8>(), 0..200), vec(any::<u8>(), 65_530..65_545)],
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let headers = headers.into_iter().chain([("authorization".to_owned(), authorization)]);
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers.map(|(name, value)| (name, value.into())).collect::<serde_json::Map<_, _>>(),
            "requestContext": { "http": { "method": method, "path": path }, "stage": "$default" },
            "body": BASE64_STANDARD.encode(body),
            "isBase64Encoded": true,
        });

        let answer = FIXTURE.answer(request(&event.to_string()));

        if answer.status() != StatusCode::OK {
            assert_problem(&answer);
        }
    }
}
