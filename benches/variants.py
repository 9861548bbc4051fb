"""Builds the function in other ways, measures them all in one run, and writes the table into docs/performance.md."""

import json
import statistics
import subprocess
import tomllib

import common

FOLDER = common.PROJECT / "target" / "variants"
ROUNDS = 60
PACKAGES = tomllib.loads((common.PROJECT / "Cargo.toml").read_text())["profile"]["release"]["package"]


def opt_level(level):
    """The same level for every crate."""
    return [f"profile.release.opt-level={level}", *(f'profile.release.package."{it}".opt-level={level}' for it in PACKAGES)]


# What each is called, the settings of cargo that make it, and its target.
VARIANTS = [
    ("as it is", [], common.MUSL),
    ("`opt-level = 3` for every crate", opt_level("3"), common.MUSL),
    ('`opt-level = "s"` for every crate', opt_level('"s"'), common.MUSL),
    ("with the system's C library", [], common.GLIBC),
]


def main():
    candidates = []
    for number, (name, settings, target) in enumerate(VARIANTS):
        print(f"building: {name} (some minutes the first time)", flush=True)
        program = common.build(FOLDER / str(number), settings, target)
        candidates.append({"name": name, "command": [program], "answers": "presigned_post", "artifact": program})
    file, results = FOLDER / "candidates.json", FOLDER / "results.json"
    file.write_text(json.dumps(candidates))
    subprocess.run(["taskset", "--cpu-list", "0", common.HARNESS, "run", file, results, str(ROUNDS)], check=True)

    run = json.loads(results.read_text())
    table = "| | start → first answer | warm p50 | memory | artifact |\n| --- | --- | --- | --- | --- |\n"
    as_it_is = None
    for it in run["candidates"]:
        answered = statistics.median(cold["until_answered_ms"] for cold in it["cold"])
        p50 = statistics.median(warm["p50_us"] for warm in it["warm"])
        memory = statistics.median(warm["peak_kib"] for warm in it["warm"]) * 1024 / 1e6
        as_it_is = as_it_is or (answered, p50)
        ratios = f"{answered / as_it_is[0]:.2f} | {p50 / as_it_is[1]:.2f}"
        table += f"| {it['name']} | {ratios} | {memory:.1f} MB | {it['artifact']['bytes'] / 1e6:.2f} MB |\n"
    table += f"\nTimes as ratios; medians of {ROUNDS} starts and 3 warm processes, {run['date']}, {run['machine']}."
    common.write_table("variants", "variants", table)


if __name__ == "__main__":
    main()
