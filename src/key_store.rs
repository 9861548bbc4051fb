//! The API keys of Secrets Manager: fetched, kept for a while, read again, and served through an outage.
//!
//! Not here: what a secret may hold and how keys are compared (`auth.rs`), and statuses (`error.rs`).

use std::{
    mem,
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::{
    Client,
    config::{Builder, retry::RetryConfig, timeout::TimeoutConfig},
    error::{BoxError, ProvideErrorMetadata as _, SdkError},
    operation::get_secret_value::GetSecretValueError,
};
use aws_types::SdkConfig;
use tokio::{
    sync::Mutex,
    time::{error::Elapsed, timeout},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{
    auth::{ApiKeyDigest, CallerName, KeySet, SecretError},
    config::SecretId,
    logs::Chain,
};

/// How long one read of the secret may take, all its attempts together.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one attempt may take: a connection that hangs leaves time for another one.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1400);

/// How long the first wait between two attempts may take: a failure that comes at once is tried again in time.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// The least time between two reads while there is a key set to serve, so that wrong keys and outages cost nothing. A
/// shorter time to live takes its place.
const READ_INTERVAL: Duration = Duration::from_secs(10);

/// The same while there is none: whoever waited for a read that failed shares its failure, and the next one tries again.
const FIRST_READ_INTERVAL: Duration = READ_TIMEOUT;

/// The API keys of one secret.
#[derive(Debug)]
pub struct KeyStore {
    client: Client,
    secret_id: SecretId,
    ttl: Duration,
    state: Mutex<State>,
}

/// What the metrics say of the key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySetHealth {
    /// How long ago the key set was read that is served; nothing where none ever was.
    pub age: Option<Duration>,
    /// How many reads have failed since this was last asked.
    pub failed_reads: u64,
}

#[derive(Debug, Default)]
struct State {
    served: Option<Served>,
    read_at: Option<SystemTime>,
    failed_reads: u64,
}

#[derive(Debug)]
struct Served {
    key_set: KeySet,
    fetched_at: SystemTime,
}

impl KeyStore {
    /// A store that has not read its secret yet, and that reads it again when it is older than `ttl`.
    #[must_use]
    pub fn new(sdk_config: &SdkConfig, secret_id: SecretId, ttl: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let retries = RetryConfig::standard().with_initial_backoff(INITIAL_BACKOFF);
        let config = Builder::from(sdk_config).timeout_config(timeouts).retry_config(retries).build();
        let client = Client::from_conf(config);
        Self { client, secret_id, ttl, state: Mutex::default() }
    }

    /// Reads the secret for the first time, before the first request.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] within 3 s, and nothing is lost: the first request tries again, however soon it comes.
    pub async fn load(&self, now: SystemTime) -> Result<(), KeyStoreError> {
        let mut state = self.state.lock().await;
        let outcome = self.read(&mut state, now).await;
        if outcome.is_err() {
            state.read_at = None;
        }
        outcome
    }

    /// The condition of the key set; the failed reads are counted from here on anew.
    pub async fn take_health(&self, now: SystemTime) -> KeySetHealth {
        let mut state = self.state.lock().await;
        KeySetHealth {
            age: state.served.as_ref().map(|served| time_between(served.fetched_at, now)),
            failed_reads: mem::take(&mut state.failed_reads),
        }
    }

    /// The caller whose API key was presented, or nothing where the secret does not hold it.
    ///
    /// Reads the secret where it has not been read (at most once in 3 s), is older than its time to live, or does not
    /// hold the key (both at most once in 10 s, or in the time to live where that is shorter). While reading fails, the
    /// last key set is served, whatever its age. Requests that come in during a read wait for it and share its outcome.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] where the secret has never been read, so that nobody can be judged.
    pub async fn verify(&self, presented: &ApiKeyDigest, now: SystemTime) -> Result<Option<CallerName>, KeyStoreError> {
        let mut state = self.state.lock().await;
        if let Some(caller) = state.fresh_key_set(self.ttl, now).and_then(|key_set| key_set.verify(presented)) {
            return Ok(Some(caller.clone()));
        }
        if state.may_be_read(self.ttl, now) {
            let outcome = self.read(&mut state, now).await;
            state.serve_despite(outcome, now)?;
        }
        let served = state.served.as_ref().ok_or(KeyStoreError::JustFailed)?;
        Ok(served.key_set.verify(presented).cloned())
    }

    async fn read(&self, state: &mut State, now: SystemTime) -> Result<(), KeyStoreError> {
        state.read_at = Some(now);
        let read = timeout(READ_TIMEOUT, self.fetch()).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
        let key_set = read.inspect_err(|_| state.failed_reads += 1)?;
        for name in key_set.refused() {
            warn!(name, "the secret has a value that is no API key; it lets no one in");
        }
        if key_set.is_empty() {
            warn!("the secret holds no API key; every request will be refused");
        }
        info!(callers = key_set.len(), "API keys read");
        state.served = Some(Served { key_set, fetched_at: now });
        Ok(())
    }

    async fn fetch(&self) -> Result<KeySet, KeyStoreError> {
        let request = self.client.get_secret_value().secret_id(self.secret_id.as_str());
        let output = request.send().await.map_err(KeyStoreError::from_sdk)?;
        let nothing = if output.secret_binary.is_some() { KeyStoreError::Binary } else { KeyStoreError::Nothing };
        let secret = Zeroizing::new(output.secret_string.ok_or(nothing)?);
        Ok(KeySet::parse(&secret)?)
    }
}

impl State {
    fn fresh_key_set(&self, ttl: Duration, now: SystemTime) -> Option<&KeySet> {
        let served = self.served.as_ref()?;
        (time_between(served.fetched_at, now) < ttl).then_some(&served.key_set)
    }

    fn may_be_read(&self, ttl: Duration, now: SystemTime) -> bool {
        let interval = if self.served.is_some() { READ_INTERVAL.min(ttl) } else { FIRST_READ_INTERVAL };
        self.read_at.is_none_or(|read_at| time_between(read_at, now) >= interval)
    }

    /// Lets a failed read pass where there is a key set to serve; it is logged here, since it ends here.
    fn serve_despite(&self, outcome: Result<(), KeyStoreError>, now: SystemTime) -> Result<(), KeyStoreError> {
        match (outcome, &self.served) {
            (Err(error), Some(served)) => {
                let age_seconds = time_between(served.fetched_at, now).as_secs();
                warn!(age_seconds, error = %Chain(&error), "API keys not read again; serving the last ones");
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }
}

/// The time between two instants, whichever comes first: a clock that is set back must not stop the reading, and a
/// request that waited behind a later one must not start it.
fn time_between(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

/// Why the API keys are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// Secrets Manager did not answer in time.
    #[error("Secrets Manager did not answer within 3 s")]
    Timeout(#[from] Elapsed),
    /// Secrets Manager answered with an error.
    #[error("Secrets Manager did not give the secret: {code}: {message}")]
    Service {
        /// What AWS calls the error.
        code: String,
        /// What AWS says of it.
        message: String,
    },
    /// What Secrets Manager sent, or something in front of it, is no answer of its own.
    #[error("Secrets Manager answered with the status {status}, and nothing that can be read")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// Where reading stopped.
        source: BoxError,
    },
    /// Secrets Manager could not be reached.
    #[error("Secrets Manager gave no answer")]
    NoAnswer(#[source] BoxError),
    /// What Secrets Manager sent is an answer without a secret.
    #[error("the answer of Secrets Manager holds no secret")]
    Nothing,
    /// The secret holds bytes.
    #[error("the secret is binary; expected text")]
    Binary,
    /// The secret holds text that is neither one API key nor an object of them.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The last read failed, and it is too early for another one.
    #[error("the last read failed less than 3 s ago; its cause is in the log line of that request")]
    JustFailed,
}

impl KeyStoreError {
    /// Keeps what AWS says of an error, or else its source: the `SdkError` around both holds the raw response, and so
    /// perhaps the keys.
    fn from_sdk(error: SdkError<GetSecretValueError>) -> Self {
        if let Some(code) = error.code() {
            let message = error.message().filter(|message| !message.is_empty()).unwrap_or("no message").to_owned();
            return Self::Service { code: code.to_owned(), message };
        }
        let status = error.raw_response().map(|response| response.status().as_u16());
        let source = error.into_source().unwrap_or_else(|_| "an unknown error of the SDK".into());
        match status {
            Some(status) => Self::Unreadable { status, source },
            None => Self::NoAnswer(source),
        }
    }
}
