//! Whether the time of a comparison tells how much of an API key is right: Welch's t-test over two classes of wrong keys
//! that take turns at random, as in <https://eprint.iacr.org/2016/1123>.
//!
//! It fails where our comparison tells the classes apart, or where it would not see it if it did: the same measurements of
//! comparisons that stop at the first wrong byte have to see a difference.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "it measures, and prints what it has measured"
)]

use std::{hint::black_box, process::ExitCode, time::Instant};

use lambda_http::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use presigned_upload::auth::{ApiKeyDigest, KeySet};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const API_KEY: &str = "2Zv8kQmT4xWc7LrY9sHd3JfBnP6gUeAa";
const SAMPLES: usize = 1_000_000;
/// Above this, the authors' own program calls a function probably not constant in time.
const THRESHOLD: f64 = 10.0;

/// Two wrong API keys of one length, the second of which has more right.
struct Classes {
    what: &'static str,
    api_keys: [String; 2],
}

fn main() -> ExitCode {
    let key_set = KeySet::parse(API_KEY).expect("it is an API key");
    let verify = |headers: &HeaderMap| {
        let presented = ApiKeyDigest::from_headers(headers).expect("it presents a key");
        key_set.verify(&presented).is_some()
    };
    let right = Sha256::digest(API_KEY);
    let characters = Classes { what: "no character right, or all but the last", api_keys: near_and_far() };
    let digests = Classes { what: "no byte of the digest right, or the first two", api_keys: near_and_far_by_digest() };

    println!("{SAMPLES} comparisons each; |t| above {THRESHOLD} tells the classes apart");
    let ours = [measure("ours", &characters, verify), measure("ours", &digests, verify)];
    let controls = [
        measure("one that stops early", &characters, |headers| stops_early(presented(headers), API_KEY.as_bytes())),
        measure("one that stops early", &digests, |headers| stops_early(&Sha256::digest(presented(headers)), &right)),
    ];
    let is_constant = ours.iter().all(|t| t.abs() < THRESHOLD);
    let is_seen = controls.iter().all(|t| t.abs() > THRESHOLD);
    if is_constant && is_seen { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn presented(headers: &HeaderMap) -> &[u8] {
    headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer ")).expect("it presents a key")
}

fn stops_early(one: &[u8], other: &[u8]) -> bool {
    one.iter().zip(other).all(|(one, other)| black_box(one) == other)
}

fn near_and_far() -> [String; 2] {
    let (head, _) = API_KEY.split_at(API_KEY.len() - 1);
    [format!("-{}", "-".repeat(head.len())), format!("{head}-")]
}

/// Found by trying: whoever attacks can do that as well.
fn near_and_far_by_digest() -> [String; 2] {
    let right = Sha256::digest(API_KEY);
    let with_right_bytes = |count: usize| {
        let has_them = |api_key: &String| {
            let digest = Sha256::digest(api_key);
            digest.iter().zip(right).take_while(|(one, other)| **one == *other).count() == count
        };
        (0..1_000_000).map(|number| format!("{number:032}")).find(has_them).expect("there is about one in 65,536")
    };
    [with_right_bytes(0), with_right_bytes(2)]
}

/// Welch's t of the times that a comparison takes for each class.
fn measure(who: &str, classes: &Classes, compare: impl Fn(&HeaderMap) -> bool) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        let class = usize::from(Uuid::new_v4().as_u128() & 1 == 1);
        let (Some(api_key), Some(times)) = (classes.api_keys.get(class), times.get_mut(class)) else { continue };
        // Made anew each time: where in memory it stands must not depend on the class.
        let value = HeaderValue::from_str(&format!("Bearer {api_key}")).expect("it is a header's value");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let started_at = Instant::now();
        black_box(compare(black_box(&headers)));
        times.push(started_at.elapsed().as_nanos() as f64);
    }
    let [far, near] = times.map(Moments::of_the_fastest);
    let t = (near.mean - far.mean) / (near.variance / near.count + far.variance / far.count).sqrt();
    println!("{who}: {}: {:.2} ns and {:.2} ns, t = {t:.2}", classes.what, far.mean, near.mean);
    t
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    /// Without the slowest tenth, where the machine did something else in between.
    fn of_the_fastest(mut times: Vec<f64>) -> Self {
        times.sort_unstable_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { count, mean, variance }
    }
}
