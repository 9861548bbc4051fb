//! Compares the documents with the code: tables, counts, links and commands of the Markdown files, and the examples of
//! `openapi.yaml`. `deployed` runs the shell blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use lambda_http::{Body, Response, http::StatusCode};
use presigned_upload::{
    app::{App, Nondeterminism},
    auth::KeySet,
    body::MAX_BYTES,
    config::Config,
    handler::handle,
    metrics::RequestMetrics,
};
use serde_json::{Value, json};

use crate::support::{
    app::{API_KEY, Endpoints, FIXED, app, config, confirming_app, json_of, sdk_config},
    events::{HttpApiEvent, request},
    files::{read, yaml},
    s3_head::{HeadResponse, S3Head, STORED},
    upload::alterations::{BOUND_URL_ALTERATIONS, FORM_ALTERATIONS, URL_ALTERATIONS},
};

/// The start of a shell block that `deployed` does not run.
const NEEDS_AWS: &str = "# needs an AWS account\n";

/// A Markdown file of the project.
pub(crate) struct Document {
    /// Relative to the project.
    pub(crate) path: String,
    text: String,
}

impl Document {
    fn read(path: &str) -> Self {
        Self { path: path.to_owned(), text: read(path) }
    }

    /// Reads every Markdown file in the project's folder, `docs/` and `events/`.
    pub(crate) fn all() -> Vec<Self> {
        let files = ["", "docs/", "events/"].into_iter().flat_map(|folder| {
            let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
            files.map(move |file| format!("{folder}{}", file.unwrap().file_name().into_string().unwrap()))
        });
        let paths: BTreeSet<_> =
            files.filter(|path| Path::new(path).extension().is_some_and(|it| it == "md")).collect();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Returns the rows of the first table after a heading, without the backticks around a cell.
    fn table(&self, heading: &str) -> Vec<Vec<&str>> {
        let (_, section) = self.text.split_once(&format!("\n{heading}\n")).unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
        let rows = rows.map_while(|line| line.strip_prefix('|')?.strip_suffix('|'));
        rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
    }

    /// Splits the document at its fences, into alternating prose and code. Code starts with its language.
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.text.split("```")
    }

    fn prose(&self) -> String {
        self.parts().step_by(2).collect()
    }

    fn shell_blocks(&self) -> impl Iterator<Item = &str> {
        self.parts().skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"))
    }

    /// Returns the shell blocks that `deployed` runs: all but those that need AWS, and those that only fetch the
    /// project or run make. They form one script, because a block may use a file or a variable of an earlier one.
    pub(crate) fn script(&self) -> String {
        let is_make = |line: &str| {
            let line = line.trim();
            line.is_empty() || line == "make" || ["make ", "cd ", "git clone "].iter().any(|it| line.starts_with(it))
        };
        self.shell_blocks().filter(|block| !block.starts_with(NEEDS_AWS) && !block.lines().all(is_make)).collect()
    }

    /// Returns the targets of the links to other files and headings.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let markdown = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        let html = ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(|name| prose.split(name).skip(1));
        let html = html.map(|rest| rest.split('"').next().unwrap());
        markdown.chain(html).filter(|target| !target.contains("://")).map(str::to_owned).collect()
    }

    /// Returns the anchors that GitHub gives the headings, and the ids of `<a>` elements.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let kept = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
        let kept = kept.map(|line| line.replace(|it: char| !it.is_alphanumeric() && it != '-' && it != '_', ""));
        let ids = prose.split("<a id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        kept.chain(ids).collect()
    }
}

#[test]
fn readme_fits_on_a_page() {
    let lines = read("README.md").lines().count();

    assert!(lines <= 120, "README.md has {lines} lines; expected at most 120");
}

#[test]
fn readme_lists_the_settings_with_their_defaults() {
    let readme = Document::read("README.md");
    let settings = Config::VARIABLES.iter().map(|variable| (variable.name, variable.default.unwrap_or("required")));

    let documented = readme.table("## Settings").into_iter().map(|row| (row[0], row[2]));

    assert_eq!(documented.collect::<Vec<_>>(), settings.collect::<Vec<_>>());
}

