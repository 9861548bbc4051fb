//! The template has none of the faults that a deploy takes without a word: routes that never come to be, stages that
//! turn every request away, rights that are too wide, files and logs that stay for ever, settings that nobody reads.
//!
//! The rules come first; then each of them is shown the template with one text of it replaced.

use std::{iter, time::UNIX_EPOCH};

use presigned_upload::{
    config::Config,
    metrics::{NAMESPACE, RequestMetrics},
};
use serde_json::{Value, json};

use crate::fixture::{read, yaml};

/// X-Ray has no resources to name.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html>
const ACTIONS_WITHOUT_RESOURCE: [&str; 2] = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"];

/// The one resource with a wildcard that is allowed: the uploads.
const UPLOADS: &str = "${Bucket.Arn}/${UploadPrefix}*";

/// What is wrong with a template, each fault behind the logical id of its resource.
fn faults(template: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, resource) in members(&template["Resources"]) {
        let properties = &resource["Properties"];
        let mut found = paths(properties);
        found.extend(match resource["Type"].as_str().unwrap() {
            "AWS::ApiGatewayV2::Stage" => throttling(properties),
            "AWS::CloudWatch::Alarm" => unknown_metrics(alarm_metrics(properties)),
            "AWS::CloudWatch::Dashboard" => unknown_metrics(dashboard_metrics(properties)),
            "AWS::Logs::LogGroup" => log_retention(properties),
            "AWS::S3::Bucket" => lifecycle(properties),
            "AWS::S3::BucketPolicy" => bucket_policy(properties),
            "AWS::Serverless::Api" | "AWS::Serverless::HttpApi" => vec!["leaves an API to SAM".to_owned()],
            "AWS::Serverless::Function" => [function(properties), settings(template, properties)].concat(),
            _ => policies(properties),
        });
        faults.extend(found.iter().map(|fault| format!("{id} {fault}")));
    }
    faults
}

/// Where only one limit is set, several tools send the other as 0, and every request gets a 429.
fn throttling(stage: &Value) -> Vec<String> {
    let limits = ["ThrottlingRateLimit", "ThrottlingBurstLimit"].into_iter();
    let missing = limits.filter(|limit| stage["DefaultRouteSettings"][limit].is_null());
    missing.map(|limit| format!("has no {limit}")).collect()
}

fn log_retention(log_group: &Value) -> Vec<String> {
    log_group["RetentionInDays"].is_null().then(|| "has no RetentionInDays".to_owned()).into_iter().collect()
}

fn lifecycle(bucket: &Value) -> Vec<String> {
    let rules = bucket["LifecycleConfiguration"]["Rules"].as_array().into_iter().flatten();
    let rules = rules.filter(|rule| rule["Status"] == "Enabled" && rule["Prefix"] == json!({ "Ref": "UploadPrefix" }));
    let actions = ["ExpirationInDays", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"].into_iter();
    let missing = actions.filter(|action| rules.clone().all(|rule| rule[action].is_null()));
    missing.map(|action| format!("has no enabled {action} for the uploads")).collect()
}

fn bucket_policy(bucket_policy: &Value) -> Vec<String> {
    allow_statements(bucket_policy).map(|_| "has a statement that does not deny".to_owned()).collect()
}

/// SAM gives managed policies to a function without a role. To an event of an API without one it gives an API, which has
/// no routes on the local emulator and a stage without limits.
fn function(function: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if function["Role"]["Fn::GetAtt"].is_null() || !function["Policies"].is_null() {
        faults.push("leaves its policies to SAM".to_owned());
    }
    if members(&function["Events"]).any(|(_, event)| event["Type"] == "Api" || event["Type"] == "HttpApi") {
        faults.push("leaves an API to SAM".to_owned());
    }
    faults
}

/// The environment has each setting of the code, with its default, and no other.
fn settings(template: &Value, function: &Value) -> Vec<String> {
    let variables = &function["Environment"]["Variables"];
    let unknown = members(variables).filter(|(name, _)| Config::VARIABLES.iter().all(|it| it.name != *name));
    let unknown = unknown.map(|(name, _)| format!("sets {name}, which the code does not read"));
    let wrong = Config::VARIABLES.iter().filter_map(|variable| {
        let name = variable.name;
        let Some(value) = variables.get(name) else { return Some(format!("does not set {name}")) };
        let value = value["Ref"].as_str().map_or(value, |parameter| &template["Parameters"][parameter]["Default"]);
        let here = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            // What a stack makes itself has no default.
            Value::Null | Value::Array(_) | Value::Object(_) => "nothing".to_owned(),
        };
        let there = variable.default.unwrap_or("nothing");
        (here != there).then(|| format!("sets {name} to {here} by default, and the code to {there}"))
    });
    unknown.chain(wrong).collect()
}

