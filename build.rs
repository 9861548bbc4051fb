//! Links the function at a fixed address, so that nothing has to be relocated at startup.
//!
//! `-C relocation-model=static` would do the same, but fails for glibc, which the tests use: the dependency `crc-fast`
//! is also built as a shared library, which must be relocatable.

#![expect(clippy::disallowed_methods, reason = "cargo passes the target in the environment")]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
