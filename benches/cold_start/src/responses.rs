//! Checks a function's response. A wrong one ends the run, so that only correct ones are measured.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

pub const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// As long as Lambda's session tokens.
pub const SESSION_TOKEN: &str = include_str!("session_token.txt");
pub const REGION: &str = "eu-central-1";
pub const FILE_NAME: &str = "web-app-manifest-512x512.png";
pub const CONTENT_TYPE: &str = "image/png";

/// The kind of response that a function returns.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request's body.
    Echo,
    PresignedPost,
    PresignedPut,
}

/// Checks a response in the format that Lambda passes on to API Gateway.
pub fn check(kind: Kind, response: &[u8]) -> Result<()> {
    let response: Value = serde_json::from_slice(response).context("the response is not valid JSON")?;
    ensure!(response["statusCode"] == 200, "the status is {}", response["statusCode"]);
    let body: Value = serde_json::from_str(find_text(&response, "body")?).context("the body is not valid JSON")?;
    match kind {
        Kind::Echo => ensure!(body["fileName"] == FILE_NAME, "the body is not that of the request: {body}"),
        Kind::PresignedPost => check_post(&body)?,
        Kind::PresignedPut => {
            let (_, signature) =
                find_text(&body, "url")?.split_once("X-Amz-Signature=").context("the URL is not signed")?;
            let length = signature.bytes().take_while(u8::is_ascii_hexdigit).count();
            ensure!(length == 64, "the signature has {length} digits");
            check_object_key(find_text(&body, "key")?)?;
        }
    }
    Ok(())
}

fn check_post(body: &Value) -> Result<()> {
    // S3 ignores the case of field names, and each SDK writes them differently.
    let fields = body["fields"].as_object().context("no `fields`")?;
    let fields: Value = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let policy = find_text(&fields, "policy")?;
    let date = find_text(&fields, "x-amz-credential")?.split('/').nth(1).context("the credential has no date")?;
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for message in [date, REGION, "s3", "aws4_request", policy] {
        key = Hmac::<Sha256>::new_from_slice(&key)?.chain_update(message).finalize().into_bytes().to_vec();
    }
    let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(fields["x-amz-signature"] == signature, "the signature does not match the policy");
    ensure!(fields["x-amz-security-token"] == SESSION_TOKEN, "the session token is missing");

    let object_key = find_text(&fields, "key")?;
    check_object_key(object_key)?;
    let policy: Value = serde_json::from_slice(&BASE64_STANDARD.decode(policy)?)?;
    let conditions = policy["conditions"].as_array().context("the policy has no conditions")?;
    for (name, value) in [("key", object_key), ("Content-Type", CONTENT_TYPE)] {
        let forms = [json!({ name: value }), json!(["eq", format!("${name}"), value])];
        ensure!(conditions.iter().any(|condition| forms.contains(condition)), "the policy does not fix `{name}`");
    }
    ensure!(conditions.iter().any(|it| it[0] == "content-length-range"), "the policy does not limit the size");
    Ok(())
}

fn check_object_key(object_key: &str) -> Result<()> {
    let segments: Vec<_> = object_key.split('/').collect();
    ensure!(matches!(segments[..], ["tmp", id, FILE_NAME] if id.len() == 36), "the object key is {object_key}");
    Ok(())
}

fn find_text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no `{name}`"))
}
