//! The API keys, read by the SDK's own client from a Secrets Manager on loopback that rotates, fails and hangs.

use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use lambda_http::http::{HeaderMap, HeaderValue};
use presigned_upload::{
    auth::ApiKeyDigest,
    key_store::{KeySetHealth, KeyStore},
    logs::Chain,
};

use crate::{
    fixture::{Endpoints, SECRET_ACCESS_KEY, SESSION_TOKEN, config, sdk_config},
    loopback::{Answer, SecretsManager},
};

const TTL: Duration = Duration::from_mins(5);
const OUTAGE: Answer = Answer::Error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError", "");

/// A store over a Secrets Manager, and a clock that a test sets.
struct Fixture {
    secrets_manager: SecretsManager,
    key_store: KeyStore,
    now: SystemTime,
}

impl Fixture {
    async fn start(secret: &str) -> Self {
        Self::start_with_ttl(secret, TTL).await
    }

    async fn start_with_ttl(secret: &str, ttl: Duration) -> Self {
        let secrets_manager = SecretsManager::start(secret).await;
        let endpoints = Endpoints { s3: None, secrets_manager: Some(secrets_manager.url.clone()) };
        let key_store = KeyStore::new(&sdk_config(endpoints).build(), config(&[]).api_keys_secret_id, ttl);
        Self { secrets_manager, key_store, now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045) }
    }

    /// The name of the caller that presents `api_key`, or the error with its causes.
    async fn caller(&self, api_key: &str) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(api_key).unwrap());
        let presented = ApiKeyDigest::from_headers(&headers).unwrap();
        match self.key_store.verify(&presented, self.now).await {
            Ok(caller) => Ok(caller.map(|caller| caller.as_str().to_owned())),
            Err(error) => Err(Chain(&error).to_string()),
        }
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }
}

/// What [`Fixture::caller`] says of a caller whose name is `name`.
#[expect(clippy::unnecessary_wraps, reason = "it is compared with a `Result`")]
fn known(name: &str) -> Result<Option<String>, String> {
    Ok(Some(name.to_owned()))
}

fn just_failed() -> Result<Option<String>, String> {
    Err("the last read failed less than 3 s ago; the log line of that request has the cause".to_owned())
}