/// Whatever has policies: a wildcard there allows what nobody has thought of, and so does a managed policy.
fn policies(properties: &Value) -> Vec<String> {
    let managed =
        texts(&properties["ManagedPolicyArns"]).into_iter().map(|arn| format!("has the managed policy {arn}"));
    managed.chain(allow_statements(properties).flat_map(wildcards)).collect()
}

fn wildcards(statement: &Value) -> Vec<String> {
    let is_wildcard = |text: &&str| text.contains(['*', '?']);
    let all_but = ["NotAction", "NotPrincipal", "NotResource"].into_iter().filter(|it| !statement[it].is_null());
    let actions = texts(&statement["Action"]);
    let subjects = actions.iter().copied().chain(texts(&statement["Principal"])).filter(is_wildcard);
    let resources = texts(&statement["Resource"]).into_iter().filter(is_wildcard).filter(|resource| {
        *resource != UPLOADS && !actions.iter().all(|action| ACTIONS_WITHOUT_RESOURCE.contains(action))
    });
    all_but
        .map(|member| format!("allows by {member}"))
        .chain(subjects.map(|subject| format!("allows {subject}")))
        .chain(resources.map(|resource| format!("allows {} on {resource}", actions.join(" and "))))
        .collect()
}

/// A statement is known by its `Effect`, wherever it stands.
fn allow_statements(properties: &Value) -> impl Iterator<Item = &Value> {
    descendants(properties).into_iter().filter(|it| it.get("Effect").is_some_and(|effect| effect != "Deny"))
}

/// SAM makes no route of a path that ends in a slash.
fn paths(properties: &Value) -> Vec<String> {
    let events = members(&properties["Events"]).map(|(_, event)| &event["Properties"]["Path"]);
    let routes = iter::once(&properties["RouteKey"]).chain(events).flat_map(texts);
    let described = ["Body", "DefinitionBody"].into_iter().flat_map(|body| members(&properties[body]["paths"]));
    routes
        .chain(described.map(|(path, _)| path.as_str()))
        .filter(|route| route.strip_suffix('/').is_some_and(|start| !start.is_empty() && !start.ends_with(' ')))
        .map(|route| format!("has a slash at the end of {route}"))
        .collect()
}

/// An alarm on a metric that nobody writes stays green. A metric is its name and those of its dimensions: `a by b, c`.
fn unknown_metrics(metrics: Vec<String>) -> Vec<String> {
    let written = written_metrics();
    let unknown = metrics.into_iter().filter(|metric| !written.contains(metric));
    unknown.map(|metric| format!("has no metric {metric}")).collect()
}

/// The metrics that the function writes, over all requests.
fn written_metrics() -> Vec<String> {
    let request = RequestMetrics {
        duration_ms: 0.5,
        cold_start: 1,
        granted: Some(1),
        granted_bytes: Some(1),
        errors: Some(1),
        key_set_age_seconds: Some(1),
        failed_refreshes: Some(1),
    };
    let embedded = request.embedded(Some("storefront"), UNIX_EPOCH).to_string();
    let embedded: Value = serde_json::from_str(&embedded).unwrap();
    let mut metrics = Vec::new();
    for directive in embedded["CloudWatchMetrics"].as_array().unwrap() {
        for dimensions in directive["Dimensions"].as_array().unwrap() {
            let names = directive["Metrics"].as_array().unwrap().iter().map(|it| it["Name"].as_str().unwrap());
            metrics.extend(names.map(|name| metric(name, &texts(dimensions))));
        }
    }
    metrics
}

fn metric(name: &str, dimensions: &[&str]) -> String {
    format!("{name} by {}", dimensions.join(", "))
}

fn alarm_metrics(alarm: &Value) -> Vec<String> {
    if alarm["Namespace"] != NAMESPACE {
        return Vec::new();
    }
    let dimensions = alarm["Dimensions"].as_array().into_iter().flatten();
    let dimensions: Vec<_> = dimensions.map(|it| it["Name"].as_str().unwrap()).collect();
    vec![metric(alarm["MetricName"].as_str().unwrap(), &dimensions)]
}

