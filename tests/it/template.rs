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
            "AWS::ApiGatewayV2::Stage" => throttling(template, properties),
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

/// Where only one limit is set, several tools send the other as 0, and every request gets a 429, as with a limit of 0.
fn throttling(template: &Value, stage: &Value) -> Vec<String> {
    let limits = ["ThrottlingRateLimit", "ThrottlingBurstLimit"].into_iter();
    let missing = limits.filter(|limit| {
        let parameter = stage["DefaultRouteSettings"][limit]["Ref"].as_str().unwrap_or_default();
        template["Parameters"][parameter]["MinValue"].as_u64().is_none_or(|least| least == 0)
    });
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
        if !value.is_object() {
            return Some(format!("sets {name} to {value} whatever the parameters are"));
        }
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

/// The metrics of AWS that are shown or watched, and that of the filter over the API's access log.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html>
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html>
const OTHER_METRICS: [&str; 9] = [
    "AWS/ApiGateway 4xx by ApiId",
    "AWS/ApiGateway 5xx by ApiId",
    "AWS/ApiGateway Count by ApiId",
    "AWS/ApiGateway Latency by ApiId",
    "AWS/Events TriggeredRules by RuleName",
    "AWS/Lambda ConcurrentExecutions by FunctionName",
    "AWS/Lambda Errors by FunctionName",
    "AWS/Lambda Throttles by FunctionName",
    "presigned-upload throttled by api_id",
];

/// An alarm on a metric that nobody writes stays green. A metric is its namespace, its name, and the names of its
/// dimensions: `a b by c, d`.
fn unknown_metrics(metrics: Vec<String>) -> Vec<String> {
    let mut known = written_metrics();
    known.extend(OTHER_METRICS.map(str::to_owned));
    let unknown = metrics.into_iter().filter(|metric| !known.contains(metric));
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
            metrics.extend(names.map(|name| metric(NAMESPACE, name, &texts(dimensions))));
        }
    }
    metrics
}

fn metric(namespace: &str, name: &str, dimensions: &[&str]) -> String {
    format!("{namespace} {name} by {}", dimensions.join(", "))
}

fn alarm_metrics(alarm: &Value) -> Vec<String> {
    let dimensions = alarm["Dimensions"].as_array().into_iter().flatten();
    let dimensions: Vec<_> = dimensions.map(|it| it["Name"].as_str().unwrap()).collect();
    vec![metric(alarm["Namespace"].as_str().unwrap(), alarm["MetricName"].as_str().unwrap(), &dimensions)]
}

/// A metric stands there as `[NAMESPACE, NAME, DIMENSION, VALUE, .., {OPTIONS}]`, or several as a `SEARCH`.
fn dashboard_metrics(dashboard: &Value) -> Vec<String> {
    let body: Value = serde_json::from_str(dashboard["DashboardBody"]["Fn::Sub"].as_str().unwrap()).unwrap();
    let widgets = body["widgets"].as_array().unwrap().iter();
    let mut metrics = Vec::new();
    for shown in widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap()) {
        if let Some(expression) = shown[0]["expression"].as_str() {
            let (_, schema) = expression.split_once("{\"").unwrap();
            let (schema, rest) = schema.split_once("\"}").unwrap();
            let schema: Vec<_> = schema.split("\",\"").collect();
            let (_, name) = rest.split_once("MetricName=\"").unwrap();
            metrics.push(metric(schema[0], name.split('"').next().unwrap(), &schema[1..]));
        } else {
            let texts: Vec<_> = shown.as_array().unwrap().iter().map_while(Value::as_str).collect();
            metrics.push(metric(texts[0], texts[1], &texts[2..].iter().copied().step_by(2).collect::<Vec<_>>()));
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
        ("ThrottlingRateLimit: !Ref ThrottlingRateLimit", "ThrottlingRateLimit: 0", &[rate]),
        ("Default: 200\n    MinValue: 1", "Default: 0\n    MinValue: 0", &[burst]),
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
        ("!Ref Bucket", "uploads", "sets UPLOAD_BUCKET to \"uploads\" whatever the parameters are"),
        ("!Ref ApiKeysTtl", "300", "sets API_KEYS_TTL to 300 whatever the parameters are"),
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
        "{\\\"presigned-upload\\\",\\\"function_name\\\",\\\"code\\\"}",
    ];
    let unquoted = "{\\\"presigned-upload\\\",\\\"code\\\"}";
    for (text, replacement, expected) in [
        (alarm, "MetricName: age", "StaleKeySetAlarm has no metric presigned-upload age by function_name"),
        (
            "Name: code,",
            "Name: route,",
            "UnauthorizedAlarm has no metric presigned-upload errors by function_name, route",
        ),
        ("MetricName: 5xx", "MetricName: 5XXError", "ServerErrorAlarm has no metric AWS/ApiGateway 5XXError by ApiId"),
        (widget, "\"cold_start\", \"route\"", "Dashboard has no metric presigned-upload cold_start by route"),
        (search, unquoted, "Dashboard has no metric presigned-upload errors by code"),
    ] {
        assert_eq!(faults_with(text, replacement), [expected], "{replacement}");
    }
}

