"""Writes a release to dist/ (make package): what is needed to deploy the function without building it.

    package.py FOLDER       from FOLDER/x86_64/bootstrap and FOLDER/arm64/bootstrap

Nothing in dist/ depends on the folder, the user or the time: the same commit and the same tools give the same bytes.
"""

import collections
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import ziglang

PROJECT = pathlib.Path(__file__).resolve().parent.parent
DIST = PROJECT / "dist"
VERSION = tomllib.loads((PROJECT / "Cargo.toml").read_text())["package"]["version"]
NAME = f"presigned-upload-{VERSION}"
TARGETS = {"x86_64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}
METADATA = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform"]
RULE = "=" * 80
LICENSE = re.compile("(un)?licen[cs]e|notice|copying|copyright", re.IGNORECASE)

# The Serverless Application Repository reads this.
APPLICATION = f"""\
  AWS::ServerlessRepo::Application:
    Name: presigned-upload
    Description: Grants presigned S3 uploads to callers with an API key
    Author: presigned-upload
    SemanticVersion: {VERSION}
    SpdxLicenseId: Apache-2.0
    LicenseUrl: LICENSE
    ReadmeUrl: README.md
    Labels: [s3, upload, presigned-url, rust]
"""


def output(*command):
    return subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_zip(path, files):
    """Writes a zip that has the same bytes for the same files, given as a dictionary of names to contents."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # with a date of 1980
            entry.create_system = 3  # Unix, which makes Lambda apply the permissions
            entry.external_attr = (0o100755 if name == "bootstrap" else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def replaced(text, changes):
    """Returns a text in which each old part, which must occur exactly once, is replaced with a new one."""
    for old, new in changes.items():
        if text.count(old) != 1:
            sys.exit(f"template.yaml contains {old!r} {text.count(old)} times; package.py expects it once")
        text = text.replace(old, new)
    return text


def function(block, logical_id, condition, architecture):
    """Returns the function of template.yaml for one architecture, created only under a condition."""
    changes = {
        "  Function:\n": f"  {logical_id}:\n    Condition: {condition}\n",
        "      BuildMethod: makefile # build-Function in the Makefile; rust-cargolambda cannot set the target\n": "",
        "CodeUri: .\n": f"CodeUri: {NAME}-{architecture}.zip\n",
        "!Ref Architecture": architecture,
    }
    return replaced(block, changes)


def template():
    """Returns template.yaml with a function for each architecture, of which a stack has one.

    A single function cannot choose between two zips, because sam and `aws cloudformation package` upload a `CodeUri`
    only if it is plain text. The function for x86_64 keeps its logical id, so that a stack that was deployed from
    source keeps its function.
    """
    text = (PROJECT / "template.yaml").read_text()
    block = re.search(r"\n  Function:\n(?:    .*\n)+", text)[0]
    architecture = """\
    Description: >-
      Processor architecture of the function. It must match the build, for example make deploy ARCHITECTURE=arm64 or
      ARCHITECTURE=arm64 sam build.
"""
    conditions = """\
Conditions:
  IsArm64: !Equals [!Ref Architecture, arm64]
  IsX8664: !Equals [!Ref Architecture, x86_64]
"""
    changes = {
        "\nMetadata:\n": f"\nMetadata:\n{APPLICATION}\n",
        architecture: "    Description: Processor architecture of the function. A change replaces the function.\n",
        "Conditions:\n": conditions,
        block: function(block, "Function", "IsX8664", "x86_64") + function(block, "FunctionArm64", "IsArm64", "arm64"),
    }
    either = r"!If [IsArm64, !\1 FunctionArm64\2, !\1 Function\2]"
    return re.sub(r"!(Ref|GetAtt) Function(\.Arn)?\b", either, replaced(text, changes))


def linked_packages():
    """Returns the packages that are linked into the function, on either architecture."""
    linked = {}
    for target in TARGETS.values():
        metadata = json.loads(output(*METADATA, target))
        packages = {package["id"]: package for package in metadata["packages"]}
        dependencies = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
        pending = [metadata["resolve"]["root"]]
        while pending:
            for dependency in dependencies[pending.pop()]:
                package = packages[dependency["pkg"]]
                is_linked = any(it["kind"] is None for it in dependency["dep_kinds"])
                is_macro = any("proc-macro" in it["kind"] for it in package["targets"])
                if is_linked and not is_macro and package["id"] not in linked:
                    linked[package["id"]] = package
                    pending.append(package["id"])
    return sorted(linked.values(), key=lambda package: (package["name"], package["version"]))


def licenses():
    """Returns the licences of what is linked: each text once, after the names of what it applies to."""
    names = collections.defaultdict(list)
    for package in linked_packages():
        folder = pathlib.Path(package["manifest_path"]).parent
        files = [it for it in sorted(folder.iterdir()) if it.is_file() and LICENSE.match(it.name)]
        # A few packages contain no licence, only the name of one.
        without = PROJECT / ("release/MIT.txt" if package["license"] == "MIT" else "LICENSE")
        for file in files or [without]:
            name = f"{package['name']} {package['version']} ({package['license']})"
            names[file.read_text().strip()].append(name)
    zig = pathlib.Path(ziglang.__file__).parent
    names[(zig / "lib/libc/musl/COPYRIGHT").read_text().strip()].append("musl, the C library")
    names[(zig / "LICENSE").read_text().strip()].append("Zig, whose compiler-rt is linked")
    text = "The function contains the following, and the standard library of Rust (RUST-LICENSES.html).\n"
    for license, applies_to in names.items():
        text += "\n".join(["", RULE, *applies_to, RULE, "", license, ""])
    return text


def main(builds):
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for architecture in TARGETS:
        binary = (builds / architecture / "bootstrap").read_bytes()
        write_zip(DIST / f"{NAME}-{architecture}.zip", {"bootstrap": binary})
    (DIST / "template.yaml").write_text(template())
    (DIST / "THIRD-PARTY-LICENSES.txt").write_text(licenses())
    library = pathlib.Path(output("rustc", "--print", "sysroot").strip(), "share/doc/rust/COPYRIGHT-library.html")
    shutil.copyfile(library, DIST / "RUST-LICENSES.html")
    for path in ("LICENSE", "openapi.yaml", "samconfig.toml", "release/README.md"):
        shutil.copyfile(PROJECT / path, DIST / pathlib.Path(path).name)
    files = {path.name: path.read_bytes() for path in sorted(DIST.iterdir())}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    (DIST / "SHA256SUMS").write_text(sums)
    files["SHA256SUMS"] = sums.encode()
    write_zip(DIST / f"{NAME}.zip", {f"{NAME}/{name}": content for name, content in files.items()})


main(pathlib.Path(sys.argv[1]))
