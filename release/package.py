"""Writes dist/, a release that can be deployed without building anything (make package).

    package.py FOLDER       from FOLDER/x86_64/bootstrap and FOLDER/arm64/bootstrap

Nothing in dist/ depends on the folder, the user or the time: the same commit and the same tools give the same bytes.
"""

import collections
import hashlib
import json
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
import zlib
from importlib.metadata import version

import ziglang

PROJECT = pathlib.Path(__file__).resolve().parent.parent
DIST = PROJECT / "dist"
VERSION = tomllib.loads((PROJECT / "Cargo.toml").read_text())["package"]["version"]
NAME = f"presigned-upload-{VERSION}"
TARGETS = {"x86_64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}
# The machine in the header of an ELF file: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
MACHINES = {"x86_64": b"\x3e\x00", "arm64": b"\xb7\x00"}
TREE = ["cargo", "tree", "--locked", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}", "--target"]
RULE = "=" * 80
LICENSE = re.compile(r"(un)?licen[cs]e|notice|copying|copyright", re.IGNORECASE)

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
    block = re.search(r"\n  Function:\n(?:    .*\n|\n(?=    ))+", text)[0]
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
    text = replaced(text, changes)
    if found := re.search(r"\$\{Function[.}]|DependsOn:.*\bFunction\b|!GetAtt Function\.(?!Arn\b)", text):
        sys.exit(f"template.yaml contains {found[0]!r}; package.py expects only !Ref Function and !GetAtt Function.Arn")
    return re.sub(r"!(Ref|GetAtt) Function(\.Arn)?\b", r"!If [IsArm64, !\1 FunctionArm64\2, !\1 Function\2]", text)


def linked_packages():
    """Returns the packages that are linked into the function, on either architecture, by name and version."""
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version=1"))
    packages = {f"{package['name']} v{package['version']}": package for package in metadata["packages"]}
    trees = (output(*TREE, target).splitlines() for target in TARGETS.values())
    # The project itself is listed with its folder, and packages that occur again with a mark.
    names = {" ".join(line.split()[:2]) for tree in trees for line in tree}
    return {name: packages[name] for name in sorted(names - {f"presigned-upload v{VERSION}"})}


def license_files(package):
    """Returns the licences in a package, those of code that it has copied among them."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and LICENSE.match(file.name))
    if found := [file for file in files if "tests" not in file.relative_to(folder).parts]:
        return found
    # A few packages contain no licence, only the name of one.
    if "Apache-2.0" in package["license"].split(" OR "):
        return [PROJECT / "LICENSE"]
    if package["license"] == "MIT":
        return [PROJECT / "release" / "MIT.txt"]
    sys.exit(f"{package['name']} contains no text of its licence, {package['license']}")


def licenses():
    """Returns the licences of what is linked: each text once, after the names of what it applies to."""
    zig = pathlib.Path(ziglang.__file__).parent
    names = collections.defaultdict(list)
    for name, package in linked_packages().items():
        for file in license_files(package):
            names[file.read_text().strip()].append(f"{name} ({package['license']})")
    for name, file in [
        ("musl", "lib/libc/musl/COPYRIGHT"),
        ("LLVM libunwind", "lib/libunwind/LICENSE.TXT"),
        ("Zig compiler-rt", "LICENSE"),
    ]:
        names[(zig / file).read_text().strip()].append(name)
    python = f"Python {platform.python_version()} with zlib {zlib.ZLIB_RUNTIME_VERSION}"
    text = f"""\
presigned-upload {VERSION} was built with {output("rustc", "--version").strip()}, Zig {version("ziglang")}, and packed
with {python}, on {platform.system()} {platform.machine()}.

It contains the following, and the standard library of Rust (RUST-LICENSES.html).
"""
    for license, applies_to in names.items():
        text += "\n".join(["", RULE, *applies_to, RULE, "", license, ""])
    return text


def warn_unless_released():
    """Warns if the files are not those of the version that they are named after."""
    command = ["git", "describe", "--exact-match", "--dirty", "--match", f"v{VERSION}"]
    described = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True).stdout.strip()
    if described != f"v{VERSION}":
        print(f"warning: this is not the commit of v{VERSION}; to package that, run `git checkout v{VERSION}` first")


def main(builds):
    warn_unless_released()
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for architecture in TARGETS:
        binary = (builds / architecture / "bootstrap").read_bytes()
        if binary[18:20] != MACHINES[architecture]:
            sys.exit(f"{builds / architecture / 'bootstrap'} is not a program for {architecture}")
        write_zip(DIST / f"{NAME}-{architecture}.zip", {"bootstrap": binary})
    (DIST / "template.yaml").write_text(template())
    (DIST / "THIRD-PARTY-LICENSES.txt").write_text(licenses())
    library = pathlib.Path(output("rustc", "--print", "sysroot").strip(), "share/doc/rust/COPYRIGHT-library.html")
    shutil.copyfile(library, DIST / "RUST-LICENSES.html")
    for path in ("LICENSE", "openapi.yaml", "release/README.md", "release/samconfig.toml"):
        shutil.copyfile(PROJECT / path, DIST / pathlib.Path(path).name)
    files = {path.name: path.read_bytes() for path in sorted(DIST.iterdir())}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    (DIST / "SHA256SUMS").write_text(sums)
    files["SHA256SUMS"] = sums.encode()
    write_zip(DIST / f"{NAME}.zip", {f"{NAME}/{name}": content for name, content in files.items()})


main(pathlib.Path(sys.argv[1]))
