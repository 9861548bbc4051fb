//! Tests `local/doctor.py` on a local AWS: breaks a stack in many ways, and expects it to name each
//! (`make e2e`).

use std::{env::consts::ARCH, process::Stdio};

use presigned_upload::auth::KeySet;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{
    deployed::{Stack, call, root, s3},
    support::{app::config, files::read},
};

const NAME: &str = "doctor";
const ORIGIN: &str = "https://www.example.com";

/// A user with the permissions that the document lists, or fewer.
struct Operator {
    access_key_id: String,
    secret_access_key: String,
}

impl Operator {
    async fn create(name: &str, policy: &Value) -> Self {
        call("iam", "create_user", json!({ "UserName": name })).await;
        let policy = json!({ "UserName": name, "PolicyName": "doctor", "PolicyDocument": policy.to_string() });
        call("iam", "put_user_policy", policy).await;
        let created = call("iam", "create_access_key", json!({ "UserName": name })).await;
        let of_key = |member: &str| created["AccessKey"][member].as_str().unwrap().to_owned();
        Self { access_key_id: of_key("AccessKeyId"), secret_access_key: of_key("SecretAccessKey") }
    }

    async fn run(&self, stack: &str) -> Report {
        self.run_with(stack, 0, &[]).await
    }

    /// Runs the doctor with these variables, and with its clock this many seconds ahead.
    async fn run_with(&self, stack: &str, seconds_ahead: u32, variables: &[(&str, &str)]) -> Report {
        let program = format!(
            "import runpy, sys, time; real = time.time; time.time = lambda: real() + {seconds_ahead}; \
             sys.argv = ['doctor.py', '{stack}']; sys.path.insert(0, 'local'); \
             runpy.run_path('local/doctor.py', run_name='__main__')"
        );
        let mut command = Command::new(".venv/bin/python");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &program]).stderr(Stdio::inherit());
        command.env("AWS_ACCESS_KEY_ID", &self.access_key_id).env("AWS_SECRET_ACCESS_KEY", &self.secret_access_key);
        let output = command.envs(variables.iter().copied()).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Report { code: output.status.code().unwrap(), text }
    }
}

/// The output of the doctor.
struct Report {
    code: i32,
    text: String,
}

impl Report {
    /// The output, with each check on one line.
    fn unwrapped(&self) -> String {
        self.text.replace(&format!("\n{}", " ".repeat(25)), " ")
    }

    #[track_caller]
    fn assert_all_ok(&self) {
        assert!(self.text.lines().all(|line| line.starts_with("ok ") || line.ends_with(" ok")), "{}", self.text);
        assert_eq!(self.code, 0);
    }

    /// Returns a message unless exactly these checks failed, and each said this.
    fn difference(&self, expected: &[(&str, &str)]) -> Option<String> {
        let text = self.unwrapped();
        let failed: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("FAILED   ")?.split_once(':')).collect();
        let are_named = failed.len() == expected.len()
            && failed
                .iter()
                .zip(expected)
                .all(|(failed, expected)| failed.0 == expected.0 && failed.1.contains(expected.1));
        (!are_named || self.code != 1).then(|| format!("expected {expected:?}, found:\n{}", self.text))
    }
}

/// A call of the local AWS: the service, the operation and its arguments.
type Call = (&'static str, &'static str, Value);

/// A way to break the stack and to repair it, and the checks that fail with a part of what they say.
struct Fault {
    break_it: Vec<Call>,
    repair: Vec<Call>,
    expected: Vec<(&'static str, &'static str)>,
}

