//! The tables and the plots of a run, made from its own JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::{
    Cold, Measured, Results, Warm,
    parts::{HMAC, POLICY, POLICY_OF_NODE, POLICY_OF_PYTHON, Parts, SIGNING_KEY},
};

/// Writes the plots of a project to `docs/cold-start-*.svg`, and the tables into its documents, from
/// `docs/cold-start.json` and `docs/parts.json`.
pub fn write(project: &Path) -> Result<()> {
    let docs = project.join("docs");
    let results: Results = read(&docs.join("cold-start.json"))?;
    let parts: Parts = read(&docs.join("parts.json"))?;
    for (name, colours) in [("light", LIGHT), ("dark", DARK)] {
        let path = docs.join(format!("cold-start-{name}.svg"));
        fs::write(&path, plot(&results, colours)?)?;
        println!("written: {}", path.display());
    }
    let readme = project.join("README.md");
    replace(&readme, "cold start", &format!("{}\n\n{}", picture("docs/"), summary(&results)?))?;
    let performance = docs.join("performance.md");
    replace(&performance, "cold start", &format!("{}\n\n{}", picture(""), cold_table(&results)?))?;
    replace(&performance, "warm", &warm_table(&results)?)?;
    replace(&performance, "parts", &parts_table(&parts)?)?;
    replace(&performance, "goals", &goals_table(&results, &parts)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let json = fs::read_to_string(path).with_context(|| format!("no {}; make bench writes it", path.display()))?;
    serde_json::from_str(&json)
        .with_context(|| format!("{} is of another form; make bench writes it anew", path.display()))
}

/// Puts a text between the two comments that name its place in a document.
fn replace(document: &Path, place: &str, text: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {place}: made by `make bench` -->"), format!("<!-- {place}: end -->"));
    let old = fs::read_to_string(document).with_context(|| format!("{} cannot be read", document.display()))?;
    let (before, rest) = old.split_once(&begin).with_context(|| format!("{} has no `{begin}`", document.display()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{} has no `{end}`", document.display()))?;
    fs::write(document, format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim_end()))?;
    println!("written: {place} in {}", document.display());
    Ok(())
}

fn picture(folder: &str) -> String {
    format!(
        "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{folder}cold-start-dark.svg\">\n  \
         <img alt=\"Time from the start of a process to its first answer\" src=\"{folder}cold-start-light.svg\">\n\
         </picture>"
    )
}

/// The middle of what was measured, and the quarters on both sides of it.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

fn spread<T>(all: &[T], figure: impl Fn(&T) -> f64) -> Result<Spread> {
    let mut values: Vec<_> = all.iter().map(figure).collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |quarters: usize| values.get((values.len() - 1) * quarters / 4).copied();
    let [low, median, high] = [at(1), at(2), at(3)].map(|value| value.context("nothing was measured"));
    Ok(Spread { low: low?, median: median?, high: high? })
}

fn until_answered(measured: &Measured) -> Result<Spread> {
    spread(&measured.cold, |cold| cold.until_answered_ms)
}

impl Measured {
    fn cold(&self, figure: fn(&Cold) -> f64) -> Result<f64> {
        Ok(spread(&self.cold, figure)?.median)
    }

    fn at_128_mb(&self) -> Result<f64> {
        Ok(spread(&self.cold_at_128_mb, |cold| cold.until_answered_ms)?.median)
    }

    fn warm(&self, figure: fn(&Warm) -> f64) -> Result<f64> {
        Ok(spread(&self.warm, figure)?.median)
    }

    fn peak_mb(&self) -> Result<f64> {
        self.warm(|warm| mb(warm.peak_kib * 1024))
    }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Results {
    fn own(&self) -> Result<&Measured> {
        self.candidates.first().context("there are no candidates")
    }

    fn named(&self, name: &str) -> Result<&Measured> {
        self.candidates.iter().find(|it| it.name == name).with_context(|| format!("`{name}` was not measured"))
    }

    /// When and where all of this was measured.
    fn origin(&self) -> String {
        format!("{}, {}; all processes and the servers share one CPU", self.date, self.machine)
    }

    fn warm_rounds(&self) -> usize {
        self.candidates.first().map_or(0, |it| it.warm.len())
    }
}

fn summary(results: &Results) -> Result<String> {
    let own = until_answered(results.own()?)?.median;
    let mut table = "| | start → first answer | ratio | at 128 MB | warm p50 | memory |\n".to_owned();
    writeln!(table, "| --- | --- | --- | --- | --- | --- |")?;
    for it in &results.candidates {
        let answered = until_answered(it)?.median;
        writeln!(
            table,
            "| {} | {} ms | {} | {} ms | {:.0} µs | {:.1} MB |",
            it.name,
            short(answered),
            short(answered / own),
            short(it.at_128_mb()?),
            it.warm(|warm| warm.p50_us)?,
            it.peak_mb()?,
        )?;
    }
    writeln!(
        table,
        "\n{}. Medians of {} starts and of {} warm processes; the line in a bar is the middle half.",
        results.origin(),
        results.rounds,
        results.warm_rounds(),
    )?;
    Ok(table)
}

fn cold_table(results: &Results) -> Result<String> {
    let own = until_answered(results.own()?)?.median;
    let mut table =
        "| | start → first `/next` | start → first answer | ratio | at 128 MB | CPU | page faults | threads |\n"
            .to_owned();
    writeln!(table, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for it in &results.candidates {
        let answered = until_answered(it)?;
        writeln!(
            table,
            "| {} | {} ms | {} ms ({} to {}) | {} | {} ms | {} ms | {:.0} | {:.0} |",
            it.name,
            short(it.cold(|cold| cold.until_asked_ms)?),
            short(answered.median),
            short(answered.low),
            short(answered.high),
            short(answered.median / own),
            short(it.at_128_mb()?),
            short(it.cold(|cold| cold.cpu_ms)?),
            it.cold(|cold| cold.page_faults as f64)?,
            it.cold(|cold| cold.threads as f64)?,
        )?;
    }
    writeln!(table, "\n{}. Medians of {} starts, in brackets the middle half.", results.origin(), results.rounds)?;
    Ok(table)
}

fn warm_table(results: &Results) -> Result<String> {
    let mut table =
        "| | p50 | p99 | CPU for 1,000 | memory | connections | reads of the secret | artifact | zipped |\n".to_owned();
    writeln!(table, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for it in &results.candidates {
        let [artifact, zipped] = it.artifact.map_or([const { String::new() }; 2], |it| {
            [it.bytes, it.deflated_bytes].map(|it| format!("{:.2} MB", mb(it)))
        });
        writeln!(
            table,
            "| {} | {:.0} µs | {:.0} µs | {:.0} ms | {:.1} MB | {:.0} | {:.0} | {artifact} | {zipped} |",
            it.name,
            it.warm(|warm| warm.p50_us)?,
            it.warm(|warm| warm.p99_us)?,
            it.warm(|warm| warm.cpu_ms_for_1000)?,
            it.peak_mb()?,
            it.warm(|warm| warm.connections as f64)?,
            it.warm(|warm| warm.secret_reads as f64)?,
        )?;
    }
    let endured: Vec<_> = results
        .endured
        .iter()
        .map(|it| {
            let requests = match it.requests {
                1_000_000.. => format!("{} million", it.requests / 1_000_000),
                _ => format!("{} thousand", it.requests / 1000),
            };
            format!("{:.2} MB after {requests}", mb(it.peak_kib * 1024))
        })
        .collect();
    writeln!(
        table,
        "\n{}. Medians of {} processes. The memory of one process of {}: {} requests.",
        results.origin(),
        results.warm_rounds(),
        results.own()?.name,
        endured.join(", "),
    )?;
    Ok(table)
}

impl Parts {
    fn ns(&self, name: &str) -> Result<f64> {
        let part = self.parts.iter().find(|part| part.name == name);
        Ok(part.with_context(|| format!("`{name}` was not measured"))?.median_ns)
    }
}

fn parts_table(parts: &Parts) -> Result<String> {
    let hmac = parts.ns(HMAC)?;
    let mut table = "| | median | of the one HMAC |\n| --- | --- | --- |\n".to_owned();
    for part in &parts.parts {
        writeln!(
            table,
            "| {} | {} µs | {} |",
            part.name,
            short(part.median_ns / 1000.0),
            short(part.median_ns / hmac)
        )?;
    }
    writeln!(table, "\n{}, {}.", parts.date, parts.machine)?;
    Ok(table)
}

/// A figure of ours beside what it is held to.
struct Goal {
    figure: &'static str,
    goal: f64,
    measured: f64,
    /// The same of the row with one trusted root, where that changes it.
    with_one_root: Option<f64>,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    /// Ours is at most this many times the other.
    Times,
    /// Ours is at most one in this many of the other.
    OneIn,
    Megabytes,
    Count,
}

impl Goal {
    fn row(&self) -> String {
        let write = |value: f64| match self.unit {
            Unit::Times => format!("{} ×", short(value)),
            Unit::OneIn => format!("1/{}", short(value)),
            Unit::Megabytes => format!("{} MB", short(value)),
            Unit::Count => format!("{value:.0}"),
        };
        let judge = |value: f64| {
            let is_met = if matches!(self.unit, Unit::OneIn) { value >= self.goal } else { value <= self.goal };
            format!("{}, {}", write(value), if is_met { "met" } else { "**not met**" })
        };
        let with_one_root = self.with_one_root.map_or_else(String::new, judge);
        format!("| {} | {} | {} | {with_one_root} |", self.figure, write(self.goal), judge(self.measured))
    }
}

fn goals_table(results: &Results, parts: &Parts) -> Result<String> {
    let own = results.own()?;
    let one_root = results.named("the same, one trusted root")?;
    let bare = results.named("bare loop")?;
    let echo = results.named("lambda_http echo")?;
    let tutorial = results.named("Rust, as in the tutorials")?;
    let node = results.named("Node.js")?;
    let python = results.named("Python")?;
    let artifact = own.artifact.context("the artifact was not measured")?;
    let endured = results.endured.last().context("the memory over many requests was not measured")?;
    let policy = parts.ns(POLICY)?;

    let answered = |it: &Measured| it.cold(|cold| cold.until_answered_ms);
    let at_128_mb = |it: &Measured| it.at_128_mb();
    let p50 = |it: &Measured| it.warm(|warm| warm.p50_us);
    let above_floor = |it: &Measured| Ok(p50(it)? - p50(bare)?);
    let cpu = |it: &Measured| it.warm(|warm| warm.cpu_ms_for_1000);

    type Figure<'a> = &'a dyn Fn(&Measured) -> Result<f64>;
    let start = |figure, goal, other: &Measured, value: Figure, unit| {
        let ratio = |it: &Measured| match unit {
            Unit::OneIn => Ok::<_, anyhow::Error>(value(other)? / value(it)?),
            _ => Ok(value(it)? / value(other)?),
        };
        Ok::<_, anyhow::Error>(Goal {
            figure,
            goal,
            measured: ratio(own)?,
            with_one_root: Some(ratio(one_root)?),
            unit,
        })
    };
    let warm = |figure, goal, other: &Measured, value: Figure| {
        let measured = value(other)? / value(own)?;
        Ok::<_, anyhow::Error>(Goal { figure, goal, measured, with_one_root: None, unit: Unit::OneIn })
    };
    let plain = |figure, goal, measured, unit| Goal { figure, goal, measured, with_one_root: None, unit };
    let goals = [
        start("start → first answer, over the echo", 1.7, echo, &answered, Unit::Times)?,
        start("… of the tutorial's function", 12.0, tutorial, &answered, Unit::OneIn)?,
        start("… of Node.js", 54.0, node, &answered, Unit::OneIn)?,
        start("… of Python", 95.0, python, &answered, Unit::OneIn)?,
        start("the same at 128 MB, over the echo", 1.5, echo, &at_128_mb, Unit::Times)?,
        start("… of Node.js", 40.0, node, &at_128_mb, Unit::OneIn)?,
        start("… of Python", 70.0, python, &at_128_mb, Unit::OneIn)?,
        plain("warm p50, over the echo", 1.2, p50(own)? / p50(echo)?, Unit::Times),
        warm("… less the bare loop's, of Node.js", 8.0, node, &above_floor)?,
        warm("… less the bare loop's, of Python", 10.0, python, &above_floor)?,
        warm("CPU of warm requests, of Node.js", 7.0, node, &cpu)?,
        warm("… of Python", 7.0, python, &cpu)?,
        plain("memory after 1,000,000 requests", 8.0, mb(endured.peak_kib * 1024), Unit::Megabytes),
        plain("artifact", 7.5, mb(artifact.bytes), Unit::Megabytes),
        plain("artifact, zipped", 3.5, mb(artifact.deflated_bytes), Unit::Megabytes),
        plain("policy and signature, over the one HMAC of the policy", 3.0, policy / parts.ns(HMAC)?, Unit::Times),
        plain("… less the signing key", 3.0, (policy - parts.ns(SIGNING_KEY)?) / parts.ns(HMAC)?, Unit::Times),
        plain("… of Node.js", 15.0, parts.ns(POLICY_OF_NODE)? / policy, Unit::OneIn),
        plain("… of Python", 40.0, parts.ns(POLICY_OF_PYTHON)? / policy, Unit::OneIn),
        plain("connections to the Runtime API", 1.0, own.warm(|warm| warm.connections as f64)?, Unit::Count),
        plain("reads of the secret", 1.0, own.warm(|warm| warm.secret_reads as f64)?, Unit::Count),
    ];
    let mut table = "| figure | goal | measured | with one trusted root |\n| --- | --- | --- | --- |\n".to_owned();
    for goal in goals {
        writeln!(table, "{}", goal.row())?;
    }
    Ok(table)
}

/// Three digits, or whole numbers where there are more.
fn short(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[derive(Clone, Copy)]
struct Colours {
    text: &'static str,
    line: &'static str,
    own: &'static str,
    other: &'static str,
}

const LIGHT: Colours = Colours { text: "#1f2328", line: "#d1d9e0", own: "#0969da", other: "#8c959f" };
const DARK: Colours = Colours { text: "#e6edf3", line: "#3d444d", own: "#4493f8", other: "#768390" };

const WIDTH: f64 = 760.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 80.0;
const ROW: f64 = 34.0;
const TOP: f64 = 44.0;

/// Bars of the medians on a logarithmic scale, with the middle half of all starts as a line.
fn plot(results: &Results, colours: Colours) -> Result<String> {
    let rows: Vec<_> = results
        .candidates
        .iter()
        .map(|measured| Ok((measured.name.as_str(), until_answered(measured)?)))
        .collect::<Result<_>>()?;
    let highest = rows.iter().map(|(_, it)| it.high).fold(1.0, f64::max).log10().ceil();
    let lowest = rows.iter().map(|(_, it)| it.low).fold(f64::MAX, f64::min).log10().floor();
    let x = |value: f64| LEFT + (value.log10() - lowest) / (highest - lowest) * (WIDTH - LEFT - RIGHT);
    let height = TOP + ROW * rows.len() as f64 + 34.0;
    let Colours { text, line, own, other } = colours;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"14\" fill=\"{text}\">\n<title>Time from the start of a process to its first answer</title>\n\
         <text x=\"0\" y=\"18\" font-weight=\"600\">Start of the process to its first answer, median in ms \
         (logarithmic scale)</text>\n"
    );
    let bottom = height - 28.0;
    let mut decade = lowest;
    while decade <= highest {
        let (at, value) = (x(10_f64.powf(decade)), 10_f64.powf(decade));
        writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"{line}\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            height - 10.0
        )?;
        decade += 1.0;
    }
    for (number, (name, it)) in rows.iter().enumerate() {
        let y = TOP + ROW * number as f64 + 6.0;
        let (middle, colour) = (y + 11.0, if number == 0 { own } else { other });
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"22\" fill=\"{colour}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"{text}\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            y + 16.0,
            x(it.median) - LEFT,
            x(it.low),
            x(it.high),
            x(it.high) + 8.0,
            y + 16.0,
            short(it.median),
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
