//! Tests whether the time that a comparison takes reveals how much of a guessed API key is right, with Welch's t-test
//! on two classes of wrong API keys in random order, as in <https://eprint.iacr.org/2016/1123>.
//!
//! It fails if it detects a difference in our comparison, or no difference in a control, which stops at the first wrong
//! byte.
#![expect(clippy::cast_precision_loss, clippy::disallowed_methods, reason = "it measures times")]
#![expect(clippy::expect_used, clippy::print_stdout, reason = "its inputs are constants, its output is for people")]

use std::{hint::black_box, process::ExitCode, time::Instant};

use lambda_http::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use presigned_upload::{
    auth::{KeySet, PresentedKeys},
    config::Config,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const API_KEY: &str = "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa";
/// Two wrong API keys: one has no character right, the other has all but the last.
const BY_CHARACTER: [&str; 2] = ["--------------------------------", "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeA-"];
/// Two wrong API keys: the digest of one has no byte right, that of the other the first two. An attacker could find
/// such API keys by trial and error.
const BY_DIGEST: [&str; 2] = ["00000000000000000000000000000000", "00000000000000000000000000063691"];
const SAMPLES: usize = 1_000_000;
/// The |t| above which dudect, the authors' own program, reports "probably not constant time".
const THRESHOLD: f64 = 10.0;

fn main() -> ExitCode {
    let settings =
        Config::from_lookup(|name| ["UPLOAD_BUCKET", "API_KEYS_SECRET_ID"].contains(&name).then(|| "uploads".into()));
    let key_set = KeySet::parse(API_KEY, &settings.expect("settings").limits).expect("an API key");
    let verify = |headers: &HeaderMap| {
        let presented = PresentedKeys::from_headers(headers).expect("an API key");
        key_set.verify(&presented).is_some()
    };
    let right = Sha256::digest(API_KEY);
    println!("{SAMPLES} comparisons each; |t| above {THRESHOLD} is a difference");
    let ours = [measure("ours, by character", BY_CHARACTER, verify), measure("ours, by digest", BY_DIGEST, verify)];
    let controls = [
        measure("control, by character", BY_CHARACTER, |it| stops_early(find_presented(it), API_KEY.as_bytes())),
        measure("control, by digest", BY_DIGEST, |it| stops_early(&Sha256::digest(find_presented(it)), &right)),
    ];
    let is_constant = ours.iter().all(|t| t.abs() < THRESHOLD);
    let is_sensitive = controls.iter().all(|t| t.abs() > THRESHOLD);
    if is_constant && is_sensitive { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn find_presented(headers: &HeaderMap) -> &[u8] {
    headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer ")).expect("an API key")
}

fn stops_early(one: &[u8], other: &[u8]) -> bool {
    one.iter().zip(other).all(|(one, other)| black_box(one) == other)
}

/// Times a comparison with each of two API keys, and returns Welch's t.
fn measure(name: &str, api_keys: [&str; 2], compare: impl Fn(&HeaderMap) -> bool) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        let class = usize::from(Uuid::new_v4().as_u128() & 1 == 1);
        let (Some(api_key), Some(times)) = (api_keys.get(class), times.get_mut(class)) else { continue };
        // Allocated each time: its address must not depend on the class.
        let value = HeaderValue::from_str(&format!("Bearer {api_key}")).expect("a header value");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let started_at = Instant::now();
        black_box(compare(black_box(&headers)));
        times.push(started_at.elapsed().as_nanos() as f64);
    }
    let [(far, far_error), (near, near_error)] = times.map(summarize);
    let t = (near - far) / (near_error + far_error).sqrt();
    println!("{name}: {far:.2} ns and {near:.2} ns, t = {t:.2}");
    t
}

/// Returns the mean and its squared standard error, without the slowest tenth, during which the machine did something
/// else.
fn summarize(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_unstable_by(f64::total_cmp);
    times.truncate(times.len() * 9 / 10);
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}
