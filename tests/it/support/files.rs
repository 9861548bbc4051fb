//! The files of the project.

use std::path::Path;

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Value, json};

/// Reads a file; its path is relative to the project's folder.
#[track_caller]
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Parses a YAML document as JSON; CloudFormation's short tags become the long form (`{"Fn::Sub": ..}`).
#[track_caller]
pub(crate) fn yaml(text: &str) -> Value {
    let [document] = &Yaml::load_from_str(text).unwrap()[..] else { panic!("expected one document") };
    from_yaml(document)
}

#[track_caller]
fn from_yaml(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(from_yaml).collect(),
        Yaml::Mapping(members) => members.iter().map(|(name, it)| (name.as_str().unwrap(), from_yaml(it))).collect(),
        Yaml::Tagged(tag, value) => match tag.suffix.as_str() {
            name @ ("Ref" | "Condition") => json!({ name: from_yaml(value) }),
            name => json!({ format!("Fn::{name}"): from_yaml(value) }),
        },
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => panic!("unexpected {yaml:?}"),
    }
}
