//! A release: its version, `release/release`, which sets it, and the files that `release/package.py` writes to `dist/`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::SystemTime,
};

use aws_smithy_types::{DateTime, date_time::Format};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    deployed::{Stack, call, environment, post, put, status},
    support::{
        client::client,
        files::{read, yaml},
        upload::{
            file,
            multipart::{large_file, upload_and_resume},
        },
    },
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn version_is_the_same_everywhere() {
    let changelog = read("CHANGELOG.md");
    let released = changelog.lines().filter_map(|line| line.strip_prefix("## ")).find(|it| *it != "Unreleased");

    assert_eq!(yaml(&read("examples/deploy.yml"))["env"]["VERSION"], VERSION);
    assert_eq!(yaml(&read("openapi.yaml"))["info"]["version"], VERSION);
    assert_eq!(yaml(&read("template.yaml"))["Outputs"]["Version"]["Value"], VERSION);
    assert_eq!(released.unwrap().split(' ').next(), Some(VERSION));
}

#[track_caller]
fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    // A hook of git sets these for its own repository.
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

#[track_caller]
fn git(arguments: &[&str], folder: &Path) -> String {
    let output = run("git", arguments, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Copies the files of the project, as they are now, to a repository of their own with one commit. The changelog of the
/// copy has nothing under "Unreleased".
fn copy_of_project() -> TempDir {
    let copy = TempDir::new().unwrap();
    let paths = git(&["ls-files", "--cached", "--others", "--exclude-standard"], Path::new(PROJECT));
    for path in paths.lines().filter(|path| Path::new(PROJECT).join(path).exists()) {
        let target = copy.path().join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(Path::new(PROJECT).join(path), target).unwrap();
    }
    let changelog = read("CHANGELOG.md");
    let (start, rest) = changelog.split_once("\n## Unreleased\n").unwrap();
    let (_, released) = rest.split_once("\n## ").unwrap();
    fs::write(copy.path().join("CHANGELOG.md"), format!("{start}\n## Unreleased\n\n## {released}")).unwrap();
    git(&["init", "--quiet"], copy.path());
    for (name, value) in [
        ("user.name", "test"),
        ("user.email", "test@example.com"),
        ("commit.gpgsign", "false"),
        ("tag.gpgsign", "false"),
        ("core.hooksPath", "hooks"),
    ] {
        git(&["config", name, value], copy.path());
    }
    commit(copy.path());
    copy
}

fn commit(folder: &Path) {
    git(&["add", "--all"], folder);
    git(&["commit", "--quiet", "--message", "test"], folder);
}

fn add_to_changelog(folder: &Path, text: &str) {
    let path = folder.join("CHANGELOG.md");
    let changelog = fs::read_to_string(&path).unwrap().replacen("\n## ", &format!("\n{text}\n## "), 1);
    fs::write(path, changelog).unwrap();
}

fn today() -> String {
    let now = DateTime::from(SystemTime::now()).fmt(Format::DateTime).unwrap();
    now.split('T').next().unwrap().to_owned()
}

/// Runs `release/release`, which must fail, and returns its message.
#[track_caller]
fn failure(version: &str, folder: &Path) -> String {
    let output = run("release/release", &[version], folder);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn release_sets_the_version_everywhere_and_tags_the_commit() {
    let copy = copy_of_project();
    let changed = format!("## 99.0.0 - {}\n\n- Something.\n", today());
    add_to_changelog(copy.path(), &changed);
    commit(copy.path());
    let before = git(&["rev-parse", "HEAD"], copy.path());

    let output = run("release/release", &["99.0.0"], copy.path());

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = git(&["diff", "--stat", "--name-only", before.trim(), "v99.0.0"], copy.path());
    assert_eq!(files, "Cargo.lock\nCargo.toml\nexamples/deploy.yml\nopenapi.yaml\ntemplate.yaml\n");
    let lines = git(&["diff", "--unified=0", before.trim(), "v99.0.0"], copy.path());
    let lines = lines.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++"));
    let lines: Vec<_> = lines.map(|line| line.split(" #").next().unwrap()).collect();
    let cargo = "+version = \"99.0.0\"";
    assert_eq!(lines, [cargo, cargo, "+  VERSION: 99.0.0", "+  version: 99.0.0", "+    Value: 99.0.0"]);
    assert_eq!(git(&["cat-file", "-t", "v99.0.0"], copy.path()), "tag\n");
    assert_eq!(git(&["status", "--porcelain"], copy.path()), "");
    assert!(failure("99.0.0", copy.path()).contains("the tag v99.0.0 exists already"));
}

#[test]
fn release_needs_a_version_a_clean_copy_and_a_changelog() {
    let copy = copy_of_project();
    let folder = copy.path();

    for version in ["", "v99", "99.0", "99.00.0", "99.0.0-1"] {
        let expected = format!("expected a version such as VERSION=0.2.0, found \"{version}\"");
        assert!(failure(version, folder).contains(&expected), "{version}");
    }
    assert!(failure("0.0.1", folder).contains(&format!("the version is {VERSION} already; expected a higher one")));
    assert!(failure("99.0.0", folder).contains(&format!("no entries under \"## 99.0.0 - {}\"", today())));
    add_to_changelog(folder, &format!("## 99.0.0 - {}\n\n- Something.\n", today()));
    assert!(failure("99.0.0", folder).contains("there are uncommitted changes"));
    let path = folder.join("CHANGELOG.md");
    let changelog = fs::read_to_string(&path).unwrap().replace("## Unreleased\n", "");
    fs::write(path, changelog).unwrap();
    add_to_changelog(folder, "## Unreleased\n\n- Something else.\n");
    commit(folder);
    assert!(failure("99.0.0", folder).contains(r#"entries under "Unreleased"; move them to 99.0.0"#));

    assert_eq!(git(&["tag"], folder), "");
    assert_eq!(git(&["status", "--porcelain"], folder), "");
}

#[test]
fn release_that_fails_changes_nothing() {
    let copy = copy_of_project();
    let folder = copy.path();
    add_to_changelog(folder, &format!("## 99.0.0 - {}\n\n- Something.\n", today()));
    commit(folder);
    fs::create_dir(folder.join(".git/hooks-of-test")).unwrap();
    let hook = folder.join(".git/hooks-of-test/pre-commit");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    git(&["config", "core.hooksPath", ".git/hooks-of-test"], folder);

    assert!(failure("99.0.0", folder).contains("nothing was released; the cause is above"));

    assert_eq!(git(&["status", "--porcelain"], folder), "");
    assert_eq!(git(&["tag"], folder), "");
    assert!(fs::read_to_string(folder.join("Cargo.toml")).unwrap().contains(&format!("version = \"{VERSION}\"")));
}

/// Unpacks the release into an empty folder, and checks that it is complete.
fn unpack() -> TempDir {
    let folder = TempDir::new().unwrap();
    let archive = format!("{PROJECT}/dist/presigned-upload-{VERSION}.zip");
    assert!(Path::new(&archive).exists(), "run `make package` first");
    let unzip = run("python3", &["-m", "zipfile", "-e", &archive, "."], folder.path());
    assert!(unzip.status.success(), "{}", String::from_utf8_lossy(&unzip.stderr));
    let unpacked = folder.path().join(format!("presigned-upload-{VERSION}"));
    let sums = run("sha256sum", &["--check", "--strict", "SHA256SUMS"], &unpacked);
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    let names: Vec<_> = fs::read_dir(&unpacked).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), String::from_utf8(sums.stdout).unwrap().lines().count() + 1, "{names:?}");
    folder
}

/// Deploys the unpacked release as its page says, with a shell that knows neither cargo nor the project.
fn deploy(folder: &Path, stack_name: &str, architecture: &str) {
    let aws = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"];
    let mut sam = Command::new(format!("{PROJECT}/.venv/bin/sam"));
    sam.args(["deploy", "--no-confirm-changeset", "--stack-name", stack_name, "--parameter-overrides"]);
    sam.args([&format!("Architecture={architecture}"), "S3ForcePathStyle=true"]);
    sam.current_dir(folder.join(format!("presigned-upload-{VERSION}")));
    sam.env_clear().envs(aws.map(|name| (name, environment(name))));
    sam.envs([("PATH", "/usr/bin:/bin"), ("HOME", folder.to_str().unwrap()), ("SAM_CLI_TELEMETRY", "0")]);
    let output = sam.output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

/// Deploys both architectures to one stack, as somebody does who changes it.
#[tokio::test]
#[ignore = "needs a local AWS: make rehearse"]
async fn release_uploads_by_each_route_on_both_architectures() {
    let folder = unpack();
    let mut stacks = Vec::new();

    for architecture in ["x86_64", "arm64"] {
        deploy(folder.path(), "e2e-release", architecture);
        let stack = Stack::deployed("e2e-release").await;

        let (form, url) = (stack.grant_post().await, stack.grant_put().await);
        assert_eq!(status(post(&form, file())).await, StatusCode::NO_CONTENT, "{architecture}");
        assert_eq!(status(put(&url, file())).await, StatusCode::OK, "{architecture}");
        let parts =
            upload_and_resume([client(), client()], &async |path: &str, body: &Value| stack.grant(path, body).await)
                .await;
        assert_eq!(stack.stored(&form["fileKey"]).await, Some(file()), "{architecture}");
        assert_eq!(stack.stored(&url["key"]).await, Some(file()), "{architecture}");
        assert!(stack.stored(&parts).await.is_some_and(|object| object == large_file()), "{architecture}");

        let code = fs::read(format!("{PROJECT}/dist/presigned-upload-{VERSION}-{architecture}.zip")).unwrap();
        let function = call("lambda", "get_function_configuration", json!({ "FunctionName": stack.function })).await;
        assert_eq!(function["CodeSha256"], BASE64_STANDARD.encode(Sha256::digest(code)));
        assert_eq!(function["Architectures"], json!([architecture]));
        assert_eq!(stack.version, VERSION);
        stacks.push(stack);
    }

    let [before, after] = &stacks[..] else { panic!("expected two deployments") };
    assert_eq!((&after.api_url, &after.api_key, &after.bucket), (&before.api_url, &before.api_key, &before.bucket));
    assert_ne!(after.function, before.function);
}
