//! The documents say what the code does: the settings are the same in `Config`, in the README and in the template.

use std::{collections::BTreeSet, fs, path::Path};

use presigned_upload::config::Config;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
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

/// The names under `Variables:` in the template.
fn template_variables(template: &str) -> BTreeSet<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = template.lines().skip_while(|line| line.trim() != "Variables:");
    let outer = indent(lines.next().unwrap());
    lines
        .take_while(|line| indent(line) > outer)
        .map(|line| line.trim().split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn readme_lists_the_settings_with_their_defaults() {
    let expected: Vec<_> = Config::VARIABLES
        .iter()
        .map(|variable| (variable.name.to_owned(), variable.default.unwrap_or("required").to_owned()))
        .collect();

    assert_eq!(table(&read("README.md"), "## Settings"), expected);
}

#[test]
fn template_sets_the_settings_and_no_others() {
    let expected: BTreeSet<_> = Config::VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();

    assert_eq!(template_variables(&read("template.yaml")), expected);
}
