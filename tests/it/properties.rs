//! Invariants over random requests: every response arrives in time, and is either a documented problem or a grant for
//! exactly one object.
//!
//! Many of the strings are ones that some parser along the way might read differently.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lambda_http::{Body, Response};
use percent_encoding::percent_decode_str;
use presigned_upload::{app::App, body::MAX_BYTES, handler::handle, limits::MaxBytes};
use proptest::{collection::vec, option, prelude::*, proptest, test_runner::Config};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{
    app::{API_KEY, REAL, app, json_of},
    client::client,
    events::HttpApiEvent,
    s3::S3,
    upload::Upload,
};

/// Longer than any response takes, even on a machine under load.
const PATIENCE: Duration = Duration::from_secs(5);

/// The function and its S3, for all cases of a property.
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

    /// Returns the response, which must arrive in time.
    #[track_caller]
    fn response_to(&self, event: &HttpApiEvent) -> Response<Body> {
        let started_at = Instant::now();
        let response = self.runtime.block_on(handle(&self.app, event.request()));
        assert!(started_at.elapsed() < PATIENCE, "{:?}", started_at.elapsed());
        response
    }

    fn send(&self, upload: Upload) -> StatusCode {
        self.runtime.block_on(async { upload.request(&self.client).send().await.unwrap().status() })
    }

    /// Asserts that an upload creates this object and no other.
    #[track_caller]
    fn assert_creates(&self, object_key: &str, upload: Upload) {
        let status = self.send(upload);
        assert!([StatusCode::OK, StatusCode::NO_CONTENT].contains(&status), "{status}");
        assert_eq!(self.s3.take_objects(), [object_key]);
    }

    /// Asserts that an upload is rejected.
    #[track_caller]
    fn assert_refused(&self, upload: Upload) {
        let status = self.send(upload);
        assert!(status.is_client_error(), "{status}");
        assert!(self.s3.is_empty());
    }
}

/// Generates a file name, valid or not.
fn file_name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"[a-z0-9._ -]{1,40}",
        r#"[a-c./\\$%{}"'<>&?#+~;:@!*|^`\[\] ]{0,20}"#,
        r"[\x00-\x20\u{80}-\u{a0}\u{200b}-\u{2069}\u{fe00}-\u{ffff}a]{0,10}",
        r"(%2[eEfF]|%5c|\.\./|/|\.|a|\$\{filename\}){1,6}",
        r"\p{Any}{250,256}",
    ]
}

/// Generates a media type, valid or not.
fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"(image|text|application)/[a-z0-9.+-]{1,20}",
        r#"[a-z*]{1,5}/[a-z*]{1,5}; ?[a-z]{1,5}=("[ -~]{0,10}"|[a-z0-9]{1,5})"#,
        r"[a-z/;=\r\n \x00,*]{0,12}",
    ]
}

/// Asserts that a response is a documented 4xx.
#[track_caller]
fn assert_problem(response: &Response<Body>) {
    let (status, body) = (response.status(), json_of(response));
    assert!(status.is_client_error(), "{status} {body}");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["status"], status.as_u16());
    for member in ["title", "code", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    for field in body["details"]["fields"].as_array().into_iter().flatten() {
        let names = ["fileName", "fileType", "fileSize", "checksumSha256", "overwrite"];
        assert!(names.contains(&field["name"].as_str().unwrap()), "{body}");
        assert!(!field["reason"].as_str().unwrap().is_empty(), "{body}");
    }
}

/// Asserts that an object key consists of the prefix, an id and, if there is one, the file name.
#[track_caller]
fn assert_object_key(object_key: &str, file_name: Option<&str>) {
    let rest = object_key.strip_prefix("tmp/").unwrap();
    let (id, end) = rest.split_once('/').map_or((rest, None), |(id, end)| (id, Some(end)));
    assert_eq!(Uuid::parse_str(id).unwrap().to_string(), id);
    assert_eq!(end, file_name);
}

