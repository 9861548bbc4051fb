//! Tests the stack of `template.yaml` on a local AWS that enforces signatures, policies and permissions (`make e2e`).
//!
//! `local/stack.py` starts this AWS and deploys the stacks to it. This AWS removes a trailing slash from a path before
//! the function sees it (`events` tests the slash), and ignores `s3:signatureAge` and `s3:signatureversion`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env,
    process::Stdio,
    time::{Duration, SystemTime},
};

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_s3::{
    config::{Region, SharedCredentialsProvider},
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use aws_smithy_types::{DateTime, date_time::Format};
use aws_types::SdkConfig;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, service::service_fn};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    sync::{OnceCell, mpsc},
    time::timeout,
};

use crate::support::{
    client::client,
    files::{read, yaml},
    runtime_api::PATIENCE,
    server::serve,
    upload::{
        Upload,
        alterations::{Objects, Server, multipart, unexpected_outcomes},
        file,
        multipart::{Uploader, large_file, upload_and_resume},
    },
};

/// The origins of the web pages that may upload to [`limited_stack`].
const ORIGINS: [&str; 2] = ["https://www.example.com", "capacitor://localhost"];

/// A stack with the defaults of the template, shared by the tests that do not update it.
pub(crate) async fn default_stack() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    STACK.get_or_init(|| Stack::deploy("e2e-default", &[])).await
}

/// A stack with limits and an allowed origin, shared by the tests that do not update it.
async fn limited_stack() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let origins = ORIGINS.join(",");
    let parameters = [
        ("UploadExpiresIn", "60"),
        ("UploadMaxBytes", "1000"),
        ("UploadAllowedTypes", "image/*"),
        ("CorsAllowedOrigins", origins.as_str()),
    ];
    STACK.get_or_init(|| Stack::deploy("e2e-limited", &parameters)).await
}

/// A stack that confirms uploads, shared by the tests that do not update it.
async fn confirming_stack() -> &'static Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    STACK.get_or_init(|| Stack::deploy("e2e-confirming", &[("AllowConfirmation", "true")])).await
}

/// A deployed stack: its outputs, and the API key that it generated.
pub(crate) struct Stack {
    name: &'static str,
    pub(crate) api_url: String,
    pub(crate) api_key: String,
    pub(crate) bucket: String,
    pub(crate) secret: String,
    pub(crate) function: String,
    pub(crate) version: String,
}

impl Stack {
    /// Deploys or updates the stack with this name.
    pub(crate) async fn deploy(name: &'static str, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let arguments = ["deploy", name, "S3ForcePathStyle=true"].map(str::to_owned).into_iter().chain(parameters);
        stack_py(arguments).await;
        Self::deployed(name).await
    }

    /// Describes a stack that was deployed.
    pub(crate) async fn deployed(name: &'static str) -> Self {
        let outputs = stack_py(["outputs", name].map(str::to_owned)).await;
        let outputs: Value = serde_json::from_str(&outputs).unwrap();
        let output = |name: &str| outputs[name].as_str().unwrap().to_owned();
        Self {
            name,
            api_url: output("ApiUrl"),
            api_key: output("ApiKey"),
            bucket: output("BucketName"),
            secret: output("ApiKeysSecretArn"),
            function: output("FunctionName"),
            version: output("Version"),
        }
    }

    async fn delete(&self) {
        stack_py(["delete", self.name].map(str::to_owned)).await;
    }

