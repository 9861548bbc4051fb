//! The API keys in Secrets Manager: read at startup, refreshed, and still served during an outage.
//!
//! `auth.rs` parses the secret and compares API keys.

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
    auth::{Authenticated, KeySet, PresentedKeys, RejectedEntry, SecretError},
    config::SecretId,
    limits::Limits,
    logs::Chain,
};

/// The time limit of one read of the secret, including all attempts.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The time limit of one attempt, so that a connection that hangs leaves time for another attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1400);

/// The longest wait before the second attempt, so that a read that fails at once is tried again within the time limit.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// The minimum time between two reads while there is a key set to serve, so that wrong API keys and outages cost next
/// to nothing. If the time to live is shorter, it applies instead.
const READ_INTERVAL: Duration = Duration::from_secs(10);

/// The same interval while there is no key set: requests that waited for a failed read share its failure, and the next
/// one tries again.
const FIRST_READ_INTERVAL: Duration = READ_TIMEOUT;

/// The API keys of one secret.
#[derive(Debug)]
pub struct KeyStore {
    client: Client,
    secret_id: SecretId,
    ttl: Duration,
    settings: Limits,
    state: Mutex<State>,
}

/// The state of the key set, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySetHealth {
    /// The age of the key set; `None` if the secret has never been read.
    pub age: Option<Duration>,
    /// The number of reads that failed since the health was last taken.
    pub failed_reads: u64,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    read_at: Option<SystemTime>,
    failed_reads: u64,
}

#[derive(Debug)]
struct Current {
    key_set: KeySet,
    fetched_at: SystemTime,
}

impl KeyStore {
    /// Creates a store that has not read its secret yet, and that refreshes its key set once it is older than `ttl`.
    ///
    /// `settings` are the limits that no caller can exceed.
    #[must_use]
    pub fn new(sdk_config: &SdkConfig, secret_id: SecretId, ttl: Duration, settings: Limits) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let retries = RetryConfig::standard().with_initial_backoff(INITIAL_BACKOFF);
        let config = Builder::from(sdk_config).timeout_config(timeouts).retry_config(retries).build();
        let client = Client::from_conf(config);
        Self { client, secret_id, ttl, settings, state: Mutex::default() }
    }

    /// Reads the secret for the first time, before the first request.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] if the secret cannot be read within 3 s. The first request then tries again, however soon it
    /// arrives.
    pub async fn load(&self, now: SystemTime) -> Result<(), KeyStoreError> {
        let mut state = self.state.lock().await;
        let outcome = self.read(&mut state, now).await;
        if outcome.is_err() {
            state.read_at = None;
        }
        outcome
    }

    /// Returns the health of the key set and resets the count of failed reads.
    pub async fn take_health(&self, now: SystemTime) -> KeySetHealth {
        let mut state = self.state.lock().await;
        KeySetHealth {
            age: state.current.as_ref().map(|current| time_between(current.fetched_at, now)),
            failed_reads: mem::take(&mut state.failed_reads),
        }
    }

    /// Returns the caller whose API key was presented, or `None` if the secret does not contain it.
    ///
    /// Reads the secret if it has never been read (at most once every 3 s), or if the key set is older than its time to
    /// live or does not contain the API key (at most once every 10 s, or once per time to live if that is shorter).
    /// While reading fails, the last key set is served, whatever its age. Requests that arrive during a read wait for
    /// it and share its outcome.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] if the secret has never been read, so that no API key can be verified.
    pub async fn verify<'a>(
        &self,
        presented: &PresentedKeys<'a>,
        now: SystemTime,
    ) -> Result<Option<Authenticated<'a>>, KeyStoreError> {
        let mut state = self.state.lock().await;
        if let Some(caller) = state.fresh_key_set(self.ttl, now).and_then(|key_set| key_set.verify(presented)) {
            return Ok(Some(caller));
        }
        if state.is_read_due(self.ttl, now) {
            let outcome = self.read(&mut state, now).await;
            state.tolerate_failure(outcome, now)?;
        }
        let current = state.current.as_ref().ok_or(KeyStoreError::JustFailed)?;
        Ok(current.key_set.verify(presented))
    }

    async fn read(&self, state: &mut State, now: SystemTime) -> Result<(), KeyStoreError> {
        state.read_at = Some(now);
        let read = timeout(READ_TIMEOUT, self.fetch()).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
        let key_set = read.inspect_err(|_| state.failed_reads += 1)?;
        for RejectedEntry { caller, member, expected } in key_set.rejected() {
            warn!(caller, member, expected, "ignoring an invalid entry of the secret; its caller is locked out");
        }
        if key_set.is_empty() {
            warn!("the secret contains no valid API key; every authenticated request will be rejected");
        }
        info!(callers = key_set.len(), "API keys read");
        state.current = Some(Current { key_set, fetched_at: now });
        Ok(())
    }

    async fn fetch(&self) -> Result<KeySet, KeyStoreError> {
        let request = self.client.get_secret_value().secret_id(self.secret_id.as_str());
        let output = request.send().await.map_err(KeyStoreError::from_sdk)?;
        let missing = if output.secret_binary.is_some() { KeyStoreError::Binary } else { KeyStoreError::Empty };
        let secret = Zeroizing::new(output.secret_string.ok_or(missing)?);
        Ok(KeySet::parse(&secret, &self.settings)?)
    }
}

