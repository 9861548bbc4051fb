"""Checks a deployed stack, and uploads one byte with each kind of grant (make doctor).

    doctor.py STACK

It acts with your AWS credentials; docs/operate.md lists the permissions. API_URL replaces the URL of the API, for a
custom domain, and API_KEY the API key, which is otherwise one of the secret. The status is 0 only if no check failed
and an upload of each kind succeeded.
"""

import base64
import collections
import hashlib
import io
import json
import os
import re
import secrets
import sys
import textwrap
import time
import zipfile
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import botocore.session
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from aws import PROJECT, exit_on_failure, local_api_url, machine

BODY = b"1"
TIMEOUT = (5, 20)  # seconds to connect, and to wait for a response
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
FOREIGN_ORIGIN = "https://presigned-upload-doctor.invalid"
UNDO = "undo the change: docs/operate.md#undo-changes-made-by-hand"
SET_API_URL = "if the API has a custom domain, set API_URL to its URL"

# What to do about an error of S3: the first of these that matches its code and message.
REASONS = {
    "KMS|kms:": "the role may not use the KMS key, or the key is disabled: see the line encryption, and "
    "docs/deploy.md#kms",
    "no identity-based policy": f"the role has lost this permission; {UNDO}",
    "permissions boundary": "the permissions boundary of the role does not allow this: allow it there",
    "service control policy|resource control policy": "a policy of your organization denies this: have the role "
    "exempted; if it requires x-amz-server-side-encryption, see docs/deploy.md#kms",
    "resource-based policy": "the bucket policy denies this: see the line bucket policy",
    "VPC endpoint": "the policy of a VPC endpoint denies this: run this from another network, or allow it there",
    "explicit deny in an identity-based policy": "a policy of the role denies this, such as `revoke` in "
    "docs/operate.md#revoke-every-grant: restart the function, and delete that policy",
    "Request has expired|Policy expired": "the grant was too old on arrival: see the line Lambda's clock, or raise "
    "UploadExpiresIn",
    "ExpiredToken|InvalidToken|InvalidAccessKeyId": "S3 does not know the function's credentials, perhaps because its "
    "role was replaced: restart it (docs/operate.md#restart-the-function)",
    "SignatureDoesNotMatch": "something changes the request on its way, such as a proxy: run this from another network",
    "RequestTimeTooSkewed": "the function's clock is wrong: see the line Lambda's clock",
    "NoSuchBucket": "the bucket was deleted, or the function signs for another: see the line settings",
    "Redirect|region .* is wrong": "the function signs for another region than the bucket's: see the line region; if "
    "the bucket is only minutes old, wait",
    "SlowDown|InternalError|ServiceUnavailable": "S3 is overloaded: run this again",
}

http = requests.Session()


class Broken(Exception):
    """A check failed: what was found, what to do about it, and the status if S3 refused a request."""

    def __init__(self, found, advice, status=None):
        self.found, self.advice, self.status = found, advice, status


class Skipped(Exception):
    """A check cannot run; the message is the reason."""


class Facts(dict):
    """What the checks have found out, for the checks after them."""

    def __missing__(self, name):
        raise Skipped(f"it needs {name}")


def client(facts, service):
    session = facts["AWS credentials"]
    if service not in facts:
        facts[service] = session.create_client(service, region_name=facts["region"], config=CONFIG)
    return facts[service]


def lacking(error):
    """Returns the permission that the operator lacks, if that is the error."""
    if re.search("Denied|Unauthorized|Forbidden|^403$", error.response["Error"]["Code"]):
        named = re.search(r"perform: ([\w-]+:\w+)", error.response["Error"].get("Message", ""))
        return named[1] if named else f"the permission for {error.operation_name}"
    return None


def evaluate(value, names, conditions):
    """Evaluates the intrinsic functions in a part of a template."""
    match value:
        case {"Ref": name}:
            return names[name]
        case {"Fn::GetAtt": [name, attribute]}:
            return names[f"{name}.{attribute}"]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^!}]+)}", lambda match: names[match[1]], text)
        case {"Fn::If": [name, *choices]}:
            return evaluate(choices[not evaluate(conditions[name], names, conditions)], names, conditions)
        case {"Fn::Equals": [one, other]}:
            return evaluate(one, names, conditions) == evaluate(other, names, conditions)
        case {"Fn::Not": [condition]}:
            return not evaluate(condition, names, conditions)
        case dict():
            members = {name: evaluate(it, names, conditions) for name, it in value.items()}
            return {name: it for name, it in members.items() if it is not None}
        case list():
            return [it for it in (evaluate(it, names, conditions) for it in value) if it is not None]
    return value


