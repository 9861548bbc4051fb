//! The key store and the SDK's Secrets Manager client, while the secret rotates and the server fails or hangs.

use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use lambda_http::http::{HeaderMap, HeaderValue};
use presigned_upload::{
    auth::PresentedKeys,
    key_store::{KeySetHealth, KeyStore},
    logs::Chain,
};

use crate::support::{
    app::{Endpoints, SECRET_ACCESS_KEY, SESSION_TOKEN, config, sdk_config},
    secrets_manager::{SecretResponse, SecretsManager},
};

const KEY: &str = "an-api-key-of-a-test";
const OLD: &str = "the-old-api-key-of-a-test";
const NEW: &str = "the-new-api-key-of-a-test";
const WRONG: &str = "a-wrong-api-key-of-a-test";

const TTL: Duration = Duration::from_mins(5);
/// Wrong API keys cause at most one read in this time.
const READ_INTERVAL: Duration = Duration::from_secs(10);
/// The same, while no key set has been read.
const FIRST_READ_INTERVAL: Duration = Duration::from_secs(3);
/// One second longer than a read may take.
const READ_LIMIT: Duration = Duration::from_secs(4);
/// The smallest step of the clock.
const TICK: Duration = Duration::from_millis(1);

const OUTAGE: SecretResponse = SecretResponse::Error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError", "");

/// A key store, its Secrets Manager and its clock.
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
        let config = config(&[]);
        let endpoints = Endpoints { s3: None, secrets_manager: Some(secrets_manager.url.clone()) };
        let key_store = KeyStore::new(&sdk_config(endpoints).build(), config.api_keys_secret_id, ttl, config.limits);
        Self { secrets_manager, key_store, now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045) }
    }

    /// Returns the name of the caller with this API key, or the error with its causes.
    async fn caller(&self, api_key: &str) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(api_key).unwrap());
        let presented = PresentedKeys::from_headers(&headers).unwrap();
        match self.key_store.verify(&presented, self.now).await {
            Ok(found) => Ok(found.map(|authenticated| authenticated.caller.name.clone())),
            Err(error) => Err(Chain(&error).to_string()),
        }
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }

    /// Advances the clock to one tick before `time` has passed.
    fn just_before(&mut self, time: Duration) {
        self.now += time;
        self.now -= TICK;
    }
}

/// Returns the caller with this name, as [`Fixture::caller`] does.
#[expect(clippy::unnecessary_wraps, reason = "it is compared with a `Result`")]
fn known(name: &str) -> Result<Option<String>, String> {
    Ok(Some(name.to_owned()))
}

#[tokio::test]
async fn serves_the_key_set_for_its_time_to_live() {
    let mut fixture = Fixture::start(KEY).await;
    fixture.key_store.load(fixture.now).await.unwrap();

    for _ in 0..3 {
        assert_eq!(fixture.caller(KEY).await, known("default"));
    }
    fixture.just_before(TTL);
    assert_eq!(fixture.caller(KEY).await, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 1);

    fixture.after(TICK);
    assert_eq!(fixture.caller(KEY).await, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn respects_a_short_time_to_live() {
    let mut fixture = Fixture::start_with_ttl(KEY, Duration::from_secs(1)).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.secrets_manager.set_secret(NEW);
    fixture.after(Duration::from_secs(1));

    assert_eq!(fixture.caller(KEY).await, Ok(None));
}

#[tokio::test]
async fn accepts_a_new_api_key_at_once_and_the_old_one_until_the_next_read() {
    let mut fixture = Fixture::start(OLD).await;
    assert_eq!(fixture.caller(OLD).await, known("default"));
    fixture.secrets_manager.set_secret(NEW);
    fixture.after(READ_INTERVAL);

    assert_eq!(fixture.caller(OLD).await, known("default"));
    assert_eq!(fixture.caller(NEW).await, known("default"));
    assert_eq!(fixture.caller(OLD).await, Ok(None));
}

#[tokio::test]
async fn reads_at_most_once_every_10_s_for_wrong_api_keys() {
    let mut fixture = Fixture::start(KEY).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));

    for _ in 0..100 {
        assert_eq!(fixture.caller(WRONG).await, Ok(None));
    }
    fixture.just_before(READ_INTERVAL);
    assert_eq!(fixture.caller(WRONG).await, Ok(None));
    assert_eq!(fixture.secrets_manager.reads(), 1);

    fixture.after(TICK);
    for _ in 0..100 {
        assert_eq!(fixture.caller(WRONG).await, Ok(None));
    }
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn serves_the_last_key_set_through_an_outage_and_recovers() {
    let mut fixture = Fixture::start(KEY).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.secrets_manager.respond(OUTAGE);
    fixture.after(TTL * 100);

    assert_eq!(fixture.caller(KEY).await, known("default"));
    let reads_in_outage = fixture.secrets_manager.reads();
    for _ in 0..100 {
        assert_eq!(fixture.caller(KEY).await, known("default"));
        assert_eq!(fixture.caller(WRONG).await, Ok(None));
    }
    assert_eq!(fixture.secrets_manager.reads(), reads_in_outage, "one read in 10 s in an outage, too");

    fixture.secrets_manager.set_secret(NEW);
    fixture.after(READ_INTERVAL);
    assert_eq!(fixture.caller(KEY).await, Ok(None));
    assert_eq!(fixture.caller(NEW).await, known("default"));
}

#[tokio::test]
async fn an_empty_object_locks_everyone_out() {
    let mut fixture = Fixture::start(KEY).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.secrets_manager.set_secret("{}");
    fixture.after(TTL);

    assert_eq!(fixture.caller(KEY).await, Ok(None));
}

#[tokio::test]
async fn fails_after_3_s_without_a_response() {
    let fixture = Fixture::start(KEY).await;
    fixture.secrets_manager.respond(SecretResponse::Hang);

    let started_at = Instant::now();
    let error = fixture.caller(KEY).await.unwrap_err();

    assert!(started_at.elapsed() < READ_LIMIT, "{:?}", started_at.elapsed());
    assert_eq!(error, "no response from Secrets Manager within 3 s: deadline has elapsed");
    assert_eq!(fixture.key_store.take_health(fixture.now).await, KeySetHealth { age: None, failed_reads: 1 });
}

#[tokio::test]
async fn serves_the_last_key_set_after_3_s_without_a_response() {
    let mut fixture = Fixture::start(KEY).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.secrets_manager.respond(SecretResponse::Hang);
    fixture.after(TTL);

    let started_at = Instant::now();
    let caller = fixture.caller(KEY).await;

    assert!(started_at.elapsed() < READ_LIMIT, "{:?}", started_at.elapsed());
    assert_eq!(caller, known("default"));
}

#[tokio::test]
async fn retries_on_another_connection_if_one_hangs() {
    let fixture = Fixture::start(KEY).await;
    fixture.secrets_manager.respond(SecretResponse::Hang);

    let recovery = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.secrets_manager.set_secret(KEY);
    };
    let (caller, ()) = tokio::join!(fixture.caller(KEY), recovery);

    assert_eq!(caller, known("default"));
    assert_eq!(fixture.secrets_manager.reads(), 2);
}

