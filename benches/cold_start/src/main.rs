//! Measures how long Lambda functions take from their start to their first response, and what a warm request costs.

mod function;
mod report;
mod responses;
mod servers;

use std::{
    env, fs,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    path::{Path, absolute},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::sleep;

use crate::{
    function::{Candidate, Function, Surroundings},
    report::{Figures, Results, round},
};

const USAGE: &str = "usage:
  cold-start run FILE RESULTS [ROUNDS]   measure the candidates in FILE and write RESULTS, both JSON
  cold-start report PROJECT              update a project's documents and plots from its docs/cold-start.json
  cold-start count FILE NAME             count the instructions of one candidate in FILE";
const ROUNDS: usize = 30;
const WARM_ROUNDS: usize = 3;
/// Requests before the measured ones.
const WARM_UP_REQUESTS: usize = 500;
const WARM_REQUESTS: usize = 2000;
/// Enough requests to make one-time costs negligible.
const COUNTED_REQUESTS: i64 = 200;
/// The wait after a process asks for its first event: what it still does then belongs to the init phase, which has a
/// whole CPU.
const SETTLES_IN: Duration = Duration::from_millis(20);

type Samples = Figures<Vec<f64>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", file, results] => run(file.as_ref(), results.as_ref(), None).await,
        ["run", file, results, rounds] => {
            let rounds = rounds.parse().context("ROUNDS is not a number")?;
            run(file.as_ref(), results.as_ref(), Some(rounds)).await
        }
        ["report", project] => report::write(project.as_ref()),
        ["count", file, name] => count(file.as_ref(), name).await,
        _ => bail!(USAGE),
    }
}

/// Reads a candidates file, and changes to its folder, where the commands run.
fn read_candidates(file: &Path) -> Result<Vec<Candidate>> {
    let json = fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let candidates = serde_json::from_str(&json).with_context(|| format!("{} is not valid", file.display()))?;
    env::set_current_dir(absolute(file)?.parent().context("it is in no folder")?)?;
    Ok(candidates)
}

/// Measures all candidates. The million requests to the first one are left out if a number of rounds is given.
async fn run(file: &Path, results: &Path, given_rounds: Option<usize>) -> Result<()> {
    let results = absolute(results)?;
    let candidates = read_candidates(file)?;
    let surroundings = Surroundings::prepare().await?;
    let samples = |candidate: &Candidate| Samples { name: candidate.name.clone(), ..Samples::default() };
    let mut samples: Vec<_> = candidates.iter().map(samples).collect();
    // Programs that were just built must not have an advantage over those that are read from the disk.
    Command::new("sync").status()?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("could not empty the page cache; run this as root")?;
    let rounds = given_rounds.unwrap_or(ROUNDS);
    for round in 1..=rounds {
        println!("cold starts: round {round} of {rounds}");
        // Candidates take turns, so that other activity on the machine affects all of them. Each starts twice: with a
        // whole CPU, and with the share of 128 MB.
        for number in shuffle(round, candidates.len() * 2) {
            let (candidate, samples) = (&candidates[number / 2], &mut samples[number / 2]);
            let function = Function::start(candidate, &surroundings).await?;
            if number % 2 == 0 {
                measure_start(function, samples).await?;
            } else {
                measure_start_at_128_mb(function, samples).await?;
            }
        }
    }
    for round in 1..=WARM_ROUNDS {
        println!("warm requests: round {round} of {WARM_ROUNDS}");
        for (candidate, samples) in candidates.iter().zip(&mut samples) {
            measure_warm_requests(Function::start(candidate, &surroundings).await?, samples).await?;
        }
    }
    let memory_mb = match (candidates.first(), given_rounds) {
        (Some(first), None) => Some(measure_memory(Function::start(first, &surroundings).await?).await?),
        _ => None,
    };
    let candidates = samples.into_iter().map(Samples::summarize).collect();
    let run = Results { measured: describe_run()?, rounds, candidates, memory_mb };
    let json = serde_json::to_string_pretty(&run)? + "\n";
    // Only quartiles are indented by eight columns; this puts those of a figure on one line.
    let json = json.replace("[\n        ", "[").replace(",\n        ", ", ").replace("\n      ]", "]");
    fs::write(&results, json).with_context(|| format!("could not write {}", results.display()))?;
    let (cold, warm) = (report::format_cold_table(&run)?, report::format_warm_table(&run)?);
    println!("\n{cold}\n\n{warm}\n\nwrote {}", results.display());
    Ok(())
}

