//! Sends many requests: to one instance of the function, one at a time, and to the deployed stack, from many callers at
//! once. `make load` runs both against the build that is deployed.
#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Child,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    deployed::{Stack, client},
    support::{
        app::API_KEY,
        events::{HttpApiEvent, event},
        instance::{Instance, WRONG_API_KEY},
        secrets_manager::SecretsManager,
        upload::Upload,
    },
};

const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.aws-sam/build/Function/bootstrap");

/// Longer than either test takes.
const TIME_LIMIT: Duration = Duration::from_mins(15);

/// The number of requests to one instance, which alternate between four kinds.
const REQUESTS: usize = 200_000;
/// The number of requests after which an instance has all the memory that it needs.
const WARM: usize = 10_000;
/// How much its memory may grow after that, in KiB.
const GROWTH: usize = 256;

const CALLERS: usize = 64;
const UPLOADS_EACH: usize = 50;

/// Formats the median and the 99th percentile.
fn percentiles(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let at = |percent: usize| durations[durations.len() * percent / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.3} ms, p99 {:.3} ms", at(50), at(99))
}

/// Reads a line of a process's `/proc/PID/status`, in KiB.
#[track_caller]
fn memory(process: &Child, name: &str) -> usize {
    let folder = Path::new("/proc").join(process.id().unwrap().to_string());
    let status = std::fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
}

/// Counts the log lines of requests while the function runs.
fn count_request_lines(process: &mut Child) -> JoinHandle<usize> {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    tokio::spawn(async move {
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            count += usize::from(line.contains(r#""message":"request""#));
        }
        count
    })
}

fn read_stderr(process: &mut Child) -> JoinHandle<String> {
    let mut stderr = process.stderr.take().unwrap();
    tokio::spawn(async move {
        let mut errors = String::new();
        stderr.read_to_string(&mut errors).await.unwrap();
        errors
    })
}

#[tokio::test]
#[ignore = "takes a minute: make load"]
async fn serves_200_000_requests_in_constant_memory() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let variables = [("AWS_LAMBDA_LOG_LEVEL", "")];
    let mut function = Instance::start_binary(BINARY.as_ref(), secrets_manager, &variables).await;
    let line_count = count_request_lines(&mut function.process);
    let errors = read_stderr(&mut function.process);
    let invalid_body = HttpApiEvent::post("/media/", &json!({ "fileName": "../secrets.txt", "fileType": "image/*" }));
    let kinds = [
        ("presigned POST", event("media.json"), 200),
        ("presigned PUT", event("presign.json"), 200),
        ("invalid body", invalid_body.to_string(), 400),
        ("unknown API key", event("media.json").replace(API_KEY, WRONG_API_KEY), 401),
    ];

    let started_at = Instant::now();
    let mut durations = kinds.each_ref().map(|_| Vec::new());
    let mut warm_memory = 0;
    let all = async {
        for number in 0..REQUESTS {
            let (name, event, status) = &kinds[number % kinds.len()];
            let sent_at = Instant::now();
            let response = function.runtime_api.response_to(event).await;
            durations[number % kinds.len()].push(sent_at.elapsed());
            assert_eq!(response["statusCode"], *status, "{name}: {response}");
            if number == WARM {
                warm_memory = memory(&function.process, "VmRSS");
            }
            if number % 20_000 == 0 {
                println!("{number} of {REQUESTS} requests after {:.0} s", started_at.elapsed().as_secs_f64());
            }
        }
    };
    timeout(TIME_LIMIT, all).await.expect("all responses come in time");
    let took = started_at.elapsed();
    let [end_memory, peak_memory] = ["VmRSS", "VmHWM"].map(|name| memory(&function.process, name));
    function.process.kill().await.unwrap();

    let reads = function.secrets_manager.reads();
    println!("{REQUESTS} requests in {:.0} s, no error; the secret was read {reads} times", took.as_secs_f64());
    for ((name, ..), durations) in kinds.iter().zip(durations) {
        println!("{name}: {}", percentiles(durations));
    }
    println!("memory: {warm_memory} KiB after {WARM} requests, {end_memory} KiB at the end, {peak_memory} KiB at most");
    assert_eq!(line_count.await.unwrap(), REQUESTS);
    assert_eq!(errors.await.unwrap(), "");
    assert!(end_memory <= warm_memory + GROWTH, "{warm_memory} KiB, then {end_memory} KiB");
    let windows = took.as_secs() / 10 + 1;
    assert!(reads as u64 <= 1 + windows, "wrong API keys cause at most one read in 10 s");
}

#[tokio::test]
#[ignore = "takes a few minutes: make load"]
async fn serves_64_callers_at_once() {
    let stack = Stack::deploy("load", &[]).await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });
    let client = client();

    let started_at = Instant::now();
    let caller = async |number: usize| {
        let mut uploads = Vec::new();
        for upload in 0..UPLOADS_EACH {
            let asked_at = Instant::now();
            let grant = stack.grant("/media/", &body).await;
            let granted_at = Instant::now();
            let response = Upload::post(&grant, vec![b'a'; 1000]).request(&client).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            uploads.push((granted_at - asked_at, granted_at.elapsed(), grant["fileKey"].as_str().unwrap().to_owned()));
            if number == 0 && (upload + 1) % 10 == 0 {
                println!("caller 1 of {CALLERS}: {} of {UPLOADS_EACH} uploads", upload + 1);
            }
        }
        uploads
    };
    let uploads = timeout(TIME_LIMIT, join_all((0..CALLERS).map(caller))).await.expect("all uploads are done in time");
    let uploads: Vec<_> = uploads.into_iter().flatten().collect();

    println!("{} uploads by {CALLERS} callers in {:.0} s, no error", uploads.len(), started_at.elapsed().as_secs_f64());
    println!("grant: {}", percentiles(uploads.iter().map(|it| it.0).collect()));
    println!("upload: {}", percentiles(uploads.iter().map(|it| it.1).collect()));
    let object_keys: HashSet<_> = uploads.iter().map(|it| &it.2).collect();
    assert_eq!(object_keys.len(), CALLERS * UPLOADS_EACH, "each grant is for another object");
}