/// A metric stands there as `[NAMESPACE, NAME, DIMENSION, VALUE, .., {OPTIONS}]`, or several as a `SEARCH`.
fn dashboard_metrics(dashboard: &Value) -> Vec<String> {
    let body: Value = serde_json::from_str(dashboard["DashboardBody"]["Fn::Sub"].as_str().unwrap()).unwrap();
    let widgets = body["widgets"].as_array().unwrap().iter();
    let mut metrics = Vec::new();
    for shown in widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap()) {
        if let Some(expression) = shown[0]["expression"].as_str() {
            let (_, schema) = expression.split_once(&format!("{{{NAMESPACE},")).unwrap();
            let (dimensions, rest) = schema.split_once('}').unwrap();
            let (_, name) = rest.split_once("MetricName=\"").unwrap();
            metrics.push(metric(name.split('"').next().unwrap(), &dimensions.split(',').collect::<Vec<_>>()));
        } else if shown[0] == NAMESPACE {
            let texts: Vec<_> = shown.as_array().unwrap().iter().map_while(Value::as_str).collect();
            metrics.push(metric(texts[1], &texts[2..].iter().copied().step_by(2).collect::<Vec<_>>()));
        }
    }
    metrics
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<&str> {
    descendants(value).into_iter().filter_map(Value::as_str).collect()
}

/// A value and all that is in it, behind an `Fn::If` or an `Fn::Join` as well.
fn descendants(value: &Value) -> Vec<&Value> {
    let items = value.as_array().into_iter().flatten();
    let below = items.chain(members(value).map(|(_, member)| member)).flat_map(descendants);
    iter::once(value).chain(below).collect()
}

/// The faults of the template with one text of it, at its first place, replaced.
#[track_caller]
fn faults_with(text: &str, replacement: &str) -> Vec<String> {
    let template = read("template.yaml");
    assert!(template.contains(text), "expected {text:?} in the template");
    faults(&yaml(&template.replacen(text, replacement, 1)))
}

#[test]
fn template_has_no_faults() {
    assert_eq!(faults(&yaml(&read("template.yaml"))), [""; 0]);
}

#[test]
fn reads_short_tags_as_the_functions_that_they_stand_for() {
    assert_eq!(
        yaml("[!If [A, !Ref B, 1], !GetAtt C.Arn, !Sub \"${D}/*\", !Condition E, \"1\"]"),
        json!([
            { "Fn::If": ["A", { "Ref": "B" }, 1] },
            { "Fn::GetAtt": "C.Arn" },
            { "Fn::Sub": "${D}/*" },
            { "Condition": "E" },
            "1",
        ])
    );
}

#[test]
fn refuses_paths_that_end_in_a_slash_and_apis_of_sam() {
    let event = "Events: {Post: {Type: HttpApi, Properties: {Path: /media/}}}";
    let api = "Type: AWS::ApiGatewayV2::Api\n    Properties:";
    let sam_api =
        "Type: AWS::Serverless::HttpApi\n    Properties:\n      DefinitionBody: {paths: {/: {}, /media/: {}}}";
    for (text, replacement, expected) in [
        ("RouteKey: $default", "RouteKey: GET /", &[][..]),
        ("RouteKey: $default", "RouteKey: POST /media", &[]),
        ("RouteKey: $default", "RouteKey: POST /media/", &["ApiRoute has a slash at the end of POST /media/"]),
        ("Tracing: Active", event, &["Function has a slash at the end of /media/", "Function leaves an API to SAM"]),
        (api, sam_api, &["Api has a slash at the end of /media/", "Api leaves an API to SAM"]),
    ] {
        assert_eq!(faults_with(text, replacement), expected, "{replacement}");
    }
}

#[test]
fn refuses_a_stage_without_both_throttling_limits() {
    let [rate, burst] = ["ApiStage has no ThrottlingRateLimit", "ApiStage has no ThrottlingBurstLimit"];
    for (text, replacement, expected) in [
        ("ThrottlingRateLimit: !Ref ThrottlingRateLimit", "", &[rate][..]),
        ("ThrottlingBurstLimit: !Ref ThrottlingBurstLimit", "", &[burst]),
        ("DefaultRouteSettings:", "RouteSettings:", &[rate, burst]),
    ] {
        assert_eq!(faults_with(text, replacement), expected, "{text}");
    }
}