/// Asserts that a policy has exact conditions for the bucket and each field, one for the size, and no others.
#[track_caller]
fn assert_pinned(fields: &Value) {
    let policy = BASE64_STANDARD.decode(fields["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    let pinned = fields.as_object().unwrap().iter();
    let pinned = pinned.filter(|(name, _)| !["policy", "x-amz-signature"].contains(&name.as_str()));
    let mut expected: Vec<_> = pinned.map(|(name, value)| json!({ name: value })).collect();
    expected.insert(0, json!({ "bucket": "uploads" }));
    expected.push(json!(["content-length-range", 1, MaxBytes::MAX]));
    assert_eq!(policy["conditions"], Value::from(expected));
}

/// Whether the server can store the file: its file system allows 255 bytes in a name.
fn fits_the_file_system(file_name: &str) -> bool {
    file_name.len() <= 255
}

/// Asserts that a form creates its own object and no other.
#[track_caller]
fn assert_form_is_for_one_object(fixture: &Fixture, grant: &Value, elsewhere: &str) {
    let object_key = grant["fileKey"].as_str().unwrap();
    fixture.assert_creates(object_key, Upload::post(grant, b"a".to_vec()));
    for other in [elsewhere.to_owned(), format!("tmp/{elsewhere}"), format!("{object_key}{elsewhere}")] {
        let mut altered = grant.clone();
        altered["fields"]["key"] = other.into();
        fixture.assert_refused(Upload::post(&altered, b"a".to_vec()));
    }
}

/// Asserts that a URL creates its own object and no other.
#[track_caller]
fn assert_url_is_for_one_object(fixture: &Fixture, grant: &Value, content_type: Option<&str>, elsewhere: &str) {
    fixture.assert_creates(grant["key"].as_str().unwrap(), Upload::put(grant, content_type, b"a".to_vec()));
    for (from, to) in [
        ("/uploads/tmp/", format!("/uploads/{elsewhere}/")),
        ("/uploads/tmp/", format!("/uploads/tmp/{elsewhere}/")),
        ("/uploads/", "/other/".to_owned()),
        ("?", format!("{elsewhere}?")),
        ("127.0.0.1", "localhost".to_owned()),
    ] {
        let mut altered = grant.clone();
        altered["url"] = altered["url"].as_str().unwrap().replacen(from, &to, 1).into();
        fixture.assert_refused(Upload::put(&altered, content_type, b"a".to_vec()));
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_form_is_for_one_object_or_the_request_is_rejected(
        file_name in file_name(),
        content_type in content_type(),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let event = HttpApiEvent::post("/media/", &json!({ "fileName": file_name, "fileType": content_type }));

        let response = FIXTURE.response_to(&event);

        if response.status() == StatusCode::OK {
            let grant = json_of(&response);
            assert_object_key(grant["fileKey"].as_str().unwrap(), Some(&file_name));
            assert_eq!(grant["fields"]["key"], grant["fileKey"]);
            assert_eq!(grant["fields"]["Content-Type"], content_type);
            assert_pinned(&grant["fields"]);
            if fits_the_file_system(&file_name) {
                assert_form_is_for_one_object(&FIXTURE, &grant, &elsewhere);
            }
        } else {
            assert_problem(&response);
        }
    }

    #[test]
    fn a_url_is_for_one_object_or_the_request_is_rejected(
        file_name in option::of(file_name()),
        content_type in option::of(content_type()),
        elsewhere in "[a-s]{1,10}", // never the prefix
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let body = json!({ "fileName": file_name, "fileType": content_type });

        let response = FIXTURE.response_to(&HttpApiEvent::post("/v1/assets/presign", &body));

        if response.status() == StatusCode::OK {
            let grant = json_of(&response);
            let object_key = grant["key"].as_str().unwrap();
            assert_object_key(object_key, file_name.as_deref());
            let path = grant["url"].as_str().unwrap().strip_prefix(&format!("{}/uploads/", FIXTURE.s3.url())).unwrap();
            let (path, _) = path.split_once('?').unwrap();
            assert_eq!(percent_decode_str(path).decode_utf8().unwrap(), object_key);
            if file_name.as_deref().is_none_or(fits_the_file_system) {
                assert_url_is_for_one_object(&FIXTURE, &grant, content_type.as_deref(), &elsewhere);
            }
        } else {
            assert_problem(&response);
        }
    }

    #[test]
    fn every_request_gets_a_response(
        method in prop_oneof![Just("POST".to_owned()), "[A-Z]{1,10}"],
        path in prop_oneof![
            Just("/media/".to_owned()),
            Just("/v1/assets/presign".to_owned()),
            r"/(media|healthz|v1|assets|presign|[ -~]{0,5}|/){0,5}",
            any::<String>(),
        ],
        headers in vec(("[a-z][a-z0-9-]{0,20}", "[ -~\t]{0,40}"), 0..5),
        authorization in prop_oneof![Just(format!("Bearer {API_KEY}")), "[ -~]{0,60}"],
        body in prop_oneof![vec(any::<u8>(), 0..200), vec(any::<u8>(), MAX_BYTES - 5..MAX_BYTES + 10)],
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::start);
        let event = HttpApiEvent::new(&method, &path).base64_body(&body);
        let event = headers.iter().fold(event, |event, (name, value)| event.header(name, value));

        let response = FIXTURE.response_to(&event.header("authorization", &authorization));

        if method == "HEAD" {
            assert!(response.body().is_empty());
        } else if response.status() != StatusCode::OK {
            assert_problem(&response);
        }
    }
}
