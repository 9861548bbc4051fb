//! How long a Lambda function takes from its start to its first answer, and what an answer costs once it is warm.
//!
//!     cold-start run FILE RESULTS [ROUNDS]      measures the candidates of a JSON file, and writes results as JSON
//!     cold-start parts CRITERION RESULTS        gathers what the parts of one request take, and writes it as JSON
//!     cold-start report PROJECT                 makes tables and plots of both results, into docs/ and the README
//!     cold-start count FILE NAME                counts instructions of one candidate, with callgrind
//!
//! Each process has a Runtime API of its own and reads its secret over TLS. Candidates take turns, so that whatever else
//! the machine does falls on all of them. An answer is checked before it is counted.

mod answers;
mod count;
mod parts;
mod process;
mod report;
mod servers;

use std::{
    env, fs,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    task::LocalSet,
    time::{sleep, timeout},
};

use crate::{
    answers::{API_KEY, CONTENT_TYPE, FILE_NAME, check},
    process::{Candidate, CpuShare, Process, Trust, Usage},
    servers::{Event, RuntimeApi, SecretsManager},
};

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process has between asking for its first event and getting it.
const SETTLED: Duration = Duration::from_millis(20);
const ROUNDS: usize = 30;
const WARM_ROUNDS: usize = 3;
/// What is answered before the warm requests are measured, and then measured, in one process.
const WARM_UP: usize = 500;
const WARM_REQUESTS: usize = 2000;
/// After how many requests the memory of one long-lived process is read; the first candidate's.
const ENDURED: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments[..] {
        ["run", file, results] => LocalSet::new().block_on(&runtime, run(file.as_ref(), results.as_ref(), None)),
        ["run", file, results, rounds] => {
            let rounds = rounds.parse().context("ROUNDS is no number")?;
            LocalSet::new().block_on(&runtime, run(file.as_ref(), results.as_ref(), Some(rounds)))
        }
        ["parts", criterion, results] => parts::gather(criterion.as_ref(), results.as_ref()),
        ["report", project] => report::write(project.as_ref()),
        ["count", file, name] => LocalSet::new().block_on(&runtime, count::count(file.as_ref(), name)),
        _ => bail!(
            "expected `run FILE RESULTS [ROUNDS]`, `parts CRITERION RESULTS`, `report PROJECT` or `count FILE NAME`"
        ),
    }
}

/// What a run has measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub date: String,
    pub machine: String,
    pub rounds: usize,
    pub candidates: Vec<Measured>,
    pub endured: Vec<Endured>,
}

/// What was measured of one candidate, each figure as often as there were rounds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub cold: Vec<Cold>,
    /// The same with the CPU share of 128 MB from the first event on.
    pub cold_at_128_mb: Vec<Cold>,
    pub warm: Vec<Warm>,
    pub artifact: Option<Artifact>,
}

/// What is uploaded to Lambda, where that is one file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Artifact {
    pub bytes: u64,
    /// As an archive holds it.
    pub deflated_bytes: u64,
}

impl Artifact {
    fn of(path: &Path) -> Result<Self> {
        let file = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&file)?;
        Ok(Self { bytes: file.len() as u64, deflated_bytes: deflated.finish()?.len() as u64 })
    }
}

/// The start of a process, until its first answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cold {
    pub until_asked_ms: f64,
    /// Without the wait between asking for the first event and getting it.
    pub until_answered_ms: f64,
    pub cpu_ms: f64,
    pub page_faults: u64,
    pub peak_kib: u64,
    pub threads: u64,
}

/// A process that has answered before.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Warm {
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of all its threads.
    pub cpu_ms_for_1000: f64,
    pub peak_kib: u64,
    pub connections: u64,
    pub secret_reads: u64,
}

/// The memory of one process after many requests.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Endured {
    pub requests: u64,
    pub peak_kib: u64,
}

/// All that is needed to start a candidate.
pub struct Bench {
    pub folder: PathBuf,
    secrets_manager: SecretsManager,
    trust: Trust,
    event: Bytes,
    _certificates: tempfile::TempDir,
}