#[test]
fn refuses_policies_that_allow_more_than_they_name() {
    let [put, uploads] = ["Action: s3:PutObject", "Resource: !Sub ${Bucket.Arn}/${UploadPrefix}*"];
    let [secret, role] = ["Resource: !GetAtt ApiKeys.Id", "Role: !GetAtt FunctionRole.Arn"];
    let managed = "ManagedPolicyArns: [arn:aws:iam::aws:policy/Any]\n      AssumeRolePolicyDocument:";
    let if_key = "Resource: !If [HasKmsKey, \"*\", !GetAtt ApiKeys.Id]";
    for (text, replacement, expected) in [
        (put, "Action: s3:*", "FunctionRole allows s3:*"),
        (put, "Action: [s3:PutObject, s3:PutObjec?]", "FunctionRole allows s3:PutObjec?"),
        (put, "NotAction: s3:GetObject", "FunctionRole allows by NotAction"),
        (uploads, "NotResource: !GetAtt Bucket.Arn", "FunctionRole allows by NotResource"),
        (uploads, "Resource: arn:aws:s3:::*", "FunctionRole allows s3:PutObject on arn:aws:s3:::*"),
        (uploads, "Resource: !Sub ${Bucket.Arn}/*", "FunctionRole allows s3:PutObject on ${Bucket.Arn}/*"),
        (secret, "Resource: \"*\"", "FunctionRole allows secretsmanager:GetSecretValue on *"),
        (secret, if_key, "FunctionRole allows secretsmanager:GetSecretValue on *"),
        ("xray:PutTraceSegments, ", "xray:Get, ", "FunctionRole allows xray:Get and xray:PutTelemetryRecords on *"),
        ("{Service: lambda.amazonaws.com}", "\"*\"", "FunctionRole allows *"),
        ("Resource: !Ref KmsKeyArn", "Resource: \"*\"", "KmsKeyPolicy allows kms:GenerateDataKey and kms:Decrypt on *"),
        ("AssumeRolePolicyDocument:", managed, "FunctionRole has the managed policy arn:aws:iam::aws:policy/Any"),
        ("Effect: Deny", "Effect: Allow", "BucketPolicy has a statement that does not deny"),
        (role, "", "Function leaves its policies to SAM"),
        (role, &format!("{role}\n      Policies: AmazonS3FullAccess"), "Function leaves its policies to SAM"),
    ] {
        assert_eq!(faults_with(text, replacement), [expected], "{replacement}");
    }
}

#[test]
fn refuses_buckets_and_log_groups_that_keep_everything_for_ever() {
    let actions = ["ExpirationInDays", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"];
    let missing = actions.map(|action| format!("Bucket has no enabled {action} for the uploads"));
    for (text, replacement, expected) in [
        ("LifecycleConfiguration:", "Unknown:", &missing[..]),
        ("Status: Enabled", "Status: Disabled", &missing),
        ("Prefix: !Ref UploadPrefix", "Prefix: other/", &missing),
        (" ExpirationInDays: !Ref UploadExpirationInDays", "", &missing[..1]),
        ("NoncurrentVersionExpiration:", "Unknown:", &missing[1..2]),
        ("AbortIncompleteMultipartUpload:", "Unknown:", &missing[2..]),
        ("RetentionInDays: !Ref LogRetentionInDays", "", &["ApiLogGroup has no RetentionInDays".to_owned()]),
    ] {
        assert_eq!(faults_with(text, replacement), expected, "{text}");
    }
}

#[test]
fn refuses_settings_that_are_not_those_of_the_code() {
    for (text, replacement, expected) in [
        ("Variables:", "Variables:\n          UPLOAD_MIN: 1", "sets UPLOAD_MIN, which the code does not read"),
        ("API_KEYS_TTL: !Ref ApiKeysTtl", "", "does not set API_KEYS_TTL"),
        ("!Ref Bucket", "uploads", "sets UPLOAD_BUCKET to uploads by default, and the code to nothing"),
        ("Default: 3600", "Default: 60", "sets UPLOAD_EXPIRES_IN to 60 by default, and the code to 3600"),
        ("Default: \"5368709120\"", "", "sets UPLOAD_MAX_BYTES to nothing by default, and the code to 5368709120"),
    ] {
        assert_eq!(faults_with(text, replacement), [format!("Function {expected}")], "{text}");
    }
}

#[test]
fn refuses_alarms_and_widgets_of_metrics_that_nobody_writes() {
    let [alarm, widget, search] = [
        "MetricName: key_set_age_seconds",
        "\"cold_start\", \"function_name\"",
        "{presigned-upload,function_name,code}",
    ];
    for (text, replacement, expected) in [
        (alarm, "MetricName: key_set_age", "StaleKeySetAlarm has no metric key_set_age by function_name"),
        ("Name: code,", "Name: route,", "UnauthorizedAlarm has no metric errors by function_name, route"),
        (widget, "\"cold_start\", \"route\"", "Dashboard has no metric cold_start by route"),
        (search, "{presigned-upload,code}", "Dashboard has no metric errors by code"),
    ] {
        assert_eq!(faults_with(text, replacement), [expected], "{replacement}");
    }
}
