//! Links the function to a fixed address, so that there is nothing to relocate at its start.
//!
//! Not by `-C relocation-model=static`: in a build for glibc, as the tests are, a dependency is a shared library as well
//! (`crc-fast`), which cannot be built so.

#![expect(clippy::disallowed_methods, reason = "what is built is said in the environment")]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
