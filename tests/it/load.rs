//! Many requests: one instance of the function that answers them one after the other, and many callers of the deployed
//! stack at once. Both end by themselves; run by `make load`, against the build that is deployed.
#![expect(clippy::print_stdout, reason = "figures are what it is run for")]

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
    time::timeout,
};

use crate::{
    deployed::{Stack, client},
    fixture::API_KEY,
    lambda::{RuntimeApi, event, start_binary},
    loopback::SecretsManager,
    tampering::Upload,
};

const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.aws-sam/build/Function/bootstrap");

/// Longer than either of them takes.
const TIME_LIMIT: Duration = Duration::from_mins(15);

/// The requests of one instance, in four kinds that take turns.
const REQUESTS: usize = 200_000;
/// After so many of them, an instance has all the memory that it needs.
const WARM: usize = 10_000;

const CALLERS: usize = 64;
const UPLOADS_EACH: usize = 50;

/// The half and the 99 hundredths of how long something took.
fn percentiles(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let at = |hundredths: usize| durations[durations.len() * hundredths / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.3} ms, p99 {:.3} ms", at(50), at(99))
}

/// A line of what Linux says of the memory of a process, in KiB.
#[track_caller]
fn memory(process_id: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(Path::new("/proc").join(process_id.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
#[ignore = "takes a minute: make load"]
async fn one_instance_answers_200_000_requests_in_the_same_memory() {
    let secrets_manager = SecretsManager::start(API_KEY).await;
    let mut runtime_api = RuntimeApi::start(&secrets_manager).await;
    let started_at = Instant::now();
    let mut function = start_binary(BINARY.as_ref(), &runtime_api, &secrets_manager, &[("AWS_LAMBDA_LOG_LEVEL", "")]);
    let mut lines = BufReader::new(function.stdout.take().unwrap()).lines();
    let mut stderr = function.stderr.take().unwrap();
    let errors = tokio::spawn(async move {
        let mut errors = String::new();
        stderr.read_to_string(&mut errors).await.map(|_| errors)
    });
    let log = tokio::spawn(async move {
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            count += usize::from(line.contains(r#""message":"request""#));
        }
        count
    });
    let kinds = [
        ("presigned POST", event("media.json"), 200),
        ("presigned PUT", event("presign.json"), 200),
        ("refused body", event("refused-members.json"), 400),
        ("unknown API key", event("refused-unknown-api-key.json"), 401),
    ];

    let mut durations = kinds.each_ref().map(|_| Vec::new());
    let mut warm_memory = 0;
    let all = async {
        for number in 0..REQUESTS {
            let (name, event, status) = &kinds[number % kinds.len()];
            let sent_at = Instant::now();
            let answer = runtime_api.answer_to(event).await;
            durations[number % kinds.len()].push(sent_at.elapsed());
            assert_eq!(answer["statusCode"], *status, "{name}: {answer}");
            if number == WARM {
                warm_memory = memory(function.id().unwrap(), "VmRSS");
            }
            if number % 20_000 == 0 {
                println!("{number} of {REQUESTS} requests after {:.0} s", started_at.elapsed().as_secs_f64());
            }
        }
    };
    timeout(TIME_LIMIT, all).await.expect("all requests are answered in time");
    let took = started_at.elapsed();
    let [end_memory, peak_memory] = ["VmRSS", "VmHWM"].map(|name| memory(function.id().unwrap(), name));
    function.kill().await.unwrap();

    println!(
        "{REQUESTS} requests in {:.0} s, no error; the secret was read {} times",
        took.as_secs_f64(),
        secrets_manager.reads()
    );
    for ((name, ..), durations) in kinds.iter().zip(durations) {
        println!("{name}: {}", percentiles(durations));
    }
    println!("memory: {warm_memory} KiB after {WARM} requests, {end_memory} KiB at the end, {peak_memory} KiB at most");
    assert_eq!(log.await.unwrap(), REQUESTS, "a line for each");
    assert_eq!(errors.await.unwrap().unwrap(), "");
    assert!(end_memory <= warm_memory + 256, "{warm_memory} KiB, then {end_memory} KiB");
    let windows = took.as_secs() / 10 + 1;
    assert!(secrets_manager.reads() as u64 <= 1 + windows, "wrong API keys cost a read in 10 s at most");
}

#[tokio::test]
#[ignore = "takes some minutes: make load"]
async fn every_one_of_64_callers_at_once_can_upload() {
    let stack = Stack::deploy("load", &[]).await;
    let body = json!({ "fileName": "a.png", "fileType": "image/png" });
    let client = client();

    let started_at = Instant::now();
    let caller = async |number: usize| {
        let mut taken = Vec::new();
        for upload in 0..UPLOADS_EACH {
            let asked_at = Instant::now();
            let grant = stack.grant("/media/", &body).await;
            let granted_at = Instant::now();
            let answer = Upload::post(&grant, vec![b'a'; 1000]).request(&client).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            taken.push((granted_at - asked_at, granted_at.elapsed(), grant["fileKey"].as_str().unwrap().to_owned()));
            if number == 0 && (upload + 1) % 10 == 0 {
                println!("caller 1 of {CALLERS}: {} of {UPLOADS_EACH} uploads", upload + 1);
            }
        }
        taken
    };
    let taken = timeout(TIME_LIMIT, join_all((0..CALLERS).map(caller))).await.expect("all uploads are done in time");
    let taken: Vec<_> = taken.into_iter().flatten().collect();

    println!("{} uploads by {CALLERS} callers in {:.0} s, no error", taken.len(), started_at.elapsed().as_secs_f64());
    println!("grant: {}", percentiles(taken.iter().map(|it| it.0).collect()));
    println!("upload: {}", percentiles(taken.iter().map(|it| it.1).collect()));
    let object_keys: HashSet<_> = taken.iter().map(|it| &it.2).collect();
    assert_eq!(object_keys.len(), CALLERS * UPLOADS_EACH, "no two grants are for one object");
}