async fn measure_start(mut function: Function, samples: &mut Samples) -> Result<()> {
    sleep(SETTLES_IN).await;
    samples.next_ms.push(as_ms(function.asked_in));
    samples.response_ms.push(as_ms(function.asked_in + function.invoke().await?));
    function.stop().await
}

async fn measure_start_at_128_mb(mut function: Function, samples: &mut Samples) -> Result<()> {
    sleep(SETTLES_IN).await;
    function.limit_cpu()?;
    samples.response_at_128_mb_ms.push(as_ms(function.asked_in + function.invoke().await?));
    function.stop().await
}

async fn measure_warm_requests(mut function: Function, samples: &mut Samples) -> Result<()> {
    for _ in 0..WARM_UP_REQUESTS {
        function.invoke().await?;
    }
    let mut times_us = Vec::with_capacity(WARM_REQUESTS);
    for _ in 0..WARM_REQUESTS {
        times_us.push(as_ms(function.invoke().await?) * 1000.0);
    }
    times_us.sort_unstable_by(f64::total_cmp);
    samples.p50_us.push(times_us[WARM_REQUESTS / 2]);
    samples.p99_us.push(times_us[WARM_REQUESTS * 99 / 100]);
    samples.memory_mb.push(function.peak_memory_mb()?);
    function.stop().await
}

/// Reads the memory after 1,000 and after 1,000,000 requests.
async fn measure_memory(mut function: Function) -> Result<[f64; 2]> {
    println!("memory: 1,000,000 requests");
    let mut memory_mb = [0.0; 2];
    for (requests, memory_mb) in [1_000, 999_000].into_iter().zip(&mut memory_mb) {
        for _ in 0..requests {
            function.invoke().await?;
        }
        *memory_mb = round(function.peak_memory_mb()?);
    }
    function.stop().await?;
    Ok(memory_mb)
}

/// Prints two numbers: the instructions until the first response, and those of a warm request.
///
/// The last file that callgrind wrote stays in `target/`, for `callgrind_annotate`.
async fn count(file: &Path, name: &str) -> Result<()> {
    let candidate = read_candidates(file)?.into_iter().find(|candidate| candidate.name == name);
    let mut candidate = candidate.with_context(|| format!("there is no candidate `{name}`"))?;
    let valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=target/callgrind.out"];
    candidate.command.splice(..0, valgrind.map(str::to_owned));
    let surroundings = Surroundings::prepare().await?;
    let mut totals = [0; 2];
    for (requests, total) in [1, 1 + COUNTED_REQUESTS].into_iter().zip(&mut totals) {
        let mut function = Function::start(&candidate, &surroundings).await?;
        for _ in 0..requests {
            function.invoke().await?;
        }
        // SIGTERM, unlike SIGKILL, lets valgrind write its file.
        Command::new("kill").arg(function.id.to_string()).status()?;
        function.process.wait().await?;
        let counts = fs::read_to_string("target/callgrind.out").context("callgrind wrote nothing")?;
        let line = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        *total = line.context("callgrind wrote no total")?.trim().parse()?;
    }
    let [first, all] = totals;
    ensure!(all > first, "more requests took fewer instructions: {first}, then {all}");
    println!("{first} {}", (all - first) / COUNTED_REQUESTS);
    Ok(())
}

/// Returns the numbers below `count`, in a different order each round.
fn shuffle(round: usize, count: usize) -> Vec<usize> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut numbers: Vec<_> = (0..count).collect();
    numbers.sort_unstable_by_key(|number| hasher.hash_one((round, number)));
    numbers
}

/// Returns the date, the CPU and the kernel.
fn describe_run() -> Result<String> {
    let script = r#"echo "$(date -u +%F), $(sed -n '/^model name/ { s/.*: //p; q }' /proc/cpuinfo), $(uname -sr)""#;
    Ok(String::from_utf8(Command::new("sh").args(["-c", script]).output()?.stdout)?.trim().to_owned())
}

fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