/// Returns the statuses and codes of all errors, from the source of the `match` that assigns them: `Error` is
/// non-exhaustive, so a list of its variants here would miss a new one.
pub(crate) fn status_codes() -> BTreeSet<(u16, String)> {
    let source = read("src/error.rs");
    let pairs = source.split("(StatusCode::").skip(1).map(|rest| {
        let (pair, _) = rest.split_once(')').unwrap();
        let (status, code) = pair.split_once(", ").unwrap();
        let is_named =
            |it: &StatusCode| it.canonical_reason().unwrap_or_default().to_uppercase().replace(' ', "_") == status;
        let status = (400..600).filter_map(|it| StatusCode::from_u16(it).ok()).find(is_named).unwrap();
        (status.as_u16(), code.trim_matches('"').to_owned())
    });
    pairs.collect()
}

#[test]
fn documents_list_the_codes_of_all_errors() {
    let api = Document::read("docs/api.md");
    let openapi = yaml(&read("openapi.yaml"));

    let documented = api.table("## Errors").into_iter().map(|row| (row[0].parse().unwrap(), row[1].to_owned()));
    let codes = openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    let codes = codes.iter().map(|code| code.as_str().unwrap().to_owned());

    assert_eq!(documented.collect::<BTreeSet<_>>(), status_codes());
    assert_eq!(codes.collect::<BTreeSet<_>>(), status_codes().into_iter().map(|(_, code)| code).collect());
}

/// A metric that the function writes.
pub(crate) struct Metric {
    pub(crate) name: String,
    unit: String,
    pub(crate) dimensions: Vec<String>,
}

/// Returns every metric that a request can have, once for each set of dimensions.
pub(crate) fn written_metrics() -> Vec<Metric> {
    let request = RequestMetrics {
        duration_ms: 0.5,
        cold_start: 1,
        granted: Some(1),
        granted_bytes: Some(1),
        errors: Some(1),
        key_set_age_seconds: Some(1),
        failed_refreshes: Some(1),
    };
    let embedded = request.embedded(Some("storefront"), UNIX_EPOCH).to_string();
    let embedded: Value = serde_json::from_str(&embedded).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut metrics = Vec::new();
    for directive in embedded["CloudWatchMetrics"].as_array().unwrap() {
        for dimensions in directive["Dimensions"].as_array().unwrap() {
            metrics.extend(directive["Metrics"].as_array().unwrap().iter().map(|metric| Metric {
                name: text(&metric["Name"]),
                unit: text(&metric["Unit"]),
                dimensions: dimensions.as_array().unwrap().iter().map(text).collect(),
            }));
        }
    }
    metrics
}