#[tokio::test]
async fn retries_errors_within_one_read() {
    let fixture = Fixture::start(KEY).await;
    fixture.secrets_manager.respond(OUTAGE);

    let started_at = Instant::now();
    let caller = fixture.caller(KEY).await;

    assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());
    assert!(caller.is_err());
    assert_eq!(fixture.secrets_manager.reads(), 3);
}

#[tokio::test]
async fn waiting_requests_share_one_read() {
    let fixture = Fixture::start(KEY).await;

    let callers = tokio::join!(fixture.caller(KEY), fixture.caller(KEY), fixture.caller(WRONG));

    assert_eq!(callers, (known("default"), known("default"), Ok(None)));
    assert_eq!(fixture.secrets_manager.reads(), 1);
}

#[tokio::test]
async fn waiting_requests_share_one_failure() {
    let fixture = Fixture::start(KEY).await;
    fixture.secrets_manager.respond(SecretResponse::Hang);

    let started_at = Instant::now();
    let (first, second) = tokio::join!(fixture.caller(KEY), fixture.caller(KEY));

    assert!(started_at.elapsed() < READ_LIMIT, "{:?}", started_at.elapsed());
    assert!(first.is_err());
    let just_failed = "the last read failed less than 3 s ago; the log line of that request contains the cause";
    assert_eq!(second, Err(just_failed.to_owned()));
}

#[tokio::test]
async fn refreshes_after_the_clock_is_set_back() {
    let mut fixture = Fixture::start(OLD).await;
    assert_eq!(fixture.caller(OLD).await, known("default"));
    fixture.secrets_manager.set_secret(NEW);
    fixture.now -= TTL;

    assert_eq!(fixture.caller(OLD).await, Ok(None));
}

#[tokio::test]
async fn does_not_read_again_for_a_request_older_than_the_last_read() {
    let mut fixture = Fixture::start(KEY).await;
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.now -= Duration::from_millis(5);

    assert_eq!(fixture.caller(WRONG).await, Ok(None));
    assert_eq!(fixture.secrets_manager.reads(), 1);
}

#[tokio::test]
async fn errors_do_not_reveal_the_response_of_secrets_manager() {
    for sent in ["<html>api-key</html>", r#"{"SecretString": "api-key", "#, r#"{"SecretString": ["api-key"]}"#] {
        let fixture = Fixture::start(KEY).await;
        fixture.secrets_manager.respond(SecretResponse::Garbage(StatusCode::OK, sent));

        let error = fixture.key_store.load(fixture.now).await.unwrap_err();

        assert!(!format!("{error:?} {}", Chain(&error)).contains("api-key"), "{error:?}");
    }
}

#[tokio::test]
async fn reports_the_age_of_the_key_set_and_each_failed_read_once() {
    let mut fixture = Fixture::start(KEY).await;
    let health = |age: Option<u64>, failed_reads| KeySetHealth { age: age.map(Duration::from_secs), failed_reads };

    fixture.secrets_manager.respond(SecretResponse::Binary);
    fixture.key_store.load(fixture.now).await.unwrap_err();
    fixture.caller(KEY).await.unwrap_err();
    assert_eq!(fixture.key_store.take_health(fixture.now).await, health(None, 2));

    fixture.after(FIRST_READ_INTERVAL);
    fixture.secrets_manager.set_secret(KEY);
    assert_eq!(fixture.caller(KEY).await, known("default"));
    fixture.after(Duration::from_secs(20));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, health(Some(20), 0));

    fixture.secrets_manager.respond(SecretResponse::Binary);
    fixture.after(TTL);
    assert_eq!(fixture.caller(KEY).await, known("default"));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, health(Some(320), 1));
    assert_eq!(fixture.key_store.take_health(fixture.now).await, health(Some(320), 0));
}

#[tokio::test]
async fn debug_hides_api_keys_and_credentials() {
    let fixture = Fixture::start(r#"{"storefront": "key-in-the-secret"}"#).await;
    assert_eq!(fixture.caller("key-in-the-secret").await, known("storefront"));

    let shown = format!("{:?}", fixture.key_store);

    assert!(shown.contains("storefront"), "{shown}");
    for secret in ["key-in-the-secret", SECRET_ACCESS_KEY, SESSION_TOKEN] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
