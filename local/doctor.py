"""Checks a deployed stack, and uploads one byte with each kind of grant (make doctor).

    doctor.py STACK

It acts with your AWS credentials; docs/operate.md lists the permissions. API_URL replaces the URL of the API, for a
custom domain, and API_KEY the API key, which is otherwise one of the secret. The status is 1 if a check failed.
"""

import base64
import collections
import hashlib
import io
import json
import os
import re
import secrets
import statistics
import struct
import sys
import textwrap
import time
import tomllib
import zipfile
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import botocore.session
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from aws import PROJECT, exit_on_failure, local_api_url

BODY = b"1"
TIMEOUT = (5, 20)  # seconds to connect, and to wait for a response
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine in the header of an ELF file
FOREIGN_ORIGIN = "https://presigned-upload-doctor.invalid"
UNDO = "undo the change: docs/operate.md#undo-changes-made-by-hand"

# What to do about an error of S3: the first of these that matches its code and message.
REASONS = {
    "KMS|kms:": "the role may not use the KMS key, or the key is disabled: see the line KMS, and docs/deploy.md#kms",
    "permissions boundary": "the permissions boundary of the role does not allow this: allow it there",
    "service control policy|resource control policy": "a policy of your organization denies this: have the role "
    "exempted; if it requires x-amz-server-side-encryption, see docs/deploy.md#kms",
    "resource-based policy": "the bucket policy denies this: see the line bucket policy",
    "VPC endpoint": "the policy of a VPC endpoint denies this: run this from another network, or allow it there",
    "explicit deny in an identity-based policy": "a policy of the role denies this, such as `revoke` in "
    "docs/operate.md#revoke-every-grant: restart the function, and delete that policy",
    "Request has expired|Policy expired": "the grant was too old on arrival: see the line clock, raise UploadExpiresIn",
    "ExpiredToken|InvalidToken|InvalidAccessKeyId": "S3 does not know the function's credentials, perhaps because its "
    "role was replaced: restart it (docs/operate.md#restart-the-function)",
    "SignatureDoesNotMatch": "something changes the request on its way, such as a proxy: run this from another network",
    "RequestTimeTooSkewed": "a clock is wrong: see the line clock",
    "NoSuchBucket": "the bucket was deleted, or the function signs for another: see the line settings",
    "Redirect|region .* is wrong": "the function signs for another region than the bucket's: see the line region; if "
    "the bucket is only minutes old, wait",
    "SlowDown|InternalError|ServiceUnavailable": "S3 is overloaded: run this again",
}

http = requests.Session()


class Broken(Exception):
    """A check failed: what was found, and what to do about it."""

    def __init__(self, found, advice):
        super().__init__(found)
        self.found, self.advice = found, advice


class Refused(Broken):
    """S3 refused a request."""

    def __init__(self, status, found, advice):
        super().__init__(found, advice)
        self.status = status


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
            return {name: evaluate(it, names, conditions) for name, it in value.items()}
        case list():
            return [it for it in (evaluate(it, names, conditions) for it in value) if it is not None]
    return value


def deployed(facts, resource, name):
    """Returns a property of a resource, as the deployed template has it."""
    names = {**facts["the stack"], "AWS::NoValue": None}
    template = client(facts, "cloudformation").get_template(StackName=facts["stack name"], TemplateStage="Processed")
    template = template["TemplateBody"]
    try:
        return evaluate(template["Resources"][resource]["Properties"][name], names, template.get("Conditions", {}))
    except KeyError as error:
        raise Skipped(f"it cannot evaluate {error} in the template") from None


def request(method, url, **arguments):
    try:
        return http.request(method, url, timeout=TIMEOUT, allow_redirects=False, **arguments)
    except requests.RequestException as error:
        # Its message contains the URL, which can be a secret.
        found = f"no response from {urlsplit(url).hostname} ({type(error).__name__})"
        raise Broken(found, "check DNS and proxies; if the API has a custom domain, set API_URL to its URL") from None


