//! One process of a function: started as Lambda starts it, invoked, and measured.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    responses::{ACCESS_KEY_ID, CONTENT_TYPE, FILE_NAME, Kind, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN, check},
    servers::{Call, RuntimeApi, start_secrets_manager},
};

const API_KEY: &str = "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa";
/// The certificate of Secrets Manager.
const CERTIFICATE: &str = "target/certificate.pem";
/// That certificate and the system's trusted roots, so that there is as much to read as on Lambda.
const BUNDLE: &str = "target/bundle.pem";
/// The trusted roots of Debian and of Amazon Linux.
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
const CALL_TIMES_OUT_IN: Duration = Duration::from_secs(60);

/// A function to measure: any command that speaks the Lambda Runtime API.
#[derive(Clone, Debug, Deserialize)]
pub struct Candidate {
    pub name: String,
    pub command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    response: Kind,
}

/// The Secrets Manager and the event that all functions share.
pub struct Surroundings {
    secrets_manager_url: String,
    event: Bytes,
}

impl Surroundings {
    pub async fn prepare() -> Result<Self> {
        fs::create_dir_all("target")?;
        let secret = json!({ "default": API_KEY }).to_string();
        let secrets_manager_url = start_secrets_manager(&secret, Path::new(CERTIFICATE)).await?;
        let system_bundle = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok());
        let system_bundle = system_bundle.context("no trusted roots on this system; install ca-certificates")?;
        fs::write(BUNDLE, [system_bundle, fs::read(CERTIFICATE)?].concat())?;
        let mut event: Value = serde_json::from_str(include_str!("../../../events/media.json"))?;
        event["headers"]["authorization"] = format!("Bearer {API_KEY}").into();
        event["body"] = json!({ "fileName": FILE_NAME, "fileType": CONTENT_TYPE }).to_string().into();
        Ok(Self { secrets_manager_url, event: event.to_string().into() })
    }
}

/// A process that waits for an event.
pub struct Function {
    pub process: Child,
    pub id: u32,
    /// The time from its start until it asked for its first event.
    pub asked_in: Duration,
    runtime_api: RuntimeApi,
    candidate: Candidate,
    event: Bytes,
}

impl Function {
    pub async fn start(candidate: &Candidate, surroundings: &Surroundings) -> Result<Self> {
        let runtime_api = RuntimeApi::start().await?;
        let (program, arguments) = candidate.command.split_first().context("a command is empty")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs([
                ("AWS_LAMBDA_FUNCTION_NAME", "uploads"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/uploads"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/02/[$LATEST]0"),
                ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
                ("AWS_LAMBDA_RUNTIME_API", &runtime_api.address),
                ("AWS_REGION", REGION),
                ("AWS_DEFAULT_REGION", REGION),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
                ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
                ("AWS_SESSION_TOKEN", SESSION_TOKEN),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &surroundings.secrets_manager_url),
                ("SSL_CERT_FILE", BUNDLE),
                ("AWS_CA_BUNDLE", BUNDLE),
                ("NODE_EXTRA_CA_CERTS", CERTIFICATE),
                ("UPLOAD_BUCKET", "uploads"),
                ("API_KEYS_SECRET_ID", "api-keys"),
                ("LANG", "en_US.UTF-8"),
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ])
            .envs(&candidate.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let started_at = Instant::now();
        let process = command.spawn().with_context(|| format!("could not start {program}"))?;
        let id = process.id().context("a process without an id")?;
        let (candidate, event) = (candidate.clone(), surroundings.event.clone());
        let mut function = Self { process, id, asked_in: Duration::ZERO, runtime_api, candidate, event };
        function.asked_in = function.wait_for_call("/next").await?.received_at - started_at;
        Ok(function)
    }

    /// Sends one event, checks the response, and returns how long it took.
    pub async fn invoke(&mut self) -> Result<Duration> {
        let sent_at = Instant::now();
        self.runtime_api.events.send(self.event.clone()).await?;
        let call = self.wait_for_call("/response").await?;
        check(self.candidate.response, &call.body).with_context(|| self.candidate.name.clone())?;
        self.wait_for_call("/next").await?;
        Ok(call.received_at - sent_at)
    }

    async fn wait_for_call(&self, path_end: &str) -> Result<Call> {
        let name = &self.candidate.name;
        let call = timeout(CALL_TIMES_OUT_IN, self.runtime_api.calls.recv()).await;
        let call = call.with_context(|| format!("{name} did not call the Runtime API for a minute"))??;
        ensure!(call.uri.path().ends_with(path_end), "{name}: expected a call of …{path_end}; got {call:?}");
        Ok(call)
    }

    /// Returns the peak of its resident memory.
    pub fn peak_memory_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        Ok(peak.context("its status has no VmHWM")?.trim().parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Limits it to the CPU share of a 128 MB function on Lambda, where 1,769 MB get one CPU:
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
    pub fn limit_cpu(&self) -> Result<()> {
        let group = self.control_group();
        fs::create_dir_all(&group).context("could not create a control group; run this as root")?;
        // 128/1769 of 20 ms, for cgroup v2 or v1.
        if group.join("cpu.max").exists() {
            fs::write(group.join("cpu.max"), "1447 20000")?;
        } else {
            fs::write(group.join("cpu.cfs_period_us"), "20000")?;
            fs::write(group.join("cpu.cfs_quota_us"), "1447")?;
        }
        fs::write(group.join("cgroup.procs"), self.id.to_string()).context("could not limit its CPU share")
    }

    fn control_group(&self) -> PathBuf {
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let parent = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        parent.join(format!("cold-start-{}", self.id))
    }

    pub async fn stop(mut self) -> Result<()> {
        self.process.kill().await?;
        // The control group exists only if the CPU was limited.
        fs::remove_dir(self.control_group()).ok();
        Ok(())
    }
}