def deployed(facts, resource, name):
    """Returns a property of a resource, as the deployed template has it."""
    names, stack = facts["the stack"], {"StackName": facts["stack name"]}
    template = client(facts, "cloudformation").get_template(**stack, TemplateStage="Processed")["TemplateBody"]
    return evaluate(template["Resources"][resource]["Properties"][name], names, template["Conditions"])


def request(method, url, **arguments):
    try:
        return http.request(method, url, timeout=TIMEOUT, allow_redirects=False, **arguments)
    except requests.RequestException as error:
        # Its message contains the URL, which can be a secret.
        found = f"no response from {urlsplit(url).hostname} ({type(error).__name__})"
        raise Broken(found, "check DNS and proxies") from None


def ask(facts, method, path, api_key=None, body=None):
    try:
        return request(method, facts["the URL of the API"] + path, headers={"x-api-key": api_key}, json=body)
    except Broken as error:
        error.advice += f"; {SET_API_URL}"
        raise


def contents(response):
    """Returns the JSON object in the body of a response, or an empty one."""
    try:
        return dict(response.json())
    except (TypeError, ValueError):
        return {}


def grant(facts, path, body):
    """Requests a grant."""
    response = ask(facts, "POST", path, facts["an API key"], body)
    if response.status_code == 401:
        time.sleep(10)  # until the instance may read the secret again
        response = ask(facts, "POST", path, facts["an API key"], body)
    if response.status_code != 200 or not contents(response):
        raise refused_by_api(facts, response)
    return response.json()


def refused_by_api(facts, response):
    problem = contents(response)
    match response.status_code, problem.get("code"):
        case 200, _:
            advice = f"this is not presigned-upload: find out what responds; {SET_API_URL}"
        case 401, _:
            advice = f"the function does not know this API key: {last_error(facts)}"
        case (403 | 404), None:
            advice = f"no route leads to the function: {UNDO}; {SET_API_URL}"
        case (429 | 503), None:
            advice = "the API or the function is throttled: see the line function, and docs/operate.md#alarms"
        case 503, "storage_unavailable":
            advice = "S3 fails or throttles: run this again"
        case status, _ if status >= 500:
            advice = f"the function fails or does not start: {last_error(facts)}"
        case _:
            advice = "look up this error in docs/troubleshooting.md"
    cause = problem.get("detail") or problem.get("message") or response.reason
    return Broken(f"{response.status_code} {problem.get('code', '')}: {cause}".replace(" :", ":"), advice)


def last_error(facts):
    """Says what the function has logged last at level ERROR or WARN, since the doctor has started."""
    log_group, pattern = f"/presigned-upload/{facts['stack name']}", '{ ($.level = "ERROR") || ($.level = "WARN") }'
    start = int(facts["started at"] + facts.get("the clock of S3", 0)) * 1000
    lines = {"logGroupName": log_group, "startTime": start, "filterPattern": pattern}
    for _ in range(5):
        try:
            pages = client(facts, "logs").get_paginator("filter_log_events").paginate(**lines)
            logged = "\n".join(event["message"] for page in pages for event in page["events"])
        except (BotoCoreError, ClientError):
            break
        if errors := re.findall(r'"error":("(?:[^"\\]|\\.)*")', logged):
            return f"its log says `{json.loads(errors[-1])}`"
        time.sleep(3)  # until CloudWatch has the line
    return f"look for the cause in its log, {log_group}"


def send(facts, method, url, **arguments):
    """Sends a request of a grant to S3, which has to succeed."""
    response = request(method, url, **arguments)
    code, message = ((re.findall(f"<{it}>([^<]*)", response.text) or [""])[0] for it in ("Code", "Message"))
    # S3 may find an error only after it has responded with 200.
    if response.status_code >= 300 or code:
        found = f"{response.status_code} {code}: {message}".replace("&quot;", '"')
        raise Broken(found, reason(facts, code, message), response.status_code)
    return response


def reason(facts, code, message):
    for pattern, advice in REASONS.items():
        if re.search(pattern, f"{code}: {message}"):
            return advice
    if code != "AccessDenied":
        return "look up this error in docs/troubleshooting.md#s3"
    action = (re.findall(r"perform: (s3:\w+)", message) or ["s3:PutObject"])[0]
    return reason_of_iam(facts, action)


