//! The documents say what the code does: the settings and their defaults are the same in `Config`, in the README and in
//! the template.

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

/// The names under `Variables:` in the template, each with the default of the parameter that it refers to.
fn template_variables(template: &str) -> Vec<(String, String)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (parameters, resources) = template.split_once("\nResources:\n").unwrap();
    let mut lines = resources.lines().skip_while(|line| line.trim() != "Variables:");
    let outer = indent(lines.next().unwrap());
    lines
        .take_while(|line| indent(line) > outer)
        .map(|line| {
            let (name, parameter) = line.trim().split_once(": !Ref ").unwrap();
            (name.to_owned(), parameter_default(parameters, parameter).unwrap_or("required").to_owned())
        })
        .collect()
}

/// The default of a parameter; nothing where the name is that of a resource, which a stack makes itself.
fn parameter_default<'a>(parameters: &'a str, parameter: &str) -> Option<&'a str> {
    let (_, section) = parameters.split_once(&format!("\n  {parameter}:\n"))?;
    let mut lines = section.lines().take_while(|line| line.starts_with("    "));
    lines.find_map(|line| line.trim().strip_prefix("Default: ")).map(|default| default.trim_matches('"'))
}

#[test]
fn readme_lists_the_settings_with_their_defaults() {
    assert_eq!(table(&read("README.md"), "## Settings"), settings());
}

#[test]
fn template_sets_the_settings_with_their_defaults_and_no_others() {
    assert_eq!(template_variables(&read("template.yaml")), settings());
}