#[tokio::test]
async fn reads_both_formats() {
    let plain = Fixture::start("KEY").await;
    let object = Fixture::start(r#"{"storefront": "KEY-S", "mobile": "KEY-M"}"#).await;

    assert_eq!(plain.caller("KEY").await, known("default"));
    assert_eq!(object.caller("KEY-M").await, known("mobile"));
    assert_eq!(object.caller("KEY").await, Ok(None));
}

#[tokio::test]
async fn reads_once_and_serves_until_the_time_to_live_is_over() {
    let mut fixture = Fixture::start("KEY").await;
    fixture.key_store.load(fixture.now).await.unwrap();

    for _ in 0..3 {
        assert_eq!(fixture.caller("KEY").await, known("default"));
    }
    fixture.after(Duration::from_millis(299_999));
    assert_eq!(fixture.caller("KEY").await, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 1);

    fixture.after(Duration::from_millis(1));
    assert_eq!(fixture.caller("KEY").await, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn a_short_time_to_live_is_kept() {
    let mut fixture = Fixture::start_with_ttl("KEY", Duration::from_secs(1)).await;
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.secrets_manager.answer_text("NEW");
    fixture.after(Duration::from_secs(1));

    assert_eq!(fixture.caller("KEY").await, Ok(None));
}

#[tokio::test]
async fn a_new_key_works_at_once_and_the_old_one_until_the_next_read() {
    let mut fixture = Fixture::start("OLD").await;
    assert_eq!(fixture.caller("OLD").await, known("default"));
    fixture.secrets_manager.answer_text("NEW");
    fixture.after(Duration::from_secs(10));

    assert_eq!(fixture.caller("OLD").await, known("default"));
    assert_eq!(fixture.caller("NEW").await, known("default"));
    assert_eq!(fixture.caller("OLD").await, Ok(None));
}

#[tokio::test]
async fn wrong_keys_cost_one_read_in_10_s() {
    let mut fixture = Fixture::start("KEY").await;
    assert_eq!(fixture.caller("KEY").await, known("default"));

    for _ in 0..100 {
        assert_eq!(fixture.caller("WRONG").await, Ok(None));
    }
    fixture.after(Duration::from_millis(9_999));
    assert_eq!(fixture.caller("WRONG").await, Ok(None));
    assert_eq!(fixture.secrets_manager.reads(), 1);

    fixture.after(Duration::from_millis(1));
    for _ in 0..100 {
        assert_eq!(fixture.caller("WRONG").await, Ok(None));
    }
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn last_keys_are_served_through_an_outage_and_it_heals_by_itself() {
    let mut fixture = Fixture::start("KEY").await;
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.secrets_manager.answer(OUTAGE);
    fixture.after(TTL * 100);

    assert_eq!(fixture.caller("KEY").await, known("default"));
    let reads_in_outage = fixture.secrets_manager.reads();
    for _ in 0..100 {
        assert_eq!(fixture.caller("KEY").await, known("default"));
        assert_eq!(fixture.caller("WRONG").await, Ok(None));
    }
    assert_eq!(fixture.secrets_manager.reads(), reads_in_outage, "one read in 10 s, in an outage as well");

    fixture.secrets_manager.answer_text("NEW");
    fixture.after(Duration::from_secs(10));
    assert_eq!(fixture.caller("KEY").await, Ok(None));
    assert_eq!(fixture.caller("NEW").await, known("default"));
}

#[tokio::test]
async fn an_empty_object_closes_the_door() {
    let mut fixture = Fixture::start("KEY").await;
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.secrets_manager.answer_text("{}");
    fixture.after(TTL);

    assert_eq!(fixture.caller("KEY").await, Ok(None));
}

#[tokio::test]
async fn a_secrets_manager_that_hangs_costs_3_s_at_most() {
    let mut fixture = Fixture::start("KEY").await;
    fixture.secrets_manager.answer(Answer::Nothing);

    let started_at = Instant::now();
    let refused = fixture.caller("KEY").await;
    let took = started_at.elapsed();

    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(refused.is_err());

    // With keys to serve, the wait is the same, and the answer is theirs.
    fixture.secrets_manager.answer_text("KEY");
    fixture.after(Duration::from_secs(3));
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.secrets_manager.answer(Answer::Nothing);
    fixture.after(TTL);
    let started_at = Instant::now();
    assert_eq!(fixture.caller("KEY").await, known("default"));
    assert!(started_at.elapsed() < Duration::from_secs(4), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn a_connection_that_hangs_leaves_time_for_another_one() {
    let fixture = Fixture::start("KEY").await;
    fixture.secrets_manager.answer(Answer::Nothing);

    let heals = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.secrets_manager.answer_text("KEY");
    };
    let (caller, ()) = tokio::join!(fixture.caller("KEY"), heals);

    assert_eq!(caller, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn a_failure_is_tried_again_within_one_read() {
    let fixture = Fixture::start("KEY").await;
    fixture.secrets_manager.answer(OUTAGE);

    let started_at = Instant::now();
    let refused = fixture.caller("KEY").await;

    assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());
    assert!(refused.is_err());
    assert_eq!(fixture.secrets_manager.reads(), 3);
}

#[tokio::test]
async fn requests_that_wait_share_one_read() {
    let fixture = Fixture::start("KEY").await;

    let callers = tokio::join!(fixture.caller("KEY"), fixture.caller("KEY"), fixture.caller("WRONG"));

    assert_eq!(callers, (known("default"), known("default"), Ok(None)));
    assert_eq!(fixture.secrets_manager.reads(), 1);
}

#[tokio::test]
async fn requests_that_wait_share_one_failure() {
    let fixture = Fixture::start("KEY").await;
    fixture.secrets_manager.answer(Answer::Nothing);

    let started_at = Instant::now();
    let (first, second) = tokio::join!(fixture.caller("KEY"), fixture.caller("KEY"));

    assert!(started_at.elapsed() < Duration::from_secs(4), "{:?}", started_at.elapsed());
    assert!(first.is_err());
    assert_eq!(second, just_failed());
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_reading() {
    let mut fixture = Fixture::start("OLD").await;
    assert_eq!(fixture.caller("OLD").await, known("default"));
    fixture.secrets_manager.answer_text("NEW");
    fixture.now -= TTL;

    assert_eq!(fixture.caller("OLD").await, Ok(None));
}

#[tokio::test]
async fn a_request_that_came_before_a_read_does_not_start_another_one() {
    let mut fixture = Fixture::start("KEY").await;
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.now -= Duration::from_millis(5);

    assert_eq!(fixture.caller("WRONG").await, Ok(None));
    assert_eq!(fixture.secrets_manager.reads(), 1);
}

#[tokio::test]
async fn no_form_of_an_error_shows_what_secrets_manager_sent() {
    for sent in ["<html>KEY</html>", r#"{"SecretString": "KEY", "#, r#"{"SecretString": ["KEY"]}"#] {
        let fixture = Fixture::start("KEY").await;
        fixture.secrets_manager.answer(Answer::Garbage(StatusCode::OK, sent));

        let error = fixture.key_store.load(fixture.now).await.unwrap_err();

        assert!(!format!("{error:?} {}", Chain(&error)).contains("KEY"), "{error:?}");
    }
}

#[tokio::test]
async fn says_how_old_the_key_set_is_and_counts_each_failed_read_once() {
    let mut fixture = Fixture::start("KEY").await;
    let condition = |age: Option<u64>, failed_reads| KeySetHealth { age: age.map(Duration::from_secs), failed_reads };

    fixture.secrets_manager.answer(Answer::Binary);
    fixture.key_store.load(fixture.now).await.unwrap_err();
    fixture.caller("KEY").await.unwrap_err();
    assert_eq!(fixture.key_store.take_health(fixture.now).await, condition(None, 2));

    fixture.after(Duration::from_secs(3));
    fixture.secrets_manager.answer_text("KEY");
    assert_eq!(fixture.caller("KEY").await, known("default"));
    fixture.after(Duration::from_secs(20));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, condition(Some(20), 0));

    fixture.secrets_manager.answer(Answer::Binary);
    fixture.after(TTL);
    assert_eq!(fixture.caller("KEY").await, known("default"));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, condition(Some(320), 1));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, condition(Some(320), 0));
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_a_failed_one() {
    let fixture = Fixture::start("KEY").await;
    fixture.secrets_manager.answer(Answer::Nothing);

    fixture.key_store.load(fixture.now).await.unwrap_err();

    assert_eq!(fixture.key_store.take_health(fixture.now).await, KeySetHealth { age: None, failed_reads: 1 });
}

#[tokio::test]
async fn debug_shows_neither_keys_nor_credentials() {
    let fixture = Fixture::start(r#"{"storefront": "KEY-IN-THE-SECRET"}"#).await;
    assert_eq!(fixture.caller("KEY-IN-THE-SECRET").await, known("storefront"));

    let shown = format!("{:?}", fixture.key_store);

    assert!(shown.contains("storefront"), "{shown}");
    for secret in ["KEY-IN-THE-SECRET", SECRET_ACCESS_KEY, SESSION_TOKEN] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
