//! One process of a function: started as Lambda starts it, held to a share of the CPU, and what Linux counts of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::{
    answers::{ACCESS_KEY_ID, Kind, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN},
    servers::{RuntimeApi, SecretsManager},
};

/// What is measured: any command that speaks the Lambda Runtime API.
#[derive(Clone, Debug, Deserialize)]
pub struct Candidate {
    pub name: String,
    /// Run in the folder of the file that names it.
    pub command: Vec<String>,
    /// In a value, `{ours}` is the file with the certificate of Secrets Manager alone.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    pub answers: Kind,
    /// What is uploaded to Lambda, where that is one file.
    pub artifact: Option<PathBuf>,
}

const OURS: &str = "{ours}";

/// The certificates that a function trusts.
pub struct Trust {
    /// That of Secrets Manager alone.
    pub ours: PathBuf,
    /// The system's, and that of Secrets Manager: as much to read as on Lambda.
    pub all: PathBuf,
}

pub struct Process {
    child: Child,
    pub id: u32,
    pub started_at: Instant,
}

impl Process {
    pub fn start(
        candidate: &Candidate,
        folder: &Path,
        runtime_api: &RuntimeApi,
        secrets_manager: &SecretsManager,
        trust: &Trust,
    ) -> Result<Self> {
        let (program, arguments) = candidate.command.split_first().context("the command is empty")?;
        let program = found(program, folder);
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .current_dir(folder)
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
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
                ("UPLOAD_BUCKET", "uploads"),
                ("API_KEYS_SECRET_ID", "api-keys"),
                ("LANG", "en_US.UTF-8"),
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ])
            .env("SSL_CERT_FILE", &trust.all)
            .env("AWS_CA_BUNDLE", &trust.all)
            .env("NODE_EXTRA_CA_CERTS", &trust.ours)
            .envs(
                candidate
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value.replace(OURS, &trust.ours.display().to_string()))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let started_at = Instant::now();
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let id = child.id().context("it has ended at once")?;
        Ok(Self { child, id, started_at })
    }

    /// What Linux has counted of it so far.
    pub fn usage(&self) -> Result<Usage> {
        let process = Path::new("/proc").join(self.id.to_string());
        let read = |name: &str| fs::read_to_string(process.join(name)).with_context(|| format!("no {name} of it"));
        let mut cpu = Duration::ZERO;
        for task in fs::read_dir(process.join("task"))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            cpu += Duration::from_nanos(schedstat.split(' ').next().context("an empty schedstat")?.parse()?);
        }
        let status = read("status")?;
        let stat = read("stat")?;
        // Behind the program's name, which may hold anything: minflt is the 8th field, majflt the 10th (proc(5)).
        let fields: Vec<_> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
        let [minor, major] = [7, 9].map(|index| fields.get(index).and_then(|field| field.parse::<u64>().ok()));
        Ok(Usage {
            cpu,
            page_faults: minor.context("no minflt")? + major.context("no majflt")?,
            peak_kib: line(&status, "VmHWM:")?,
            threads: line(&status, "Threads:")?,
        })
    }

    pub async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("it cannot be ended")
    }

    /// Ends it in a way that lets valgrind write what it has counted.
    pub async fn terminate(mut self) -> Result<()> {
        let ended = Command::new("kill").args(["-TERM", &self.id.to_string()]).status().await?;
        if !ended.success() {
            bail!("it cannot be told to end");
        }
        self.child.wait().await?;
        Ok(())
    }
}

/// A program with a slash in it is one of this folder, any other one is in `PATH`.
pub fn found(program: &str, folder: &Path) -> PathBuf {
    if program.contains('/') { folder.join(program) } else { PathBuf::from(program) }
}

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The time of all its threads; those that have ended are not counted.
    pub cpu: Duration,
    pub page_faults: u64,
    pub peak_kib: u64,
    pub threads: u64,
}

fn line(status: &str, name: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(value.trim().trim_end_matches("kB").trim().parse()?)
}

/// The share of a CPU that Lambda gives to a function of 128 MB: 1,769 MB are one whole CPU. For one process: what is left
/// of another one's share, or is owed by it, is not its own.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
pub struct CpuShare {
    folder: PathBuf,
}

impl CpuShare {
    const PERIOD: Duration = Duration::from_millis(20);

    /// Makes a control group, which takes root's rights; cgroup v2, or the `cpu` controller of v1.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("cold-start-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let period = Self::PERIOD.as_micros();
        let quota = period * 128 / 1769;
        let v2 = Path::new("/sys/fs/cgroup");
        let v1 = v2.join("cpu");
        let root = if v1.is_dir() { v1.as_path() } else { v2 };
        let folder = root.join(name);
        let made = (|| -> io::Result<()> {
            fs::create_dir(&folder)?;
            if v1.is_dir() {
                fs::write(folder.join("cpu.cfs_period_us"), period.to_string())?;
                fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())
            } else {
                fs::write(folder.join("cpu.max"), format!("{quota} {period}"))
            }
        })();
        let share = Self { folder };
        made.context("no control group for the CPU share of 128 MB; run this as root")?;
        Ok(share)
    }

    /// Holds a process to the share from now on.
    pub fn hold(&self, process: &Process) -> Result<()> {
        fs::write(self.folder.join("cgroup.procs"), process.id.to_string()).context("it is not held to the share")
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // Only once its last process is gone.
        fs::remove_dir(&self.folder).ok();
    }
}