#[test]
fn operate_lists_the_metrics_with_their_units_and_dimensions() {
    let operate = Document::read("docs/operate.md");
    let mut written = BTreeMap::new();
    for metric in written_metrics() {
        let dimensions: &mut BTreeSet<_> = written.entry((metric.name, metric.unit)).or_default();
        dimensions.extend(metric.dimensions.into_iter().filter(|dimension| dimension != "function_name"));
    }

    let documented = operate.table("## Metrics").into_iter().map(|row| {
        let dimensions = row[3].split(['`', ';', ',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned);
        ((row[0].to_owned(), row[1].to_owned()), dimensions.collect())
    });

    assert_eq!(documented.collect::<BTreeMap<_, _>>(), written);
}

#[test]
fn secrets_in_operate_have_no_invalid_entry() {
    let operate = Document::read("docs/operate.md");
    let is_secret = |block: &&str| block.contains("\"storefront\": ") || block.contains("\"shop\": ");
    let secrets: Vec<_> = operate.parts().filter_map(|block| block.strip_prefix("json\n")).filter(is_secret).collect();

    for secret in &secrets {
        let key_set = KeySet::parse(secret, &config(&[]).limits).unwrap();

        assert_eq!((key_set.len(), key_set.rejected()), (2, &[][..]), "{secret}");
    }
    assert_eq!(secrets.len(), 2);
}

#[test]
fn operate_explains_each_alarm() {
    let operate = Document::read("docs/operate.md");
    let template = yaml(&read("template.yaml"));
    let resources = template["Resources"].as_object().unwrap().iter();
    let alarms = resources.filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");

    let documented = operate.table("## Alarms").into_iter().map(|row| row[0]);

    assert_eq!(documented.collect::<BTreeSet<_>>(), alarms.map(|(id, _)| id.as_str()).collect());
}

#[tokio::test]
async fn event_in_operate_warms_an_instance() {
    let operate = read("docs/operate.md");
    let (_, section) = operate.split_once("\n## Keep an instance warm\n").unwrap();
    let (_, event) = section.split_once("```json\n").unwrap();
    let (event, _) = event.split_once("```").unwrap();

    let response = handle(&app(&[], None, FIXED).await, request(event)).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json_of(&response)["status"], "healthy");
}

#[test]
fn deploy_lists_the_parameters_with_their_defaults() {
    let deploy = Document::read("docs/deploy.md");
    let template = yaml(&read("template.yaml"));
    let parameters = template["Parameters"].as_object().unwrap().iter().map(|(name, parameter)| {
        let default = &parameter["Default"];
        (name.as_str(), default.as_str().map_or_else(|| default.to_string(), str::to_owned))
    });

    let documented = deploy.table("## Parameters").into_iter().map(|row| (row[0], row[2].to_owned()));

    assert_eq!(documented.collect::<BTreeMap<_, _>>(), parameters.collect());
}

#[test]
fn documents_state_the_number_of_alterations() {
    let (forms, urls) = (FORM_ALTERATIONS.len(), URL_ALTERATIONS.len() + BOUND_URL_ALTERATIONS.len());
    for (document, expected) in [
        ("SECURITY.md", format!("{forms} alterations of a form and {urls} of a URL")),
        ("README.md", format!("{forms} altered forms and {urls} altered URLs")),
    ] {
        let text = read(document).split_whitespace().collect::<Vec<_>>().join(" ");

        assert!(text.contains(&expected), "expected {expected:?} in {document}");
    }
}

/// A promise in SECURITY.md names the modules that test it, as in (`auth`, `key_store`).
#[test]
fn security_names_modules_that_exist() {
    let prose = Document::read("SECURITY.md").prose();
    let named = prose.split("(`").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split('`').step_by(2));

    for module in named.filter(|name| name.chars().all(|it| it.is_ascii_lowercase() || it == '_') && !name.is_empty()) {
        let files = ["tests/it", "src"].map(|folder| format!("{}/{folder}/{module}.rs", env!("CARGO_MANIFEST_DIR")));

        assert!(files.iter().any(|file| Path::new(file).exists()), "expected a module {module}");
    }
}

#[test]
fn links_lead_somewhere() {
    for document in Document::all() {
        for link in document.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&document.path).parent().unwrap();
            let path = if file.is_empty() { document.path.clone() } else { folder.join(file).display().to_string() };

            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists(), "{}: {link}", document.path);
            if !anchor.is_empty() {
                assert!(Document::read(&path).anchors().contains(anchor), "{}: {link}", document.path);
            }
        }
    }
}

#[test]
fn make_targets_in_documents_exist() {
    let makefile = read("Makefile");
    let rules = makefile.lines().filter(|line| line.contains("## ")).filter_map(|line| line.split_once(':'));
    let targets: BTreeSet<_> = rules.map(|(target, _)| target).collect();
    for document in Document::all() {
        let prose = document.prose();
        let inline = prose.split('`').skip(1).step_by(2);

        let commands = document.shell_blocks().flat_map(str::lines).chain(inline);

        for command in commands.filter_map(|command| command.trim().strip_prefix("make ")) {
            let words = command.split_whitespace().take_while(|word| !word.starts_with('#'));
            for target in words.filter(|word| !word.contains('=')) {
                assert!(targets.contains(target), "{}: make {command}", document.path);
            }
        }
    }
}

/// `deployed` runs only the blocks that are marked as `sh`.
#[test]
fn commands_in_documents_are_marked_as_sh() {
    for document in Document::all() {
        for block in document.parts().skip(1).step_by(2) {
            let language = block.lines().next().unwrap_or_default();

            assert!(!["", "bash", "console", "shell"].contains(&language), "{}: ```{block}```", document.path);
        }
    }
}

/// Resolves a reference of `openapi.yaml`, or returns the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| document.pointer(reference.trim_start_matches('#')).unwrap())
}

