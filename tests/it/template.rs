//! Lints `template.yaml` for mistakes that a deployment accepts silently: routes that are never created, a stage that
//! rejects every request, permissions that are too wide, missing protection, data that is kept forever, settings that
//! the code does not read, and metrics that nothing writes.
//!
//! The lints come first. Each test after them breaks the template in one place and expects a finding.

use std::{borrow::Borrow, iter};

use presigned_upload::{
    config::Config, handler::TIME_LIMIT, limits::ExpiresIn, metrics::NAMESPACE, object_key::MAX_PREFIX_BYTES,
    route::ROUTES,
};
use proptest::{prelude::ProptestConfig, prop_assert, prop_assert_eq, proptest, string::string_regex};
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::{
    documents::{status_codes, written_metrics},
    support::{
        app::try_config,
        files::{read, yaml},
    },
};

/// The objects that a grant may create.
const UPLOADS: &str = "${Bucket.Arn}/${UploadPrefix}*";
/// The permissions that the requests of an upload need. `s3:PutObject` also permits starting a multipart upload, adding
/// its parts and completing it.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions>
const UPLOAD_ACTIONS: [&str; 3] = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];

/// The object keys that the role may list, one by one, to tell a missing object from one that it may not read.
const LISTED: &str = "${UploadPrefix}*";

/// Returns everything that is wrong with a template; each finding starts with the logical id of its resource.
fn findings(template: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for (id, resource) in members(&template["Resources"]) {
        let properties = &resource["Properties"];
        let of_type = match resource["Type"].as_str().unwrap() {
            "AWS::ApiGatewayV2::Route" => route(properties),
            "AWS::ApiGatewayV2::Stage" => [throttling(template, properties), access_log(properties)].concat(),
            "AWS::CloudWatch::Alarm" => {
                let metrics = unknown_metrics(template, vec![alarm_metric(properties)]);
                [metrics, condition(properties), notification(properties)].concat()
            }
            "AWS::CloudWatch::Dashboard" => dashboard(template, properties),
            "AWS::Events::ApiDestination" => destination(properties),
            "AWS::Events::Connection" => authorization(properties),
            "AWS::Events::Rule" => targets(properties),
            "AWS::IAM::Policy" => switch(template, id, resource),
            "AWS::IAM::Role" => boundary(properties),
            "AWS::Lambda::Permission" => invocation(properties),
            "AWS::Logs::LogGroup" => log_group(properties),
            "AWS::Logs::MetricFilter" => metric_filter(template, properties),
            "AWS::S3::Bucket" => {
                [lifecycle(properties), protection(properties), denials(template, id), retention(resource)].concat()
            }
            "AWS::S3::BucketPolicy" => [lasting_principals(properties), retention(resource)].concat(),
            "AWS::SecretsManager::Secret" => {
                [generated_key(properties), secret_encryption(properties), retention(resource)].concat()
            }
            "AWS::Serverless::Api" | "AWS::Serverless::HttpApi" => vec!["lets SAM create an API".to_owned()],
            "AWS::Serverless::Function" => {
                [function(properties), logging(properties), settings(template, properties)].concat()
            }
            "AWS::Lambda::Url" => vec!["bypasses the API".to_owned()],
            "AWS::SQS::Queue" => queue(properties),
            _ => Vec::new(),
        };
        let is_optional = !id.starts_with("CompletionWebhook") || resource["Condition"] == "HasCompletionWebhook";
        let found = [
            permissions(id, properties),
            of_type,
            finding_unless(is_optional, "is not limited to stacks with a webhook"),
        ]
        .concat();
        findings.extend(found.iter().map(|finding| format!("{id} {finding}")));
    }
    findings
}

/// A route key cannot end in a slash, and `POST /media` does not match `/media/`.
fn route(route: &Value) -> Vec<String> {
    let has_slash = route["RouteKey"].as_str().unwrap().trim_end_matches(" /").ends_with('/');
    finding_unless(!has_slash, "has a slash at the end of its path")
}

/// If only one limit is set, several tools send 0 for the other, and a limit of 0 rejects every request with a 429.
fn throttling(template: &Value, stage: &Value) -> Vec<String> {
    let limits = ["ThrottlingRateLimit", "ThrottlingBurstLimit"].into_iter();
    let missing = limits.filter(|limit| {
        let parameter = stage["DefaultRouteSettings"][limit]["Ref"].as_str().unwrap_or_default();
        let parameter = &template["Parameters"][parameter];
        match parameter["AllowedPattern"].as_str() {
            Some(pattern) => Regex::new(pattern).unwrap().is_match("0"),
            None => parameter["MinValue"].as_u64().is_none_or(|min| min == 0),
        }
    });
    missing.map(|limit| format!("has no {limit}")).collect()
}

/// API Gateway does not escape variables. With a quote in one of its own, a client could forge members of the line, or
/// break it, so that the metric filter misses a 429.
fn access_log(stage: &Value) -> Vec<String> {
    const SAFE: [&str; 8] = [
        "apiId",
        "httpMethod",
        "identity.sourceIp",
        "integrationStatus",
        "requestId",
        "requestTime",
        "responseLatency",
        "status",
    ];
    let format = stage["AccessLogSettings"]["Format"].as_str().unwrap();
    let variables = format.split("$context.").skip(1).map(|rest| rest.split('"').next().unwrap());
    variables.filter(|name| !SAFE.contains(name)).map(|name| format!("logs {name} without escaping it")).collect()
}

/// A deployment fails if a log group exists, and Lambda creates `/aws/lambda/NAME` for a function.
fn log_group(log_group: &Value) -> Vec<String> {
    let is_of_lambda = texts(&log_group["LogGroupName"]).iter().any(|name| name.starts_with("/aws/lambda/"));
    [
        finding_unless(!is_of_lambda, "may have the name of another function's log group"),
        finding_unless(!log_group["RetentionInDays"].is_null(), "has no RetentionInDays"),
    ]
    .concat()
}

/// CloudWatch extracts the metrics from the function's lines at INFO, if its role may write them.
fn logging(function: &Value) -> Vec<String> {
    let config = &function["LoggingConfig"];
    let logs = config["LogFormat"] == "JSON"
        && config["ApplicationLogLevel"] == "INFO"
        && config["LogGroup"] == json!({ "Ref": "FunctionLogGroup" });
    finding_unless(logs, "does not log its metrics")
}

/// An alarm must go off above its threshold and stay quiet without data. A key set is too old once it is older than
/// `ApiKeysTtl`.
fn condition(alarm: &Value) -> Vec<String> {
    let is_above = alarm["ComparisonOperator"] == "GreaterThanThreshold" && alarm["TreatMissingData"] == "notBreaching";
    let is_key_set_age = alarm["MetricName"] == "key_set_age_seconds";
    let is_older = !is_key_set_age || alarm["Threshold"] == json!({ "Ref": "ApiKeysTtl" });
    [
        finding_unless(is_above, "does not go off above its threshold only"),
        finding_unless(is_older, "does not compare the key set's age with ApiKeysTtl"),
    ]
    .concat()
}

/// An alarm that does not notify the operator only changes its colour in the console.
fn notification(alarm: &Value) -> Vec<String> {
    let topic = optional("HasAlarmTopic", &json!([{ "Ref": "AlarmTopicArn" }]));
    let silent = ["AlarmActions", "OKActions"].into_iter().filter(|actions| alarm[actions] != topic);
    silent.map(|actions| format!("has {actions} that do not notify AlarmTopicArn")).collect()
}