impl Bench {
    pub async fn new(file: &Path) -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let trust = Trust { ours: certificates.path().join("ours.pem"), all: certificates.path().join("all.pem") };
        let secret = serde_json::json!({ "default": API_KEY }).to_string();
        let secrets_manager = SecretsManager::start(&secret, &trust.ours).await?;
        // Debian's and Amazon Linux's.
        let of_the_system = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
        let bundle = of_the_system.iter().find_map(|path| fs::read(path).ok());
        let mut bundle = bundle.context("this machine has no bundle of certificates; install ca-certificates")?;
        bundle.extend(fs::read(&trust.ours)?);
        fs::write(&trust.all, bundle)?;
        let folder = file.canonicalize()?.parent().context("the file is in no folder")?.to_owned();
        Ok(Self { folder, secrets_manager, trust, event: event().into(), _certificates: certificates })
    }

    /// Starts a candidate and waits for its first answer.
    pub async fn start(&self, candidate: &Candidate, share: Option<&CpuShare>) -> Result<Started> {
        let mut runtime_api = RuntimeApi::start().await?;
        let process = Process::start(candidate, &self.folder, &runtime_api, &self.secrets_manager, &self.trust)?;
        let asked_at = match next(&mut runtime_api).await? {
            Event::Asked(at) => at,
            other => bail!("it did not ask for an event: {other:?}"),
        };
        // What it still does after it has asked must not be charged to the share.
        sleep(SETTLED).await;
        if let Some(share) = share {
            share.hold(&process)?;
        }
        runtime_api.invoke(&self.event)?;
        let (handed_at, answered_at) = answered(&mut runtime_api, candidate).await?;
        let until_asked = asked_at - process.started_at;
        let usage = process.usage()?;
        let cold = Cold {
            until_asked_ms: ms(until_asked),
            until_answered_ms: ms(until_asked + (answered_at - handed_at)),
            cpu_ms: ms(usage.cpu),
            page_faults: usage.page_faults,
            peak_kib: usage.peak_kib,
            threads: usage.threads,
        };
        Ok(Started { process, runtime_api, cold })
    }

    /// Hands a process one more event.
    pub fn invoke(&self, started: &Started) -> Result<()> {
        started.runtime_api.invoke(&self.event)
    }

    async fn warm(&self, candidate: &Candidate) -> Result<Warm> {
        self.secrets_manager.take_reads();
        let mut started = self.start(candidate, None).await?;
        let mut times = Vec::with_capacity(WARM_REQUESTS);
        let mut before: Option<Usage> = None;
        for number in 0..WARM_UP + WARM_REQUESTS {
            if number == WARM_UP {
                before = Some(started.process.usage()?);
            }
            self.invoke(&started)?;
            let (handed_at, answered_at) = answered(&mut started.runtime_api, candidate).await?;
            if number >= WARM_UP {
                times.push((answered_at - handed_at).as_secs_f64() * 1e6);
            }
        }
        let after = started.process.usage()?;
        let cpu = after.cpu - before.context("nothing was measured")?.cpu;
        times.sort_unstable_by(f64::total_cmp);
        let at = |hundredths: usize| times.get(times.len() * hundredths / 100).copied().unwrap_or(f64::NAN);
        let warm = Warm {
            p50_us: at(50),
            p99_us: at(99),
            cpu_ms_for_1000: ms(cpu) * 1000.0 / WARM_REQUESTS as f64,
            peak_kib: after.peak_kib,
            connections: started.runtime_api.connections(),
            secret_reads: self.secrets_manager.take_reads(),
        };
        started.process.end().await?;
        Ok(warm)
    }

    /// Reads the memory of one process while it answers a million requests.
    async fn endure(&self, candidate: &Candidate) -> Result<Vec<Endured>> {
        let mut started = self.start(candidate, None).await?;
        let mut answered_so_far = 1;
        let mut endured = Vec::new();
        for requests in ENDURED {
            println!("memory: {requests} requests to {}", candidate.name);
            for _ in answered_so_far..requests {
                self.invoke(&started)?;
                answered(&mut started.runtime_api, candidate).await?;
            }
            answered_so_far = requests;
            endured.push(Endured { requests, peak_kib: started.process.usage()?.peak_kib });
        }
        started.process.end().await?;
        Ok(endured)
    }
}