/// Sends the request for the example of a response: the request of the same name, or one that causes this error.
async fn replay(path: &str, method: &str, example: &str, requests: &Value) -> Response<Body> {
    let request = |name: &str| requests.pointer(&format!("/{name}/value")).map_or_else(String::new, Value::to_string);
    let a_day_later = || (FIXED.now)() + Duration::from_hours(24);
    let working = app(&[("ALLOW_CONFIRMATION", "true")], None, FIXED).await;
    let (app, method, authorization, body) = match example {
        "altered" => (working, method, Some(API_KEY), request("signed").replace("v1.", "v2.")),
        "confirmed" | "notUploaded" | "refused" | "unavailable" => {
            let s3 = S3Head::start(match example {
                "confirmed" => HeadResponse::Object(STORED.to_vec()),
                "notUploaded" => HeadResponse::DeleteMarker,
                "refused" => HeadResponse::Status(StatusCode::FORBIDDEN),
                _ => HeadResponse::Status(StatusCode::SERVICE_UNAVAILABLE),
            });
            (confirming_app(&s3.await.url, &[]).await, method, Some(API_KEY), request("confirmed"))
        }
        "expired" => {
            let app = app(&[], None, Nondeterminism { now: a_day_later, ..FIXED }).await;
            (app, method, Some(API_KEY), request("signed"))
        }
        "failed" => (app_without_api_keys().await, method, Some(API_KEY), String::new()),
        "invalid" => {
            let body = json!({ "fileName": "../secrets.txt", "fileType": "image/*", "fileSize": 6 });
            (working, method, Some(API_KEY), body.to_string())
        }
        "notGranted" => (working, method, Some(API_KEY), request("confirmed").replace("tmp/", "tmp/shop/")),
        "notServed" => (app(&[], None, FIXED).await, method, Some(API_KEY), request("confirmed")),
        "otherMethod" => (working, "put", Some(API_KEY), String::new()),
        "tooLong" => (working, method, Some(API_KEY), "a".repeat(MAX_BYTES + 1)),
        "withoutApiKey" => (working, method, None, String::new()),
        _ => (working, method, Some(API_KEY), request(example)),
    };
    let event = HttpApiEvent::new(&method.to_uppercase(), path).without_header("authorization").body(&body);
    let event = authorization.into_iter().fold(event, HttpApiEvent::api_key);
    handle(&app, event.request()).await
}

/// Returns the function with a Secrets Manager that cannot be reached.
async fn app_without_api_keys() -> App {
    let nowhere = Endpoints { s3: None, secrets_manager: Some("http://127.0.0.1:1".to_owned()) };
    App::from_sdk_config(config(&[("ALLOW_CONFIRMATION", "true")]), &sdk_config(nowhere).build(), FIXED).await.unwrap()
}

#[tokio::test]
async fn examples_in_openapi_yaml_match_the_responses() {
    let document = yaml(&read("openapi.yaml"));
    let mut replayed = BTreeSet::new();

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let requests = &operation["requestBody"]["content"]["application/json"]["examples"];
            for (status, response) in operation["responses"].as_object().unwrap() {
                let content = resolve(&document, response)["content"].as_object();
                // A response to HEAD has none.
                let Some((content_type, content)) = content.and_then(|content| content.iter().next()) else { continue };
                for (example, expected) in content["examples"].as_object().unwrap() {
                    // It comes from API Gateway, or is that of other paths.
                    let of_other_paths = [
                        ("otherMethod", "/healthz"),
                        ("invalid", "/v1/uploads/sign"),
                        ("invalid", "/v1/uploads/confirm"),
                    ];
                    if example == "throttled" || of_other_paths.contains(&(example.as_str(), path.as_str())) {
                        continue;
                    }
                    for path in [path.clone(), format!("{path}/")] {
                        let response = replay(&path, method, example, requests).await;

                        assert_eq!(response.status().as_str(), status, "{path} {example}");
                        assert_eq!(response.headers()["content-type"], content_type.as_str(), "{path} {example}");
                        assert_eq!(json_of(&response), expected["value"], "{path} {example}");
                    }
                    replayed.insert(format!("{method} {status} {example}"));
                }
            }
        }
    }

    let expected = [
        "get 200 healthy",
        "post 200 bound",
        "post 200 confirmed",
        "post 200 image",
        "post 200 named",
        "post 200 signed",
        "post 200 started",
        "post 400 invalid",
        "post 401 withoutApiKey",
        "post 403 altered",
        "post 403 expired",
        "post 403 notGranted",
        "post 404 notServed",
        "post 404 notUploaded",
        "post 405 otherMethod",
        "post 413 tooLong",
        "post 500 failed",
        "post 500 refused",
        "post 503 unavailable",
    ];
    assert_eq!(Vec::from_iter(&replayed), expected);
}
