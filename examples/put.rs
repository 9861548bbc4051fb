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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Needed only because this project builds reqwest without its default TLS provider.
    rustls::crypto::ring::default_provider().install_default().ok();

    let path = PathBuf::from(env::args_os().nth(1).ok_or("expected a file")?);
    let mut file = File::open(&path).await?;
    let size = file.metadata().await?.len();
    let (mut sha256, mut chunk) = (Sha256::new(), Vec::with_capacity(1 << 20));
    while file.read_buf(&mut chunk).await? > 0 {
        sha256.update(&chunk);
        chunk.clear();
    }
    file.rewind().await?;

    let client = Client::new();
    let url = format!("{}/v1/assets/presign", env::var("API_URL")?);
    let request = json!({
        "fileName": path.file_name().and_then(|name| name.to_str()),
        "fileType": "application/octet-stream",
        "fileSize": size,
        "checksumSha256": BASE64_STANDARD.encode(sha256.finalize()),
        "overwrite": false,
    });
    let granted = client.post(url).header("x-api-key", env::var("API_KEY")?).json(&request).send().await?;
    if !granted.status().is_success() {
        eprintln!("the API refused: {} {}", granted.status().as_u16(), granted.text().await?);
        return Ok(ExitCode::FAILURE);
    }
    let grant: Grant = granted.json().await?;

    let mut request = client.put(grant.url).header(CONTENT_LENGTH, size).body(file);
    for (name, value) in grant.headers {
        request = request.header(name, value);
    }
    let uploaded = request.send().await?;
    if !uploaded.status().is_success() {
        let status = uploaded.status().as_u16();
        let xml = uploaded.text().await?;
        let text = |tag| xml.split_once(tag).and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
        eprintln!("S3 refused: {status} {}: {}", text("<Code>"), text("<Message>"));
        return Ok(ExitCode::FAILURE);
    }

    println!("{}", grant.key);
    Ok(ExitCode::SUCCESS)
}