/// Returns the faults, each with what it needs to put back.
async fn faults(stack: &Stack, kms_key: &str) -> Vec<Fault> {
    let bucket = json!({ "Bucket": stack.bucket });
    let with = |other: Value| {
        let mut arguments = bucket.clone();
        arguments.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        arguments
    };
    let (function, api) = (stack.physical_id("Function").await, stack.physical_id("Api").await);
    let of_function = json!({ "FunctionName": function });
    let (role, alarm) = (stack.physical_id("FunctionRole").await, stack.physical_id("ServerErrorAlarm").await);
    let cors = call("s3", "get_bucket_cors", bucket.clone()).await["CORSRules"].clone();
    let mut for_everyone = cors.clone();
    for_everyone[0]["AllowedOrigins"] = json!(["*"]);
    let mut unexposed = cors.clone();
    unexposed[0]["ExposeHeaders"] = json!(["ETag"]);
    let put_cors =
        |rules: &Value| ("s3", "put_bucket_cors", with(json!({ "CORSConfiguration": { "CORSRules": rules } })));
    let blocked = call("s3", "get_public_access_block", bucket.clone()).await;
    let blocked = &blocked["PublicAccessBlockConfiguration"];
    let policy = call("s3", "get_bucket_policy", bucket.clone()).await["Policy"].as_str().unwrap().to_owned();
    let put_policy = |policy: &str| ("s3", "put_bucket_policy", with(json!({ "Policy": policy })));
    let mut denying: Value = serde_json::from_str(&policy).unwrap();
    let objects = format!("arn:aws:s3:::{}/*", stack.bucket);
    let deny = json!({ "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": objects });
    denying["Statement"].as_array_mut().unwrap().push(deny);
    let without_tls = policy.replace("\"aws:SecureTransport\": \"false\"", "\"aws:SecureTransport\": \"no\"");
    assert_ne!(without_tls, policy);
    let secret =
        |text: &str| ("secretsmanager", "put_secret_value", json!({ "SecretId": stack.secret, "SecretString": text }));
    let of_default = json!({ "default": stack.api_key }).to_string();
    let role_policy = json!({ "RoleName": role, "PolicyName": "presigned-upload" });
    let role_policy = call("iam", "get_role_policy", role_policy).await["PolicyDocument"].clone();
    let put_role_policy = |policy: &Value| {
        let policy =
            json!({ "RoleName": role, "PolicyName": "presigned-upload", "PolicyDocument": policy.to_string() });
        ("iam", "put_role_policy", policy)
    };
    let confirmation = json!({ "RoleName": role, "PolicyName": "presigned-upload-confirmation" });
    let mut put_confirmation = confirmation.clone();
    let confirmation_policy = call("iam", "get_role_policy", confirmation.clone()).await["PolicyDocument"].to_string();
    put_confirmation["PolicyDocument"] = json!(confirmation_policy);
    let without = |statement: usize| {
        let mut policy = role_policy.clone();
        policy["Statement"].as_array_mut().unwrap().remove(statement);
        put_role_policy(&policy)
    };
    let boundary = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": ["secretsmanager:*", "logs:*"], "Resource": "*" }],
    });
    let boundary = json!({ "PolicyName": "doctor-without-s3", "PolicyDocument": boundary.to_string() });
    let boundary = call("iam", "create_policy", boundary).await["Policy"]["Arn"].clone();
    let alarm = json!({ "AlarmNames": [alarm] });
    let mut alarm = call("cloudwatch", "describe_alarms", alarm).await["MetricAlarms"][0].clone();
    let is_read_only = |name: &str| name == "AlarmArn" || name.starts_with("State") || name.ends_with("Timestamp");
    alarm.as_object_mut().unwrap().retain(|name, _| !is_read_only(name));
    let mut silent = alarm.clone();
    silent["AlarmActions"] = json!([]);
    let configuration = call("lambda", "get_function_configuration", of_function.clone()).await;
    let put_environment = |name: &str, value: &str| {
        let mut environment = configuration["Environment"].clone();
        environment["Variables"][name] = json!(value);
        ("lambda", "update_function_configuration", json!({ "FunctionName": function, "Environment": environment }))
    };
    let template = json!({ "StackName": NAME, "TemplateStage": "Processed" });
    let template = call("cloudformation", "get_template", template).await;
    let code = template["TemplateBody"]["Resources"]["Function"]["Properties"]["Code"].clone();
    let put_code = |architecture: &str| {
        let mut code = code.clone();
        code["FunctionName"] = json!(function);
        code["Architectures"] = json!([architecture]);
        ("lambda", "update_function_code", code)
    };
    let (this, other) = architectures();
    let route = call("apigatewayv2", "get_routes", json!({ "ApiId": api })).await["Items"][0].clone();
    let new_route = json!({ "ApiId": api, "RouteKey": "$default", "Target": route["Target"] });
    let all_uploads = |found, in_put| vec![("form", found), ("PUT", in_put), ("multipart", "as above")];
    let fault = |break_it: Call, repair: Call, expected: Vec<(&'static str, &'static str)>| Fault {
        break_it: vec![break_it],
        repair: vec![repair],
        expected,
    };

    vec![
        fault(
            ("s3", "delete_bucket_cors", bucket.clone()),
            put_cors(&cors),
            vec![("CORS", "https://www.example.com may not DELETE")],
        ),
        fault(
            put_cors(&for_everyone),
            put_cors(&cors),
            vec![("CORS", "origins that are not in CorsAllowedOrigins may upload")],
        ),
        fault(
            put_cors(&unexposed),
            put_cors(&cors),
            vec![("CORS", "https://www.example.com may not read ETag and Location")],
        ),
        fault(
            ("s3", "delete_bucket_lifecycle", bucket.clone()),
            lifecycle(&stack.bucket, 1),
            vec![("lifecycle", "uploads below tmp/ never expire")],
        ),
        fault(
            lifecycle(&stack.bucket, 30),
            lifecycle(&stack.bucket, 1),
            vec![("lifecycle", "expire after 30 days instead of 1")],
        ),
        fault(
            ("s3", "delete_bucket_policy", bucket.clone()),
            put_policy(&policy),
            vec![("bucket policy", "there is none")],
        ),
        fault(
            put_policy(&without_tls),
            put_policy(&policy),
            vec![("bucket policy", "differs from the template: DenyPlainHttp")],
        ),
        fault(
            put_policy(&denying.to_string()),
            put_policy(&policy),
            all_uploads("the bucket policy", "the bucket policy denies this"),
        ),
        fault(
            ("s3", "delete_public_access_block", bucket.clone()),
            ("s3", "put_public_access_block", with(json!({ "PublicAccessBlockConfiguration": blocked }))),
            vec![("public access", "public access is not blocked")],
        ),
        fault(
            encryption(&stack.bucket, &json!({ "SSEAlgorithm": "AES256" })),
            encryption(&stack.bucket, &json!({ "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key })),
            vec![("encryption", "AES256 instead of arn:aws:kms")],
        ),
        fault(
            ("kms", "disable_key", json!({ "KeyId": kms_key })),
            ("kms", "enable_key", json!({ "KeyId": kms_key })),
            vec![("encryption", "the key of KmsKeyArn is Disabled")],
        ),
        fault(secret("{}"), secret(&of_default), vec![("API keys", "the secret contains no valid API key")]),
        fault(
            secret(&json!({ &stack.api_key: "default" }).to_string()),
            secret(&of_default),
            vec![("API keys", "the secret contains no valid API key")],
        ),
        fault(
            secret(&json!({ "default": stack.api_key, "shop": { "key": "sha256:0", "maxBytes": 0 } }).to_string()),
            secret(&of_default),
            vec![("API keys", "the entry of shop is not a valid API key")],
        ),
        fault(
            without(0),
            put_role_policy(&role_policy),
            all_uploads("lacks s3:PutObject on", "the role has lost this permission"),
        ),
        fault(
            ("iam", "delete_role_policy", confirmation),
            ("iam", "put_role_policy", put_confirmation),
            vec![("confirmation", "S3 rejected the request with status 403; check AllowConfirmation")],
        ),
        fault(
            ("iam", "put_role_permissions_boundary", json!({ "RoleName": role, "PermissionsBoundary": boundary })),
            ("iam", "delete_role_permissions_boundary", json!({ "RoleName": role })),
            all_uploads(
                "its permissions boundary arn:aws:iam::000000000000:policy/doctor-without-s3",
                "the role has lost this permission", // the local AWS does not mention the boundary
            ),
        ),
        fault(
            ("cloudwatch", "put_metric_alarm", silent),
            ("cloudwatch", "put_metric_alarm", alarm),
            vec![("alarms", "do not notify arn:aws:sns:eu-central-1:000000000000:doctor: doctor-ServerErrorAlarm-")],
        ),
        fault(
            put_environment("UPLOAD_EXPIRES_IN", "soon"),
            put_environment("UPLOAD_EXPIRES_IN", "3600"),
            vec![
                ("settings", "differs from the template: UPLOAD_EXPIRES_IN"),
                ("API", "the function fails or does not start"),
            ],
        ),
        // The restart is what makes an instance read the secret.
        Fault {
            break_it: vec![without(1), put_environment("RESTARTED_AT", "1")],
            repair: vec![put_role_policy(&role_policy), put_environment("RESTARTED_AT", "2")],
            expected: vec![(
                "API",
                "its log says `API keys have not been read yet: Secrets Manager returned an error: AccessDenied",
            )],
        },
        fault(
            put_environment("ALLOW_CONFIRMATION", "false"),
            put_environment("ALLOW_CONFIRMATION", "true"),
            vec![("settings", "ALLOW_CONFIRMATION"), ("confirmation", "of an upload: 404 not_found")],
        ),
        fault(
            put_code(other),
            put_code(this),
            vec![("function", " instead of "), ("code", "deploy with Architecture=")],
        ),
        fault(
            (
                "lambda",
                "put_function_concurrency",
                json!({ "FunctionName": function, "ReservedConcurrentExecutions": 0 }),
            ),
            ("lambda", "delete_function_concurrency", of_function.clone()),
            vec![("function", "its reserved concurrency is 0"), ("API", "is throttled: see the line function")],
        ),
        fault(
            ("apigatewayv2", "delete_route", json!({ "ApiId": api, "RouteId": route["RouteId"] })),
            ("apigatewayv2", "create_route", new_route),
            vec![("API", "404: Not Found no route leads to the function")],
        ),
    ]
}

/// The architecture of this machine, and the other one.
fn architectures() -> (&'static str, &'static str) {
    if ARCH == "aarch64" { ("arm64", "x86_64") } else { ("x86_64", "arm64") }
}

/// The lifecycle rule of `template.yaml`, which CloudFormation of the local AWS ignores.
fn lifecycle(bucket: &str, days: u32) -> Call {
    let rule = json!({
        "ID": "expire-uploads",
        "Status": "Enabled",
        "Filter": { "Prefix": "tmp/" },
        "Expiration": { "Days": days },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 },
    });
    let configuration = json!({ "Bucket": bucket, "LifecycleConfiguration": { "Rules": [rule] } });
    ("s3", "put_bucket_lifecycle_configuration", configuration)
}

/// A default encryption of the bucket, which CloudFormation of the local AWS ignores as well.
fn encryption(bucket: &str, default: &Value) -> Call {
    let rules = json!([{ "ApplyServerSideEncryptionByDefault": default }]);
    let configuration = json!({ "Bucket": bucket, "ServerSideEncryptionConfiguration": { "Rules": rules } });
    ("s3", "put_bucket_encryption", configuration)
}

/// The permissions in `docs/operate.md`.
fn documented_policy(stack: &Stack) -> Value {
    let operate = read("docs/operate.md");
    let (_, section) = operate.split_once("\n## Check a deployment\n").unwrap();
    let (_, policy) = section.split_once("```json\n").unwrap();
    let (policy, _) = policy.split_once("```").unwrap();
    let policy = policy.replace("API_KEYS_SECRET_ARN", &stack.secret).replace("BUCKET_NAME", &stack.bucket);
    serde_json::from_str(&policy).unwrap()
}

async fn run((service, operation, arguments): &Call) {
    call(service, operation, arguments.clone()).await;
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn finds_nothing_wrong_with_the_defaults() {
    let stack = Stack::deploy("doctor-defaults", &[("Architecture", architectures().0)]).await;
    run(&lifecycle(&stack.bucket, 1)).await;
    run(&encryption(&stack.bucket, &json!({ "SSEAlgorithm": "AES256" }))).await;

    let report = Operator::create("doctor-defaults", &documented_policy(&stack)).await.run("doctor-defaults").await;

    report.assert_all_ok();
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn names_each_fault_of_a_stack() {
    let create_key =
        async || call("kms", "create_key", json!({})).await["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let (of_uploads, of_secret) = (create_key().await, create_key().await);
    let topic = call("sns", "create_topic", json!({ "Name": NAME })).await["TopicArn"].as_str().unwrap().to_owned();
    let parameters = [
        ("AlarmTopicArn", topic.as_str()),
        ("AllowConfirmation", "true"),
        ("ApiKeysKmsKeyArn", &of_secret),
        ("Architecture", architectures().0),
        ("CorsAllowedOrigins", ORIGIN),
        ("KmsKeyArn", &of_uploads),
    ];
    let stack = Stack::deploy(NAME, &parameters).await;
    run(&lifecycle(&stack.bucket, 1)).await;
    run(&encryption(&stack.bucket, &json!({ "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": of_uploads }))).await;
    let versioning = json!({ "Bucket": stack.bucket, "VersioningConfiguration": { "Status": "Enabled" } });
    call("s3", "put_bucket_versioning", versioning).await;
    let mut policy = documented_policy(&stack);
    let operator = Operator::create("operator", &policy).await;

    let unsubscribed = operator.run(NAME).await;
    let queue = "arn:aws:sqs:eu-central-1:000000000000:doctor";
    call("sns", "subscribe", json!({ "TopicArn": topic, "Protocol": "sqs", "Endpoint": queue })).await;
    let healthy = operator.run(NAME).await;

    assert!(unsubscribed.unwrapped().contains("warning  alarms:         the topic notifies nobody"));
    assert_eq!(unsubscribed.code, 0);
    healthy.assert_all_ok();
    let left = s3(&root()).list_object_versions().bucket(&stack.bucket).send().await.unwrap();
    assert_eq!((left.versions(), left.delete_markers()), (&[][..], &[][..]));

    let mut wrong = Vec::new();
    for fault in faults(&stack, &of_uploads).await {
        for call in &fault.break_it {
            run(call).await;
        }
        let report = operator.run(NAME).await;
        for call in &fault.repair {
            run(call).await;
        }

        wrong.extend(report.difference(&fault.expected));
        assert!(!report.text.contains(&stack.api_key) && !report.text.contains("Signature="), "{}", report.text);
    }
    let elsewhere = operator.run("no-such-stack").await;
    wrong.extend(elsewhere.difference(&[("stack", "there is no stack no-such-stack in eu-central-1")]));
    let ahead = operator.run_with(NAME, 400, &[]).await;
    wrong.extend(ahead.difference(&[("clock", " s ahead of S3 set the clock")]));
    assert_eq!(wrong.join("\n"), "");

    let digest = json!({ "default": format!("sha256:{}", hex::encode(Sha256::digest(&stack.api_key))) }).to_string();
    let put_digest = json!({ "SecretId": stack.secret, "SecretString": digest });
    call("secretsmanager", "put_secret_value", put_digest).await;
    let without_key = operator.run(NAME).await;
    assert!(without_key.text.contains("the secret contains only digests: set API_KEY"), "{}", without_key.text);
    let untested = "\nno successful upload: form, PUT, multipart\n";
    assert!(without_key.text.ends_with(untested), "{}", without_key.text);
    let with_key = operator.run_with(NAME, 0, &[("API_KEY", &stack.api_key)]).await;
    assert_eq!(with_key.text.lines().last(), healthy.text.lines().last(), "{}", with_key.text);

    policy["Statement"].as_array_mut().unwrap().pop();
    let restricted = Operator::create("restricted", &policy).await;
    let restricted = restricted.run_with(NAME, 0, &[("API_KEY", &stack.api_key)]).await;
    for expected in ["not read back, because your credentials lack s3:GetObject", "clean-up:       these stay in"] {
        assert!(restricted.text.contains(expected), "{}", restricted.text);
    }
    policy["Statement"] = json!([policy["Statement"][1]]);
    let nobody = Operator::create("nobody", &policy).await.run(NAME).await;
    assert!(nobody.text.contains("your credentials lack cloudformation:DescribeStacks"), "{}", nobody.text);
    assert_eq!((without_key.code, restricted.code, nobody.code), (1, 0, 1));
}

/// Runs a few lines with the doctor as a module; they set `result` by means of `argument`.
async fn python(lines: &str, argument: &Value) -> Value {
    let program = format!(
        "import json, sys; sys.path.insert(0, 'local'); import doctor\n\
         argument = json.loads(sys.argv[1])\n{lines}\nprint(json.dumps(result))"
    );
    let mut command = Command::new(".venv/bin/python");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &program]).arg(argument.to_string());
    let output = command.stderr(Stdio::inherit()).output().await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The messages are those of S3, as in `docs/troubleshooting.md`; the local AWS has only some of them.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn explains_the_errors_of_s3() {
    let denials = [
        ("because no identity-based policy allows the s3:PutObject action", "the role has lost this permission"),
        ("because no identity-based policy allows the kms:GenerateDataKey action", "the line encryption"),
        ("with an explicit deny in a resource-based policy", "the bucket policy denies this"),
        ("with an explicit deny in an identity-based policy", "such as `revoke`"),
        ("because no permissions boundary allows the s3:PutObject action", "the permissions boundary of the role"),
        ("with an explicit deny in a service control policy", "a policy of your organization"),
        ("with an explicit deny in a VPC endpoint policy", "the policy of a VPC endpoint"),
    ];
    let denials = denials.map(|(why, expected)| {
        let message = format!("User: arn:aws:sts::111122223333:assumed-role/role/function is not authorized {why}");
        ("AccessDenied", message, expected)
    });
    let others = [
        ("KMS.DisabledException", "arn:aws:kms:eu-central-1:111122223333:key/1 is disabled.", "the line encryption"),
        ("AccessDenied", "Request has expired", "too old on arrival"),
        ("AccessDenied", "Invalid according to Policy: Policy expired.", "too old on arrival"),
        ("ExpiredToken", "The provided token has expired.", "the function's credentials"),
        ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist …", "the function's credentials"),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match …", "such as a proxy"),
        ("RequestTimeTooSkewed", "The difference between the request time and …", "the line Lambda's clock"),
        ("NoSuchBucket", "The specified bucket does not exist", "the bucket was deleted"),
        ("PermanentRedirect", "The bucket you are attempting to access must be …", "another region"),
        ("AuthorizationQueryParametersError", "…; the region 'us-east-1' is wrong; expecting …", "another region"),
        ("SlowDown", "Please reduce your request rate.", "S3 is overloaded"),
        ("MethodNotAllowed", "The specified method is not allowed …", "troubleshooting.md#s3"),
    ];
    let others = others.map(|(code, message, expected)| (code, message.to_owned(), expected));
    let cases: Vec<_> = denials.into_iter().chain(others).collect();

    let errors: Vec<_> = cases.iter().map(|(code, message, _)| (code, message)).collect();
    let explained = python("result = [doctor.reason({}, *error) for error in argument]", &json!(errors)).await;

    for ((code, message, expected), explained) in cases.iter().zip(explained.as_array().unwrap()) {
        assert!(explained.as_str().unwrap().contains(expected), "{code}: {message}: {explained}");
    }
}

/// The doctor reads the secret by the same rules as the function, except that it ignores limits.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn finds_the_same_api_keys_as_the_function() {
    let key = "2Zv8kQmT4xWc7LrY";
    let digest = "5ca24005b740717ba4f3f6bc48a230700e68c2a4b11ecedb96f169f4efaf1f21";
    let entries = [
        json!(key),
        json!(format!(" {key}\n")),
        json!("2Zv8kQmT4xWc7Lr"),
        json!("2Zv8kQmT 4xWc7LrY"),
        json!("2Zv8kQmT4xWc7Lré"),
        json!(format!("sha256:{digest}")),
        json!(format!("SHA256:{}", digest.to_uppercase())),
        json!(format!("sha256:{}", digest.trim_start_matches('5'))),
        json!(1_234_567_890_123_456_u64),
        json!(null),
        json!([key]),
        json!({}),
        json!({ "key": key, "prefix": "shop/" }),
        json!({ "key": [key] }),
        json!({ "prefix": "shop/" }),
    ];
    let secrets = entries.map(|entry| json!({ "caller": entry }).to_string());
    let texts =
        ["{}", "[]", "\"2Zv8kQmT4xWc7LrY\"", key, "{2Zv8kQmT4xWc7LrY", "{\"2Zv8kQmT4xWc7LrY", "[1]", "too short"];
    let secrets: Vec<_> = secrets.into_iter().chain(texts.map(str::to_owned)).collect();
    let limits = config(&[]).limits;

    let program = "def valid(text):\n try: return len(doctor.parse_secret(text)[0])\n \
        except doctor.Broken: return 0\nresult = [valid(text) for text in argument]";
    let found: Vec<usize> = serde_json::from_value(python(program, &json!(secrets)).await).unwrap();

    for (secret, found) in secrets.iter().zip(found) {
        assert_eq!(found, KeySet::parse(secret, &limits).map_or(0, |key_set| key_set.len()), "{secret}");
    }
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn reports_its_own_bugs_without_secrets() {
    let program = "def check(facts): yield facts[argument] + 1\n\
        result = list(doctor.results(check, {argument: argument}))";

    let results = python(program, &json!("https://example.com/?X-Amz-Signature=0")).await;

    assert_eq!(results, json!([["FAILED", "TypeError", "this is a bug of make doctor: report it with this output"]]));
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn compares_the_clock_of_the_function_with_that_of_s3() {
    let program = "result = [list(doctor.check_lambda_clock({'the clock of S3': -60, 'the clock of Lambda': it}))[0][:2] \
        for it in argument]";

    let results = python(program, &json!([-60, 0, -400])).await;

    let expected = [["ok", "0 s ahead of S3"], ["warning", "60 s ahead of S3"], ["FAILED", "340 s behind S3"]];
    assert_eq!(results, json!(expected));
}
