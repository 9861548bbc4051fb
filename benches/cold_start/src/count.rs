//! Instructions, which do not depend on the machine's mood: until the first answer, and for one more.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Bench, answered, candidates,
    process::{Candidate, found},
};

/// Enough that what happens once does not show.
const WARM_REQUESTS: u64 = 200;

/// Prints two numbers: the instructions until the first answer, and those of a warm request.
///
/// What callgrind has counted stays in `target/callgrind.*`, for `callgrind_annotate`.
pub async fn count(file: &Path, name: &str) -> Result<()> {
    let candidate = candidates(file)?.into_iter().find(|candidate| candidate.name == name);
    let candidate = candidate.with_context(|| format!("{} names no candidate `{name}`", file.display()))?;
    let bench = Bench::new(file).await?;
    let first = instructions(&bench, &candidate, 0).await?;
    let all = instructions(&bench, &candidate, WARM_REQUESTS).await?;
    ensure!(all > first, "more requests took fewer instructions: {first}, then {all}");
    println!("{first} {}", (all - first) / WARM_REQUESTS);
    Ok(())
}

async fn instructions(bench: &Bench, candidate: &Candidate, requests: u64) -> Result<u64> {
    let target = bench.folder.join("target");
    fs::create_dir_all(&target)?;
    let out = target.join(format!("callgrind.{requests}"));
    let program = candidate.command.first().context("the command is empty")?;
    let mut command = vec!["valgrind".to_owned(), "--tool=callgrind".to_owned(), "--quiet".to_owned()];
    command.push(format!("--callgrind-out-file={}", out.display()));
    command.push(found(program, &bench.folder).display().to_string());
    command.extend(candidate.command.iter().skip(1).cloned());
    let candidate = Candidate { command, ..candidate.clone() };

    let mut started = bench.start(&candidate, None).await?;
    for _ in 0..requests {
        bench.invoke(&started)?;
        answered(&mut started.runtime_api, &candidate).await?;
    }
    started.process.terminate().await?;
    let out = fs::read_to_string(&out).context("callgrind has written nothing")?;
    let total = out.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind has written no total")?.trim().parse()?)
}
