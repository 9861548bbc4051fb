"""What the scripts of this folder share: where things are, a build of the function in another way, and where a table goes."""

import os
import pathlib
import platform
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parent.parent
HARNESS = PROJECT / "benches" / "cold_start" / "target" / "release" / "cold-start"
DOCUMENT = PROJECT / "docs" / "performance.md"
MUSL, GLIBC = (f"{platform.machine()}-unknown-linux-{libc}" for libc in ("musl", "gnu"))


def build(folder, settings, target=MUSL):
    """Builds the function as `make build` does, but in a folder and with settings of cargo of its own."""
    command = ["cargo", "lambda", "build", "--locked", "--release", "--target", target]
    path = f"{PROJECT / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CARGO_TARGET_DIR": str(folder)}
    subprocess.run([*command, *(f"--config={it}" for it in settings)], cwd=PROJECT, env=environment, check=True)
    return str(folder / "lambda" / "presigned-upload" / "bootstrap")


def write_table(place, maker, table):
    """Puts a table between the two comments of docs/performance.md that name its place, and prints it."""
    begin, end = f"<!-- {place}: made by `make {maker}` -->", f"<!-- {place}: end -->"
    before, rest = DOCUMENT.read_text().split(begin)
    after = rest.split(end)[1]
    DOCUMENT.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
    print(table)