/// Some accounts do not allow a role without a permissions boundary.
fn boundary(role: &Value) -> Vec<String> {
    let is_bounded =
        role["PermissionsBoundary"] == optional("HasPermissionsBoundary", &json!({ "Ref": "PermissionsBoundaryArn" }));
    finding_unless(is_bounded, "is not bounded by PermissionsBoundaryArn")
}

/// A policy of its own exists so that it can be left out. Without its condition, everyone would have it.
fn switch(template: &Value, id: &str, policy: &Value) -> Vec<String> {
    let is_set = |parameter: &str| json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": parameter }, ""] }] });
    let condition = match id {
        "ApiKeysKmsKeyPolicy" => is_set("ApiKeysKmsKeyArn"),
        "ConfirmationPolicy" => json!({ "Fn::Equals": [{ "Ref": "AllowConfirmation" }, "true"] }),
        _ => is_set("KmsKeyArn"),
    };
    let is_switched = template["Conditions"][policy["Condition"].as_str().unwrap_or_default()] == condition;
    finding_unless(is_switched, "is not left out by default")
}

/// Without a source, any API of any account may invoke the function.
fn invocation(permission: &Value) -> Vec<String> {
    let source = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*";
    let is_api = permission["Principal"] == "apigateway.amazonaws.com" && permission["SourceArn"]["Fn::Sub"] == source;
    finding_unless(is_api, "lets more than the API invoke the function")
}

