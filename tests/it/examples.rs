//! Runs the examples, the commands in the documents and generated clients against the deployed stack (`make e2e`).

use std::{
    convert::Infallible,
    env, fs,
    mem::take,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    process::{Child, Command},
};

use crate::{
    deployed::{Stack, code, default_stack, root, s3},
    documents::Document,
    support::{
        client::client,
        files::read,
        server::serve,
        upload::{Upload, file, multipart::large_file},
    },
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

/// The programs that upload with a presigned PUT, without their argument, the path of the file.
const PUT: [&[&str]; 4] = [
    &["examples/put.sh"],
    &[".venv/bin/python", "examples/put.py"],
    &["node", "examples/put.mjs"],
    &[env!("CARGO"), "run", "--quiet", "--locked", "--example", "put", "--"],
];

/// The programs that upload with a presigned POST.
const POST: [&[&str]; 4] = [
    &["examples/post.sh"],
    &[".venv/bin/python", "examples/post.py"],
    &["node", "examples/post.mjs"],
    &[env!("CARGO"), "run", "--quiet", "--locked", "--example", "post", "--"],
];

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn examples_put_a_file_and_say_why_one_is_refused() {
    let stack = default_stack().await;
    let grant = async |body: Value| stack.grant("/v1/assets/presign", &body).await;
    let used = grant(json!({ "fileSize": file().len(), "overwrite": false })).await;
    let first = Upload::put(&used, None, vec![0; file().len()]).request(&client()).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let unreachable = format!("{}/?X-Amz-Signature=SECRET", unreachable_url().await);

    let misfits = [
        (
            grant(json!({ "fileSize": 1 })).await,
            ["S3 refused: ", "403", "SignatureDoesNotMatch: The request signature"],
        ),
        (
            grant(json!({ "checksumSha256": BASE64_STANDARD.encode([0; 32]) })).await,
            ["S3 refused: ", "400", "BadDigest: "],
        ),
        (used, ["S3 refused: ", "412", "PreconditionFailed: "]),
        (json!({ "url": unreachable, "headers": {}, "key": "a" }), [""; 3]),
    ];
    run_each(&PUT, stack, &misfits).await;

    for (misfit, _) in misfits {
        assert_ne!(stack.stored(&misfit["key"]).await, Some(file()), "{misfit}");
    }
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn examples_post_a_file_and_say_why_one_is_refused() {
    let stack = default_stack().await;
    let grant = async |size: usize| {
        stack.grant("/media/", &json!({ "fileName": "a", "fileType": "a/b", "fileSize": size })).await
    };
    let mut altered = grant(file().len()).await;
    altered["fields"]["Content-Type"] = json!("a/c");

    let misfits = [
        (grant(1).await, ["S3 refused: ", "400", "EntityTooLarge: "]),
        (grant(file().len() + 1).await, ["S3 refused: ", "400", "EntityTooSmall: "]),
        (altered, ["S3 refused: ", "403", "AccessDenied: Invalid according to Policy"]),
        (json!({ "url": unreachable_url().await, "fields": { "policy": "SECRET" }, "fileKey": "a" }), [""; 3]),
    ];
    run_each(&POST, stack, &misfits).await;

    for (misfit, _) in misfits {
        assert_eq!(stack.stored(&misfit["fileKey"]).await, None, "{misfit}");
    }
}

/// S3 ignores the fields after the file, but the local S3 accepts them.
#[tokio::test]
#[ignore = "needs Node.js: make e2e"]
async fn examples_post_the_file_after_the_fields() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&names);
    let s3 = service_fn(move |request: Request<Incoming>| {
        let recorded = Arc::clone(&recorded);
        async move {
            let form = request.into_body().collect().await?.to_bytes();
            let form = String::from_utf8_lossy(&form);
            let names = form.split(" name=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            recorded.lock().unwrap().extend(names);
            Ok::<_, hyper::Error>(Response::new(String::new()))
        }
    });
    let s3_url = format!("http://{}", serve(s3).await);
    let grant = json!({ "url": s3_url, "fields": { "key": "a", "policy": "b" }, "fileKey": "a" });
    let variables = [("API_URL", serve_api(200, &grant.to_string()).await), ("API_KEY", "a".to_owned())];
    let file = tempfile::NamedTempFile::new().unwrap();

    for program in POST {
        let outcome = run(program, file.path(), &variables).await;

        assert_eq!(outcome, (true, "a\n".to_owned(), String::new()), "{program:?}");
        assert_eq!(take(&mut *names.lock().unwrap()), ["key", "policy", "file"], "{program:?}");
    }
}

/// `ps` shows the arguments of a program to every user of the machine.
#[tokio::test]
#[ignore = "needs Node.js: make e2e"]
async fn examples_keep_secrets_out_of_arguments() {
    let secret = format!("secret-{}", std::process::id());
    let arguments = Arc::new(Mutex::new(Vec::new()));
    let (signature, recorded) = (secret.clone(), Arc::clone(&arguments));
    let api_and_s3 = service_fn(move |request: Request<Incoming>| {
        let url = format!("http://{}/?{signature}", request.headers()["host"].to_str().unwrap());
        let signed = json!({ "a": signature });
        let grant = json!({ "url": url, "headers": signed, "key": "a", "fields": signed, "fileKey": "a" });
        let recorded = Arc::clone(&recorded);
        async move {
            let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let arguments: Vec<_> = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok()).collect();
            recorded.lock().unwrap().push(String::from_utf8_lossy(&arguments.concat()).into_owned());
            request.into_body().collect().await.unwrap(); // as in `serve_api`
            Ok::<_, Infallible>(Response::new(grant.to_string()))
        }
    });
    let variables = [("API_URL", format!("http://{}", serve(api_and_s3).await)), ("API_KEY", secret.clone())];
    let file = tempfile::NamedTempFile::new().unwrap();

    for program in PUT.into_iter().chain(POST) {
        let outcome = run(program, file.path(), &variables).await;

        assert_eq!(outcome, (true, "a\n".to_owned(), String::new()), "{program:?}");
        let listed = take(&mut *arguments.lock().unwrap());
        let shows = |text: &str| listed.iter().map(|it| it.contains(text)).collect::<Vec<_>>();
        assert_eq!(shows(file.path().to_str().unwrap()), [true, true], "{program:?}");
        assert_eq!(shows(&secret), [false, false], "{program:?}");
    }
}

