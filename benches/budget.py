"""What a cold start costs in figures that no x86_64 machine changes, held to benches/budget.json with 5 % of room.

    budget.py check     fails where a figure is above its budget, and says by how much
    budget.py write     makes the budget of what is measured now
"""

import json
import subprocess
import sys
import zlib

import common

BUDGET = common.PROJECT / "benches" / "budget.json"
CANDIDATES = common.PROJECT / "benches" / "cold_start" / "candidates.json"
ARTIFACT = common.PROJECT / ".aws-sam" / "build" / "Function" / "bootstrap"
ROOM = 0.05


def output(*command):
    return subprocess.run(command, cwd=common.PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout


def measured():
    crates = output("cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe")
    # With one trusted root: how many a machine trusts is its own affair.
    candidate = "the same, one trusted root"
    count = output(common.HARNESS, "count", CANDIDATES, candidate)
    first, warm = count.split()
    return {
        "artifact, bytes": ARTIFACT.stat().st_size,
        "artifact, zipped": len(zlib.compress(ARTIFACT.read_bytes())),
        "linked crates": len(set(crates.split("\n")) - {""}) - 1,
        "instructions until the first answer": int(first),
        "instructions of a warm request": int(warm),
    }


def main():
    match sys.argv[1:]:
        case ["check"]:
            budget = json.loads(BUDGET.read_text())
            figures = measured()
            if figures.keys() != budget.keys():
                sys.exit("the budget is one of other figures; make budget WRITE=1 makes a new one")
            is_over = False
            for name, figure in figures.items():
                over = figure / budget[name] - 1
                is_over |= over > ROOM
                print(f"{'OVER' if over > ROOM else 'ok':5}{name}: {figure:,}, {over:+.1%} of the budget of {budget[name]:,}")
            if is_over:
                sys.exit(f"more than {ROOM:.0%} above the budget; if it is worth it: make budget WRITE=1, and say why")
        case ["write"]:
            BUDGET.write_text(json.dumps(measured(), indent=2) + "\n")
            print(BUDGET.read_text(), end="")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