    /// Returns the name that CloudFormation gave a resource of the stack.
    pub(crate) async fn physical_id(&self, logical_id: &str) -> String {
        let resource = json!({ "StackName": self.name, "LogicalResourceId": logical_id });
        let described = call("cloudformation", "describe_stack_resource", resource).await;
        described["StackResourceDetail"]["PhysicalResourceId"].as_str().unwrap().to_owned()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.api_url))
    }

    async fn request_grant(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).header("x-api-key", &self.api_key).json(body).send().await.unwrap()
    }

    pub(crate) async fn grant(&self, path: &str, body: &Value) -> Value {
        let response = self.request_grant(path, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub(crate) async fn grant_post(&self) -> Value {
        self.grant("/media/", &json!({ "fileName": "a.png", "fileType": "image/png" })).await
    }

    /// Asks for a URL for [`file`]; where the size is limited, the request has to contain it.
    pub(crate) async fn grant_put(&self) -> Value {
        let body = json!({ "fileName": "a.png", "fileType": "image/png", "fileSize": file().len() });
        self.grant("/v1/assets/presign", &body).await
    }

    /// Reads an object as the root user; returns `None` if it does not exist.
    pub(crate) async fn stored(&self, object_key: &Value) -> Option<Vec<u8>> {
        let object_key = object_key.as_str().unwrap();
        let object = s3(&root()).get_object().bucket(&self.bucket).key(object_key).send().await;
        match object {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                assert_eq!(code(&error), "NoSuchKey");
                None
            }
        }
    }

    /// Returns the size of an object.
    pub(crate) async fn size(&self, object_key: &Value) -> u64 {
        let object = s3(&root()).head_object().bucket(&self.bucket).key(object_key.as_str().unwrap()).send().await;
        object.unwrap().content_length().unwrap().try_into().unwrap()
    }

    /// Reads a few bytes of an object.
    pub(crate) async fn range(&self, object_key: &Value, start: u64, length: u64) -> Vec<u8> {
        let range = format!("bytes={start}-{}", start + length - 1);
        let object = s3(&root()).get_object().bucket(&self.bucket).key(object_key.as_str().unwrap()).range(range);
        object.send().await.unwrap().body.collect().await.unwrap().to_vec()
    }

    /// Removes all objects of the bucket and of these other buckets, and returns them.
    async fn take_objects(&self, other_buckets: &[&str]) -> Objects {
        let s3 = s3(&root());
        let mut taken = Vec::new();
        for bucket in [self.bucket.as_str()].iter().chain(other_buckets) {
            let objects = s3.list_objects_v2().bucket(*bucket).send().await.unwrap();
            for object in objects.contents() {
                let object_key = object.key().unwrap();
                s3.delete_object().bucket(*bucket).key(object_key).send().await.unwrap();
                taken.push((object_key.to_owned(), usize::try_from(object.size().unwrap()).unwrap()));
            }
        }
        taken
    }

    /// Returns temporary credentials of the function's role, after letting the root user assume it.
    async fn role_credentials(&self) -> Credentials {
        let role = self.physical_id("FunctionRole").await;
        let trust_policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "sts:AssumeRole" }],
        });
        let trust_policy = json!({ "RoleName": role, "PolicyDocument": trust_policy.to_string() });
        call("iam", "update_assume_role_policy", trust_policy).await;
        let described = call("iam", "get_role", json!({ "RoleName": role })).await;
        let assume = json!({ "RoleArn": described["Role"]["Arn"], "RoleSessionName": "e2e" });
        let assumed = call("sts", "assume_role", assume).await;
        let credential = |name: &str| assumed["Credentials"][name].as_str().unwrap().to_owned();
        let session_token = Some(credential("SessionToken"));
        Credentials::new(credential("AccessKeyId"), credential("SecretAccessKey"), session_token, None, "role")
    }
}

/// Runs `local/stack.py`, which must succeed, and returns its output.
async fn stack_py(arguments: impl IntoIterator<Item = String>) -> String {
    let mut command = Command::new(".venv/bin/python");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("local/stack.py").args(arguments).stderr(Stdio::inherit());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{command:?} failed; its messages are above");
    String::from_utf8(output.stdout).unwrap()
}

/// Calls an operation of the local AWS as its root user.
pub(crate) async fn call(service: &str, operation: &str, arguments: Value) -> Value {
    let output = stack_py(["call", service, operation, &arguments.to_string()].map(str::to_owned)).await;
    serde_json::from_str(&output).unwrap()
}

