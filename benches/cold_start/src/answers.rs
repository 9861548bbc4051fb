//! What a right answer is: nothing is counted that is not one.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

pub const API_KEY: &str = "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa";
pub const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// As long as those of Lambda are.
pub const SESSION_TOKEN: &str = include_str!("session_token.txt");
pub const REGION: &str = "eu-central-1";
pub const FILE_NAME: &str = "web-app-manifest-512x512.png";
pub const CONTENT_TYPE: &str = "image/png";

/// What a function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The body that came in.
    Echo,
    /// A presigned POST with a policy.
    PresignedPost,
    /// A presigned PUT.
    PresignedPut,
}

/// Fails where an answer is not right.
pub fn check(kind: Kind, answer: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(answer).context("the answer is no JSON")?;
    ensure!(answer["statusCode"] == 200, "the status is {}", answer["statusCode"]);
    let body: Value = serde_json::from_str(text(&answer, "body")?).context("the body is no JSON")?;
    match kind {
        Kind::Echo => ensure!(body["fileName"] == FILE_NAME, "this is no echo: {body}"),
        Kind::PresignedPost => check_post(&body)?,
        Kind::PresignedPut => check_put(&body)?,
    }
    Ok(())
}

/// The policy pins the form, and the signature is that of the policy.
fn check_post(body: &Value) -> Result<()> {
    // S3 reads the names of fields in any case, and each SDK writes them in its own.
    let fields = body["fields"].as_object().context("there are no fields")?;
    let fields: Value = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let fields = &fields;
    let policy = text(fields, "policy")?;
    let credential = text(fields, "x-amz-credential")?;
    let date = credential.split('/').nth(1).context("the credential has no date")?;
    let signing_key = [date, REGION, "s3", "aws4_request"]
        .iter()
        .try_fold(format!("AWS4{SECRET_ACCESS_KEY}").into_bytes(), |key, part| hmac(&key, part.as_bytes()))?;
    let signature = hmac(&signing_key, policy.as_bytes())?;
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(text(fields, "x-amz-signature")? == signature, "the signature is not that of the policy");
    ensure!(fields["x-amz-security-token"] == SESSION_TOKEN, "the session token is missing");

    let object_key = text(fields, "key")?;
    ensure!(is_object_key(object_key), "the object key is {object_key}");
    let policy: Value = serde_json::from_slice(&BASE64_STANDARD.decode(policy)?)?;
    let conditions = policy["conditions"].as_array().context("the policy has no conditions")?;
    let is_pinned = |name: &str, value: &str| {
        conditions.iter().any(|condition| {
            condition[name] == value || *condition == serde_json::json!(["eq", format!("${name}"), value])
        })
    };
    ensure!(is_pinned("key", object_key), "the policy does not pin the object key");
    ensure!(is_pinned("Content-Type", CONTENT_TYPE), "the policy does not pin the type");
    ensure!(conditions.iter().any(|it| it[0] == "content-length-range"), "the policy does not bound the size");
    Ok(())
}

fn check_put(body: &Value) -> Result<()> {
    let url = text(body, "url")?;
    let (_, signature) = url.split_once("X-Amz-Signature=").context("the URL is not signed")?;
    let signature = signature.split('&').next().unwrap_or_default();
    ensure!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");
    ensure!(is_object_key(text(body, "key")?), "the object key is {}", body["key"]);
    Ok(())
}

fn is_object_key(object_key: &str) -> bool {
    let mut segments = object_key.split('/');
    segments.next() == Some("tmp")
        && segments.next().is_some_and(|id| id.len() == 36)
        && segments.next() == Some(FILE_NAME)
        && segments.next().is_none()
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("there is no `{name}`"))
}

fn hmac(key: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key)?;
    hmac.update(message);
    Ok(hmac.finalize().into_bytes().to_vec())
}