def ask(facts, path, body, api_key):
    return request("POST", facts["the URL of the API"] + path, headers={"x-api-key": api_key}, json=body)


def grant(facts, path, body):
    """Requests a grant."""
    response = ask(facts, path, body, facts["an API key"])
    if response.status_code == 401:
        time.sleep(10)  # until the instance may read the secret again
        response = ask(facts, path, body, facts["an API key"])
    if response.status_code != 200:
        raise refused_by_api(facts, response)
    return response.json()


def refused_by_api(facts, response):
    try:
        problem = dict(response.json())
    except (TypeError, ValueError):
        problem = {}
    match response.status_code, problem.get("code"):
        case 401, _:
            advice = f"the function does not know the API keys of the secret: {last_error(facts)}"
        case (403 | 404), None:
            advice = f"no route leads to the function: {UNDO}; if the API has a custom domain, set API_URL to its URL"
        case (429 | 503), None:
            advice = "the API or the function is throttled: see the line function, and docs/operate.md#alarms"
        case status, _ if status >= 500:
            advice = f"the function fails or does not start: {last_error(facts)}"
        case _:
            advice = "look up this error in docs/troubleshooting.md"
    cause = problem.get("detail") or problem.get("message") or response.reason
    return Broken(f"{response.status_code} {problem.get('code', '')}: {cause}".replace(" :", ":"), advice)


def last_error(facts):
    """Says what the function has logged last at level ERROR or WARN, within 15 minutes."""
    log_group, logged = f"/presigned-upload/{facts['stack name']}", []
    start, pattern = int(time.time() - 900) * 1000, '{ ($.level = "ERROR") || ($.level = "WARN") }'
    lines = {"logGroupName": log_group, "startTime": start, "filterPattern": pattern}
    try:
        pages = client(facts, "logs").get_paginator("filter_log_events").paginate(**lines)
        logged = [event["message"] for page in pages for event in page["events"]]
    except ClientError:
        pass
    errors = re.findall(r'"error":("(?:[^"\\]|\\.)*")', "\n".join(logged))
    return f"its log says `{json.loads(errors[-1])}`" if errors else f"look for the cause in its log, {log_group}"


def send(facts, method, url, **arguments):
    """Sends a request of a grant to S3, which has to succeed."""
    response = request(method, url, **arguments)
    code, message = ((re.findall(f"<{it}>([^<]*)", response.text) or [""])[0] for it in ("Code", "Message"))
    # S3 may find an error only after it has responded with 200.
    if response.status_code >= 300 or code:
        found = f"{response.status_code} {code}: {message}".replace("&quot;", '"')
        raise Refused(response.status_code, found, reason(facts, code, message))
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
    role, names = facts["the function"]["Role"], facts["the stack"]
    objects, iam = f"{names['Bucket.Arn']}/{names['UploadPrefix']}", client(facts, "iam")
    simulated = {"PolicySourceArn": role, "ActionNames": [action], "ResourceArns": [f"{objects}doctor.txt"]}
    try:
        [result] = iam.simulate_principal_policy(**simulated)["EvaluationResults"]
        boundary = iam.get_role(RoleName=role.split("/")[-1])["Role"].get("PermissionsBoundary", {})
    except ClientError as error:
        return f"the role lacks {action}, or some policy denies it: to learn which, {lacking(error) or error}"
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
    """Sends the request that creates an object, and remembers to delete it."""
    facts["objects"][object_key] = None
    try:
        response = send(facts, method, url, **arguments)
    except Refused:
        del facts["objects"][object_key]
        raise
    facts["objects"][object_key] = response.headers.get("x-amz-version-id")


def store_by_form(facts, form, object_key):
    store(facts, object_key, "POST", form["url"], data={**form["fields"], "key": object_key}, files={"file": BODY})


def store_by_put(facts, put, object_key):
    store(facts, object_key, "PUT", put["url"], headers=put["headers"], data=BODY)