/// S3 must not abort a multipart upload while its token may be valid.
fn lifecycle(bucket: &Value) -> Vec<String> {
    let rules = bucket["LifecycleConfiguration"]["Rules"].as_array().into_iter().flatten();
    let rules = rules.filter(|rule| rule["Status"] == "Enabled" && rule["Prefix"] == json!({ "Ref": "UploadPrefix" }));
    let actions = ["ExpirationInDays", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"].into_iter();
    let missing = actions.filter(|action| rules.clone().all(|rule| rule[action].is_null()));
    let missing = missing.map(|action| format!("has no enabled {action} for the uploads"));
    let mut days =
        rules.clone().filter_map(|rule| rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"].as_u64());
    let outlives_tokens = days.all(|days| days == ExpiresIn::MAX_SECS / (24 * 60 * 60));
    missing
        .chain(finding_unless(outlives_tokens, "aborts multipart uploads before or long after their tokens expire"))
        .collect()
}

/// The bucket must be private, have no ACLs, and encrypt with the operator's KMS key if there is one.
fn protection(bucket: &Value) -> Vec<String> {
    let blocks = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"].into_iter();
    let missing = blocks.filter(|block| bucket["PublicAccessBlockConfiguration"][block] != true);
    let kms = json!({ "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": { "Ref": "KmsKeyArn" } });
    let encryption = &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["Fn::If"];
    let encrypts = encryption[0] == "HasKmsKey" && encryption[1]["ServerSideEncryptionByDefault"] == kms;
    let is_without_acls = bucket["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == "BucketOwnerEnforced";
    let missing = missing.map(|block| format!("has no {block}"));
    missing
        .chain(finding_unless(is_without_acls, "accepts ACLs"))
        .chain(finding_unless(encrypts, "does not encrypt with KmsKeyArn"))
        .collect()
}

/// A bucket needs a policy that denies at least these five, whatever other policies allow.
fn denials(template: &Value, bucket: &str) -> Vec<String> {
    let all = json!([{ "Fn::GetAtt": format!("{bucket}.Arn") }, { "Fn::Sub": format!("${{{bucket}.Arn}}/*") }]);
    let everyone = |when: Value| json!({ "Principal": "*", "Action": "s3:*", "Resource": all, "Condition": when });
    // `s3:signatureAge` is in milliseconds, hence the three zeros.
    let is_old = json!({ "NumericGreaterThan": { "s3:signatureAge": { "Fn::Sub": "${UploadExpiresIn}000" } } });
    let uploads = json!({ "Fn::Sub": UPLOADS });
    let is_role = json!({ "ArnEquals": { "aws:PrincipalArn": { "Fn::GetAtt": "FunctionRole.Arn" } } });
    let mut lists = is_role.clone();
    let elsewhere = json!({ "s3:prefix": { "Fn::Sub": LISTED } });
    lists["StringNotLike"] = json!({ "Fn::If": ["AllowsConfirmation", elsewhere, { "Ref": "AWS::NoValue" }] });
    let required = [
        ("plain HTTP", everyone(json!({ "Bool": { "aws:SecureTransport": "false" } }))),
        ("Signature Version 2", everyone(json!({ "StringEquals": { "s3:signatureversion": "AWS" } }))),
        (
            "signatures older than UploadExpiresIn",
            json!({ "Principal": "*", "Action": UPLOAD_ACTIONS, "Resource": uploads, "Condition": is_old }),
        ),
        (
            "the role outside the prefix",
            json!({ "Principal": "*", "NotAction": "s3:ListBucket", "NotResource": uploads, "Condition": is_role }),
        ),
        (
            "the role listing outside the prefix",
            json!({ "Principal": "*", "Action": "s3:ListBucket", "Resource": all[0], "Condition": lists }),
        ),
    ];
    let policies = members(&template["Resources"]).map(|(_, resource)| resource).filter(|resource| {
        resource["Type"] == "AWS::S3::BucketPolicy" && resource["Properties"]["Bucket"] == json!({ "Ref": bucket })
    });
    let denied: Vec<_> = policies.flat_map(descendants).filter(|it| it["Effect"] == "Deny").map(scope).collect();
    let missing = required.into_iter().filter(|(_, statement)| !denied.contains(statement));
    missing.map(|(what, _)| format!("has no policy that denies {what}")).collect()
}

/// The policy of the bucket outlives the other resources. S3 rejects a policy with a principal that no longer exists.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-bucket-user-policy-specifying-principal-intro.html>
fn lasting_principals(policy: &Value) -> Vec<String> {
    let mut principals = descendants(policy).into_iter().filter_map(|statement| statement.get("Principal"));
    finding_unless(principals.all(|principal| principal == "*"), "names a principal that may be deleted")
}

/// CloudFormation deletes anything that is not retained, including the uploads and the API keys in it.
fn retention(resource: &Value) -> Vec<String> {
    let policies = ["DeletionPolicy", "UpdateReplacePolicy"].into_iter();
    let deleting = policies.filter(|policy| !resource[policy].as_str().is_some_and(|it| it.starts_with("Retain")));
    deleting.map(|policy| format!("has no {policy} that retains it")).collect()
}

/// 32 letters and digits have 190 bits of entropy.
fn generated_key(secret: &Value) -> Vec<String> {
    let length = secret["GenerateSecretString"]["PasswordLength"].as_u64();
    finding_unless(length.is_some_and(|length| length >= 32), "does not generate an API key of at least 32 characters")
}

fn secret_encryption(secret: &Value) -> Vec<String> {
    let encrypts = secret["KmsKeyId"] == optional("HasApiKeysKmsKey", &json!({ "Ref": "ApiKeysKmsKeyArn" }));
    finding_unless(encrypts, "is not encrypted with ApiKeysKmsKeyArn")
}

/// For a function without a role, SAM creates one with managed policies. For an event without an API, it creates one
/// that has no routes on the local AWS and a stage without limits.
fn function(function: &Value) -> Vec<String> {
    let has_role = !function["Role"]["Fn::GetAtt"].is_null() && function["Policies"].is_null();
    let has_api = members(&function["Events"]).all(|(_, event)| event["Type"] != "Api" && event["Type"] != "HttpApi");
    let policies = finding_unless(has_role, "leaves its policies to SAM");
    let api = finding_unless(has_api, "lets SAM create an API");
    [policies, api, finding_unless(function["FunctionUrlConfig"].is_null(), "bypasses the API")].concat()
}

fn destination(destination: &Value) -> Vec<String> {
    let posts = destination["HttpMethod"] == "POST"
        && destination["InvocationEndpoint"] == json!({ "Ref": "CompletionWebhookUrl" })
        && destination["InvocationRateLimitPerSecond"].is_u64();
    finding_unless(posts, "does not send POST requests to CompletionWebhookUrl at a limited rate")
}

fn authorization(connection: &Value) -> Vec<String> {
    let header = json!({
        "ApiKeyName": "Authorization",
        "ApiKeyValue": { "Fn::Sub": "Bearer ${CompletionWebhookToken}" },
    });
    let is_bearer = connection["AuthorizationType"] == "API_KEY"
        && connection["AuthParameters"] == json!({ "ApiKeyAuthParameters": header });
    finding_unless(is_bearer, "does not send CompletionWebhookToken as a bearer token")
}

/// Strings from the event are inserted into the body without escaping, so only those that no uploader chooses may be,
/// or the object that contains them, because it is inserted as JSON.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html>
fn targets(rule: &Value) -> Vec<String> {
    const SAFE: [&str; 2] = ["$.detail.object", "$.time"];
    let targets = &rule["Targets"]["Fn::If"];
    let is_optional = targets[0] == "HasCompletionWebhook" && targets[2] == json!({ "Ref": "AWS::NoValue" });
    let mut findings = finding_unless(is_optional, "is not limited to stacks with a webhook");
    for target in targets[1].as_array().into_iter().flatten() {
        let paths = members(&target["InputTransformer"]["InputPathsMap"]).filter_map(|(_, path)| path.as_str());
        let unsafe_paths = paths.filter(|path| !SAFE.contains(path));
        findings.extend(unsafe_paths.map(|path| format!("inserts {path} without escaping it")));
        // S3 may delete an upload after a day, and someone has to react before that.
        let age = target["RetryPolicy"]["MaximumEventAgeInSeconds"].as_u64();
        let gives_up = age.is_some_and(|age| age <= 12 * 60 * 60);
        findings.extend(finding_unless(gives_up, "tries until an undelivered upload may have expired"));
        let queue = json!({ "Arn": { "Fn::GetAtt": "CompletionWebhookDeadLetters.Arn" } });
        findings.extend(finding_unless(target["DeadLetterConfig"] == queue, "loses undelivered events"));
    }
    findings
}

/// SQS keeps messages for 14 days at most.
fn queue(queue: &Value) -> Vec<String> {
    let is_encrypted = queue["SqsManagedSseEnabled"] == true;
    let is_kept = queue["MessageRetentionPeriod"] == 14 * 24 * 60 * 60;
    [finding_unless(is_encrypted, "is not encrypted"), finding_unless(is_kept, "does not keep events for 14 days")]
        .concat()
}

/// The environment must contain each setting of the code, with the same default, and no others.
fn settings(template: &Value, function: &Value) -> Vec<String> {
    let variables = &function["Environment"]["Variables"];
    // A reference to a resource has no default.
    let default = |value: &Value| match &template["Parameters"][value["Ref"].as_str().unwrap_or_default()]["Default"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        number => Some(number.to_string()),
    };
    let unknown = members(variables).filter(|(name, _)| Config::VARIABLES.iter().all(|it| it.name != *name));
    let unknown = unknown.map(|(name, _)| format!("sets {name}, which the code does not read"));
    let wrong = Config::VARIABLES.iter().filter_map(|variable| match variables.get(variable.name) {
        None => Some(format!("does not set {}", variable.name)),
        Some(value) if !value.is_object() => Some(format!("sets {}, whatever the parameters are", variable.name)),
        Some(value) if default(value).as_deref() == variable.default => None,
        Some(_) => Some(format!("has a different default for {} than the code", variable.name)),
    });
    unknown.chain(wrong).collect()
}

/// Returns the permissions of the stack: the resource that grants each, the action, and the rest of the statement.
fn permitted() -> Vec<(&'static str, &'static str, Value)> {
    let log = json!({ "Resource": { "Fn::GetAtt": "FunctionLogGroup.Arn" } });
    let kms_key = |parameter: &str, service: &str| {
        let service = json!({ "Fn::Sub": format!("{service}.${{AWS::Region}}.${{AWS::URLSuffix}}") });
        let via_service = json!({ "StringEquals": { "kms:ViaService": service } });
        json!({ "Resource": { "Ref": parameter }, "Condition": via_service })
    };
    // These actions of X-Ray do not support resource-level permissions.
    // <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html>
    let anything = json!({ "Resource": "*" });
    let uploads = json!({ "Resource": { "Fn::Sub": UPLOADS } });
    let event_bridge = json!({ "Service": "events.amazonaws.com" });
    let of_account = json!({ "StringEquals": { "aws:SourceAccount": { "Ref": "AWS::AccountId" } } });
    let webhook = json!({ "Resource": { "Fn::GetAtt": "CompletionWebhookDestination.Arn" } });
    let undelivered = json!({
        "Principal": event_bridge,
        "Resource": { "Fn::GetAtt": "CompletionWebhookDeadLetters.Arn" },
        "Condition": { "ArnEquals": { "aws:SourceArn": { "Fn::GetAtt": "UploadRule.Arn" } } },
    });
    let listed = json!({ "StringLike": { "s3:prefix": { "Fn::Sub": LISTED } } });
    let listed = json!({ "Resource": { "Fn::GetAtt": "Bucket.Arn" }, "Condition": listed });
    let others = [
        ("FunctionRole", "sts:AssumeRole", json!({ "Principal": { "Service": "lambda.amazonaws.com" } })),
        ("FunctionRole", "secretsmanager:GetSecretValue", json!({ "Resource": { "Fn::GetAtt": "ApiKeys.Id" } })),
        ("FunctionRole", "logs:CreateLogStream", log.clone()),
        ("FunctionRole", "logs:PutLogEvents", log),
        ("FunctionRole", "xray:PutTraceSegments", anything.clone()),
        ("FunctionRole", "xray:PutTelemetryRecords", anything),
        ("ConfirmationPolicy", "s3:GetObject", uploads.clone()),
        ("ConfirmationPolicy", "s3:ListBucket", listed),
        ("KmsKeyPolicy", "kms:GenerateDataKey", kms_key("KmsKeyArn", "s3")),
        ("KmsKeyPolicy", "kms:Decrypt", kms_key("KmsKeyArn", "s3")),
        ("ApiKeysKmsKeyPolicy", "kms:Decrypt", kms_key("ApiKeysKmsKeyArn", "secretsmanager")),
        ("CompletionWebhookRole", "sts:AssumeRole", json!({ "Principal": event_bridge, "Condition": of_account })),
        ("CompletionWebhookRole", "events:InvokeApiDestination", webhook),
        ("CompletionWebhookDeadLettersPolicy", "sqs:SendMessage", undelivered),
    ];
    UPLOAD_ACTIONS.map(|action| ("FunctionRole", action, uploads.clone())).into_iter().chain(others).collect()
}

/// A grant has the permissions of the role that signs it, so the stack must allow exactly what is [`permitted`].
fn permissions(id: &str, properties: &Value) -> Vec<String> {
    let statements = descendants(properties).into_iter();
    let allowing = statements.filter(|it| it.get("Effect").is_some_and(|effect| effect != "Deny"));
    let allowed = allowing.flat_map(|statement| {
        let actions = texts(&statement["Action"]);
        let actions = if actions.is_empty() { vec!["anything"] } else { actions };
        actions.into_iter().map(|action| (id, action, scope(statement)))
    });
    let allowed: Vec<_> = allowed.collect();
    let permitted: Vec<_> = permitted().into_iter().filter(|permission| permission.0 == id).collect();
    let excessive = allowed.iter().filter(|it| !permitted.contains(it)).map(|it| format!("allows {}: {}", it.1, it.2));
    let missing = permitted.iter().filter(|it| !allowed.contains(it)).map(|it| format!("does not allow {}", it.1));
    let managed = finding_unless(properties["ManagedPolicyArns"].is_null(), "has a managed policy");
    excessive.chain(missing).chain(managed).collect()
}

/// Returns a statement without its id and effect and, if it allows something, without its actions.
fn scope(statement: &Value) -> Value {
    let is_denial = statement["Effect"] == "Deny";
    let kept = members(statement).filter(|(name, _)| match name.as_str() {
        "Sid" | "Effect" => false,
        "Action" => is_denial,
        _ => true,
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A metric filter can only use members of the lines in its log group.
fn metric_filter(template: &Value, filter: &Value) -> Vec<String> {
    let logs = members(&template["Resources"]).map(|(_, resource)| &resource["Properties"]["AccessLogSettings"]);
    let log_group = json!({ "Fn::GetAtt": format!("{}.Arn", filter["LogGroupName"]["Ref"].as_str().unwrap()) });
    let formats = logs.filter(|log| log["DestinationArn"] == log_group).map(|log| log["Format"].as_str().unwrap());
    let lines: Vec<Value> = formats.map(|format| serde_json::from_str(format).unwrap()).collect();
    let used = texts(filter).into_iter().flat_map(|text| text.split("$.").skip(1)).map(|rest| {
        let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
        rest.split_at(end).0
    });
    let unknown = used.filter(|name| lines.iter().all(|line| line.get(name).is_none()));
    unknown.map(|name| format!("reads {name}, which the log does not contain")).collect()
}

/// The metrics of AWS in alarms and on the dashboard.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html>
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html>
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>
const AWS_METRICS: [&str; 9] = [
    "AWS/ApiGateway 4xx by ApiId",
    "AWS/ApiGateway 5xx by ApiId",
    "AWS/ApiGateway Count by ApiId",
    "AWS/ApiGateway Latency by ApiId",
    "AWS/Events TriggeredRules by RuleName",
    "AWS/Lambda ConcurrentExecutions by FunctionName",
    "AWS/Lambda Errors by FunctionName",
    "AWS/Lambda Throttles by FunctionName",
    "AWS/SQS ApproximateNumberOfMessagesVisible by QueueName",
];

/// A metric of an alarm or on the dashboard. The dimensions of a `SEARCH` can have any value.
struct ShownMetric<'a> {
    namespace: &'a str,
    name: &'a str,
    dimensions: Vec<(&'a str, Option<&'a str>)>,
}

/// An alarm on a metric that nothing writes never goes off, and neither does one on a value that no dimension has.
fn unknown_metrics(template: &Value, shown: Vec<ShownMetric<'_>>) -> Vec<String> {
    let written = written_metrics();
    let written = written.iter().map(|it| metric(NAMESPACE, &it.name, &it.dimensions));
    let filters = members(&template["Resources"]).map(|(_, filter)| &filter["Properties"]["MetricTransformations"]);
    let filtered = filters.flat_map(descendants).filter(|it| !it["MetricName"].is_null()).map(|it| {
        let dimensions: Vec<_> =
            descendants(&it["Dimensions"]).into_iter().filter_map(|it| it["Key"].as_str()).collect();
        metric(it["MetricNamespace"].as_str().unwrap(), it["MetricName"].as_str().unwrap(), &dimensions)
    });
    let known: Vec<_> = written.chain(filtered).chain(AWS_METRICS.map(str::to_owned)).collect();
    let mut unknown = Vec::new();
    for ShownMetric { namespace, name, dimensions } in shown {
        let (names, values): (Vec<_>, Vec<_>) = dimensions.into_iter().unzip();
        let metric = metric(namespace, name, &names);
        let values = names.iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
        if known.contains(&metric) {
            let never_written = values.filter(|(name, value)| !is_written(name, value));
            unknown.extend(never_written.map(|(name, value)| format!("has no metric {metric} with {name}={value}")));
        } else {
            unknown.push(format!("has no metric {metric}"));
        }
    }
    unknown
}

/// Writes a metric as `NAMESPACE NAME by DIMENSION, ...`.
fn metric(namespace: &str, name: &str, dimensions: &[impl Borrow<str>]) -> String {
    format!("{namespace} {name} by {}", dimensions.join(", "))
}

fn is_written(dimension: &str, value: &str) -> bool {
    match dimension {
        "ApiId" | "api_id" => value == "Api",
        "FunctionName" | "function_name" => ["Function", "FunctionName"].contains(&value),
        "QueueName" => value == "CompletionWebhookDeadLetters.QueueName",
        "RuleName" => value == "UploadRule",
        "code" => status_codes().iter().any(|(_, code)| code == value),
        "route" => ROUTES.iter().any(|route| route.path == value),
        _ => false,
    }
}

fn alarm_metric(alarm: &Value) -> ShownMetric<'_> {
    let text = |value: &'static str| alarm[value].as_str().unwrap();
    let dimensions = alarm["Dimensions"].as_array().unwrap().iter();
    let dimensions = dimensions.map(|it| (it["Name"].as_str().unwrap(), texts(&it["Value"]).first().copied()));
    ShownMetric { namespace: text("Namespace"), name: text("MetricName"), dimensions: dimensions.collect() }
}

/// A dashboard names one metric as `[NAMESPACE, NAME, DIMENSION, VALUE, .., {OPTIONS}]`, and several by a `SEARCH`.
fn dashboard_metrics(body: &Value) -> Vec<ShownMetric<'_>> {
    let widgets = body["widgets"].as_array().unwrap().iter();
    let shown = widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap());
    let metrics = shown.map(|shown| {
        if let Some(expression) = shown[0]["expression"].as_str() {
            let (_, schema) = expression.split_once("{\"").unwrap();
            let (schema, rest) = schema.split_once("\"}").unwrap();
            let (namespace, dimensions) = schema.split_once("\",\"").unwrap();
            let (_, name) = rest.split_once("MetricName=\"").unwrap();
            let dimensions = dimensions.split("\",\"").map(|name| (name, None)).collect();
            ShownMetric { namespace, name: name.split('"').next().unwrap(), dimensions }
        } else {
            let texts: Vec<_> = shown.as_array().unwrap().iter().map_while(Value::as_str).collect();
            let dimensions =
                texts[2..].chunks(2).map(|it| (it[0], Some(it[1].trim_matches(['$', '{', '}'])))).collect();
            ShownMetric { namespace: texts[0], name: texts[1], dimensions }
        }
    });
    metrics.collect()
}

fn dashboard(template: &Value, dashboard: &Value) -> Vec<String> {
    let [body, variables] = dashboard["DashboardBody"]["Fn::Sub"].as_array().unwrap().as_slice() else {
        panic!("expected text and variables")
    };
    assert_eq!(variables, &json!({ "FunctionName": { "Ref": "Function" } }));
    unknown_metrics(template, dashboard_metrics(&serde_json::from_str(body.as_str().unwrap()).unwrap()))
}

/// Returns a property that is left out unless a condition is true.
fn optional(condition: &str, value: &Value) -> Value {
    json!({ "Fn::If": [condition, value, { "Ref": "AWS::NoValue" }] })
}

fn finding_unless(is_fine: bool, finding: &str) -> Vec<String> {
    if is_fine { Vec::new() } else { vec![finding.to_owned()] }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<&str> {
    descendants(value).into_iter().filter_map(Value::as_str).collect()
}

/// Returns a value and everything inside it, including the branches of an `Fn::If`.
fn descendants(value: &Value) -> Vec<&Value> {
    let items = value.as_array().into_iter().flatten();
    let below = items.chain(members(value).map(|(_, member)| member)).flat_map(descendants);
    iter::once(value).chain(below).collect()
}

/// Replaces the first occurrence of a text in the template, and expects new findings that start with these.
#[track_caller]
fn expect_findings(text: &str, replacement: &str, expected: &[&str]) {
    let template = read("template.yaml");
    assert!(template.contains(text), "expected {text:?} in the template");
    let known = findings(&yaml(&template));
    let mut new = findings(&yaml(&template.replacen(text, replacement, 1)));
    new.retain(|finding| !known.contains(finding));
    let is_expected =
        new.len() == expected.len() && new.iter().zip(expected).all(|(new, start)| new.starts_with(start));
    assert!(is_expected, "{text:?} replaced by {replacement:?}: expected {expected:#?}, found {new:#?}");
}

#[test]
fn template_has_no_findings() {
    assert_eq!(findings(&yaml(&read("template.yaml"))), [""; 0]);
}

#[test]
fn function_responds_before_lambda_stops_it() {
    let template = yaml(&read("template.yaml"));

    let timeout = template["Resources"]["Function"]["Properties"]["Timeout"].as_u64().unwrap();

    assert!(timeout > TIME_LIMIT.as_secs(), "Lambda stops the function after {timeout} s, before it responds");
}

/// Returns the pattern that a deployment compares with the value of a parameter.
#[track_caller]
fn allowed_pattern(parameter: &str) -> Regex {
    let template = yaml(&read("template.yaml"));
    Regex::new(template["Parameters"][parameter]["AllowedPattern"].as_str().unwrap()).unwrap()
}

/// S3 accepts one wildcard, and compares case-sensitively with the `Origin` header, which has no path.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html#cors-allowed-origin>
/// <https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin>
#[test]
fn accepts_the_origins_that_s3_can_match() {
    let pattern = allowed_pattern("CorsAllowedOrigins");

    for origins in [
        "",
        "*",
        "null",
        "https://www.example.com",
        "https://www.example.com:8443",
        "https://xn--bcher-kva.example",
        "https://www.example.com,http://localhost:3000,null",
        "http://localhost:3000",
        "http://my_app:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "capacitor://localhost",
        "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn",
        "https://*.example.com",
        "https://app-*.example.com:8443",
        "https://*.example.com,https://*.example.org",
        "https://*",
        "http*://www.example.com",
        "*://www.example.com",
        "*.example.com",
        "http://localhost:*",
        "http://localhost:30*",
    ] {
        assert!(pattern.is_match(origins), "{origins:?}");
    }
    for origins in [
        "**",
        "https://*.*.example.com",
        "https://*.example.com:*",
        "http*://*.example.com",
        "https://*.example.com,https://*.*.example.org",
        " ",
        "https://www.example.com ",
        "https://www.example.com, https://example.org",
        "https://www.example.com https://example.org",
        "https://www.example.com\n",
        ",",
        ",https://www.example.com",
        "https://www.example.com,",
        "https://www.example.com,,https://example.org",
        "https://www.example.com/",
        "https://www.example.com/upload",
        "https://www.example.com?a",
        "https://user@www.example.com",
        "https://bücher.example",
        "https://www.Example.com",
        "HTTPS://www.example.com",
        "Capacitor://localhost",
        "NULL",
        "https",
        "https://",
        "https://:3000",
        "https://www.example.com:",
        "https://www.example.com:https",
        "://www.example.com",
        "www.example.com",
        "localhost:3000",
    ] {
        assert!(!pattern.is_match(origins), "{origins:?}");
    }
}

fn random_cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// If a deployment accepted anything else, it would succeed, and then every start of the function would fail.
#[test]
fn function_accepts_every_setting_that_a_deployment_accepts() {
    let template = yaml(&read("template.yaml"));
    let mut compared = Vec::new();

    for (variable, value) in members(&template["Resources"]["Function"]["Properties"]["Environment"]["Variables"]) {
        let parameter = &template["Parameters"][value["Ref"].as_str().unwrap_or_default()];
        let Some(pattern) = parameter["AllowedPattern"].as_str() else { continue };
        let max_length = parameter["MaxLength"].as_u64().map_or(usize::MAX, |length| length.try_into().unwrap());

        proptest!(random_cases(), |(value in string_regex(pattern.trim_matches(['^', '$'])).unwrap())| {
            prop_assert!(value.len() > max_length || try_config(&[(variable, &value)]).is_ok(), "{variable}={value:?}");
        });
        compared.push(variable.as_str());
    }

    let expected = [
        "UPLOAD_EXPIRES_IN",
        "UPLOAD_MAX_BYTES",
        "UPLOAD_ALLOWED_TYPES",
        "UPLOAD_PREFIX",
        "MULTIPART_EXPIRES_IN",
        "API_KEYS_TTL",
    ];
    assert_eq!(compared, expected);
    assert_eq!(template["Parameters"]["UploadPrefix"]["MaxLength"], MAX_PREFIX_BYTES);
}

/// Returns numbers that start like a bound, then have any other digit, then zeros or nines: those at the ends of each
/// alternative in a pattern, and others.
fn edges(bound: &str) -> Vec<String> {
    let starts = (0..=bound.len()).flat_map(|at| (0..10).map(move |digit| format!("{}{digit}", bound.split_at(at).0)));
    let rests = (0..bound.len()).flat_map(|length| ["0", "9"].map(|digit| digit.repeat(length)));
    starts.flat_map(|start| rests.clone().map(move |rest| format!("{start}{rest}"))).collect()
}

/// Except with leading zeros: nobody needs them, and the bucket policy and an alarm use the same text as a number.
#[test]
fn a_deployment_accepts_every_number_that_the_function_accepts() {
    for (parameter, variable) in [
        ("ApiKeysTtl", "API_KEYS_TTL"),
        ("MultipartExpiresIn", "MULTIPART_EXPIRES_IN"),
        ("UploadExpiresIn", "UPLOAD_EXPIRES_IN"),
        ("UploadMaxBytes", "UPLOAD_MAX_BYTES"),
    ] {
        let pattern = allowed_pattern(parameter);
        let is_expected = |text: &str| !text.starts_with('0') && try_config(&[(variable, text)]).is_ok();

        for text in ["86400", "604800", "5497558138880"].into_iter().flat_map(edges) {
            assert_eq!(pattern.is_match(&text), is_expected(&text), "{parameter}={text}");
        }
        for text in ["", "0", "1", " 1", "1 ", "1\n", "+1", "-1", "1.0", "1e3", "5e9", "0x10", "1_000", "1,000", "٣"] {
            assert_eq!(pattern.is_match(text), is_expected(text), "{parameter}={text:?}");
        }
        proptest!(random_cases(), |(number in 0..6_000_000_000_000_u64, shift in 0..13_u32, text in "[-+0-9.,eE_ ]{0,12}")| {
            let number = (number / 10_u64.pow(shift)).to_string();
            prop_assert_eq!(pattern.is_match(&number), is_expected(&number), "{}={}", parameter, number);
            prop_assert_eq!(pattern.is_match(&text), is_expected(&text), "{}={:?}", parameter, text);
        });
    }
}

#[test]
fn a_deployment_accepts_only_whole_numbers_for_aws() {
    for (parameter, accepted) in [
        ("ReservedConcurrentExecutions", &["-1", "0", "1", "10", "999999999"][..]),
        ("ThrottlingBurstLimit", &["1", "10", "999999999"]),
        ("UploadExpirationInDays", &["1", "10", "999999999"]),
    ] {
        let pattern = allowed_pattern(parameter);

        for text in
            ["", "-1", "-1.0", "-2", "-0", "0", "01", "1", "1.0", "1e3", "10", "+1", " 1", "999999999", "1000000000"]
        {
            assert_eq!(pattern.is_match(text), accepted.contains(&text), "{parameter}={text:?}");
        }
    }
}

#[test]
fn accepts_arns_of_every_partition() {
    let key = "1234abcd-12ab-34cd-56ef-1234567890ab";
    for partition in ["aws", "aws-cn", "aws-us-gov"] {
        let kms = format!("arn:{partition}:kms:eu-central-1:111122223333:key");
        let iam = format!("arn:{partition}:iam::111122223333:policy");
        let sns = format!("arn:{partition}:sns:eu-central-1:111122223333");
        let kms_keys = ["", &format!("{kms}/{key}"), &format!("{kms}/mrk-{key}")];
        for (parameter, accepted) in [
            ("AlarmTopicArn", &["", &format!("{sns}:alarms"), &format!("{sns}:Alarms_2-b")][..]),
            ("ApiKeysKmsKeyArn", &kms_keys),
            ("KmsKeyArn", &kms_keys),
            (
                "PermissionsBoundaryArn",
                &[
                    "",
                    &format!("{iam}/a"),
                    &format!("{iam}/b/c/D_+=,.@-"),
                    &format!("arn:{partition}:iam::aws:policy/A"),
                ],
            ),
        ] {
            let pattern = allowed_pattern(parameter);
            for arn in accepted {
                assert!(pattern.is_match(arn), "{parameter}={arn}");
            }
            for arn in [
                " ",
                key,
                "alias/uploads",
                &kms.replace(":key", ":alias/uploads"),
                &format!("{kms}/"),
                &format!("{iam}/"),
                &iam.replace(":policy", ":role/a"),
                &format!("{iam}/a,{iam}/b c"),
                &format!("{sns}:"),
                &format!("{sns}:alarms:7e2a1b3c"),
            ] {
                assert!(!pattern.is_match(arn), "{parameter}={arn}");
            }
        }
    }
}

/// An API destination needs HTTPS and a public host name, and replaces `*` with parameters of the target.
#[test]
fn accepts_the_webhooks_that_event_bridge_can_call() {
    let pattern = allowed_pattern("CompletionWebhookUrl");

    for url in [
        "",
        "https://www.example.com",
        "https://www.example.com/",
        "https://example.com:8443/uploaded?stage=prod&a=%20",
        "https://xn--bcher-kva.example/~a/(b);c,d@e:f!g'h$i+j_k.l-m",
    ] {
        assert!(pattern.is_match(url), "{url:?}");
    }
    for url in [
        " ",
        "http://www.example.com/uploaded",
        "HTTPS://www.example.com/uploaded",
        "www.example.com/uploaded",
        "https://",
        "https:///uploaded",
        "https://localhost/uploaded",
        "https://127.0.0.1/uploaded",
        "https://[::1]/uploaded",
        "https://user:password@www.example.com/uploaded",
        "https://www.example.com:/uploaded",
        "https://www.example.com/*",
        "https://www.example.com/a b",
        "https://www.example.com/%zz",
        "https://www.example.com/#a",
        "https://www.example.com/\n",
        "https://www.example.com/ü",
        "https://www.example.com/\"",
    ] {
        assert!(!pattern.is_match(url), "{url:?}");
    }
}

/// A connection accepts values of 512 characters at most, without colons.
#[test]
fn accepts_the_tokens_that_event_bridge_can_send() {
    let pattern = allowed_pattern("CompletionWebhookToken");
    let longest = format!("{}=====", "a".repeat(500));

    for token in ["", "-", "0123456789abcdef", "eyJhbGciOiJub25lIn0.e30.", "a-b._~+/c0123456789==", &longest] {
        assert!(pattern.is_match(token), "{token:?}");
    }
    for token in [
        "--",
        "0123456789abcde",
        "0123456789 abcdef",
        "0123456789=abcdef",
        "0123456789:abcdef",
        "0123456789abcdef\n",
        "0123456789abcdeü",
        &longest.replacen('a', "aa", 1),
    ] {
        assert!(!pattern.is_match(token), "{token:?}");
    }
    assert_eq!("Bearer ".len() + longest.len(), 512);
}

#[test]
fn a_webhook_needs_a_token_that_cloudformation_does_not_show() {
    let template = yaml(&read("template.yaml"));

    let is_none = json!({ "Fn::Contains": [["", "-"], { "Ref": "CompletionWebhookToken" }] });
    let has_url = json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "CompletionWebhookUrl" }, ""] }] });
    assert_eq!(template["Rules"]["CompletionWebhook"]["RuleCondition"], has_url);
    assert_eq!(template["Conditions"]["HasCompletionWebhook"], has_url);
    assert_eq!(template["Rules"]["CompletionWebhook"]["Assertions"][0]["Assert"], json!({ "Fn::Not": [is_none] }));
    assert_eq!(template["Parameters"]["CompletionWebhookToken"]["NoEcho"], true);
}

