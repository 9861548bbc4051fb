//! The documents say what the code does: the settings and their defaults are the same in `Config` and in the README.
//!
//! Not here: the template, which `template` reads.

use presigned_upload::config::Config;

use crate::fixture::read;

/// The settings and their defaults, as the code has them.
fn settings() -> Vec<(String, String)> {
    let setting = |name: &str, default: Option<&str>| (name.to_owned(), default.unwrap_or("required").to_owned());
    Config::VARIABLES.iter().map(|variable| setting(variable.name, variable.default)).collect()
}

/// The first and the last cell of each row of the table under a heading of the README, without their backticks.
fn table(readme: &str, heading: &str) -> Vec<(String, String)> {
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).unwrap();
    section
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '`'])).collect();
            (cells[0].to_owned(), cells[cells.len() - 1].to_owned())
        })
        .collect()
}

#[test]
fn readme_lists_the_settings_with_their_defaults() {
    assert_eq!(table(&read("README.md"), "## Settings"), settings());
}
