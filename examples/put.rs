//! Uploads a file with a presigned PUT that accepts only this file, and only once.
//!
//! ```sh
//! API_URL=https://… API_KEY=… cargo run --example put FILE
//! ```
#![expect(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, reason = "a command-line program")]

use std::{collections::BTreeMap, env, error::Error, path::PathBuf, process::ExitCode};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Client, header::CONTENT_LENGTH};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

#[derive(Deserialize)]
struct Grant {
    url: String,
    key: String,
    headers: BTreeMap<String, String>,
}

/// Uploads a file, and returns its object key.
async fn upload(api_url: &str, api_key: &str, path: PathBuf) -> Result<String, Box<dyn Error>> {
    let mut file = File::open(&path).await?;
    let size = file.metadata().await?.len();
    let (mut sha256, mut chunk) = (Sha256::new(), Vec::with_capacity(1 << 20));
    while file.read_buf(&mut chunk).await? > 0 {
        sha256.update(&chunk);
        chunk.clear();
    }
    file.rewind().await?;

    let client = Client::new();
    let request = json!({
        "fileName": path.file_name().and_then(|name| name.to_str()),
        "fileType": "application/octet-stream",
        "fileSize": size,
        "checksumSha256": BASE64_STANDARD.encode(sha256.finalize()),
        "overwrite": false,
    });
    let request = client.post(format!("{api_url}/v1/assets/presign")).header("x-api-key", api_key).json(&request);
    let granted = request.send().await?;
    if !granted.status().is_success() {
        return Err(format!("the API refused: {} {}", granted.status().as_u16(), granted.text().await?).into());
    }
    let grant: Grant = granted.json().await?;

    let mut request = client.put(grant.url).header(CONTENT_LENGTH, size).body(file);
    for (name, value) in grant.headers {
        request = request.header(name, value);
    }
    // Without the URL in the message of an error, because it is a secret.
    let uploaded = request.send().await.map_err(reqwest::Error::without_url)?;
    if !uploaded.status().is_success() {
        let status = uploaded.status().as_u16();
        let xml = uploaded.text().await.map_err(reqwest::Error::without_url)?;
        let text = |tag| xml.split_once(tag).and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
        return Err(format!("S3 refused: {status} {}: {}", text("<Code>"), text("<Message>")).into());
    }
    Ok(grant.key)
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