#[test]
fn finds_a_webhook_that_can_be_forged_or_loses_events() {
    let [forged, expired, lost] = [
        "UploadRule inserts $.detail.object.key without escaping it",
        "UploadRule tries until an undelivered upload may have expired",
        "UploadRule loses undelivered events",
    ];
    expect_findings("$.detail.object,", "$.detail.object.key,", &[forged]);
    expect_findings("MaximumEventAgeInSeconds: 43200", "MaximumEventAgeInSeconds: 86400", &[expired]);
    expect_findings("DeadLetterConfig: {Arn", "Other: {Arn", &[lost]);
    let always = "UploadRule is not limited to stacks with a webhook";
    expect_findings("- HasCompletionWebhook\n", "- HasKmsKey\n", &[always]);
    let not_kept = "CompletionWebhookDeadLetters does not keep events for 14 days";
    expect_findings("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600", &[not_kept]);
    expect_findings("SqsManagedSseEnabled: true", "", &["CompletionWebhookDeadLetters is not encrypted"]);
    let unlimited =
        "CompletionWebhookDestination does not send POST requests to CompletionWebhookUrl at a limited rate";
    expect_findings("HttpMethod: POST", "HttpMethod: PUT", &[unlimited]);
    expect_findings("InvocationRateLimitPerSecond: 300", "", &[unlimited]);
    let no_token = "CompletionWebhookConnection does not send CompletionWebhookToken as a bearer token";
    expect_findings("!Sub Bearer ${CompletionWebhookToken}", "!Ref CompletionWebhookToken", &[no_token]);
    for text in ["aws:SourceArn: !GetAtt UploadRule.Arn", "sqs:SendMessage"] {
        let policy = ["allows", "does not allow sqs:SendMessage"];
        let findings = policy.map(|finding| format!("CompletionWebhookDeadLettersPolicy {finding}"));
        expect_findings(text, "Other", &findings.each_ref().map(String::as_str));
    }
    expect_findings(
        "Resource: !GetAtt CompletionWebhookDestination.Arn",
        "Resource: \"*\"",
        &[
            "CompletionWebhookRole allows events:InvokeApiDestination",
            "CompletionWebhookRole does not allow events:InvokeApiDestination",
        ],
    );
    expect_findings(
        "Type: AWS::SQS::Queue\n    Condition: HasCompletionWebhook",
        "Type: AWS::SQS::Queue",
        &["CompletionWebhookDeadLetters is not limited to stacks with a webhook"],
    );
}

