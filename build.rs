//! Links the function to a fixed address: what has nothing to relocate starts faster, and takes a megabyte less of memory.
//!
//! It is what `-C relocation-model=static` is for, which a dependency that is a shared library as well (`crc-fast`) does
//! not take.

#![expect(clippy::disallowed_methods, reason = "what is built is said in the environment")]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
