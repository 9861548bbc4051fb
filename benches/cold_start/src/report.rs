//! The table and the plots of a run, made from its own JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{Cold, Measured, Results, Warm};

const BEGIN: &str = "<!-- cold start: made by `make bench` from docs/cold-start.json -->";
const END: &str = "<!-- cold start: end -->";

/// Writes `docs/cold-start-light.svg` and `docs/cold-start-dark.svg` of a project, and the table into its documents.
pub fn write(results: &Path, project: &Path) -> Result<()> {
    let results: Results = serde_json::from_str(&fs::read_to_string(results)?)?;
    for (name, colours) in [("light", LIGHT), ("dark", DARK)] {
        let path = project.join(format!("docs/cold-start-{name}.svg"));
        fs::write(&path, plot(&results, colours)?)?;
        println!("written: {}", path.display());
    }
    let table = table(&results)?;
    for (document, folder) in [("README.md", "docs/"), ("docs/performance.md", "")] {
        let path = project.join(document);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{document} has no `{BEGIN}`"))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("{document} has no `{END}`"))?;
        let picture = format!(
            "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{folder}cold-start-dark.svg\">\n  \
             <img alt=\"Time from the start of a process to its first answer\" src=\"{folder}cold-start-light.svg\">\n\
             </picture>"
        );
        fs::write(&path, format!("{before}{BEGIN}\n\n{picture}\n\n{table}\n{END}{after}"))?;
        println!("written: {}", path.display());
    }
    Ok(())
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

fn table(results: &Results) -> Result<String> {
    let first = results.candidates.first().context("there are no candidates")?;
    let own = until_answered(first)?.median;
    let mut table = String::new();
    writeln!(
        table,
        "| | start → first answer | ratio | at 128 MB | warm p50 | warm p99 | CPU for 1,000 | memory | page faults | threads | artifact |"
    )?;
    writeln!(table, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for measured in &results.candidates {
        let cold = |figure: fn(&Cold) -> f64| spread(&measured.cold, figure);
        let warm = |figure: fn(&Warm) -> f64| spread(&measured.warm, figure);
        let answered = until_answered(measured)?;
        let at_128_mb = spread(&measured.cold_at_128_mb, |cold| cold.until_answered_ms)?;
        writeln!(
            table,
            "| {} | {} ms ({} to {}) | {} | {} ms | {:.0} µs | {:.0} µs | {:.0} ms | {:.1} MB | {:.0} | {:.0} | {} |",
            measured.name,
            short(answered.median),
            short(answered.low),
            short(answered.high),
            short(answered.median / own),
            short(at_128_mb.median),
            warm(|it| it.p50_us)?.median,
            warm(|it| it.p99_us)?.median,
            warm(|it| it.cpu_ms_for_1000)?.median,
            warm(|it| it.peak_kib as f64)?.median * 1024.0 / 1e6,
            cold(|it| it.page_faults as f64)?.median,
            cold(|it| it.threads as f64)?.median,
            measured.artifact_bytes.map_or_else(String::new, |bytes| format!("{:.2} MB", bytes as f64 / 1e6)),
        )?;
    }
    writeln!(
        table,
        "\n{}, {}; medians of {} starts and of {} warm processes, in brackets the middle half. All processes and the \
         servers share one CPU.",
        results.date,
        results.machine,
        results.rounds,
        first.warm.len(),
    )?;
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