#[test]
fn finds_routes_that_are_not_created() {
    let event = "Events: {Post: {Type: HttpApi, Properties: {Path: /media/}}}";
    expect_findings("RouteKey: $default", "RouteKey: GET /", &[]);
    expect_findings("RouteKey: $default", "RouteKey: POST /media/", &["ApiRoute has a slash at the end of its path"]);
    expect_findings("Tracing: Active", event, &["Function lets SAM create an API"]);
}

#[test]
fn finds_a_stage_without_both_throttling_limits() {
    let [rate, burst] = ["ApiStage has no ThrottlingRateLimit", "ApiStage has no ThrottlingBurstLimit"];
    expect_findings("DefaultRouteSettings:", "RouteSettings:", &[rate, burst]);
    expect_findings("ThrottlingRateLimit: !Ref ThrottlingRateLimit", "ThrottlingRateLimit: 0", &[rate]);
    expect_findings("Default: 100\n    MinValue: 1", "Default: 100\n    MinValue: 0", &[rate]);
    let pattern = "Default: \"200\"\n    AllowedPattern: ^";
    expect_findings(&format!("{pattern}[1-9]"), &format!("{pattern}[0-9]"), &[burst]);
}

#[test]
fn finds_a_function_that_does_not_log_its_metrics() {
    for (text, replacement) in [
        ("ApplicationLogLevel: INFO", "ApplicationLogLevel: WARN"),
        ("LogFormat: JSON", "LogFormat: Text"),
        ("LogGroup: !Ref FunctionLogGroup", "LogGroup: !Ref ApiLogGroup"),
    ] {
        expect_findings(text, replacement, &["Function does not log its metrics"]);
    }
}