/// Returns the URL of a server that does not exist.
async fn unreachable_url() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

/// Uploads a file with each program, and makes each fail: with grants that do not fit the file, and in other ways.
///
/// Each failure has three texts that the program must print.
async fn run_each(programs: &[&[&str]], stack: &Stack, misfits: &[(Value, [&str; 3])]) {
    let folder = tempfile::tempdir().unwrap();
    let name = ";type=a, [1] \"ü\" {2} '図 😀'.bin";
    let (path, empty) = (folder.path().join(name), folder.path().join("empty"));
    fs::write(&empty, "").unwrap();
    let html = "<html>\n<body>No such page</body>\n</html>";
    let key = ("API_KEY", stack.api_key.clone());
    let api = |url: String| vec![("API_URL", url), key.clone()];

    let mut failures = vec![
        (
            api(stack.api_url.clone()),
            &empty,
            ["the API refused: ", "400", "is too small; expected 1 to 5368709120 bytes"],
        ),
        (api(serve_api(404, r#"{"message":"Not Found"}"#).await), &path, ["the API refused: ", "404", "Not Found"]),
        (api(serve_api(200, html).await), &path, [""; 3]),
        (api(serve_api_that_changes(&path, stack).await), &path, [""; 3]),
        (vec![("API_URL", stack.api_url.clone())], &path, ["API_KEY"; 3]),
        (vec![key.clone()], &path, ["API_URL"; 3]),
    ];
    for (misfit, expected) in misfits {
        failures.push((api(serve_api(200, &misfit.to_string()).await), &path, *expected));
    }

    for program in programs {
        fs::write(&path, file()).unwrap();
        let (is_uploaded, object_key, stderr) = run(program, &path, &api(stack.api_url.clone())).await;

        assert_eq!((is_uploaded, stderr.as_str()), (true, ""), "{program:?}");
        assert_eq!(object_key.trim_end().rsplit('/').next(), Some(name), "{program:?}");
        assert_eq!(stack.stored(&json!(object_key.trim_end())).await, Some(file()), "{program:?}");

        for (variables, path, expected) in &failures {
            let (is_uploaded, stdout, stderr) = run(program, path, variables).await;
            fs::write(folder.path().join(name), file()).unwrap();

            let context = format!("{program:?}, {expected:?}: {stderr}");
            assert_eq!((is_uploaded, stdout.as_str()), (false, ""), "{context}");
            assert!(!stderr.trim().is_empty() && expected.iter().all(|it| stderr.contains(it)), "{context}");
            assert!(["Traceback", "    at ", "SECRET"].iter().all(|it| !stderr.contains(it)), "{context}");
        }
    }
}

/// Serves an API that gives every request the same response; returns its URL.
async fn serve_api(status: u16, body: &str) -> String {
    let body = body.to_owned();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = Response::builder().status(status).body(body.clone()).unwrap();
        // Without this, the connection can be closed while the client is sending.
        async move { request.into_body().collect().await.map(|_| response) }
    });
    format!("http://{}", serve(service).await)
}

/// Serves the API of a stack, and changes the file between each request and its response; returns its URL.
async fn serve_api_that_changes(path: &Path, stack: &Stack) -> String {
    let (path, api_url) = (path.to_owned(), stack.api_url.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (path, api_url) = (path.clone(), api_url.clone());
        async move {
            let granted = pass_on(request, &api_url).await;
            fs::write(path, vec![0; file().len() + 1]).unwrap();
            Ok::<_, Infallible>(granted)
        }
    });
    format!("http://{}", serve(service).await)
}

