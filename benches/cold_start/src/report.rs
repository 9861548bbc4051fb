//! The results of a run: stored as JSON, and written into documents.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};

use crate::WARM_ROUNDS;

#[derive(Serialize, Deserialize)]
pub struct Results {
    /// The date, the CPU and the kernel.
    pub measured: String,
    pub rounds: usize,
    pub candidates: Vec<Figures<[f64; 3]>>,
    /// The peak memory of one process of the first candidate, after 1,000 and after 1,000,000 requests.
    pub memory_mb: Option<[f64; 2]>,
}

/// The figures of one candidate: all samples, or their quartiles.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Figures<T> {
    pub name: String,
    /// From the start of the process until it asks for its first event.
    pub next_ms: T,
    /// From the start of the process to its first response, without the wait for the event.
    pub response_ms: T,
    pub response_at_128_mb_ms: T,
    pub p50_us: T,
    pub p99_us: T,
    pub memory_mb: T,
}

impl Figures<Vec<f64>> {
    pub fn summarize(self) -> Figures<[f64; 3]> {
        let summarize = |mut samples: Vec<f64>| {
            samples.sort_unstable_by(f64::total_cmp);
            [1, 2, 3].map(|quarters| round(samples[(samples.len() - 1) * quarters / 4]))
        };
        Figures {
            name: self.name,
            next_ms: summarize(self.next_ms),
            response_ms: summarize(self.response_ms),
            response_at_128_mb_ms: summarize(self.response_at_128_mb_ms),
            p50_us: summarize(self.p50_us),
            p99_us: summarize(self.p99_us),
            memory_mb: summarize(self.memory_mb),
        }
    }
}

/// Rounds to three decimals.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Writes a sentence into the README of a project, two tables into its docs/performance.md, and a plot for light and
/// for dark pages.
pub fn write(project: &Path) -> Result<()> {
    let docs = project.join("docs");
    let json = fs::read_to_string(docs.join("cold-start.json")).context("could not read docs/cold-start.json")?;
    let results: Results = serde_json::from_str(&json).context("docs/cold-start.json is not valid")?;
    replace(&project.join("README.md"), "cold start", &summarize(&results)?)?;
    replace(&docs.join("performance.md"), "cold start", &format_cold_table(&results)?)?;
    replace(&docs.join("performance.md"), "warm", &format_warm_table(&results)?)?;
    fs::write(docs.join("cold-start-light.svg"), plot(&results, "#1f2328", "#0969da", "#8c959f")?)?;
    fs::write(docs.join("cold-start-dark.svg"), plot(&results, "#e6edf3", "#4493f8", "#768390")?)?;
    Ok(())
}

/// Replaces the text between the two comments that mark a place in a document, but keeps the white space next to them.
fn replace(document: &Path, place: &str, text: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {place}: made by make bench -->"), format!("<!-- {place}: end -->"));
    let old = fs::read_to_string(document).with_context(|| format!("could not read {}", document.display()))?;
    let missing = |marker| format!("{} does not contain the marker `{marker}`", document.display());
    let (before, rest) = old.split_once(&begin).with_context(|| missing(&begin))?;
    let (replaced, after) = rest.split_once(&end).with_context(|| missing(&end))?;
    let (space, rest) = replaced.split_at(replaced.len() - replaced.trim_start().len());
    let space_after = &rest[rest.trim_end().len()..];
    fs::write(document, format!("{before}{begin}{space}{text}{space_after}{end}{after}"))?;
    println!("wrote {place} into {}", document.display());
    Ok(())
}

fn summarize(results: &Results) -> Result<String> {
    let response_ms = |name: &str| {
        let candidate = results.candidates.iter().find(|candidate| candidate.name == name);
        Ok::<_, Error>(candidate.with_context(|| format!("`{name}` was not measured"))?.response_ms[1])
    };
    let own = response_ms("presigned-upload")?;
    let [node, python] = [response_ms("Node.js")? / own, response_ms("Python")? / own];
    Ok(format!(
        "**Starts in {own:.1} ms**, including reading its API keys over TLS: {node:.0} times faster than the same function \
         in Node.js, {python:.0} times faster than in Python."
    ))
}

pub fn format_cold_table(results: &Results) -> Result<String> {
    let mut table = "| | first `/next` | first response | middle half | ratio | at 128 MB |\n".to_owned();
    table += "| --- | --- | --- | --- | --- | --- |\n";
    for it in &results.candidates {
        let (next, [low, response, high]) = (it.next_ms[1], it.response_ms);
        let (ratio, at_128_mb) = (response / results.candidates[0].response_ms[1], it.response_at_128_mb_ms[1]);
        let [next, response, low, high, ratio, at_128_mb] = [next, response, low, high, ratio, at_128_mb].map(shorten);
        let name = &it.name;
        writeln!(table, "| {name} | {next} ms | {response} ms | {low} to {high} ms | {ratio} | {at_128_mb} ms |")?;
    }
    Ok(format!("{table}\nMedians of {} starts; {}.", results.rounds, results.measured))
}

pub fn format_warm_table(results: &Results) -> Result<String> {
    let mut table = "| | p50 | p99 | memory |\n| --- | --- | --- | --- |\n".to_owned();
    for it in &results.candidates {
        let [p50, p99, memory] = [it.p50_us, it.p99_us, it.memory_mb].map(|[_, median, _]| median);
        writeln!(table, "| {} | {p50:.0} µs | {p99:.0} µs | {memory:.1} MB |", it.name)?;
    }
    write!(table, "\nMedians of {WARM_ROUNDS} processes; {}.", results.measured)?;
    if let Some([early, late]) = results.memory_mb {
        write!(table, " Memory of one process: {early:.2} MB after 1,000 requests, {late:.2} MB after 1,000,000.")?;
    }
    Ok(table)
}

/// Formats a figure with three significant digits.
fn shorten(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}")
}

/// Draws the median times to the first response as bars.
fn plot(results: &Results, text: &str, own: &str, other: &str) -> Result<String> {
    let highest = results.candidates.iter().map(|it| it.response_ms[1]).fold(0.0, f64::max);
    let height = 40 + 30 * results.candidates.len();
    let title = "From the start of the process to its first response";
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}" font-family="sans-serif" fill="{text}">
<title>{title}</title>
<text y="18" font-weight="600">{title}</text>
"#
    );
    for (row, Figures { name, response_ms: [_, median, _], .. }) in results.candidates.iter().enumerate() {
        let (y, width, colour) = (36 + 30 * row, median / highest * 310.0, if row == 0 { own } else { other });
        let (text_y, right, median) = (y + 15, 210.0 + width, shorten(*median));
        writeln!(svg, r#"<text x="190" y="{text_y}" text-anchor="end">{name}</text>"#)?;
        writeln!(svg, r#"<rect x="200" y="{y}" width="{width:.1}" height="20" fill="{colour}"/>"#)?;
        writeln!(svg, r#"<text x="{right:.1}" y="{text_y}">{median} ms</text>"#)?;
    }
    Ok(svg + "</svg>\n")
}