/// Whoever holds a grant acts with these rights: not one of them more, and to nobody else.
#[test]
fn rights_are_these_and_no_others() {
    let template = yaml(&read("template.yaml"));
    let properties = |id: &str| template["Resources"][id]["Properties"].clone();
    let statements = |id: &str| properties(id)["PolicyDocument"]["Statement"].clone();
    let trusted_by =
        |service: &str| json!([{ "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" }]);
    let uploads = json!({ "Fn::Sub": UPLOADS });
    let bucket = json!([{ "Fn::GetAtt": "Bucket.Arn" }, { "Fn::Sub": "${Bucket.Arn}/*" }]);
    let role = properties("FunctionRole");
    let source = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*";

    assert_eq!(role["AssumeRolePolicyDocument"]["Statement"], trusted_by("lambda.amazonaws.com"));
    assert_eq!(role["Policies"].as_array().unwrap().len(), 1);
    assert_eq!(
        role["Policies"][0]["PolicyDocument"]["Statement"],
        json!([
            { "Effect": "Allow", "Action": "s3:PutObject", "Resource": uploads },
            { "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": { "Fn::GetAtt": "ApiKeys.Id" } },
            {
                "Effect": "Allow",
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": { "Fn::GetAtt": "FunctionLogGroup.Arn" },
            },
            { "Effect": "Allow", "Action": ACTIONS_WITHOUT_RESOURCE, "Resource": "*" },
        ])
    );
    assert_eq!(
        statements("KmsKeyPolicy"),
        json!([{
            "Effect": "Allow",
            "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
            "Resource": { "Ref": "KmsKeyArn" },
            "Condition": { "StringEquals": { "kms:ViaService": { "Fn::Sub": "s3.${AWS::Region}.${AWS::URLSuffix}" } } },
        }])
    );
    assert_eq!(
        statements("BucketPolicy"),
        json!([
            {
                "Sid": "RefusePlainHttp",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": bucket,
                "Condition": { "Bool": { "aws:SecureTransport": "false" } },
            },
            {
                "Sid": "RefuseSignatureVersion2",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": bucket,
                "Condition": { "StringEquals": { "s3:signatureversion": "AWS" } },
            },
            {
                "Sid": "RefuseSignaturesOlderThanTheLifetime",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": uploads,
                "Condition": { "NumericGreaterThan": { "s3:signatureAge": { "Fn::Sub": "${UploadExpiresIn}000" } } },
            },
            {
                "Sid": "RefuseTheFunctionOutsideOfThePrefix",
                "Effect": "Deny",
                "Principal": { "AWS": { "Fn::GetAtt": "FunctionRole.Arn" } },
                "Action": "s3:*",
                "NotResource": uploads,
            },
        ])
    );
    assert_eq!(
        properties("ApiPermission"),
        json!({
            "Action": "lambda:InvokeFunction",
            "FunctionName": { "Ref": "Function" },
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": { "Fn::Sub": source },
        })
    );
    let types = members(&template["Resources"]).map(|(_, resource)| resource["Type"].as_str().unwrap());
    let with_rights =
        types.filter(|it| it.starts_with("AWS::IAM::") || it.contains("Permission") || it.contains("Url"));
    assert_eq!(with_rights.collect::<Vec<_>>(), ["AWS::Lambda::Permission", "AWS::IAM::Role", "AWS::IAM::Policy"]);
}