/// Reads a variable that `local/stack.py with` sets.
#[track_caller]
pub(crate) fn environment(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make e2e`"))
}

pub(crate) fn root() -> Credentials {
    Credentials::new(environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"), None, None, "root")
}

fn sdk_config(credentials: &Credentials) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
        .endpoint_url(environment("AWS_ENDPOINT_URL"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

pub(crate) fn s3(credentials: &Credentials) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(&sdk_config(credentials)).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(config)
}

/// Returns the error code in a response from AWS.
#[track_caller]
pub(crate) fn code<E: ProvideErrorMetadata + std::fmt::Debug>(error: &SdkError<E>) -> String {
    error.code().unwrap_or_else(|| panic!("{error:?} has no code")).to_owned()
}

/// Uploads a file with a presigned POST.
pub(crate) fn post(grant: &Value, file: Vec<u8>) -> RequestBuilder {
    Upload::post(grant, file).request(&client())
}

/// Uploads a file with a presigned PUT.
pub(crate) fn put(grant: &Value, file: Vec<u8>) -> RequestBuilder {
    Upload::put(grant, Some("image/png"), file).request(&client())
}

pub(crate) async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

/// Returns the size condition of a presigned POST, and the number of seconds until it expires.
#[track_caller]
fn bounds(grant: &Value) -> (Value, i64) {
    let policy = BASE64_STANDARD.decode(grant["fields"]["policy"].as_str().unwrap()).unwrap();
    let policy: Value = serde_json::from_slice(&policy).unwrap();
    let size = policy["conditions"].as_array().unwrap().iter().find(|condition| condition.is_array()).unwrap();
    let expiration = DateTime::from_str(policy["expiration"].as_str().unwrap(), Format::DateTime).unwrap();
    (size.clone(), expiration.secs() - DateTime::from(SystemTime::now()).secs())
}

/// Whether `left` seconds of `lifetime` can remain, even on a slow machine.
fn is_left_of(lifetime: i64, left: i64) -> bool {
    (lifetime - 20..=lifetime).contains(&left)
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn grants_uploads_with_and_without_a_trailing_slash() {
    let stack = default_stack().await;
    let body = json!({ "fileName": "図面 (最終版).png", "fileType": "image/png" });

    for path in ["/media/", "/media"] {
        let grant = stack.grant(path, &body).await;

        assert_eq!(status(post(&grant, file())).await, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(stack.stored(&grant["fileKey"]).await, Some(file()), "{path}");
    }
    for path in ["/v1/assets/presign", "/v1/assets/presign/"] {
        let grant = stack.grant(path, &body).await;

        assert_eq!(status(put(&grant, file())).await, StatusCode::OK, "{path}");
        assert_eq!(stack.stored(&grant["key"]).await, Some(file()), "{path}");
    }
    let healthz = stack.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(healthz.json::<Value>().await.unwrap()["status"], "healthy");
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn confirms_what_has_been_uploaded_if_it_is_allowed() {
    let (stack, other) = (confirming_stack().await, default_stack().await);
    let body = json!({ "fileName": "図面 $ + 100% 👩🏽‍🚀.png", "fileType": "image/png" });
    let (form, url) = (stack.grant("/media/", &body).await, stack.grant("/v1/assets/presign", &body).await);
    let outcome = async |stack: &Stack, object_key: &Value| {
        let response = stack.request_grant("/v1/uploads/confirm", &json!({ "key": object_key })).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };

    for (object_key, upload) in [(&form["fileKey"], post(&form, file())), (&url["key"], put(&url, file()))] {
        let (status, missing) = outcome(stack, object_key).await;
        assert_eq!((status, &missing["code"]), (404, &json!("not_uploaded")));
        assert!(upload.send().await.unwrap().status().is_success());

        let confirmed = outcome(stack, object_key).await;

        let head = s3(&root()).head_object().bucket(&stack.bucket).key(object_key.as_str().unwrap());
        let head = head.send().await.unwrap();
        let stored = json!({
            "key": object_key,
            "size": file().len(),
            "type": "image/png",
            "etag": head.e_tag().unwrap(),
            "lastModified": head.last_modified().unwrap().fmt(Format::DateTime).unwrap(),
        });
        assert_eq!(confirmed, (200, stored));
    }
    let (status, foreign) = outcome(stack, &json!("kept/108713b0-1f81-42cf-a16c-c83b1d4d4148")).await;
    assert_eq!((status, &foreign["code"]), (403, &json!("key_not_granted")));
    let (status, not_served) = outcome(other, &form["fileKey"]).await;
    assert_eq!((status, &not_served["code"]), (404, &json!("not_found")));
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn logs_the_metrics_of_a_grant_but_no_secret() {
    let stack = default_stack().await;
    let grant = stack.grant_post().await;

    let log = call("logs", "filter_log_events", json!({ "logGroupName": "/presigned-upload/e2e-default" })).await;

    let messages: Vec<_> = log["events"].as_array().unwrap().iter().map(|it| it["message"].as_str().unwrap()).collect();
    let is_grant = |line: &Value| line["granted"] == 1 && line["function_name"] == stack.function;
    let lines = messages.iter().filter_map(|message| serde_json::from_str::<Value>(message).ok());
    assert!(lines.filter(is_grant).any(|line| line["_aws"]["CloudWatchMetrics"].is_array()), "{messages:?}");
    let log = messages.join("\n");
    for secret in [stack.api_key.as_str(), grant["fields"]["policy"].as_str().unwrap(), "X-Amz-Signature"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn rejects_a_missing_and_an_unknown_api_key() {
    let stack = default_stack().await;

    for path in ["/media/", "/v1/assets/presign"] {
        let missing = stack.request(Method::POST, path).send().await.unwrap();
        let wrong = stack.request(Method::POST, path).bearer_auth("wrong").send().await.unwrap();

        assert_eq!(missing.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(wrong.json::<Value>().await.unwrap()["code"], "unauthorized", "{path}");
    }
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn presigned_post_cannot_create_another_object() {
    let stack = default_stack().await;
    let grant = stack.grant_post().await;
    let other = json!("tmp/other.png");

    let mut tampered = grant.clone();
    tampered["fields"]["key"] = other.clone();

    assert_eq!(status(post(&tampered, file())).await, StatusCode::FORBIDDEN);
    assert_eq!(stack.stored(&other).await, None);
    assert_eq!(stack.stored(&grant["fileKey"]).await, None);
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn role_can_only_write_under_the_prefix_and_read_its_secret() {
    let stack = default_stack().await;
    let credentials = stack.role_credentials().await;
    let (s3, bucket) = (s3(&credentials), stack.bucket.as_str());
    let secrets_manager = aws_sdk_secretsmanager::Client::new(&sdk_config(&credentials));
    let other_secret = json!({ "Name": "e2e-other", "SecretString": "KEY" });
    let other_secret = call("secretsmanager", "create_secret", other_secret).await;
    let put = |object_key: &str| s3.put_object().bucket(bucket).key(object_key).body(ByteStream::from_static(b"a"));

    put("tmp/a").send().await.unwrap();
    secrets_manager.get_secret_value().secret_id(&stack.secret).send().await.unwrap();
    let get_secret = secrets_manager.get_secret_value().secret_id(other_secret["ARN"].as_str().unwrap());
    let denied = [
        ("write elsewhere", code(&put("a").send().await.unwrap_err())),
        ("write next to the prefix", code(&put("tmp").send().await.unwrap_err())),
        ("read", code(&s3.get_object().bucket(bucket).key("tmp/a").send().await.unwrap_err())),
        ("list", code(&s3.list_objects_v2().bucket(bucket).send().await.unwrap_err())),
        ("list the prefix", code(&s3.list_objects_v2().bucket(bucket).prefix("tmp/").send().await.unwrap_err())),
        ("delete", code(&s3.delete_object().bucket(bucket).key("tmp/a").send().await.unwrap_err())),
        ("list buckets", code(&s3.list_buckets().send().await.unwrap_err())),
        ("read another secret", code(&get_secret.send().await.unwrap_err())),
        ("list secrets", code(&secrets_manager.list_secrets().send().await.unwrap_err())),
    ];

    for (what, code) in denied {
        assert!(["AccessDenied", "AccessDeniedException"].contains(&code.as_str()), "{what}: {code}");
    }
    assert_eq!(stack.stored(&json!("tmp/a")).await, Some(b"a".to_vec()));
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn role_that_confirms_can_only_read_and_list_under_the_prefix() {
    let stack = confirming_stack().await;
    let (s3, of_root, bucket) = (s3(&stack.role_credentials().await), s3(&root()), stack.bucket.as_str());
    for object_key in ["tmp/a", "other/a"] {
        let body = ByteStream::from_static(b"a");
        of_root.put_object().bucket(bucket).key(object_key).body(body).send().await.unwrap();
    }
    let get = |object_key: &str| s3.get_object().bucket(bucket).key(object_key).send();
    let list = |prefix: Option<&str>| s3.list_objects_v2().bucket(bucket).set_prefix(prefix.map(str::to_owned)).send();

    get("tmp/a").await.unwrap();
    list(Some("tmp/")).await.unwrap();
    list(Some("tmp/a")).await.unwrap();
    let denied = [
        ("read elsewhere", code(&get("other/a").await.unwrap_err())),
        ("list everything", code(&list(None).await.unwrap_err())),
        ("list with an empty prefix", code(&list(Some("")).await.unwrap_err())),
        ("list elsewhere", code(&list(Some("other/")).await.unwrap_err())),
        ("list next to the prefix", code(&list(Some("tmp")).await.unwrap_err())),
        ("list versions", code(&s3.list_object_versions().bucket(bucket).prefix("tmp/").send().await.unwrap_err())),
        ("delete", code(&s3.delete_object().bucket(bucket).key("tmp/a").send().await.unwrap_err())),
    ];

    for (what, code) in denied {
        assert_eq!(code, "AccessDenied", "{what}");
    }
}

/// Deploys stacks of its own, to give their roles more permissions.
///
/// For a session of a role, `aws:PrincipalArn` is the ARN of the role on AWS, but that of the session on the local AWS.
/// So this test puts the ARN of the session into the policy.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn>
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn bucket_policy_confines_the_role_to_the_prefix() {
    for (name, may_list) in [("e2e-widened", false), ("e2e-widened-confirming", true)] {
        let stack = Stack::deploy(name, &[("AllowConfirmation", &may_list.to_string())]).await;
        assert_confined(&stack, may_list).await;
    }
}

/// Lets the role do everything, and asserts that the bucket policy still confines it to the prefix, and whether it may
/// list that.
async fn assert_confined(stack: &Stack, may_list: bool) {
    let everything = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }],
    });
    let role = stack.physical_id("FunctionRole").await;
    let policy = json!({ "RoleName": role, "PolicyName": "everything", "PolicyDocument": everything.to_string() });
    call("iam", "put_role_policy", policy).await;
    let (s3, bucket) = (s3(&stack.role_credentials().await), stack.bucket.as_str());
    let policy = call("s3", "get_bucket_policy", json!({ "Bucket": bucket })).await;
    let policy = policy["Policy"].as_str().unwrap();
    let of_session = policy
        .replace(&format!(":iam::000000000000:role/{role}"), &format!(":sts::000000000000:assumed-role/{role}/e2e"));
    assert_ne!(of_session, policy, "it does not name the role");
    call("s3", "put_bucket_policy", json!({ "Bucket": bucket, "Policy": of_session })).await;
    let put = |object_key: &str| s3.put_object().bucket(bucket).key(object_key).body(ByteStream::from_static(b"a"));

    put("tmp/a").send().await.unwrap();
    s3.get_object().bucket(bucket).key("tmp/a").send().await.unwrap();

    assert_eq!(code(&put("a").send().await.unwrap_err()), "AccessDenied");
    assert_eq!(code(&s3.get_bucket_policy().bucket(bucket).send().await.unwrap_err()), "AccessDenied");
    let list = |prefix: Option<&str>| s3.list_objects_v2().bucket(bucket).set_prefix(prefix.map(str::to_owned)).send();
    for prefix in [None, Some(""), Some("tmp"), Some("other/")] {
        assert_eq!(code(&list(prefix).await.unwrap_err()), "AccessDenied", "{prefix:?}");
    }
    assert_eq!(list(Some("tmp/")).await.is_ok(), may_list);
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn denies_plain_http() {
    let stack = default_stack().await;
    let (form, url) = (stack.grant_post().await, stack.grant_put().await);

    // With this header, a proxy tells the local AWS that a request came without TLS.
    let plain = |request: RequestBuilder| request.header("x-forwarded-proto", "http");

    assert_eq!(status(plain(post(&form, file()))).await, StatusCode::FORBIDDEN);
    assert_eq!(status(plain(put(&url, file()))).await, StatusCode::FORBIDDEN);
    assert_eq!(stack.stored(&form["fileKey"]).await, None);
    assert_eq!(stack.stored(&url["key"]).await, None);
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn parameters_limit_the_grants() {
    let stack = limited_stack().await;
    let (form, url) = (stack.grant_post().await, stack.grant_put().await);
    let pdf = json!({ "fileName": "a.pdf", "fileType": "application/pdf", "fileSize": 1 });
    let without_size = json!({ "fileName": "a.png", "fileType": "image/png" });
    let too_large = json!({ "fileName": "a.png", "fileType": "image/png", "fileSize": 1001 });

    let (size, left) = bounds(&form);
    assert_eq!(size, json!(["content-length-range", 1, 1000]));
    assert!(is_left_of(60, left), "{left}");
    assert!(url["url"].as_str().unwrap().contains("X-Amz-Expires=60&"));
    assert_eq!(status(post(&form, vec![0; 1001])).await, StatusCode::BAD_REQUEST);
    assert_eq!(stack.stored(&form["fileKey"]).await, None);
    assert_eq!(status(post(&form, vec![0; 1000])).await, StatusCode::NO_CONTENT);
    for (path, body) in [
        ("/media/", &pdf),
        ("/media/", &too_large),
        ("/v1/assets/presign", &pdf),
        ("/v1/assets/presign", &too_large),
        ("/v1/assets/presign", &without_size),
    ] {
        assert_eq!(stack.request_grant(path, body).await.status(), StatusCode::BAD_REQUEST, "{path}, {body}");
    }
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn only_pages_of_allowed_origins_may_upload() {
    let (open, closed) = (limited_stack().await, default_stack().await);
    let preflight = async |stack: &Stack, origin: &str, method: &str| {
        let url = stack.grant_put().await["url"].as_str().unwrap().to_owned();
        let request = client().request(Method::OPTIONS, url);
        let request = request.header("origin", origin).header("access-control-request-method", method);
        let response = request.header("access-control-request-headers", "content-type").send().await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin").cloned();
        (response.status(), allowed.map(|origin| origin.to_str().unwrap().to_owned()))
    };

    for method in ["DELETE", "GET", "POST", "PUT"] {
        for origin in ORIGINS {
            let allowed = (StatusCode::OK, Some(origin.to_owned()));
            assert_eq!(preflight(open, origin, method).await, allowed, "{method} from {origin}");
            assert_eq!(
                preflight(closed, origin, method).await,
                (StatusCode::FORBIDDEN, None),
                "{method} from {origin}"
            );
        }
        assert_eq!(preflight(open, "https://example.org", method).await, (StatusCode::FORBIDDEN, None), "{method}");
    }
    assert_eq!(preflight(open, ORIGINS[0], "HEAD").await, (StatusCode::FORBIDDEN, None));
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn update_changes_the_limits_and_keeps_the_rest() {
    let before = Stack::deploy("e2e-updated", &[("UploadMaxBytes", "1000")]).await;
    let old = before.grant_post().await;

    let after = Stack::deploy("e2e-updated", &[("UploadMaxBytes", "2000"), ("UploadExpiresIn", "1")]).await;
    let new = after.grant_post().await;
    let url = after.grant_put().await;

    assert_eq!((&after.api_url, &after.api_key, &after.bucket), (&before.api_url, &before.api_key, &before.bucket));
    assert_eq!(bounds(&old).0, json!(["content-length-range", 1, 1000]));
    assert_eq!(bounds(&new).0, json!(["content-length-range", 1, 2000]));
    assert!(url["url"].as_str().unwrap().contains("X-Amz-Expires=1&"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(status(post(&new, file())).await, StatusCode::FORBIDDEN, "it has expired");
    assert_eq!(status(put(&url, file())).await, StatusCode::FORBIDDEN, "it has expired");
    assert_eq!(after.stored(&new["fileKey"]).await, None);
    assert_eq!(after.stored(&url["key"]).await, None);
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn deleting_a_stack_keeps_its_bucket_and_secret() {
    let first = Stack::deploy("e2e-deleted", &[]).await;
    let grant = first.grant_post().await;
    assert_eq!(status(post(&grant, file())).await, StatusCode::NO_CONTENT);

    first.delete().await;
    // Read now, because the local AWS gives the secret of the second stack the same name, and forgets the first.
    let secret = call("secretsmanager", "get_secret_value", json!({ "SecretId": first.secret })).await;
    let second = Stack::deploy("e2e-deleted", &[]).await;

    let secret: Value = serde_json::from_str(secret["SecretString"].as_str().unwrap()).unwrap();
    assert_eq!(secret, json!({ "default": first.api_key }));
    assert_eq!(first.stored(&grant["fileKey"]).await, Some(file()));
    let policy = call("s3", "get_bucket_policy", json!({ "Bucket": first.bucket })).await;
    assert!(policy["Policy"].as_str().unwrap().contains("aws:SecureTransport"));
    let with_the_old_key = second.request(Method::POST, "/media/").bearer_auth(&first.api_key).send().await.unwrap();
    assert_eq!(with_the_old_key.status(), StatusCode::UNAUTHORIZED);
    assert_ne!(first.bucket, second.bucket);
    assert_eq!(status(post(&second.grant_post().await, file())).await, StatusCode::NO_CONTENT);
}

/// The local AWS does not encrypt, so this tests only the permissions.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn role_may_use_each_kms_key_through_its_service() {
    let create_key = async || call("kms", "create_key", json!({})).await["KeyMetadata"]["Arn"].clone();
    let (of_uploads, of_secret) = (create_key().await, create_key().await);
    let parameters = [("KmsKeyArn", of_uploads.as_str().unwrap()), ("ApiKeysKmsKeyArn", of_secret.as_str().unwrap())];
    let stack = Stack::deploy("e2e-kms", &parameters).await;
    let role = stack.physical_id("FunctionRole").await;

    for (policy, action, kms_key, service) in [
        ("presigned-upload-kms", json!(["kms:GenerateDataKey", "kms:Decrypt"]), of_uploads, "s3"),
        ("presigned-upload-api-keys-kms", json!("kms:Decrypt"), of_secret.clone(), "secretsmanager"),
    ] {
        let policy = call("iam", "get_role_policy", json!({ "RoleName": role, "PolicyName": policy })).await;

        assert_eq!(
            policy["PolicyDocument"]["Statement"],
            json!([{
                "Effect": "Allow",
                "Action": action,
                "Resource": kms_key,
                "Condition": { "StringEquals": { "kms:ViaService": format!("{service}.eu-central-1.amazonaws.com") } },
            }])
        );
    }
    let secret = call("secretsmanager", "describe_secret", json!({ "SecretId": stack.secret })).await;
    assert_eq!(secret["KmsKeyId"], of_secret);
    assert_eq!(status(post(&stack.grant_post().await, file())).await, StatusCode::NO_CONTENT);
    assert_eq!(status(put(&stack.grant_put().await, file())).await, StatusCode::OK);
}

/// The local AWS accepts the property of the role but ignores it, so this test sets the boundary itself.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn uploads_need_only_the_documented_permissions_within_a_boundary() {
    let boundary = async |name: &str, actions: &[&str]| {
        let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
        let policy = json!({ "PolicyName": name, "PolicyDocument": policy.to_string() });
        call("iam", "create_policy", policy).await["Policy"]["Arn"].as_str().unwrap().to_owned()
    };
    let without_s3 = boundary("e2e-without-s3", &["secretsmanager:GetSecretValue", "logs:*", "xray:*"]).await;
    let with_s3 = boundary("e2e-with-s3", &["s3:PutObject", "secretsmanager:GetSecretValue", "logs:*", "xray:*"]).await;
    let stack = Stack::deploy("e2e-bounded", &[("PermissionsBoundaryArn", &with_s3)]).await;
    let role = stack.physical_id("FunctionRole").await;

    for (boundary, expected) in [(without_s3, StatusCode::FORBIDDEN), (with_s3, StatusCode::NO_CONTENT)] {
        let of_role = json!({ "RoleName": role, "PermissionsBoundary": boundary });
        call("iam", "put_role_permissions_boundary", of_role).await;

        assert_eq!(status(post(&stack.grant_post().await, file())).await, expected, "{boundary}");
    }
}

/// Deploys a stack of its own, because it empties the bucket after each upload.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn rejects_every_altered_upload() {
    let stack = Stack::deploy("e2e-tampered", &[]).await;
    let location = json!({ "LocationConstraint": "eu-central-1" });
    call("s3", "create_bucket", json!({ "Bucket": "other", "CreateBucketConfiguration": location })).await;
    let role = stack.role_credentials().await;
    let session_token = role.session_token().unwrap();

    let grant = async |path: &str, body: &Value| stack.grant(path, body).await;
    let take_objects = async || Some(stack.take_objects(&["other"]).await);
    let unexpected = unexpected_outcomes(Server::Ministack, &client(), session_token, grant, take_objects).await;

    assert_eq!(unexpected, [""; 0]);
}

/// Deploys a stack of its own, because it empties the bucket after each upload.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn accepts_only_the_multipart_upload_that_was_granted() {
    let stack = Stack::deploy("e2e-multipart", &[]).await;
    let api = async |path: &str, body: &Value| stack.grant(path, body).await;
    let uploader = Uploader { client: client(), api: &api };

    let stored = async |object_key: &Value| stack.stored(object_key).await;
    let take_objects = async || stack.take_objects(&[]).await;
    let unexpected = multipart::unexpected_outcomes(Server::Ministack, &uploader, stored, take_objects).await;
    let resumed = upload_and_resume([client(), client()], &api).await;

    assert_eq!(unexpected, [""; 0]);
    assert!(stack.stored(&resumed).await.is_some_and(|object| object == large_file()));
}

/// Replaces the references in a part of the template.
fn resolve(part: &Value, references: &BTreeMap<&str, Value>) -> Value {
    match part {
        Value::Array(items) => items.iter().map(|item| resolve(item, references)).collect(),
        Value::Object(members) => match members.iter().next() {
            Some((function, name)) if ["Ref", "Fn::GetAtt"].contains(&function.as_str()) => {
                references[name.as_str().unwrap()].clone()
            }
            Some((function, text)) if function == "Fn::Sub" => {
                let replace = |text: String, (name, value): (&&str, &Value)| {
                    text.replace(&format!("${{{name}}}"), value.as_str().unwrap())
                };
                json!(references.iter().fold(text.as_str().unwrap().to_owned(), replace))
            }
            _ => members.iter().map(|(name, member)| (name.clone(), resolve(member, references))).collect(),
        },
        _ => part.clone(),
    }
}

/// Serves a webhook; returns its URL, and the header `Authorization` and the body of each request.
async fn webhook() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let sender = sender.clone();
        async move {
            assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/uploaded"));
            let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            sender.send((authorization, serde_json::from_slice(&body).unwrap())).unwrap();
            Ok::<_, Infallible>(hyper::Response::new(Empty::<&[u8]>::new()))
        }
    });
    (format!("http://{}/uploaded", serve(service).await), requests)
}

/// The CloudFormation of the local AWS lacks connections and API destinations, so this test creates them from the
/// properties in the template. The local AWS does not repeat a failed request, and has no dead-letter queues.
#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn webhook_receives_each_completed_upload() {
    let stack = Stack::deploy("e2e-webhook", &[]).await;
    let (url, mut requests) = webhook().await;
    let rule = stack.physical_id("UploadRule").await;
    let without_webhook = call("events", "list_targets_by_rule", json!({ "Rule": rule })).await;
    let template = yaml(&read("template.yaml"));
    let properties = |id: &str| &template["Resources"][id]["Properties"];
    let mut references = BTreeMap::from([
        ("AWS::StackName", json!(stack.name)),
        ("CompletionWebhookUrl", json!(url)),
        ("CompletionWebhookToken", json!("0123456789abcdef")),
        ("CompletionWebhookRole.Arn", json!("arn:aws:iam::000000000000:role/e2e-webhook")),
        ("CompletionWebhookDeadLetters.Arn", json!("arn:aws:sqs:eu-central-1:000000000000:e2e-webhook")),
    ]);
    for (attribute, operation, arn) in [
        ("CompletionWebhookConnection.Arn", "create_connection", "ConnectionArn"),
        ("CompletionWebhookDestination.Arn", "create_api_destination", "ApiDestinationArn"),
    ] {
        let mut arguments = resolve(properties(attribute.trim_end_matches(".Arn")), &references);
        arguments["Name"] = json!(stack.name);
        let created = call("events", operation, arguments).await;
        references.insert(attribute, created[arn].clone());
    }
    let targets = resolve(&properties("UploadRule")["Targets"]["Fn::If"][1], &references);
    let put_targets = call("events", "put_targets", json!({ "Rule": rule, "Targets": targets })).await;
    let name = r#"","time":"<time>"} $1 + 100% 'ü' 📷.png"#;
    let body = json!({ "fileName": name, "fileType": "image/png" });

    let (form, put_url) = (stack.grant("/media/", &body).await, stack.grant("/v1/assets/presign", &body).await);
    for (upload, object_key) in [(post(&form, file()), &form["fileKey"]), (put(&put_url, file()), &put_url["key"])] {
        assert!(status(upload).await.is_success(), "{object_key}");
        let object_key = object_key.as_str().unwrap();
        let stored = s3(&root()).head_object().bucket(&stack.bucket).key(object_key).send().await.unwrap();
        let (authorization, body) = timeout(PATIENCE, requests.recv()).await.unwrap().unwrap();

        let (sequencer, time) = (&body["object"]["sequencer"], &body["time"]);
        assert!(DateTime::from_str(time.as_str().unwrap(), Format::DateTime).is_ok(), "{body}");
        assert!(sequencer.is_string(), "{body}");
        let etag = stored.e_tag().unwrap().trim_matches('"');
        let object = json!({ "key": object_key, "size": file().len(), "etag": etag, "sequencer": sequencer });
        assert_eq!(body, json!({ "object": object, "time": time }));
        assert!(object_key.ends_with(name), "{object_key}");
        assert_eq!(authorization, "Bearer 0123456789abcdef");
    }
    assert_eq!(put_targets["FailedEntryCount"], 0);
    assert_eq!(without_webhook["Targets"], json!([]));
    assert!(requests.is_empty());
}

#[tokio::test]
#[ignore = "needs a local AWS: make e2e"]
async fn responses_match_openapi_yaml() {
    let stack = confirming_stack().await;
    let authorization = format!("Authorization: Bearer {}", stack.api_key);

    for authorization in [Some(authorization.as_str()), None] {
        let mut command = Command::new(".venv-checks/bin/schemathesis");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--config-file", "tests/it/schemathesis.toml"]);
        command.args(["run", "openapi.yaml", "--seed", "1"]);
        command.args(["--checks", "all", "--max-examples", "50"]);
        command.args(["--url", &stack.api_url]);
        command.args(authorization.into_iter().flat_map(|authorization| ["--header", authorization]));

        let output = command.output().await.unwrap();

        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