impl State {
    fn fresh_key_set(&self, ttl: Duration, now: SystemTime) -> Option<&KeySet> {
        let current = self.current.as_ref()?;
        (time_between(current.fetched_at, now) < ttl).then_some(&current.key_set)
    }

    fn is_read_due(&self, ttl: Duration, now: SystemTime) -> bool {
        let interval = if self.current.is_some() { READ_INTERVAL.min(ttl) } else { FIRST_READ_INTERVAL };
        self.read_at.is_none_or(|read_at| time_between(read_at, now) >= interval)
    }

    /// Ignores a failed read if there is a key set to serve. The failure is logged here because it goes no further.
    fn tolerate_failure(&self, outcome: Result<(), KeyStoreError>, now: SystemTime) -> Result<(), KeyStoreError> {
        match (outcome, &self.current) {
            (Err(error), Some(current)) => {
                let age_seconds = time_between(current.fetched_at, now).as_secs();
                warn!(age_seconds, error = %Chain(&error), "could not refresh API keys; serving the last known set");
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }
}

/// The time between two instants in either order: a clock that is set back must not stop the refreshes, and a request
/// that waited while a later one read the secret must not read it again.
fn time_between(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

/// An error while reading the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// Secrets Manager did not respond in time.
    #[error("no response from Secrets Manager within {} s", READ_TIMEOUT.as_secs())]
    Timeout(#[from] Elapsed),
    /// Secrets Manager returned an error.
    #[error("Secrets Manager returned an error: {code}: {message}")]
    Service {
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// Secrets Manager, or a proxy in between, returned something that is not one of its responses.
    #[error("Secrets Manager returned status {status} with an unreadable body")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// Where parsing stopped.
        source: BoxError,
    },
    /// Secrets Manager could not be reached.
    #[error("could not reach Secrets Manager")]
    Unreachable(#[source] BoxError),
    /// The response of Secrets Manager contains no secret.
    #[error("the response from Secrets Manager contains no secret")]
    Empty,
    /// The secret is binary.
    #[error("the secret is binary; expected text")]
    Binary,
    /// The secret contains text that is neither an API key nor an object of API keys.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The last read failed, and it is too early for another one.
    #[error(
        "the last read failed less than {} s ago; the log line of that request contains the cause",
        FIRST_READ_INTERVAL.as_secs()
    )]
    JustFailed,
}

impl KeyStoreError {
    /// Keeps AWS's own description of the error or, failing that, its source. Drops the `SdkError` around them, because
    /// it contains the raw response, which may contain the API keys.
    fn from_sdk(error: SdkError<GetSecretValueError>) -> Self {
        if let Some(code) = error.code() {
            let message = error.message().filter(|message| !message.is_empty()).unwrap_or("no message").to_owned();
            return Self::Service { code: code.to_owned(), message };
        }
        let status = error.raw_response().map(|response| response.status().as_u16());
        let source = error.into_source().unwrap_or_else(|_| "unknown SDK error".into());
        match status {
            Some(status) => Self::Unreadable { status, source },
            None => Self::Unreachable(source),
        }
    }
}