#[test]
fn finds_an_alarm_with_another_condition() {
    let [above, older] =
        ["does not go off above its threshold only", "does not compare the key set's age with ApiKeysTtl"];
    let alarm = format!("ServerErrorAlarm {above}");
    expect_findings("ComparisonOperator: GreaterThanThreshold", "ComparisonOperator: LessThanThreshold", &[&alarm]);
    expect_findings("TreatMissingData: notBreaching", "TreatMissingData: breaching", &[&alarm]);
    expect_findings("Threshold: !Ref ApiKeysTtl", "Threshold: 300", &[&format!("StaleKeySetAlarm {older}")]);
}

#[test]
fn finds_an_access_log_that_clients_can_forge() {
    for name in ["path", "integrationErrorMessage", "identity.userAgent"] {
        let replacement = format!("$context.{name}");
        expect_findings("$context.requestTime", &replacement, &[&format!("ApiStage logs {name} without escaping it")]);
    }
}

#[test]
fn finds_permissions_that_are_too_wide_or_missing() {
    let uploads = "Resource: !Sub ${Bucket.Arn}/${UploadPrefix}*";
    let managed = "ManagedPolicyArns: [arn:aws:iam::aws:policy/Any]\n      AssumeRolePolicyDocument:";
    let found = ["allows", "does not allow"].map(|verb| UPLOAD_ACTIONS.map(|it| format!("FunctionRole {verb} {it}")));
    let elsewhere: Vec<_> = found.iter().flatten().map(String::as_str).collect();
    let missing = &elsewhere[UPLOAD_ACTIONS.len()..];
    let not_action = [&["FunctionRole allows anything"], missing].concat();
    for (action, missing) in UPLOAD_ACTIONS.into_iter().zip(missing) {
        expect_findings(action, "s3:*", &["FunctionRole allows s3:*", missing]);
        expect_findings(action, &format!("{action}, s3:GetObject"), &["FunctionRole allows s3:GetObject"]);
    }
    expect_findings("Action: [s3:PutObject, ", "NotAction: [s3:GetObject, ", &not_action);
    expect_findings(uploads, "NotResource: !GetAtt Bucket.Arn", &elsewhere);
    expect_findings(uploads, "Resource: !Sub ${Bucket.Arn}/*", &elsewhere);
    expect_findings(
        "PermissionsBoundary: !If",
        "Tags: !If",
        &["FunctionRole is not bounded by PermissionsBoundaryArn"],
    );
    expect_findings(
        "kms:ViaService: !Sub secretsmanager",
        "kms:ViaService: !Sub s3",
        &["ApiKeysKmsKeyPolicy allows kms:Decrypt", "ApiKeysKmsKeyPolicy does not allow kms:Decrypt"],
    );
    let [allows, allows_not] = ["ConfirmationPolicy allows s3:", "ConfirmationPolicy does not allow s3:"];
    let [read, not_read] = [format!("{allows}GetObject: "), format!("{allows_not}GetObject")];
    let [list, not_list] = [format!("{allows}ListBucket: "), format!("{allows_not}ListBucket")];
    let any_object = format!("Action: s3:GetObject\n            {uploads}");
    expect_findings(&any_object, &any_object.replace("${UploadPrefix}", ""), &[&read, &not_read]);
    expect_findings(
        "Action: s3:GetObject\n",
        "Action: s3:GetObject*\n",
        &[&format!("{allows}GetObject*: "), &not_read],
    );
    expect_findings("StringLike:", "StringLikeIfExists:", &[&list, &not_list]);
    expect_findings("s3:prefix: !Sub ${UploadPrefix}*", "s3:prefix: \"*\"", &[&list, &not_list]);
    for (condition, policy) in [
        ("AllowsConfirmation", "ConfirmationPolicy"),
        ("HasKmsKey", "KmsKeyPolicy"),
        ("HasApiKeysKmsKey", "ApiKeysKmsKeyPolicy"),
    ] {
        let policy = format!("{policy} is not left out by default");
        expect_findings(&format!("    Condition: {condition}\n"), "", &[&policy]);
    }
    expect_findings(
        "AllowsConfirmation: !Equals [!Ref AllowConfirmation, \"true\"]",
        "AllowsConfirmation: !Equals [!Ref AllowConfirmation, \"false\"]",
        &["ConfirmationPolicy is not left out by default"],
    );
    expect_findings("AssumeRolePolicyDocument:", managed, &["FunctionRole has a managed policy"]);
    expect_findings("logs:CreateLogStream, ", "", &["FunctionRole does not allow logs:CreateLogStream"]);
    expect_findings("Role: !GetAtt FunctionRole.Arn", "", &["Function leaves its policies to SAM"]);
    expect_findings("SourceArn:", "SourceAccount:", &["ApiPermission lets more than the API invoke the function"]);
    expect_findings("Tracing: Active", "FunctionUrlConfig: {AuthType: NONE}", &["Function bypasses the API"]);
}