/// What no other rule sees, and what would be missed late.
#[test]
fn settings_of_the_resources_are_these() {
    let template = yaml(&read("template.yaml"));
    let closed = json!({
        "BlockPublicAcls": true,
        "BlockPublicPolicy": true,
        "IgnorePublicAcls": true,
        "RestrictPublicBuckets": true,
    });
    let logging = json!({
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
        "LogGroup": { "Ref": "FunctionLogGroup" },
    });
    let encryption = json!({
        "Fn::If": [
            "HasKmsKey",
            {
                "ServerSideEncryptionByDefault": { "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": { "Ref": "KmsKeyArn" } },
                "BucketKeyEnabled": true,
            },
            { "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } },
        ],
    });
    let key = json!({
        "SecretStringTemplate": "{}",
        "GenerateStringKey": "default",
        "PasswordLength": 40,
        "ExcludePunctuation": true,
    });

    for (pointer, expected) in [
        ("/Api/Properties/ProtocolType", json!("HTTP")),
        ("/Api/Properties/CorsConfiguration", Value::Null),
        ("/ApiIntegration/Properties/PayloadFormatVersion", json!("2.0")),
        ("/ApiRoute/Properties/RouteKey", json!("$default")),
        ("/ApiStage/Properties/StageName", json!("$default")),
        ("/ApiStage/Properties/AccessLogSettings/DestinationArn", json!({ "Fn::GetAtt": "ApiLogGroup.Arn" })),
        ("/Function/Metadata/BuildMethod", json!("makefile")),
        ("/Function/Properties/Architectures", json!([{ "Ref": "Architecture" }])),
        ("/Function/Properties/FunctionUrlConfig", Value::Null),
        ("/Function/Properties/LoggingConfig", logging),
        ("/Function/Properties/MemorySize", json!(128)),
        ("/Function/Properties/Runtime", json!("provided.al2023")),
        ("/Function/Properties/Timeout", json!(10)),
        ("/Function/Properties/Tracing", json!("Active")),
        ("/Bucket/DeletionPolicy", json!("RetainExceptOnCreate")),
        ("/Bucket/UpdateReplacePolicy", json!("Retain")),
        ("/Bucket/Properties/PublicAccessBlockConfiguration", closed),
        ("/Bucket/Properties/OwnershipControls/Rules", json!([{ "ObjectOwnership": "BucketOwnerEnforced" }])),
        ("/Bucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration", json!([encryption])),
        ("/Bucket/Properties/NotificationConfiguration/EventBridgeConfiguration/EventBridgeEnabled", json!(true)),
        ("/BucketPolicy/DeletionPolicy", json!("RetainExceptOnCreate")),
        ("/ApiKeys/DeletionPolicy", json!("RetainExceptOnCreate")),
        ("/ApiKeys/UpdateReplacePolicy", json!("Retain")),
        ("/ApiKeys/Properties/GenerateSecretString", key),
    ] {
        assert_eq!(template["Resources"].pointer(pointer).unwrap_or(&Value::Null), &expected, "{pointer}");
    }
}

#[test]
fn alarms_are_these() {
    let template = yaml(&read("template.yaml"));
    let topic = json!({ "Fn::If": ["HasAlarmTopic", [{ "Ref": "AlarmTopicArn" }], { "Ref": "AWS::NoValue" }] });

    let alarms = members(&template["Resources"]).filter(|(_, it)| it["Type"] == "AWS::CloudWatch::Alarm");
    let alarms = alarms.map(|(id, alarm)| {
        let alarm = &alarm["Properties"];
        assert_eq!((&alarm["AlarmActions"], &alarm["OKActions"]), (&topic, &topic), "{id}");
        assert_eq!(alarm["ComparisonOperator"], "GreaterThanThreshold", "{id}");
        assert_eq!(alarm["TreatMissingData"], "notBreaching", "{id}");
        let dimensions = alarm["Dimensions"].as_array().unwrap().iter().map(|it| it["Value"].to_string());
        format!(
            "{} of {} > {} in {} of {} s, {}",
            alarm["Statistic"].as_str().unwrap(),
            alarm["MetricName"].as_str().unwrap(),
            alarm["Threshold"],
            alarm["EvaluationPeriods"],
            alarm["Period"],
            dimensions.collect::<Vec<_>>().join(" ")
        )
    });

    assert_eq!(
        alarms.collect::<Vec<_>>(),
        [
            r#"Sum of 5xx > 0 in 1 of 300 s, {"Ref":"Api"}"#,
            r#"Sum of Errors > 0 in 1 of 300 s, {"Ref":"Function"}"#,
            r#"Sum of throttled > 0 in 1 of 300 s, {"Ref":"Api"}"#,
            r#"Sum of Throttles > 0 in 1 of 300 s, {"Ref":"Function"}"#,
            r#"Sum of errors > 100 in 1 of 300 s, {"Ref":"Function"} "unauthorized""#,
            r#"Maximum of key_set_age_seconds > {"Ref":"ApiKeysTtl"} in 3 of 300 s, {"Ref":"Function"}"#,
        ]
    );
}
