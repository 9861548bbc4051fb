//! Runs the programs and commands that people paste, against the stack on a local AWS (`make e2e`).

use std::{convert::Infallible, fs, future::ready, path::Path, process::Stdio};

use hyper::service::service_fn;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    process::{Child, Command},
};

use crate::{
    deployed::{Stack, code, default_stack, root, s3},
    documents::Document,
    support::{files::read, server::serve, upload::file},
};

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn commands_in_documents_succeed() {
    let stack = default_stack().await;
    let mut uploads = 0;

    for document in Document::all() {
        let script = document.script();
        let mut command = Command::new("bash");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-euo", "pipefail", "-c", &script]).stdin(Stdio::null());
        command.env("API_URL", &stack.api_url).env("API_KEY", &stack.api_key);
        command.env("BUCKET", &stack.bucket);

        let output = command.output().await.unwrap();

        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
        let context = format!("{}: {}\n{script}\n{stdout}\n{stderr}", document.path, output.status);
        let statuses = stdout.lines().filter_map(|line| line.strip_prefix("HTTP/")?.split(' ').nth(1));
        let statuses: Vec<_> = statuses.filter(|status| *status != "100").collect();
        assert!(output.status.success(), "{context}");
        assert!(statuses.iter().all(|status| status.starts_with('2')), "{context}");
        assert_eq!(statuses.len(), script.matches("curl -sSi").count(), "{context}");
        uploads += statuses.len();
    }

    assert_ne!(uploads, 0, "no document shows an upload");
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn examples_upload_a_file_and_say_why_one_is_refused() {
    let stack = default_stack().await;
    // An API whose grant fits only another file.
    let misfit = stack.grant("/v1/assets/presign", &json!({ "fileSize": 1 })).await;
    let grant = misfit.to_string();
    let service = service_fn(move |_| ready(Ok::<_, Infallible>(hyper::Response::new(grant.clone()))));
    let misfit_url = format!("http://{}", serve(service).await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a [1] \"ü\" {2}.bin");
    fs::write(&path, file()).unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();

    for example in [
        &["examples/put.sh"][..],
        &[".venv/bin/python", "examples/put.py"],
        &["node", "examples/put.mjs"],
        &[env!("CARGO"), "run", "--quiet", "--locked", "--example", "put", "--"],
    ] {
        let run = async |api_url: &str, path: &Path| {
            let mut command = Command::new(example[0]);
            command.current_dir(env!("CARGO_MANIFEST_DIR")).args(&example[1..]).arg(path);
            command.env("API_URL", api_url).env("API_KEY", &stack.api_key);
            let output = command.output().await.unwrap_or_else(|error| {
                panic!("{example:?}: {error}; install Node.js 20 or newer from https://nodejs.org if it is missing")
            });
            let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
            (output.status.success(), stdout, stderr)
        };

        let (is_uploaded, object_key, stderr) = run(&stack.api_url, &path).await;
        let by_the_api = run(&stack.api_url, &empty).await;
        let by_s3 = run(&misfit_url, &path).await;

        assert_eq!((is_uploaded, stderr.as_str()), (true, ""), "{example:?}");
        assert_eq!(stack.stored(&json!(object_key.trim_end())).await, Some(file()), "{example:?}");
        for ((is_uploaded, stdout, stderr), expected) in [
            (by_the_api, ["the API refused: ", "400", "fileSize", "is too small; expected 1 to 5368709120 bytes"]),
            (by_s3, ["S3 refused: ", "403", "SignatureDoesNotMatch: ", "The request signature we calculated"]),
        ] {
            assert_eq!((is_uploaded, stdout.as_str()), (false, ""), "{example:?}: {stderr}");
            assert!(expected.iter().all(|it| stderr.contains(it)), "{example:?}: {stderr}");
        }
    }
    assert_eq!(stack.stored(&misfit["key"]).await, None);
}

/// The size of the parts that `examples/multipart.py` sends here: the smallest that S3 accepts.
const PART_SIZE: usize = 5 << 20;

/// Sends its requests to the backend that `docs/integrate.md` shows, which adds the API key.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn example_continues_an_interrupted_upload_or_aborts_it() {
    let stack = default_stack().await;
    let (_backend, backend_url) = spawn_documented_backend(stack).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a [1] \"ü\" {2}.bin");
    let state_path = folder.path().join("a [1] \"ü\" {2}.bin.upload");
    // Eight whole parts and one byte, no two of them the same.
    let content: Vec<_> = (0..PART_SIZE / 4 * 8).flat_map(|it| u32::to_le_bytes(it.try_into().unwrap())).collect();
    let content = [content, vec![0]].concat();
    fs::write(&path, &content).unwrap();
    let example = |options: &[&str]| {
        // A shell that runs the tests in the background lets its children ignore SIGINT.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", ".venv/bin/python", "examples/multipart.py"]).args(options).arg(&path);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("API_URL", &backend_url).env("API_KEY", "");
        command.env("PART_SIZE", PART_SIZE.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    };
    let interrupt = async || {
        let mut process = example(&[]).spawn().unwrap();
        let pid = process.id().unwrap().to_string();
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains("of 9 parts") {
            assert_ne!(process.stderr.as_mut().unwrap().read_buf(&mut shown).await.unwrap(), 0, "it sends a part");
        }
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        assert_eq!(process.wait().await.unwrap().code(), Some(130));
    };
    let finish = async |options: &[&str]| {
        let output = example(options).output().await.unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(output.status.success(), "{stderr}");
        (stdout, stderr)
    };
    let state = || serde_json::from_str::<Value>(&fs::read_to_string(&state_path).unwrap()).unwrap();

    interrupt().await;
    let object_key = state()["key"].clone();
    let (stdout, stderr) = finish(&[]).await;

    assert_eq!(json!(stdout.trim_end()), object_key);
    assert!(stack.stored(&object_key).await.unwrap() == content, "the object is the file");
    let (before, sent) = stderr.split_once(" of 9 parts\n").unwrap();
    let before: usize = before.strip_prefix("continuing: S3 has ").unwrap().parse().unwrap();
    assert!((1..9).contains(&before), "{stderr}");
    assert_eq!(sent.matches(" of 9 parts").count(), 9 - before, "{stderr}");
    assert!(!state_path.exists());

    interrupt().await;
    let aborted = state();
    assert_eq!(finish(&["--abort"]).await, (String::new(), String::new()));

    assert!(!state_path.exists());
    let parts = s3(&root()).list_parts().bucket(&stack.bucket).key(aborted["key"].as_str().unwrap());
    let parts = parts.upload_id(aborted["uploadId"].as_str().unwrap()).send().await;
    assert_eq!(code(&parts.unwrap_err()), "NoSuchUpload");

    // As after a lifecycle rule has aborted it.
    fs::write(&state_path, aborted.to_string()).unwrap();
    let (stdout, stderr) = finish(&[]).await;

    assert!(stderr.starts_with("the upload has expired or was aborted; starting again\n"), "{stderr}");
    assert!(stack.stored(&json!(stdout.trim_end())).await.unwrap() == content, "the object is the file");
}

/// Starts the backend that `docs/integrate.md` shows, on a free port.
async fn spawn_documented_backend(stack: &Stack) -> (Child, String) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let integrate = read("docs/integrate.md");
    let (_, program) = integrate.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    assert_eq!(program.matches("8080").count(), 1);
    let mut command = Command::new(".venv/bin/python");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &program.replace("8080", &port)]).kill_on_drop(true);
    command.env("API_URL", &stack.api_url).env("API_KEY", &stack.api_key);
    command.stderr(Stdio::null());
    (command.spawn().unwrap(), format!("http://127.0.0.1:{port}"))
}
