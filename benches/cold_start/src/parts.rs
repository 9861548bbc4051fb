//! What the parts of one request take: ours as criterion has measured them, and one policy of the others.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{machine, today};

/// What was measured in one go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parts {
    pub date: String,
    pub machine: String,
    pub parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub median_ns: f64,
}

pub const HMAC: &str = "the one HMAC-SHA256 of the policy";
pub const SIGNING_KEY: &str = "the signing key, four HMAC-SHA256";
pub const POLICY: &str = "policy and signature";
pub const POLICY_OF_NODE: &str = "policy and signature, in Node.js";
pub const POLICY_OF_PYTHON: &str = "policy and signature, in Python";
/// What `benches/grant.rs` measures, in the order of the table.
const OWN: [&str; 8] = [
    HMAC,
    SIGNING_KEY,
    "the base64 of the policy",
    POLICY,
    "a presigned PUT by the SDK",
    "the body of a request",
    "an API key against 1",
    "an API key against 100",
];

/// Reads what `cargo bench --bench grant` has left in a folder, and times the policies of the others.
pub fn gather(criterion: &Path, results: &Path) -> Result<()> {
    let mut parts = Vec::new();
    for name in OWN {
        let path = criterion.join(name).join("new/estimates.json");
        let estimates =
            fs::read_to_string(&path).with_context(|| format!("no {}: cargo bench --bench grant", path.display()))?;
        let estimates: serde_json::Value = serde_json::from_str(&estimates)?;
        let median_ns = estimates["median"]["point_estimate"].as_f64();
        parts.push(Part { name: name.to_owned(), median_ns: median_ns.context("criterion has written no median")? });
    }
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    for (name, program, script) in [
        (POLICY_OF_NODE, Path::new("node").to_owned(), peers.join("node/policy.mjs")),
        (POLICY_OF_PYTHON, peers.join("python/.venv/bin/python"), peers.join("python/policy.py")),
    ] {
        println!("timing: {name}");
        let output = Command::new(&program).arg(&script).output().with_context(|| program.display().to_string())?;
        ensure!(output.status.success(), "{} fails: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        let median_ns = String::from_utf8(output.stdout)?.trim().parse()?;
        parts.push(Part { name: name.to_owned(), median_ns });
    }
    let parts = Parts { date: today()?, machine: machine()?, parts };
    fs::write(results, serde_json::to_string_pretty(&parts)? + "\n")?;
    println!("written: {}", results.display());
    Ok(())
}