def reason_of_iam(facts, action):
    """Asks IAM why the role may not do this, since S3 does not always say."""
    role, names = facts["the stack"]["FunctionRole.Arn"], facts["the stack"]
    objects, iam = f"{names['Bucket.Arn']}/{names['UploadPrefix']}", client(facts, "iam")
    simulated = {"PolicySourceArn": role, "ActionNames": [action], "ResourceArns": [f"{objects}doctor.txt"]}
    try:
        [result] = iam.simulate_principal_policy(**simulated)["EvaluationResults"]
        boundary = iam.get_role(RoleName=role.split("/")[-1])["Role"].get("PermissionsBoundary", {})
    except (BotoCoreError, ClientError) as error:
        return f"the role lacks {action}, or a policy denies it; IAM did not say which: {error}"
    boundary = f"its permissions boundary {boundary['PermissionsBoundaryArn']}" if boundary else None
    organization = "a policy of your organization"
    if not result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary", True):
        return f"{boundary} does not allow {action}: allow it there"
    if not result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True):
        return f"{organization} does not allow {action}: have the role {role} exempted"
    if result["EvalDecision"] == "implicitDeny":
        return f"the role {role} lacks {action} on {objects}*; {UNDO}"
    if result["EvalDecision"] == "explicitDeny":
        return f"a policy of the role {role} denies {action}: delete that policy"
    deniers = [it for it in (boundary, "the bucket policy", organization) if it]
    return f"the role has {action}, so one of these denies it: {', '.join(deniers)}"


def file(facts, name="doctor.txt"):
    return {"fileName": name, "fileType": facts["file type"], "fileSize": len(BODY)}


def store(facts, object_key, method, url, **arguments):
    """Sends the request that creates an object, compares the object with what was sent, and remembers to delete it."""
    facts["objects"][object_key] = None
    try:
        response = send(facts, method, url, **arguments)
    except Broken as error:
        if error.status:
            del facts["objects"][object_key]
        raise
    facts["objects"][object_key] = response.headers.get("x-amz-version-id")
    facts["unfinished"].pop(object_key, None)
    try:
        stored = client(facts, "s3").get_object(Bucket=facts["the bucket"], Key=object_key)
    except ClientError as error:
        if lacking(error):
            return f"stored; not read back, because your credentials lack {lacking(error)}"
        raise
    if (stored["Body"].read(), stored["ContentType"]) != (BODY, facts["file type"]):
        raise Broken("S3 returns content or a type that was not sent", "find out what changes the objects")
    return "stored and read back"


def store_by_form(facts, form):
    return store(facts, form["fileKey"], "POST", form["url"], data=form["fields"], files={"file": BODY})


def store_by_put(facts, put):
    return store(facts, put["key"], "PUT", put["url"], headers=put["headers"], data=BODY)


def check_clock(facts):
    endpoint = botocore.session.Session().create_client("s3", region_name=facts["region"]).meta.endpoint_url
    date = parsedate_to_datetime(request("HEAD", endpoint).headers["Date"])
    facts["the clock of S3"] = date.timestamp() - time.time()  # seconds ahead of this machine's
    yield clock(-facts["the clock of S3"], "set the clock of this machine")


def check_lambda_clock(facts):
    seconds = facts["the clock of Lambda"] - facts["the clock of S3"]
    yield clock(seconds, "grants are signed with this time, which AWS sets: ask AWS Support")


def clock(seconds, advice):
    seconds = int(seconds)
    status = "FAILED" if abs(seconds) > 300 else "warning" if abs(seconds) > 30 else "ok"
    return status, f"{abs(seconds)} s {'behind' if seconds < 0 else 'ahead of'} S3", advice if status != "ok" else None


def check_credentials(facts):
    session = botocore.session.Session()
    try:
        caller = session.create_client("sts", region_name=facts["region"], config=CONFIG).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise Broken(str(error), "set AWS_PROFILE, or log in again, for example with `aws sso login`") from None
    facts["AWS credentials"] = session
    yield "ok", caller["Arn"], None


