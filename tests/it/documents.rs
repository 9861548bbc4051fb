//! The documents say what the code does: the README has the settings of `Config` with their defaults, and the answers of
//! `openapi.yaml` are those of `handle`.
//!
//! Not here: the template, which `template` reads.

use std::collections::BTreeSet;

use lambda_http::{Body, Response};
use presigned_upload::{app::App, body::MAX_BYTES, config::Config, handler::handle};
use serde_json::{Value, json};

use crate::fixture::{API_KEY, Endpoints, FIXED, app, config, json_of, read, request, sdk_config, yaml};

/// The settings and their defaults, as the code has them.
fn settings() -> Vec<(String, String)> {
    let setting = |name: &str, default: Option<&str>| (name.to_owned(), default.unwrap_or("required").to_owned());
    Config::VARIABLES.iter().map(|variable| setting(variable.name, variable.default)).collect()
}

/// The first and the last cell of each row of the table under a heading of the README, without their backticks.
fn table(readme: &str, heading: &str) -> Vec<(String, String)> {
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).unwrap();
    section
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '`'])).collect();
            (cells[0].to_owned(), cells[cells.len() - 1].to_owned())
        })
        .collect()
}

#[test]
fn readme_lists_the_settings_with_their_defaults() {
    assert_eq!(table(&read("README.md"), "## Settings"), settings());
}

/// What stands behind a reference of `openapi.yaml`, or the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| document.pointer(reference.trim_start_matches('#')).unwrap())
}

/// The answer to a request with the body of an example, or with what its name says.
async fn replay(path: &str, method: &str, example: &str, body: Option<&Value>) -> Response<Body> {
    let answered = app(&[], None, FIXED).await;
    let body = body.map_or_else(String::new, Value::to_string);
    let (app, method, authorization, body) = match example {
        "failed" => (app_without_api_keys().await, method, Some(API_KEY), body),
        "otherMethod" => (answered, "put", Some(API_KEY), body),
        "tooLong" => (answered, method, Some(API_KEY), "a".repeat(MAX_BYTES + 1)),
        "withoutKey" => (answered, method, None, body),
        _ => (answered, method, Some(API_KEY), body),
    };
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "authorization": authorization.map(|api_key| format!("Bearer {api_key}")).unwrap_or_default() },
        "requestContext": { "http": { "method": method.to_uppercase(), "path": path }, "stage": "$default" },
        "body": body,
        "isBase64Encoded": false,
    });
    handle(&app, request(&event.to_string())).await
}

/// The function in front of a Secrets Manager that nobody can reach.
async fn app_without_api_keys() -> App {
    let nowhere = Endpoints { s3: None, secrets_manager: Some("http://127.0.0.1:1".to_owned()) };
    App::from_sdk_config(config(&[]), &sdk_config(nowhere).build(), FIXED).await.unwrap()
}

#[tokio::test]
async fn examples_of_openapi_yaml_are_what_is_answered() {
    let document = yaml(&read("openapi.yaml"));
    let mut replayed = BTreeSet::new();

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in resolve(&document, item).as_object().unwrap() {
            let requests = &operation["requestBody"]["content"]["application/json"]["examples"];
            for (status, response) in operation["responses"].as_object().unwrap() {
                let (content_type, content) =
                    resolve(&document, response)["content"].as_object().unwrap().iter().next().unwrap();
                for (example, expected) in content["examples"].as_object().unwrap() {
                    // API Gateway answers the first, and the second is that of the routes which expect a POST.
                    if example == "throttled" || (example == "otherMethod" && method == "get") {
                        continue;
                    }

                    let answer = replay(path, method, example, requests.pointer(&format!("/{example}/value"))).await;

                    assert_eq!(answer.status().as_str(), status, "{path} {example}");
                    assert_eq!(answer.headers()["content-type"], content_type.as_str(), "{path} {example}");
                    assert_eq!(json_of(&answer), expected["value"], "{path} {example}");
                    replayed.insert(format!("{method} {status} {example}"));
                }
            }
        }
    }

    let expected = [
        "get 200 healthy",
        "post 200 image",
        "post 200 named",
        "post 400 refused",
        "post 401 withoutKey",
        "post 405 otherMethod",
        "post 413 tooLong",
        "post 500 failed",
    ];
    assert_eq!(Vec::from_iter(&replayed), expected);
}