/// A process that has answered once.
pub struct Started {
    pub process: Process,
    pub runtime_api: RuntimeApi,
    pub cold: Cold,
}

/// Waits for the answer to an event, and checks it: when the event was handed over, and when the answer came.
pub async fn answered(runtime_api: &mut RuntimeApi, candidate: &Candidate) -> Result<(Instant, Instant)> {
    loop {
        match next(runtime_api).await? {
            Event::Asked(_) => {}
            Event::Answered { handed_at, answered_at, answer } => {
                check(candidate.answers, &answer).with_context(|| format!("{} answers wrongly", candidate.name))?;
                return Ok((handed_at, answered_at));
            }
            Event::Failed(report) => bail!("{} reports an error: {report}", candidate.name),
        }
    }
}

async fn next(runtime_api: &mut RuntimeApi) -> Result<Event> {
    let event = timeout(PATIENCE, runtime_api.events.recv()).await.context("nothing came within a minute")?;
    event.context("the Runtime API has ended")
}

/// What API Gateway sends of `POST /media/`, in its payload 2.0.
fn event() -> String {
    let body = serde_json::json!({ "fileName": FILE_NAME, "fileType": CONTENT_TYPE });
    let event = include_str!("../../../events/media.json");
    let mut event: serde_json::Value = serde_json::from_str(event).unwrap_or_default();
    event["headers"]["authorization"] = format!("Bearer {API_KEY}").into();
    event["body"] = body.to_string().into();
    event.to_string()
}

pub fn candidates(file: &Path) -> Result<Vec<Candidate>> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no list of candidates", file.display()))
}

/// A run with as many rounds as asked for leaves out the million requests to the first candidate.
async fn run(file: &Path, results: &Path, asked_for: Option<usize>) -> Result<()> {
    let rounds = asked_for.unwrap_or(ROUNDS);
    let candidates = candidates(file)?;
    let bench = Bench::new(file).await?;
    let mut measured = Vec::new();
    for candidate in &candidates {
        let artifact = candidate.artifact.as_ref().map(|path| Artifact::of(&bench.folder.join(path))).transpose()?;
        let name = candidate.name.clone();
        measured.push(Measured { name, cold: vec![], cold_at_128_mb: vec![], warm: vec![], artifact });
    }
    // Each program is read from the disk once, and not out of pages that its build has left behind.
    std::process::Command::new("sync").status()?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("the page cache cannot be emptied; run this as root")?;
    for round in 1..=rounds {
        println!("cold starts: round {round} of {rounds}");
        // Each of them with a whole CPU, and with the share.
        for number in shuffled(round, candidates.len() * 2) {
            let (candidate, measured) = (&candidates[number / 2], &mut measured[number / 2]);
            let share = (number % 2 == 1).then(CpuShare::new).transpose()?;
            let started = bench.start(candidate, share.as_ref()).await.with_context(|| candidate.name.clone())?;
            let starts = if share.is_some() { &mut measured.cold_at_128_mb } else { &mut measured.cold };
            starts.push(started.cold);
            started.process.end().await?;
        }
    }
    for round in 1..=WARM_ROUNDS {
        println!("warm requests: round {round} of {WARM_ROUNDS}");
        for (candidate, measured) in candidates.iter().zip(&mut measured) {
            measured.warm.push(bench.warm(candidate).await.with_context(|| candidate.name.clone())?);
        }
    }
    let endured = match (candidates.first(), asked_for) {
        (Some(first), None) => bench.endure(first).await?,
        _ => Vec::new(),
    };
    let run = Results { date: today()?, machine: machine()?, rounds, candidates: measured, endured };
    fs::write(results, serde_json::to_string_pretty(&run)? + "\n")?;
    println!("written: {}", results.display());
    Ok(())
}

/// The starts of a round, in an order that is another one each round.
fn shuffled(round: usize, count: usize) -> Vec<usize> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut numbers: Vec<_> = (0..count).collect();
    numbers.sort_unstable_by_key(|number| hasher.hash_one((round, number)));
    numbers
}

fn today() -> Result<String> {
    let date = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{}, Linux {}", model.trim_start_matches(['\t', ':', ' ']), kernel.trim()))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
