"""Counts which crate the instructions of a cold start and of a warm request are spent in, and writes the table into
docs/performance.md. The function is built as for a release, but with the names of its source files in it.
"""

import collections
import datetime
import json
import re
import subprocess

import common

FOLDER = common.PROJECT / "target" / "profile"
SETTINGS = ["profile.release.strip=false", 'profile.release.debug="line-tables-only"']
WARM_REQUESTS = 200
ROWS = 14


def crate(source):
    """What a source file belongs to: a crate, or a library below all of them."""
    if of_registry := re.search(r"/registry/src/[^/]+/(.+?)-\d+\.\d+\.\d+[^/]*/", source):
        return of_registry[1]
    if "/rustc/" in source or source.startswith("/rust/deps/"):
        return "Rust's standard library"
    if source.endswith(".rs"):
        return "presigned-upload"
    return "unknown" if source == "???" else "the C library"


def counted(out):
    """Instructions by crate of callgrind's file: <https://valgrind.org/docs/manual/cl-format.html>."""
    instructions = collections.Counter()
    files = {}
    source = ""
    is_of_a_callee = False
    for line in (FOLDER / "target" / out).read_text().splitlines():
        if file := re.match(r"(c?)f[lie]=\((\d+)\)(?: (.*))?", line):
            of_a_callee, number, name = file.groups()
            named = files.setdefault(number, name)
            source = source if of_a_callee else named
        elif line.startswith("calls="):
            is_of_a_callee = True
        elif re.match(r"[+\-*\d]", line):
            if not is_of_a_callee:
                instructions[crate(source)] += int(line.split()[1])
            is_of_a_callee = False
    return instructions


def count(candidates, name):
    """What a candidate's first answer takes, and each of its warm requests."""
    subprocess.run([common.HARNESS, "count", candidates, name], check=True, stdout=subprocess.DEVNULL)
    first, all_of_them = counted("callgrind.0"), counted(f"callgrind.{WARM_REQUESTS}")
    # The start itself varies by some instructions: none of a warm request's are below zero.
    return first, {crate: max(0, all_of_them[crate] - first[crate]) // WARM_REQUESTS for crate in all_of_them}


def main():
    print("building with symbols (some minutes the first time)", flush=True)
    program = {"command": [common.build(FOLDER, SETTINGS)], "answers": "presigned_post"}
    candidates = FOLDER / "candidates.json"
    one_root = {**program, "name": "one root", "environment": [["SSL_CERT_FILE", "{ours}"]]}
    candidates.write_text(json.dumps([{**program, "name": "all roots"}, one_root]))
    print("counting, with callgrind", flush=True)
    with_all, warm = count(candidates, "all roots")
    with_one, _ = count(candidates, "one root")

    shown = [crate for crate, _ in (with_all + with_one).most_common(ROWS)]
    columns = [with_all, with_one, warm]
    rows = [[crate, *(column.get(crate, 0) for column in columns)] for crate in shown]
    sums = [sum(column.values()) for column in columns]
    rows.append(["the rest", *(total - sum(row[n + 1] for row in rows) for n, total in enumerate(sums))])
    rows.append(["**together**", *sums])
    table = "| crate | first answer, system's roots | first answer, one root | a warm request |\n| --- | --- | --- | --- |\n"
    table += "".join(f"| {row[0]} | " + " | ".join(f"{it:,}" for it in row[1:]) + " |\n" for row in rows)
    rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    table += f"\nInstructions, {datetime.date.today()}, {rustc.split(' (')[0]}."
    common.write_table("instructions", "profile", table)


if __name__ == "__main__":
    main()