/// Runs a program with these variables; returns whether it succeeded, its output and its messages.
async fn run(program: &[&str], path: &Path, variables: &[(&str, String)]) -> (bool, String, String) {
    let mut command = Command::new(program[0]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(&program[1..]).arg(path);
    // Cargo sets these for a test; with them, it would compile ring again, whose build script depends on them.
    for (name, _) in env::vars() {
        if name == "OUT_DIR" || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command.env_remove("API_URL").env_remove("API_KEY").envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().await.unwrap_or_else(|error| {
        panic!("{program:?}: {error}; install Node.js 20.19 or newer from https://nodejs.org if it is missing")
    });
    let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    (output.status.success(), stdout, stderr)
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

/// A fault of [`serve_with_faults`].
#[derive(Clone, Copy)]
enum Fault {
    /// Responds with this status and body, without passing the request on.
    Instead(u16, &'static str),
    /// Passes the request on, then responds with this.
    After(u16, &'static str),
}

/// The names of the requests that [`serve_with_faults`] has received, and the faults of the next with these names.
#[derive(Default)]
struct Traffic {
    received: Vec<&'static str>,
    faults: Vec<(&'static str, Fault)>,
}

/// Uploads files of one part, so that the requests have an order.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn example_recovers_from_the_errors_of_a_multipart_upload() {
    use Fault::{After, Instead};

    const EXPIRED: Fault =
        Instead(403, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>");
    const LATE_ERROR: &str = "<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>";
    const EXISTS: Fault = Instead(412, "<Error><Code>PreconditionFailed</Code><Message>It exists</Message></Error>");
    const TIMEOUT: &str = "<Error><Code>RequestTimeout</Code><Message>It was too slow</Message></Error>";
    const TOKEN_EXPIRED: Fault = Instead(403, r#"{"code":"upload_token_expired"}"#);
    const GONE: Fault = Instead(404, "<Error><Code>NoSuchUpload</Code><Message>It is gone</Message></Error>");
    const TOO_SLOW: &str = "S3 refused: 400 RequestTimeout: It was too slow";

    let stack = default_stack().await;
    let traffic = Arc::new(Mutex::new(Traffic::default()));
    let variables = [("API_URL", serve_with_faults(stack, &traffic).await), ("API_KEY", stack.api_key.clone())];
    let folder = tempfile::tempdir().unwrap();
    let (path, state_path) = (folder.path().join("a"), folder.path().join("a.upload"));
    fs::write(&path, file()).unwrap();
    let state = || Some(serde_json::from_str::<Value>(&fs::read_to_string(&state_path).ok()?).unwrap()["key"].clone());

    for (faults, error, expected) in [
        // A URL expires.
        (vec![("part", EXPIRED)], "", "start create sign part sign part sign complete"),
        // S3 fails after it has responded.
        (vec![("complete", Instead(200, LATE_ERROR))], "", "start create sign part sign complete sign complete"),
        // S3 reports a failure, but the upload is complete.
        (
            vec![("complete", After(200, LATE_ERROR)), ("complete", EXISTS)],
            "",
            "start create sign part sign complete sign complete",
        ),
        // It ends without knowing that the upload is complete, and is run again.
        (vec![("complete", After(400, TIMEOUT))], TOO_SLOW, "start create sign part sign complete"),
        (vec![], "", "sign list sign complete"),
        // It ends before that, and is run again after its upload token has expired.
        (vec![("part", Instead(400, TIMEOUT))], TOO_SLOW, "start create sign part"),
        (vec![("sign", TOKEN_EXPIRED)], "", "sign start create sign part sign complete"),
        // It ends without knowing that the upload is complete, and can no longer find out.
        (vec![("complete", After(400, TIMEOUT))], TOO_SLOW, "start create sign part sign complete"),
        (
            vec![("list", GONE), ("complete", GONE)],
            "S3 refused: 404 NoSuchUpload: It is gone; ADVICE",
            "sign list sign complete",
        ),
        (
            vec![("sign", TOKEN_EXPIRED), ("sign", TOKEN_EXPIRED)],
            r#"the API refused: 403 {"code":"upload_token_expired"}; ADVICE"#,
            "sign sign",
        ),
    ] {
        *traffic.lock().unwrap() = Traffic { faults, ..Traffic::default() };
        let before = state();

        let (success, stdout, stderr) = run(&[".venv/bin/python", "examples/multipart.py"], &path, &variables).await;

        assert_eq!(traffic.lock().unwrap().received.join(" "), expected, "{stderr}");
        assert_eq!((success, state().is_none()), (error.is_empty(), error.is_empty()), "{expected}: {stderr}");
        if success {
            let object_key = json!(stdout.trim_end());
            assert_eq!(stack.stored(&object_key).await, Some(file()), "{expected}");
            assert_eq!(before == Some(object_key), !expected.contains("start"), "{expected}");
        } else {
            let advice = format!(
                "the upload may be complete: check whether {} is in the bucket, \
                 and run this with --abort before you upload the file again",
                state().unwrap().as_str().unwrap(),
            );
            assert!(stderr.ends_with(&format!("\n{}\n", error.replace("ADVICE", &advice))), "{stderr}");
        }
    }

    traffic.lock().unwrap().faults = vec![("sign", TOKEN_EXPIRED)];
    let aborted = run(&[".venv/bin/python", "examples/multipart.py", "--abort"], &path, &variables).await;

    assert_eq!((aborted, state()), ((true, String::new(), String::new()), None));
}

/// Serves the API of a stack and its S3, but for the faults; returns the URL of the API.
async fn serve_with_faults(stack: &Stack, traffic: &Arc<Mutex<Traffic>>) -> String {
    let (traffic, api_url) = (Arc::clone(traffic), stack.api_url.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (traffic, api_url) = (Arc::clone(&traffic), api_url.clone());
        async move {
            let (s3_url, _) = api_url.split_once("/_aws/").unwrap();
            let own_url = format!("http://{}", request.headers()["host"].to_str().unwrap());
            let (name, server) = match (request.method().as_str(), request.uri().path()) {
                (_, "/v1/uploads") => ("start", api_url.as_str()),
                (_, "/v1/uploads/sign") => ("sign", api_url.as_str()),
                ("GET", _) => ("list", s3_url),
                ("PUT", _) => ("part", s3_url),
                _ if request.uri().query().unwrap().contains("uploads=") => ("create", s3_url),
                _ => ("complete", s3_url),
            };
            let fault = {
                let Traffic { received, faults } = &mut *traffic.lock().unwrap();
                received.push(name);
                faults.iter().position(|(it, _)| *it == name).map(|index| faults.remove(index).1)
            };
            let (status, body) = match fault {
                Some(Fault::Instead(status, body)) => {
                    request.into_body().collect().await?;
                    (status, body)
                }
                Some(Fault::After(status, body)) => {
                    pass_on(request, server).await;
                    (status, body)
                }
                None => {
                    let response = pass_on(request, server).await;
                    return Ok(response.map(|body| body.replace(s3_url, &own_url)));
                }
            };
            Ok::<_, hyper::Error>(Response::builder().status(status).body(body.to_owned()).unwrap())
        }
    });
    format!("http://{}", serve(service).await)
}

/// Sends a request to another server; returns the response with no header but `ETag`.
async fn pass_on(request: Request<Incoming>, server: &str) -> Response<String> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    headers.remove("host");
    headers.remove("content-length");
    let request = client().request(parts.method, format!("{server}{}", parts.uri)).headers(headers);
    let response = request.body(body.collect().await.unwrap().to_bytes()).send().await.unwrap();
    let mut passed_on = Response::builder().status(response.status());
    if let Some(etag) = response.headers().get("etag") {
        passed_on = passed_on.header("etag", etag);
    }
    passed_on.body(response.text().await.unwrap()).unwrap()
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

/// Lets `client.py` use a client that openapi-python-client makes of `openapi.yaml`.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn generated_python_client_uploads() {
    let stack = default_stack().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a [1] \"ü\" {2}.bin");
    fs::write(&path, large_file()).unwrap();
    let client = folder.path().join("presigned_upload_client");
    // The generator formats its code with ruff.
    let path_variable = format!("{}/.venv-checks/bin:{}", env!("CARGO_MANIFEST_DIR"), env::var("PATH").unwrap());
    let run = async |command: &mut Command| {
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("PATH", &path_variable).env("PYTHONPATH", folder.path());
        let output = command.env("API_URL", &stack.api_url).env("API_KEY", &stack.api_key).output().await.unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(output.status.success(), "{command:?}: {stdout}\n{stderr}");
        stdout
    };

    let options = ["generate", "--path", "openapi.yaml", "--meta", "none", "--fail-on-warning", "--output-path"];
    run(Command::new("openapi-python-client").args(options).arg(client)).await;
    let object_keys = run(Command::new("python").arg("tests/it/client.py").arg(path)).await;

    assert_eq!(object_keys.lines().count(), 3, "{object_keys}");
    for object_key in object_keys.lines() {
        assert!(stack.stored(&json!(object_key)).await.unwrap() == large_file(), "{object_key}");
    }
}

/// Runs `tests/node/`, with a stack that accepts uploads from pages on localhost, whatever their port.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn pages_and_a_generated_typescript_client_upload() {
    let stack = Stack::deploy("e2e-pages", &[("CorsAllowedOrigins", "http://localhost:*")]).await;
    let mut command = Command::new("node");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node")).args(["--test", "--test-reporter=spec"]);
    command.env("API_URL", &stack.api_url).env("API_KEY", &stack.api_key);
    command.env("BUCKET", &stack.bucket).env("SECRET_ID", &stack.secret).stdin(Stdio::null()).kill_on_drop(true);

    let output = command.output().await.unwrap();

    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(output.status.success(), "{stdout}{stderr}");
}