#[test]
fn finds_a_bucket_policy_that_denies_too_little() {
    let [plain_http, version_2, old, outside, listing] = [
        "Bucket has no policy that denies plain HTTP",
        "Bucket has no policy that denies Signature Version 2",
        "Bucket has no policy that denies signatures older than UploadExpiresIn",
        "Bucket has no policy that denies the role outside the prefix",
        "Bucket has no policy that denies the role listing outside the prefix",
    ];
    expect_findings("aws:SecureTransport: \"false\"", "aws:SecureTransport: \"true\"", &[plain_http]);
    expect_findings("s3:signatureversion: AWS", "s3:signatureversion: AWS4-HMAC-SHA256", &[version_2]);
    expect_findings("${UploadExpiresIn}000", "${UploadExpiresIn}", &[old]);
    expect_findings("\n            Action: [s3:PutObject, ", "\n            Action: [", &[old]);
    expect_findings("PrincipalArn: !GetAtt FunctionRole.Arn", "PrincipalArn: !GetAtt Other.Arn", &[outside]);
    expect_findings(
        "Principal: \"*\"",
        "Principal: {AWS: !GetAtt FunctionRole.Arn}",
        &[plain_http, "BucketPolicy names a principal that may be deleted"],
    );
    expect_findings("NotAction: s3:ListBucket", "NotAction: s3:List*", &[outside]);
    expect_findings(
        "StringNotLike: !If\n                - AllowsConfirmation",
        "StringNotLike: !If\n                - HasKmsKey",
        &[listing],
    );
    expect_findings("StringNotLike:", "StringNotLikeIfExists:", &[listing]);
    expect_findings("Type: AWS::S3::BucketPolicy", "Type: Other", &[plain_http, version_2, old, outside, listing]);
    expect_findings("Effect: Deny", "Effect: Allow", &[plain_http, "BucketPolicy allows s3:*"]);
}

