"""Compares figures that do not depend on a machine's speed with their budget in benches/budget.json.

    budget.py check     fails if a figure is more than 5% above its budget
    budget.py write     writes a new budget
"""

import json
import pathlib
import subprocess
import sys
import zlib

BENCHES = pathlib.Path(__file__).resolve().parent
BUDGET = BENCHES / "budget.json"
ARTIFACT = BENCHES.parent / ".aws-sam/build/Function/bootstrap"
# With one trusted root, because the number of roots differs between machines.
COUNT = [BENCHES / "target/release/cold-start", "count", BENCHES / "candidates.json", "the same, one trusted root"]
CRATES = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]


def run(command):
    return subprocess.run(command, cwd=BENCHES.parent, check=True, stdout=subprocess.PIPE, text=True).stdout


if sys.argv[1:] not in (["check"], ["write"]):
    sys.exit(__doc__)
first, warm = run(COUNT).split()
figures = {
    "artifact, bytes": ARTIFACT.stat().st_size,
    "artifact, zipped": len(zlib.compress(ARTIFACT.read_bytes())),
    "linked crates": len(set(run(CRATES).split("\n")) - {""}) - 1,
    "instructions until the first answer": int(first),
    "instructions of a warm request": int(warm),
}
if sys.argv[1] == "write":
    BUDGET.write_text(json.dumps(figures, indent=2) + "\n")
budget = json.loads(BUDGET.read_text())
for name, figure in figures.items():
    print(f"{name}: {figure:,}, {figure / budget[name] - 1:+.1%} of the budget of {budget[name]:,}")
if any(figure > budget[name] * 1.05 for name, figure in figures.items()):
    sys.exit("more than 5% over the budget; if it is worth it, run `make budget WRITE=1` and say why")
