//! Uploads a file with a presigned POST that accepts only a file of this size.
//!
//! ```sh
//! API_URL=https://… API_KEY=… cargo run --example post FILE
//! ```
#![expect(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, reason = "a command-line program")]

use std::{collections::BTreeMap, env, error::Error, fs, path::PathBuf, process::ExitCode};

use reqwest::{Client, multipart::Form};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    url: String,
    fields: BTreeMap<String, String>,
    file_key: String,
}

/// Uploads a file, and returns its object key.
async fn upload(api_url: &str, api_key: &str, path: PathBuf) -> Result<String, Box<dyn Error>> {
    let client = Client::new();
    let request = json!({
        "fileName": path.file_name().and_then(|name| name.to_str()),
        "fileType": "application/octet-stream",
        "fileSize": fs::metadata(&path)?.len(),
    });
    let granted = client.post(format!("{api_url}/media/")).header("x-api-key", api_key).json(&request).send().await?;
    if !granted.status().is_success() {
        return Err(format!("the API refused: {} {}", granted.status().as_u16(), granted.text().await?).into());
    }
    let grant: Grant = granted.json().await?;

    // The fields may be in any order, but the file has to be the last.
    let form = grant.fields.into_iter().fold(Form::new(), |form, (name, value)| form.text(name, value));
    let form = form.file("file", path).await?;
    let uploaded = client.post(grant.url).multipart(form).send().await?;
    if !uploaded.status().is_success() {
        let status = uploaded.status().as_u16();
        let xml = uploaded.text().await?;
        let text = |tag| xml.split_once(tag).and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
        return Err(format!("S3 refused: {status} {}: {}", text("<Code>"), text("<Message>")).into());
    }
    Ok(grant.file_key)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Needed only because this project builds reqwest without its default TLS provider.
    rustls::crypto::ring::default_provider().install_default().ok();

    let (Ok(api_url), Ok(api_key), Some(path)) = (env::var("API_URL"), env::var("API_KEY"), env::args_os().nth(1))
    else {
        eprintln!("expected API_URL, API_KEY and a file");
        return ExitCode::FAILURE;
    };
    match upload(&api_url, &api_key, path.into()).await {
        Ok(object_key) => {
            println!("{object_key}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