def check_stack(facts):
    name, region = facts["stack name"], facts["region"]
    try:
        [stack] = client(facts, "cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        raise Broken(f"there is no stack {name} in {region}", "set STACK and AWS_REGION, or deploy it") from None
    status, found = stack["StackStatus"], f"{name} in {region}, {stack['StackStatus']}"
    if status == "REVIEW_IN_PROGRESS":
        raise Broken(found, "the stack is only planned: execute or delete its change set")
    if status.endswith("_IN_PROGRESS"):
        raise Broken(found, "wait until CloudFormation has finished")
    if status in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE") or not status.endswith("_COMPLETE"):
        raise Broken(found, "read the events of the stack; after ROLLBACK_COMPLETE, delete it before you deploy again")
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack.get("Outputs", [])}
    if missing := {"ApiUrl", "BucketName", "ApiKeysSecretArn", "FunctionName"} - outputs.keys():
        advice = "name a stack of this template in STACK, or update it to this version"
        raise Broken(f"{found}, without the outputs {', '.join(sorted(missing))}", advice)
    resources = client(facts, "cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    # After a failed deployment, some resources are not there.
    resources = [it for it in resources if "PhysicalResourceId" in it and "DELETE_" not in it["ResourceStatus"]]
    ids = {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in resources}
    _, partition, _, _, account, _ = stack["StackId"].split(":", 5)
    facts["the stack"] = Facts({
        **ids,
        **{it["ParameterKey"]: it["ParameterValue"] for it in stack.get("Parameters", [])},
        "ApiKeys.Id": outputs["ApiKeysSecretArn"],
        "Bucket.Arn": f"arn:{partition}:s3:::{outputs['BucketName']}",
        "FunctionRole.Arn": f"arn:{partition}:iam::{account}:role/{ids.get('FunctionRole')}",
        **{"AWS::AccountId": account, "AWS::Partition": partition, "AWS::Region": region, "AWS::StackName": name},
        "AWS::NoValue": None,
    })
    alarms = [it["PhysicalResourceId"] for it in resources if it["ResourceType"] == "AWS::CloudWatch::Alarm"]
    facts["the alarms of the stack"], facts["the name of the function"] = alarms, outputs["FunctionName"]
    facts["the bucket"] = outputs["BucketName"]
    facts["the URL of the API"] = os.environ.get("API_URL", "").rstrip("/") or local_api_url(outputs["ApiUrl"])
    if "ROLLBACK" in status:
        yield "warning", found, "the last deployment failed and was undone: read the events of the stack"
    else:
        yield "ok", found, None


def check_function(facts):
    name, expected = facts["the name of the function"], facts["the stack"]["Architecture"]
    function = client(facts, "lambda").get_function(FunctionName=name)
    facts["the function"], facts["the code"] = function["Configuration"], function["Code"]["Location"]
    state, update = function["Configuration"]["State"], function["Configuration"]["LastUpdateStatus"]
    [architecture] = function["Configuration"]["Architectures"]
    if state not in ("Active", "Inactive") or update != "Successful":
        cause = function["Configuration"].get("StateReason") or function["Configuration"].get("LastUpdateStatusReason")
        raise Broken(f"{name}, {state}, last update {update}", cause or "wait, and run this again")
    if architecture != expected:
        raise Broken(f"{name}, {architecture} instead of {expected}", UNDO)
    if function.get("Concurrency", {}).get("ReservedConcurrentExecutions") == 0:
        raise Broken(f"{name} is stopped: its reserved concurrency is 0", "start it: docs/operate.md#stop-the-api")
    yield "ok", f"{name}, {state}, {architecture}", None


def check_code(facts):
    [architecture] = facts["the function"]["Architectures"]
    archive = request("GET", facts["the code"])
    if not archive.ok:
        raise Skipped(f"it cannot be downloaded ({archive.status_code})")
    try:
        bootstrap = zipfile.ZipFile(io.BytesIO(archive.content)).read("bootstrap")
    except (KeyError, zipfile.BadZipFile):
        bootstrap = b""
    if machine(bootstrap) != architecture.replace("arm64", "aarch64"):
        advice = f"deploy with Architecture={architecture}; a build from source has to match it"
        raise Broken(f"not a program for {architecture}", advice)
    yield "ok", f"{len(bootstrap):,} bytes for {architecture}", None


def check_settings(facts):
    expected = deployed(facts, "Function", "Environment")["Variables"]
    actual = facts["the function"].get("Environment", {}).get("Variables", {})
    if changed := [name for name, value in expected.items() if actual.get(name) != value]:
        raise Broken(f"differs from the template: {', '.join(changed)}", UNDO)
    yield "ok", f"{len(expected)} environment variables as in the template", None


def media_ranges(text):
    return [it.strip().lower() for it in text.split(",")]


def file_type(*allowed):
    """Returns a type that all these lists of media ranges contain, or `None`."""
    ranges = [media_ranges(text) for text in allowed]
    candidates = [it.replace("*/*", "text/plain").replace("*", "x-doctor") for it in sum(ranges, [])]
    return next((it for it in candidates if all(any(fnmatchcase(it, one) for one in of) for of in ranges)), None)


def is_api_key(value):
    """Whether a value is an API key or the digest of one, by the rules of src/auth.rs."""
    pattern = r"\s*(sha256:[0-9a-f]{64}|(?!sha256:)[!-~]{16,})\s*"
    return isinstance(value, str) and bool(re.fullmatch(pattern, value, re.IGNORECASE))


def parse_secret(text):
    """Returns the entries of the secret that have a valid API key, by this key, and the others, by their caller."""
    text = text.strip()
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    # An API key may start with a bracket, but JSON with a typo is not an API key.
    if not text.startswith('"') and not (text.startswith(("{", "[")) and ('"' in text or entries is not None)):
        entries = {"default": text}
    if not isinstance(entries, dict):
        raise Broken("the secret is not a JSON object", "correct it: docs/operate.md#api-keys")
    valid, invalid = {}, {}
    for number, (caller, entry) in enumerate(entries.items(), 1):
        members = entry if isinstance(entry, dict) else {"key": entry}
        if is_api_key(members.get("key")):
            valid[members["key"].strip()] = members
        else:
            # The name could be the API key, if someone has swapped the two.
            invalid[f"entry {number}" if is_api_key(caller) else f"the entry of {caller}"] = entry
    return valid, invalid


def check_api_keys(facts):
    given, types = os.environ.get("API_KEY"), facts["the stack"]["UploadAllowedTypes"]
    if given:
        facts["an API key"], facts["file type"] = given, file_type(types)
    secret = client(facts, "secretsmanager").get_secret_value(SecretId=facts["the stack"]["ApiKeys.Id"])
    valid, invalid = parse_secret(secret.get("SecretString", ""))
    for name, entry in invalid.items():
        status = "FAILED" if isinstance(entry, dict) or is_digest(str(entry)) else "warning"
        advice = "if it is meant to be one, correct it: docs/operate.md#api-keys"
        yield status, f"{name} is not a valid API key", advice
    if not valid:
        raise Broken("the secret contains no valid API key", "add one: docs/operate.md#api-keys")
    yield "ok", f"{len(valid)} valid", None
    api_key = given or next((it for it in valid if not is_digest(it)), None)
    if not api_key:
        raise Skipped("the secret contains only digests: set API_KEY for the checks that need an API key")
    if not (entry := {digest(it): valid[it] for it in valid}.get(digest(api_key))):
        del facts["an API key"]
        raise Broken("API_KEY is not among them", "set API_KEY to an API key of the secret, or unset it")
    facts["an API key"], facts["file type"] = api_key, file_type(types, str(entry.get("allowedTypes", "*/*")))


def is_digest(value):
    return value.strip().lower().startswith("sha256:")


def digest(api_key):
    return api_key[7:].lower() if is_digest(api_key) else hashlib.sha256(api_key.encode()).hexdigest()


def check_api(facts):
    response = ask(facts, "GET", "/healthz")
    if response.status_code != 200 or "timestamp" not in contents(response):
        raise refused_by_api(facts, response)
    facts["the clock of Lambda"] = response.json()["timestamp"] - time.time()
    yield "ok", f"{facts['the URL of the API']} responds in {response.elapsed.total_seconds() * 1000:.0f} ms", None
    for path in ("/media/", "/v1/assets/presign"):
        response = ask(facts, "POST", path, f"doctor-{secrets.token_hex()}", {})
        if response.status_code in (200, 400):
            raise Broken(f"{path} accepts a wrong API key", "find out what responds: presigned-upload does not")
        if response.status_code != 401:
            raise refused_by_api(facts, response)
    facts["the API"] = facts["the URL of the API"]
    yield "ok", "a wrong API key is 401", None


def check_routes(facts):
    facts["the API"]
    for path in ("/media/", "/media", "/v1/assets/presign/", "/v1/assets/presign"):
        facts[f"a grant of {path}"] = grant(facts, path, file(facts))
    facts["a form"] = facts["a grant of /media/"]
    yield "ok", "/media and /v1/assets/presign, with and without a slash at the end", None


def check_form(facts):
    yield "ok", store_by_form(facts, facts["a form"]), None
    facts["a form that works"] = facts["a form"]


def check_put(facts):
    facts["a form"]
    sha256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    put = grant(facts, "/v1/assets/presign", {**file(facts), "checksumSha256": sha256, "overwrite": False})
    found = store_by_put(facts, put)
    try:
        send(facts, "PUT", put["url"], headers=put["headers"], data=BODY)
        raise Broken("S3 ignores If-None-Match", "do not rely on `overwrite`: docs/deploy.md#other-stores")
    except Broken as error:
        if error.status != 412:
            raise
    yield "ok", f"{found}; a second upload is 412", None
    facts["a PUT that works"] = put


def check_confirmation(facts):
    uploaded, missing = facts["a form that works"]["fileKey"], facts["a grant of /media"]["fileKey"]
    is_on = facts["the stack"].get("AllowConfirmation") == "true"
    expected = {uploaded: 200, missing: "not_uploaded"} if is_on else {uploaded: "not_found"}
    for object_key, outcome in expected.items():
        response = ask(facts, "POST", "/v1/uploads/confirm", facts["an API key"], {"key": object_key})
        body = contents(response)
        if body.get("code", response.status_code) != outcome:
            if not is_on:
                raise Broken(f"{response.status_code}, although AllowConfirmation is not true", UNDO)
            error = refused_by_api(facts, response)
            error.found = f"of {'an upload' if outcome == 200 else 'a missing upload'}: {error.found}"
            raise error
        if outcome == 200 and body.get("size") != len(BODY):
            found = f"an upload of {len(BODY)} byte is confirmed with a size of {body.get('size')}"
            raise Broken(found, "find out what changes the objects")
    found = "an upload is confirmed, and a missing one is 404" if is_on else "off, as AllowConfirmation is not true"
    yield "ok", found, None


def check_multipart(facts):
    facts["a form"]
    upload = grant(facts, "/v1/uploads", file(facts))
    object_key, create = upload["key"], upload["create"]
    created = send(facts, create["method"], create["url"], headers=create["headers"])
    upload_id = facts["unfinished"][object_key] = re.search("<UploadId>([^<]+)", created.text)[1]
    body = {"uploadToken": upload["uploadToken"], "uploadId": upload_id, "partNumbers": [1]}
    signed = grant(facts, "/v1/uploads/sign", body)
    etag = send(facts, "PUT", signed["parts"][0]["url"], data=BODY).headers["ETag"]
    parts = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'
    complete = signed["complete"]
    found = store(facts, object_key, complete["method"], complete["url"], headers=complete["headers"], data=body)
    yield "ok", found, None


def check_names(facts):
    facts["a form that works"], facts["a PUT that works"]
    names = ("two words.txt", "5$.txt", "\N{STETHOSCOPE}.txt")
    for name in names:
        try:
            form = grant(facts, "/media/", file(facts, name))
            put = grant(facts, "/v1/assets/presign", file(facts, name))
            found = {store_by_form(facts, form), store_by_put(facts, put)}
        except Broken as error:
            error.found = f"{name}: {error.found}"
            raise
    yield "ok", f"{', '.join(names)}: {found.pop()}, by form and by PUT", None


def check_region(facts):
    location = setting(facts, "bucket_location", "LocationConstraint")
    region = {None: "us-east-1", "EU": "eu-west-1"}.get(location, location)
    host = urlsplit(facts["a form"]["url"]).hostname
    signed = facts["a form"]["fields"]["x-amz-credential"].split("/")[2]
    if signed != region or ("amazonaws" in host and region not in host.split(".")):
        advice = "deploy the function in the region of its bucket"
        raise Broken(f"the bucket is in {region}, but grants are signed for {signed} at {host}", advice)
    yield "ok", f"{region}, {host}", None


def setting(facts, operation, name):
    """Reads a setting of the bucket, or returns `None` if it has none."""
    try:
        return getattr(client(facts, "s3"), f"get_{operation}")(Bucket=facts["the bucket"])[name]
    except ClientError as error:
        if lacking(error) or not re.match("NoSuch(?!Bucket$)|.*NotFoundError", error.response["Error"]["Code"]):
            raise
        return None


def check_encryption(facts):
    encryption = setting(facts, "bucket_encryption", "ServerSideEncryptionConfiguration") or {"Rules": [{}]}
    default = encryption["Rules"][0].get("ApplyServerSideEncryptionByDefault", {})
    actual = default.get("KMSMasterKeyID", default.get("SSEAlgorithm"))
    expected = facts["the stack"]["KmsKeyArn"] or "AES256"
    if actual != expected:
        raise Broken(f"{actual} instead of {expected}", f"set KmsKeyArn to the key that you want, or {UNDO}")
    yield "ok", actual, None
    for name in ("KmsKeyArn", "ApiKeysKmsKeyArn"):
        if arn := facts["the stack"][name]:
            state = client(facts, "kms").describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
            if state != "Enabled":
                raise Broken(f"the key of {name} is {state}", "enable it, or cancel its deletion")
            yield "ok", f"the key of {name} is enabled", None


def check_lifecycle(facts):
    prefix, expected = facts["the stack"]["UploadPrefix"], int(facts["the stack"]["UploadExpirationInDays"])
    filters = [
        (rule, {"Prefix": rule["Prefix"]} if "Prefix" in rule else rule.get("Filter", {}))
        for rule in setting(facts, "bucket_lifecycle_configuration", "Rules") or []
    ]
    rules = [
        rule
        for rule, which in filters
        if rule["Status"] == "Enabled" and which.keys() <= {"Prefix"} and prefix.startswith(which.get("Prefix", ""))
    ]
    days = min((it["Expiration"]["Days"] for it in rules if "Days" in it.get("Expiration", {})), default=None)
    if days != expected:
        actually = f"expire after {days} days instead of {expected}" if days else "never expire"
        raise Broken(f"uploads below {prefix} {actually}", UNDO)
    if not any("AbortIncompleteMultipartUpload" in it for it in rules):
        raise Broken(f"incomplete multipart uploads below {prefix} are never aborted", UNDO)
    yield "ok", f"uploads below {prefix} expire (UploadExpirationInDays: {days}), incomplete ones are aborted", None


def comparable(value):
    """Returns a policy, or a part of one, so that lists compare as AWS compares them."""
    if isinstance(value, list):
        return comparable(value[0]) if len(value) == 1 else sorted(value)
    return {name: comparable(it) for name, it in value.items()} if isinstance(value, dict) else value


def check_bucket_policy(facts):
    policy = setting(facts, "bucket_policy", "Policy")
    if not policy:
        raise Broken("there is none, so nothing denies plain HTTP", UNDO)
    expected = deployed(facts, "BucketPolicy", "PolicyDocument")["Statement"]
    actual = [comparable(statement) for statement in json.loads(policy)["Statement"]]
    if missing := [statement["Sid"] for statement in expected if comparable(statement) not in actual]:
        raise Broken(f"differs from the template: {', '.join(missing)}", UNDO)
    yield "ok", f"{len(expected)} statements as in the template, {len(actual) - len(expected)} others", None


def check_public_access(facts):
    blocked = setting(facts, "public_access_block", "PublicAccessBlockConfiguration") or {"": False}
    if not all(blocked.values()):
        raise Broken("public access is not blocked", UNDO)
    ownership = setting(facts, "bucket_ownership_controls", "OwnershipControls") or {}
    if ownership.get("Rules") != [{"ObjectOwnership": "BucketOwnerEnforced"}]:
        raise Broken("ACLs are on", UNDO)
    yield "ok", "blocked, and ACLs are off", None


def is_cors_allowed(facts, origin, method):
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    headers["Access-Control-Request-Headers"] = "content-type"
    response = request("OPTIONS", facts["a form"]["url"], headers=headers)
    return response.ok and response.headers.get("Access-Control-Allow-Origin") in (origin, "*")


def check_cors(facts):
    origins = list(filter(None, facts["the stack"]["CorsAllowedOrigins"].split(",")))
    for origin in origins:
        page = origin.replace("*", "www")
        for method in ("DELETE", "GET", "POST", "PUT"):
            if not is_cors_allowed(facts, page, method):
                raise Broken(f"{origin} may not {method}, although CorsAllowedOrigins contains it", UNDO)
        headers = request("GET", facts["a form"]["url"], headers={"Origin": page}).headers
        if not {"etag", "location"} <= {*media_ranges(headers.get("Access-Control-Expose-Headers", ""))}:
            raise Broken(f"{origin} may not read ETag and Location, which multipart uploads need", UNDO)
    is_foreign = not any(fnmatchcase(FOREIGN_ORIGIN, origin) for origin in origins)
    if is_foreign and is_cors_allowed(facts, FOREIGN_ORIGIN, "PUT"):
        raise Broken("origins that are not in CorsAllowedOrigins may upload", UNDO)
    yield "ok", f"only {', '.join(origins)}" if origins else "no origins, as CorsAllowedOrigins is empty", None


def check_alarms(facts):
    names, topic = facts["the alarms of the stack"], facts["the stack"]["AlarmTopicArn"]
    alarms = client(facts, "cloudwatch").describe_alarms(AlarmNames=names, MaxRecords=100)["MetricAlarms"]
    if missing := set(names) - {alarm["AlarmName"] for alarm in alarms}:
        raise Broken(f"deleted: {', '.join(sorted(missing))}", UNDO)
    silent = [it["AlarmName"] for it in alarms if not it["ActionsEnabled"] or topic not in it["AlarmActions"]]
    if topic and silent:
        raise Broken(f"do not notify {topic}: {', '.join(silent)}", UNDO)
    if active := [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]:
        yield "warning", f"in ALARM: {', '.join(active)}", "see docs/operate.md#alarms"
    yield "ok", f"{len(alarms)}, {f'which notify {topic}' if topic else 'shown only in CloudWatch'}", None
    if topic:
        attributes = client(facts, "sns").get_topic_attributes(TopicArn=topic)["Attributes"]
        if attributes["SubscriptionsConfirmed"] == "0":
            yield "warning", "the topic notifies nobody", "subscribe to it, and confirm the subscription"


def clean_up(facts):
    """Deletes what was uploaded, also after an interruption."""
    calls = [("abort_multipart_upload", {"Key": key, "UploadId": it}) for key, it in facts["unfinished"].items()]
    for key, version in facts["objects"].items():
        calls.append(("delete_object", {"Key": key, "VersionId": version} if version else {"Key": key}))
    left = []
    for operation, arguments in calls:
        try:
            getattr(client(facts, "s3"), operation)(Bucket=facts["the bucket"], **arguments)
        except (BotoCoreError, ClientError):
            left.append(arguments["Key"])
    if left:
        advice = "delete them; otherwise the lifecycle rule does. Your credentials may lack s3:DeleteObject"
        yield "warning", f"these stay in {facts['the bucket']}: {', '.join(left)}", advice
    else:
        yield "ok", f"{len(calls)} uploads deleted", None


CHECKS = {
    "clock": check_clock,
    "credentials": check_credentials,
    "stack": check_stack,
    "function": check_function,
    "code": check_code,
    "settings": check_settings,
    "API keys": check_api_keys,
    "API": check_api,
    "Lambda's clock": check_lambda_clock,
    "routes": check_routes,
    "form": check_form,
    "PUT": check_put,
    "multipart": check_multipart,
    "confirmation": check_confirmation,
    "file names": check_names,
    "region": check_region,
    "encryption": check_encryption,
    "lifecycle": check_lifecycle,
    "bucket policy": check_bucket_policy,
    "public access": check_public_access,
    "CORS": check_cors,
    "alarms": check_alarms,
}


def results(check, facts):
    """Runs a check, and returns what it raises as a result as well."""
    try:
        yield from check(facts)
    except Broken as error:
        yield "FAILED", error.found, error.advice
    except Skipped as error:
        yield "skipped", f"because {error}", None
    except ClientError as error:
        if lacking(error):
            yield "skipped", f"because your credentials lack {lacking(error)}", None
        else:
            yield "FAILED", str(error), "look up this error of AWS, and run this again"
    except BotoCoreError as error:
        yield "FAILED", str(error), "check the network and your AWS configuration"
    except Exception as error:
        # Not its message, which can contain a URL of a grant.
        yield "FAILED", type(error).__name__, "this is a bug of make doctor: report it with this output"


def run(name, check, facts):
    """Prints the results of a check."""
    for status, found, advice in results(check, facts):
        start = f"{status:<8} {name + ':':<15} "
        facts["results"].append((name, status))
        wrapper = textwrap.TextWrapper(120, start, " " * len(start), break_long_words=False, break_on_hyphens=False)
        print(wrapper.fill(found), flush=True)
        if advice:
            wrapper.initial_indent = wrapper.subsequent_indent
            print(wrapper.fill("as above" if advice in facts["advice"] else advice), flush=True)
            facts["advice"].add(advice)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    saved = re.findall(r'^region *= *"([^"]+)', (PROJECT / "samconfig.toml").read_text(), re.MULTILINE)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or (saved and saved[-1])
    region = region or botocore.session.Session().get_config_variable("region")
    if not region:
        sys.exit("make doctor: no region; set AWS_REGION")
    facts = Facts({"stack name": sys.argv[1], "region": region, "started at": time.time()})
    facts.update(objects={}, unfinished={}, advice=set(), results=[])
    try:
        for name, check in CHECKS.items():
            run(name, check, facts)
    finally:
        run("clean-up", clean_up, facts)
    counts = collections.Counter(status for _, status in facts["results"])
    untested = [name for name in ("form", "PUT", "multipart") if (name, "ok") not in facts["results"]]
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    if untested:
        print(f"no successful upload: {', '.join(untested)}")
    sys.exit(1 if counts["FAILED"] or untested else 0)


if __name__ == "__main__":
    with exit_on_failure("make doctor"):
        main()