#[test]
fn finds_missing_protection_of_the_bucket_and_the_secret() {
    let no_retention = "Bucket has no UpdateReplacePolicy that retains it";
    expect_findings("IgnorePublicAcls: true", "IgnorePublicAcls: false", &["Bucket has no IgnorePublicAcls"]);
    expect_findings("BucketOwnerEnforced", "ObjectWriter", &["Bucket accepts ACLs"]);
    expect_findings("SSEAlgorithm: aws:kms", "SSEAlgorithm: AES256", &["Bucket does not encrypt with KmsKeyArn"]);
    expect_findings("UpdateReplacePolicy: Retain", "", &[no_retention]);
    expect_findings("KmsKeyId: !If", "Tags: !If", &["ApiKeys is not encrypted with ApiKeysKmsKeyArn"]);
    expect_findings(
        "PasswordLength: 40",
        "PasswordLength: 8",
        &["ApiKeys does not generate an API key of at least 32 characters"],
    );
}

#[test]
fn finds_uploads_and_logs_that_are_kept_forever() {
    let missing = [
        "Bucket has no enabled ExpirationInDays for the uploads",
        "Bucket has no enabled NoncurrentVersionExpiration for the uploads",
        "Bucket has no enabled AbortIncompleteMultipartUpload for the uploads",
    ];
    expect_findings("Status: Enabled", "Status: Disabled", &missing);
    expect_findings("Prefix: !Ref UploadPrefix", "Prefix: other/", &missing);
    expect_findings("NoncurrentVersionExpiration:", "Unknown:", &missing[1..2]);
    for days in ["DaysAfterInitiation: 6", "DaysAfterInitiation: 8"] {
        let finding = "Bucket aborts multipart uploads before or long after their tokens expire";
        expect_findings("DaysAfterInitiation: 7", days, &[finding]);
    }
    expect_findings("RetentionInDays: !Ref LogRetentionInDays", "", &["ApiLogGroup has no RetentionInDays"]);
}

#[test]
fn finds_a_log_group_that_may_already_exist() {
    let name = "LogGroupName: !Sub /presigned-upload/${AWS::StackName}";
    let collision = "FunctionLogGroup may have the name of another function's log group";
    expect_findings(name, "LogGroupName: !Sub /aws/lambda/${AWS::StackName}", &[collision]);
    expect_findings(name, "LogGroupName: /aws/lambda/presigned-upload", &[collision]);
}

#[test]
fn finds_settings_that_differ_from_those_of_the_code() {
    let unknown = "Function sets UPLOAD_MIN, which the code does not read";
    let fixed = "Function sets API_KEYS_TTL, whatever the parameters are";
    let default = "Function has a different default for UPLOAD_EXPIRES_IN than the code";
    expect_findings("Variables:", "Variables:\n          UPLOAD_MIN: 1", &[unknown]);
    expect_findings("API_KEYS_TTL: !Ref ApiKeysTtl", "", &["Function does not set API_KEYS_TTL"]);
    expect_findings("API_KEYS_TTL: !Ref ApiKeysTtl", "API_KEYS_TTL: 300", &[fixed]);
    expect_findings("Default: \"3600\"", "Default: \"60\"", &[default]);
}

#[test]
fn finds_alarms_and_widgets_that_show_nothing() {
    let [age, cold_start, errors, silent] = [
        "StaleKeySetAlarm has no metric presigned-upload age by function_name",
        "Dashboard has no metric presigned-upload cold_start by route",
        "Dashboard has no metric presigned-upload errors by code",
        "ServerErrorAlarm has AlarmActions that do not notify AlarmTopicArn",
    ];
    expect_findings("MetricName: key_set_age_seconds", "MetricName: age", &[age]);
    expect_findings("\"cold_start\", \"function_name\"", "\"cold_start\", \"route\"", &[cold_start]);
    expect_findings(r#"\"function_name\",\"code\""#, r#"\"code\""#, &[errors]);
    expect_findings("AlarmActions: !If [HasAlarmTopic,", "AlarmActions: !If [Other,", &[silent]);
    let throttled = "has no metric presigned-upload throttled by api_id";
    for (text, replacement) in [("Key: api_id", "Key: api"), ("MetricName: throttled", "MetricName: rejected")] {
        let [alarm, dashboard] = ["ApiThrottleAlarm", "Dashboard"].map(|id| format!("{id} {throttled}"));
        expect_findings(text, replacement, &[&alarm, &dashboard]);
    }
}

#[test]
fn finds_values_that_nothing_writes() {
    let filter = |name: &str| format!("ApiThrottleFilter reads {name}, which the log does not contain");
    expect_findings("$.status = ", "$.statusCode = ", &[&filter("statusCode")]);
    expect_findings("Value: $.apiId", "Value: $.api_id", &[&filter("api_id")]);
    expect_findings("\"status\":", "\"code\":", &[&filter("status")]);
    expect_findings(
        "LogGroupName: !Ref ApiLogGroup",
        "LogGroupName: !Ref FunctionLogGroup",
        &[&filter("status"), &filter("apiId")],
    );
    for (text, replacement, finding) in [
        (
            "Name: ApiId, Value: !Ref Api",
            "Name: ApiId, Value: !Ref ApiStage",
            "ServerErrorAlarm has no metric AWS/ApiGateway 5xx by ApiId with ApiId=ApiStage",
        ),
        (
            "Value: unauthorized",
            "Value: forbidden",
            "UnauthorizedAlarm has no metric presigned-upload errors by function_name, code with code=forbidden",
        ),
        (
            "\"route\", \"/media/\"",
            "\"route\", \"/media\"",
            "Dashboard has no metric presigned-upload granted by function_name, route with route=/media",
        ),
        (
            "\"RuleName\", \"${UploadRule}\"",
            "\"RuleName\", \"${Api}\"",
            "Dashboard has no metric AWS/Events TriggeredRules by RuleName with RuleName=Api",
        ),
    ] {
        expect_findings(text, replacement, &[finding]);
    }
}
