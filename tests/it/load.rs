//! Sends many requests, to one instance of the function, one at a time, and to the deployed stack, from many callers at
//! once; and a file that is too large for one request. `make load` runs all against the build that is deployed.
#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::{
    collections::HashSet,
    env, fs,
    os::unix::fs::FileExt as _,
    process,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Child,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    deployed::Stack,
    support::{
        app::API_KEY,
        client::client,
        events::{HttpApiEvent, event},
        instance::{Instance, WRONG_API_KEY, body},
        secrets_manager::SecretsManager,
        upload::{
            Upload,
            multipart::{Etags, Uploader},
        },
    },
};

const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.aws-sam/build/Function/bootstrap");

/// Longer than either test takes.
const TIME_LIMIT: Duration = Duration::from_mins(15);

/// The number of requests to one instance, which alternate between six kinds.
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
fn memory(process_id: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).unwrap();
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
    let process_id = function.process.id().unwrap();
    let line_count = count_request_lines(&mut function.process);
    let errors = read_stderr(&mut function.process);
    let invalid_body = HttpApiEvent::post("/media/", &json!({ "fileName": "../secrets.txt", "fileType": "image/*" }));
    let video = json!({ "fileName": "a.mp4", "fileType": "video/mp4", "fileSize": 100_000_000 });
    let upload = HttpApiEvent::post("/v1/uploads", &video).to_string();
    let upload_token = body(&function.runtime_api.response_to(&upload).await)["uploadToken"].take();
    let parts = json!({ "uploadToken": upload_token, "uploadId": "a".repeat(128), "partNumbers": [1, 2, 3] });
    let kinds = [
        ("presigned POST", event("media.json"), 200),
        ("presigned PUT", event("presign.json"), 200),
        ("multipart upload", upload, 200),
        ("URLs of three parts", HttpApiEvent::post("/v1/uploads/sign", &parts).to_string(), 200),
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
                warm_memory = memory(process_id, "VmRSS");
            }
            if number % 20_000 == 0 {
                println!("{number} of {REQUESTS} requests after {:.0} s", started_at.elapsed().as_secs_f64());
            }
        }
    };
    timeout(TIME_LIMIT, all).await.expect("all responses come in time");
    let took = started_at.elapsed();
    let [end_memory, peak_memory] = ["VmRSS", "VmHWM"].map(|name| memory(process_id, name));
    function.process.kill().await.unwrap();

    let reads = function.secrets_manager.reads();
    println!("{REQUESTS} requests in {:.0} s, no error; the secret was read {reads} times", took.as_secs_f64());
    for ((name, ..), durations) in kinds.iter().zip(durations) {
        println!("{name}: {}", percentiles(durations));
    }
    println!("memory: {warm_memory} KiB after {WARM} requests, {end_memory} KiB at the end, {peak_memory} KiB at most");
    assert_eq!(line_count.await.unwrap(), REQUESTS + 1, "and one for the upload token");
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

/// The size of the file, in bytes; `LOAD_FILE_BYTES` sets another.
const FILE_BYTES: u64 = 6_000_000_000;
/// The number of parts that are sent at once.
const CONNECTIONS: usize = 4;

/// Returns the processes of the function with this name on the local AWS.
fn processes_of(function_name: &str) -> Vec<u32> {
    let variable = format!("AWS_LAMBDA_FUNCTION_NAME={function_name}\0");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_of_function = |process_id: &u32| {
        let environment = fs::read(format!("/proc/{process_id}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&variable)
    };
    processes.filter(is_of_function).collect()
}

/// Sends a sparse file, each part of which begins with its number. The local AWS keeps it in memory, twice while it
/// completes the upload: 12 GB for this file.
#[tokio::test]
#[ignore = "takes a few minutes: make load"]
async fn uploads_a_file_that_is_too_large_for_one_request() {
    let file_size = env::var("LOAD_FILE_BYTES").map_or(FILE_BYTES, |bytes| bytes.parse().unwrap());
    let stack = Stack::deploy("load-multipart", &[("UploadMaxBytes", "5497558138880")]).await;
    let api = async |path: &str, body: &Value| stack.grant(path, body).await;
    let uploader = Uploader { client: client(), api };
    // Makes VmHWM, the peak of the memory, start again.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let memory_before = memory(process::id(), "VmRSS");

    let started_at = Instant::now();
    let body = json!({ "fileName": "a.bin", "fileType": "application/octet-stream", "fileSize": file_size });
    let grant = uploader.grant(&body).await;
    let [part_size, count] = ["partSize", "partCount"].map(|name| grant[name].as_u64().unwrap());
    let file = tempfile::tempfile().unwrap();
    file.set_len(file_size).unwrap();
    for number in 1..=count {
        file.write_all_at(&number.to_be_bytes(), (number - 1) * part_size).unwrap();
    }
    let upload = uploader.start(&grant).await;
    let mut etags = Etags::new();
    let part_numbers: Vec<_> = (1..=count).collect();
    for part_numbers in part_numbers.chunks(100) {
        let signed = uploader.sign(&upload, part_numbers).await;
        let send_part = async |part: &Value| {
            let [number, size] = ["partNumber", "size"].map(|name| part[name].as_u64().unwrap());
            let mut content = vec![0; usize::try_from(size).unwrap()];
            file.read_exact_at(&mut content, (number - 1) * part_size).unwrap();
            let response = uploader.send(Upload::put(part, None, content)).await.unwrap();
            (number, response.etag)
        };
        let sent = stream::iter(signed["parts"].as_array().unwrap()).map(send_part).buffer_unordered(CONNECTIONS);
        etags.extend(timeout(TIME_LIMIT, sent.collect::<Vec<_>>()).await.expect("all parts are sent in time"));
        println!("{} of {count} parts after {:.0} s", etags.len(), started_at.elapsed().as_secs_f64());
    }
    let sent_in = started_at.elapsed();
    let signed = uploader.sign(&upload, &[1]).await;
    uploader.send(Upload::complete(&signed, &etags)).await.unwrap();
    let took = started_at.elapsed();

    let peak_memory = memory(process::id(), "VmHWM");
    println!(
        "{file_size} bytes in {count} parts, {CONNECTIONS} at a time: {:.0} s, {} MB/s; {:.0} s with the completion",
        sent_in.as_secs_f64(),
        u128::from(file_size) / 1000 / sent_in.as_millis(),
        took.as_secs_f64()
    );
    println!("memory of the client: {memory_before} KiB before, {peak_memory} KiB at most");
    let processes = processes_of(&stack.function);
    let peaks: Vec<_> = processes.into_iter().map(|process_id| memory(process_id, "VmHWM")).collect();
    println!("memory of each instance of the function: {peaks:?} KiB at most");
    assert!(!peaks.is_empty());
    let in_flight = CONNECTIONS * usize::try_from(part_size).unwrap() / 1024;
    assert!(peak_memory <= memory_before + 2 * in_flight, "the client streams the file");
    assert_eq!(stack.size(&grant["key"]).await, file_size);
    for number in [1, count / 2 + 1, count] {
        let start = (number - 1) * part_size;
        assert_eq!(stack.range(&grant["key"], start, 8).await, number.to_be_bytes(), "part {number}");
    }
}