def read_back(facts, object_key):
    """Compares an object with what was sent."""
    try:
        stored = client(facts, "s3").get_object(Bucket=facts["the bucket"], Key=object_key)
    except ClientError as error:
        if lacking(error):
            return f"stored; not read back, because your credentials lack {lacking(error)}"
        raise
    if (stored["Body"].read(), stored["ContentType"]) != (BODY, facts["file type"]):
        raise Broken("S3 returns other content or another type than was sent", "find out what changes the objects")
    return "stored and read back"


def check_clock(facts):
    endpoint = botocore.session.Session().create_client("s3", region_name=facts["region"]).meta.endpoint_url
    date = parsedate_to_datetime(request("HEAD", endpoint).headers["Date"])
    seconds = round(time.time() - date.timestamp())
    status = "FAILED" if abs(seconds) > 300 else "warning" if abs(seconds) > 30 else "ok"
    found = f"{abs(seconds)} s {'behind' if seconds < 0 else 'ahead of'} S3"
    yield status, found, "set the clock of this machine" if status != "ok" else None


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
    if status.endswith("_IN_PROGRESS"):
        raise Broken(found, "wait until CloudFormation has finished")
    if status in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE") or not status.endswith("_COMPLETE"):
        raise Broken(found, "read the events of the stack; after ROLLBACK_COMPLETE, delete it before you deploy again")
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack.get("Outputs", [])}
    if missing := {"ApiUrl", "BucketName", "ApiKeysSecretArn"} - outputs.keys():
        raise Broken(f"{found}, without the outputs {', '.join(missing)}", "name a stack of this template in STACK")
    resources = client(facts, "cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    _, partition, _, _, account, _ = stack["StackId"].split(":", 5)
    facts["the stack"] = {
        **{it["LogicalResourceId"]: it["PhysicalResourceId"] for it in resources},
        **{it["ParameterKey"]: it["ParameterValue"] for it in stack["Parameters"]},
        "ApiKeys.Id": outputs["ApiKeysSecretArn"],
        "Bucket.Arn": f"arn:{partition}:s3:::{outputs['BucketName']}",
        **{"AWS::AccountId": account, "AWS::Partition": partition, "AWS::Region": region, "AWS::StackName": name},
    }
    is_alarm = {it["PhysicalResourceId"]: it["ResourceType"] == "AWS::CloudWatch::Alarm" for it in resources}
    facts["the alarms of the stack"] = [name for name in is_alarm if is_alarm[name]]
    facts["the bucket"] = outputs["BucketName"]
    facts["the URL of the API"] = os.environ.get("API_URL", "").rstrip("/") or local_api_url(outputs["ApiUrl"])
    if "ROLLBACK" in status:
        yield "warning", found, "the last deployment failed and was undone: read the events of the stack"
    else:
        yield "ok", found, None


def check_function(facts):
    # The template of a release has a function for each architecture.
    name = facts["the stack"].get("FunctionArm64") or facts["the stack"]["Function"]
    expected = facts["the stack"]["Architecture"]
    function = client(facts, "lambda").get_function(FunctionName=name)
    facts["the function"], facts["the code"] = function["Configuration"], function["Code"]["Location"]
    state, update = function["Configuration"]["State"], function["Configuration"]["LastUpdateStatus"]
    [architecture] = function["Configuration"]["Architectures"]
    facts["the stack"]["FunctionRole.Arn"] = function["Configuration"]["Role"]
    if state not in ("Active", "Inactive") or update != "Successful":
        cause = function["Configuration"].get("StateReason") or function["Configuration"].get("LastUpdateStatusReason")
        raise Broken(f"{name}, {state}, last update {update}", cause or "wait, and run this again")
    if architecture != expected:
        raise Broken(f"{name}, {architecture} instead of {expected}", f"run `make deploy ARCHITECTURE={expected}`")
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
    if bootstrap[:4] != b"\x7fELF" or struct.unpack_from("<H", bootstrap, 18)[0] != MACHINES[architecture]:
        raise Broken(f"not a program for {architecture}", f"run `make deploy ARCHITECTURE={architecture}`")
    yield "ok", f"{len(bootstrap):,} bytes for {architecture}", None


def check_settings(facts):
    expected = deployed(facts, "Function", "Environment")["Variables"]
    actual = facts["the function"].get("Environment", {}).get("Variables", {})
    if changed := [name for name, value in expected.items() if actual.get(name) != value]:
        raise Broken(f"{', '.join(changed)} not as deployed", UNDO)
    yield "ok", f"{len(expected)} environment variables as deployed", None


def check_logs(facts):
    names = [facts["the stack"]["FunctionLogGroup"], facts["the stack"]["ApiLogGroup"]]
    for name in names:
        groups = client(facts, "logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        if name not in [group["logGroupName"] for group in groups]:
            raise Broken(f"there is no log group {name}", UNDO)
    yield "ok", f"{' and '.join(names)} exist", None


def media_ranges(text):
    return [it.strip().lower() for it in text.split(",")]


def file_type(*allowed):
    """Returns a type that all these lists of media ranges contain, or `None`."""
    ranges = [media_ranges(text) for text in allowed]
    candidates = [it.replace("*/*", "text/plain").replace("*", "x-doctor") for it in sum(ranges, [])]
    return next((it for it in candidates if all(any(fnmatchcase(it, one) for one in of) for of in ranges)), None)


def is_valid(member, value, types):
    """Whether a member of an entry of the secret is valid: the rules of src/auth.rs."""
    name = "[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
    match member, value:
        case "key", str():
            return re.fullmatch(r"\s*(sha256:[0-9a-f]{64}|(?!sha256:)[!-~]{16,})\s*", value, re.IGNORECASE)
        case "prefix", str():
            segment = r"(?!\.\.?/)[^/\\\x00-\x1f\x7f-\x9f\ufffe\uffff]+/"
            return re.fullmatch(f"({segment})+", value) and not re.search(r"\$[${]", value)
        case ("maxBytes" | "expiresIn"), int() if not isinstance(value, bool):
            return 1 <= value <= {"maxBytes": 5497558138880, "expiresIn": 604800}[member]
        case "allowedTypes", str():
            is_range = re.compile(rf"\*/\*|{name}/(\*|{name})").fullmatch
            return all(map(is_range, media_ranges(value))) and file_type(types, value)
    return False


def parse_secret(text, types):
    """Returns the valid entries of the secret, and what is invalid in the others."""
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
    for caller, entry in entries.items():
        members = entry if isinstance(entry, dict) else {"key": entry}
        wrong = [it for it, value in {"key": None, **members}.items() if not is_valid(it, value, types)]
        if not wrong:
            valid[caller] = members
        elif isinstance(entry, dict):
            invalid[caller] = f"its {wrong[0]}"
        else:
            invalid[caller] = "its digest" if str(entry).strip().lower().startswith("sha256:") else None
    return valid, invalid


def check_api_keys(facts):
    given, types = os.environ.get("API_KEY"), facts["the stack"]["UploadAllowedTypes"]
    if given:
        facts["an API key"], facts["file type"] = given, file_type(types)
    secret = client(facts, "secretsmanager").get_secret_value(SecretId=facts["the stack"]["ApiKeys.Id"])
    valid, invalid = parse_secret(secret["SecretString"], types)
    for caller, what in invalid.items():
        found, advice = f"the entry of {caller} is invalid", "correct it: docs/operate.md#api-keys"
        if what:
            yield "FAILED", f"{found}: {what}", advice
        else:
            yield "warning", found, f"if it should be an API key, {advice}"
    if not valid:
        raise Broken("the secret contains no valid API key", "add one: docs/operate.md#api-keys")
    yield "ok", f"{len(valid)} valid: {', '.join(valid)}", None
    for entry in valid.values():
        api_key = entry["key"].strip()
        is_digest = api_key.lower().startswith("sha256:")
        digest = api_key[7:].lower() if is_digest else hashlib.sha256(api_key.encode()).hexdigest()
        if digest == hashlib.sha256(given.encode()).hexdigest() if given else not is_digest:
            facts["an API key"] = given or api_key
            facts["file type"] = file_type(types, entry.get("allowedTypes", "*/*"))
            return
    if given:
        del facts["an API key"]
        raise Broken("API_KEY is not among them", "set API_KEY to an API key of the secret, or unset it")
    raise Skipped("the secret contains only digests: set API_KEY for the checks that need an API key")


def check_api(facts):
    response = request("GET", f"{facts['the URL of the API']}/healthz")
    if response.status_code != 200:
        raise refused_by_api(facts, response)
    yield "ok", f"{facts['the URL of the API']} responds in {response.elapsed.total_seconds() * 1000:.0f} ms", None
    for path in ("/media/", "/v1/assets/presign"):
        response = ask(facts, path, {}, f"doctor-{secrets.token_hex()}")
        if response.status_code != 401:
            found = refused_by_api(facts, response).found if response.status_code >= 300 else "200"
            raise Broken(f"with a wrong API key, {path} responds with {found}", "expected 401: find out what responds")
    facts["the API"] = facts["the URL of the API"]
    yield "ok", "a wrong API key is 401", None


def check_routes(facts):
    facts["the API"]
    milliseconds = []
    for path in ("/media/", "/media", "/v1/assets/presign/", "/v1/assets/presign"):
        started_at = time.monotonic()
        facts[f"a grant of {path}"] = grant(facts, path, file(facts))
        milliseconds.append((time.monotonic() - started_at) * 1000)
    facts["a form"] = facts["a grant of /media/"]
    found = "/media and /v1/assets/presign, with and without a slash at the end"
    yield "ok", f"{found}, in {statistics.median(milliseconds):.0f} ms", None


def check_form(facts):
    form = facts["a form"]
    store_by_form(facts, form, form["fileKey"])
    yield "ok", read_back(facts, form["fileKey"]), None
    facts["a form that works"] = form


def check_put(facts):
    facts["a form"]
    sha256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    put = grant(facts, "/v1/assets/presign", {**file(facts), "checksumSha256": sha256, "overwrite": False})
    store_by_put(facts, put, put["key"])
    found = read_back(facts, put["key"])
    try:
        send(facts, "PUT", put["url"], headers=put["headers"], data=BODY)
        raise Broken("S3 ignores If-None-Match", "do not rely on `overwrite`: docs/deploy.md#other-stores")
    except Refused as error:
        if error.status != 412:
            raise
    yield "ok", f"{found}; a second upload is 412", None
    facts["a PUT that works"] = put


def check_confirmation(facts):
    object_key = facts["a form that works"]["fileKey"]
    response = ask(facts, "/v1/uploads/confirm", {"key": object_key}, facts["an API key"])
    if facts["the stack"].get("AllowConfirmation") != "true":
        yield "ok", "off, as AllowConfirmation is not true", None
    elif response.status_code != 200:
        raise refused_by_api(facts, response)
    elif (size := response.json().get("size")) != len(BODY):
        raise Broken(f"an upload of {len(BODY)} byte is confirmed with {size}", "find out what changes the objects")
    else:
        yield "ok", "an upload is confirmed", None


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
    store(facts, object_key, complete["method"], complete["url"], headers=complete["headers"], data=body)
    del facts["unfinished"][object_key]
    yield "ok", read_back(facts, object_key), None


def check_names(facts):
    facts["a form that works"], facts["a PUT that works"]
    names = ("two words.txt", "5$.txt", "\N{STETHOSCOPE}.txt")
    for name in names:
        try:
            form = grant(facts, "/media/", file(facts, name))
            put = grant(facts, "/v1/assets/presign", file(facts, name))
            store_by_form(facts, form, form["fileKey"])
            store_by_put(facts, put, put["key"])
            found = {read_back(facts, form["fileKey"]), read_back(facts, put["key"])}
        except Broken as error:
            raise Broken(f"{name}: {error.found}", error.advice) from None
    yield "ok", f"{', '.join(names)}: {found.pop()}, by form and by PUT", None


def check_altered(facts):
    form, put = facts["a form that works"], facts["a PUT that works"]
    altered = {**put, "url": put["url"].replace("doctor.txt", "altered.txt")}
    for upload, *arguments in (
        (store_by_form, form, form["fileKey"].replace("doctor.txt", "altered.txt")),
        (store_by_put, altered, put["key"].replace("doctor.txt", "altered.txt")),
    ):
        try:
            upload(facts, *arguments)
            raise Broken("S3 accepts a grant for another object key", "do not use this store: it checks no signatures")
        except Refused as error:
            if error.status != 403:
                raise
    yield "ok", "a form and a URL with another object key are 403", None


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


def check_kms(facts):
    arns = {name: facts["the stack"][name] for name in ("KmsKeyArn", "ApiKeysKmsKeyArn") if facts["the stack"][name]}
    for name, arn in arns.items():
        key = client(facts, "kms").describe_key(KeyId=arn)["KeyMetadata"]
        if key["KeyState"] != "Enabled":
            raise Broken(f"the key of {name} is {key['KeyState']}", "enable it, or cancel its deletion")
    yield "ok", f"the keys of {' and '.join(arns)} are enabled" if arns else "no keys of your own", None


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
        raise Broken(f"{', '.join(missing)} not as deployed", UNDO)
    yield "ok", f"{len(expected)} statements as deployed, {len(actual) - len(expected)} others", None


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
        for method in ("DELETE", "GET", "POST", "PUT"):
            if not is_cors_allowed(facts, origin.replace("*", "www"), method):
                raise Broken(f"{origin} may not {method}, although CorsAllowedOrigins contains it", UNDO)
    if not any(fnmatchcase(FOREIGN_ORIGIN, origin) for origin in origins):
        if is_cors_allowed(facts, FOREIGN_ORIGIN, "PUT"):
            raise Broken("origins may upload that CorsAllowedOrigins does not contain", UNDO)
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
    "logs": check_logs,
    "API keys": check_api_keys,
    "API": check_api,
    "routes": check_routes,
    "form": check_form,
    "PUT": check_put,
    "multipart": check_multipart,
    "confirmation": check_confirmation,
    "file names": check_names,
    "altered grants": check_altered,
    "region": check_region,
    "encryption": check_encryption,
    "KMS": check_kms,
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


def run(name, check, facts):
    """Prints the results of a check."""
    for status, found, advice in results(check, facts):
        start = f"{status:<8} {name + ':':<15} "
        facts["statuses"][status] += 1
        wrapper = textwrap.TextWrapper(120, start, " " * len(start), break_long_words=False, break_on_hyphens=False)
        print(wrapper.fill(found), flush=True)
        if advice:
            wrapper.initial_indent = wrapper.subsequent_indent
            print(wrapper.fill("as above" if advice in facts["advice"] else advice), flush=True)
            facts["advice"].add(advice)


def region_of(stack_name):
    """Returns the region that the environment, samconfig.toml or the AWS configuration sets, in this order."""
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return region
    for environment in tomllib.loads((PROJECT / "samconfig.toml").read_text()).values():
        commands = environment.values() if isinstance(environment, dict) else []
        saved = dict(it for command in commands for it in command.get("parameters", {}).items())
        if saved.get("stack_name") == stack_name and "region" in saved:
            return saved["region"]
    return botocore.session.Session().get_config_variable("region")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    facts = Facts({"stack name": sys.argv[1], "region": region_of(sys.argv[1])})
    if not facts["region"]:
        sys.exit("make doctor: no region; set AWS_REGION")
    facts.update(objects={}, unfinished={}, advice=set(), statuses=collections.Counter())
    try:
        for name, check in CHECKS.items():
            run(name, check, facts)
    finally:
        run("clean-up", clean_up, facts)
    print(", ".join(f"{number} {status}" for status, number in facts["statuses"].items()))
    sys.exit(1 if facts["statuses"]["FAILED"] else 0)


if __name__ == "__main__":
    with exit_on_failure("make doctor"):
        main()
