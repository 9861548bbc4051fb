//! One instance of the function: its binary as a process, with the environment that Lambda gives it, and its log.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::support::{
    app::{ACCESS_KEY_ID, API_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN},
    files::{read, yaml},
    runtime_api::{PATIENCE, RuntimeApi},
    secrets_manager::SecretsManager,
};

/// An API key that replaces [`API_KEY`].
pub(crate) const ROTATED_API_KEY: &str = "rotated-development-key";
/// An API key that no secret contains.
pub(crate) const WRONG_API_KEY: &str = "another-development-key";
/// The token that the function sends to its credentials endpoint.
pub(crate) const CREDENTIALS_TOKEN: &str = "container-authorization-token";

/// A running instance, its servers, and its responses so far.
pub(crate) struct Instance {
    pub(crate) secrets_manager: SecretsManager,
    pub(crate) runtime_api: RuntimeApi,
    pub(crate) process: Child,
    responses: Vec<Value>,
}

impl Instance {
    /// Starts the function with the environment of Lambda and `variables`; an empty value unsets a variable.
    pub(crate) async fn start(secrets_manager: SecretsManager, variables: &[(&str, &str)]) -> Self {
        Self::start_binary(env!("CARGO_BIN_EXE_presigned-upload").as_ref(), secrets_manager, variables).await
    }

    /// Does the same for another build of the function.
    pub(crate) async fn start_binary(
        binary: &Path,
        secrets_manager: SecretsManager,
        variables: &[(&str, &str)],
    ) -> Self {
        let runtime_api = RuntimeApi::start(&secrets_manager).await;
        let mut command = Command::new(binary);
        command.env_clear().envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "uploads"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
            ("AWS_LAMBDA_RUNTIME_API", &runtime_api.address),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
            ("UPLOAD_BUCKET", "uploads"),
            ("API_KEYS_SECRET_ID", "api-keys"),
        ]);
        for (name, value) in variables {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        Self { secrets_manager, runtime_api, process, responses: Vec::new() }
    }

    /// Sends an event and returns the response, which must arrive before Lambda would end the process.
    pub(crate) async fn response_to(&mut self, event: &str) -> Value {
        let started_at = Instant::now();
        let response = self.runtime_api.response_to(event).await;
        assert!(started_at.elapsed() < *LAMBDA_TIMEOUT, "{:?}", started_at.elapsed());
        self.responses.push(response.clone());
        response
    }

    /// Kills the function and returns its log.
    pub(crate) async fn kill(mut self) -> Vec<Value> {
        self.process.start_kill().ok();
        self.wait().await.1
    }

    /// Waits until the function ends, and returns its exit status and its log: each line of standard output after the
    /// first, which contains the version.
    ///
    /// Asserts that standard error is empty, and that neither the log nor a response contains a secret.
    pub(crate) async fn wait(&mut self) -> (ExitStatus, Vec<Value>) {
        let (mut lines, mut errors) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (self.process.stdout.take().unwrap(), self.process.stderr.take().unwrap());
        let read = async { tokio::try_join!(stdout.read_to_string(&mut lines), stderr.read_to_string(&mut errors)) };
        timeout(PATIENCE, read).await.expect("the function ends").unwrap();
        let status = timeout(PATIENCE, self.process.wait()).await.expect("the function ends").unwrap();
        let mut lines: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(errors, "");
        assert_no_secrets(&lines, &self.responses);
        let first = json!({ "level": "INFO", "message": "starting", "version": env!("CARGO_PKG_VERSION") });
        assert_eq!(without_time(lines.remove(0)), first);
        (status, lines)
    }
}

/// How long Lambda lets a request take.
pub(crate) static LAMBDA_TIMEOUT: LazyLock<Duration> = LazyLock::new(|| {
    let template = yaml(&read("template.yaml"));
    Duration::from_secs(template["Resources"]["Function"]["Properties"]["Timeout"].as_u64().unwrap())
});

/// Returns the JSON body of a response, as API Gateway receives it.
#[track_caller]
pub(crate) fn body(response: &Value) -> Value {
    serde_json::from_str(response["body"].as_str().unwrap()).unwrap()
}

/// Removes the members that differ from run to run, all of which must be present.
#[track_caller]
pub(crate) fn without_time(mut line: Value) -> Value {
    let members = line.as_object_mut().unwrap();
    assert!(members.remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
    if let Some(duration) = members.remove("duration_ms") {
        assert!(duration.as_f64().unwrap() > 0.0);
        assert!(members.remove("_aws").unwrap().is_object());
    }
    if let Some(age) = members.remove("key_set_age_seconds") {
        assert!(age.as_u64().unwrap() < 60);
        assert!(members.remove("failed_refreshes").unwrap().is_u64());
    }
    line
}

/// Asserts that the log contains no secret, and a response only those of its own grant.
#[track_caller]
fn assert_no_secrets(lines: &[Value], responses: &[Value]) {
    let never = [API_KEY, ROTATED_API_KEY, WRONG_API_KEY, SECRET_ACCESS_KEY];
    let not_in_errors =
        [SESSION_TOKEN, "session%2Btoken", "X-Amz-", CREDENTIALS_TOKEN, "local development key", "S0VZ"];
    let mut secrets: Vec<String> = never.iter().chain(&not_in_errors).map(|&secret| secret.to_owned()).collect();
    for response in responses {
        let text = response.to_string();
        for secret in never {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        if response["statusCode"] == 200 {
            secrets.extend(secrets_of(&body(response)));
        } else {
            for secret in &secrets {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
    }
    let log = Value::from(lines).to_string();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in {log}");
    }
}

/// Returns the secrets of a grant: the policy and the signature of a form, both ends of an upload token, and the signature
/// of each URL, wherever it is.
fn secrets_of(grant: &Value) -> Vec<String> {
    let form = ["policy", "x-amz-signature"].map(|name| grant["fields"][name].as_str());
    let token = grant["uploadToken"].as_str().into_iter().flat_map(|token| token.split('.').skip(1));
    let text = grant.to_string();
    let urls = text.split("X-Amz-Signature=").skip(1);
    form.into_iter().flatten().chain(token).chain(urls).map(start_of).collect()
}

/// Returns enough of a secret to recognize it by.
fn start_of(secret: &str) -> String {
    secret.chars().take(24).collect()
}
