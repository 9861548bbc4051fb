"""Deploys the stack of template.yaml to a local AWS, from the same build that is deployed to AWS.

    stack.py run                            deploys it, uploads a file through it and shows its log (make run)
    stack.py demo                           deploys it and serves pages that upload to it (make demo)
    stack.py with COMMAND ARGUMENT...       runs a command alongside an empty local AWS (make e2e, make load)

Inside the command of `with`:

    stack.py deploy NAME KEY=VALUE...       deploys or updates a stack with these parameters; prints its outputs
    stack.py outputs NAME                   prints the outputs of a stack, and its first API key
    stack.py delete NAME                    deletes a stack
    stack.py call SERVICE OPERATION JSON    calls any operation as the root user, by its name in boto
"""

import contextlib
import json
import shlex
import subprocess
import sys
import time

import requests

from aws import (
    HOST,
    PROJECT,
    REGION,
    STATE,
    VENV_BIN,
    Failed,
    client,
    exit_on_failure,
    free_port,
    local_api_url,
    running,
    running_aws,
    step,
)

STACK = "presigned-upload"
ARTIFACTS = "artifacts"
FILE = PROJECT / "README.md"


def deploy(stack_name, parameters):
    """Deploys or updates a stack, and returns its outputs."""
    s3 = client("s3")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": REGION})
    command = [VENV_BIN / "sam", "deploy", "--template-file", PROJECT / ".aws-sam" / "build" / "template.yaml"]
    command += ["--stack-name", stack_name, "--s3-bucket", ARTIFACTS, "--region", REGION, "--config-env", "local"]
    command += ["--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", "--no-progressbar"]
    command += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
    run_sam(command, stack_name)
    return outputs_of(stack_name)


def outputs_of(stack_name):
    """Returns the outputs of a stack, and its first API key."""
    stack = client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    outputs["ApiUrl"] = local_api_url(outputs["ApiUrl"])
    secret = client("secretsmanager").get_secret_value(SecretId=outputs["ApiKeysSecretArn"])["SecretString"]
    return {**outputs, "ApiKey": json.loads(secret)["default"]}


def delete(stack_name):
    run_sam([VENV_BIN / "sam", "delete", "--stack-name", stack_name, "--region", REGION, "--no-prompts"], stack_name)


def run_sam(command, stack_name):
    """Runs sam, and shows the end of its output if it fails."""
    log = STATE / f"sam-{stack_name}.log"
    with log.open("w") as output:
        status = subprocess.run(command, cwd=PROJECT, stdout=output, stderr=output).returncode
    if status != 0:
        last = "\n".join(log.read_text().splitlines()[-15:])
        raise Failed(f"sam exited with status {status}; the end of {log}:\n{last}")


def upload_and_read_back(stack):
    """Requests a presigned POST, uploads a file with it and reads it back from the bucket."""
    session = requests.Session()
    session.trust_env = False
    headers = {"Authorization": f"Bearer {stack['ApiKey']}"}
    body = {"fileName": FILE.name, "fileType": "text/markdown"}
    granted = session.post(f"{stack['ApiUrl']}/media/", headers=headers, json=body, timeout=30)
    if granted.status_code != 200:
        raise Failed(f"the API returned {granted.status_code}: {granted.text}")
    grant = granted.json()
    uploaded = session.post(grant["url"], data=grant["fields"], files={"file": FILE.read_bytes()}, timeout=30)
    if uploaded.status_code != 204:
        raise Failed(f"S3 returned {uploaded.status_code}: {uploaded.text}")
    stored = client("s3").get_object(Bucket=stack["BucketName"], Key=grant["fileKey"])["Body"].read()
    if stored != FILE.read_bytes():
        raise Failed(f"s3://{stack['BucketName']}/{grant['fileKey']} differs from the uploaded file")


def log_events(logs, log_group, start_time=0):
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=log_group, startTime=start_time)
    return [event for page in pages for event in page["events"]]


def follow(log_group):
    """Prints the lines of a log group as they arrive, forever."""
    logs, shown, start_time = client("logs"), set(), 0
    while True:
        for event in log_events(logs, log_group, start_time):
            line = (event["logStreamName"], event["timestamp"], event["message"])
            if line not in shown:
                shown.add(line)
                start_time = max(start_time, event["timestamp"])
                print(event["message"].rstrip(), flush=True)
        time.sleep(1)


def demo():
    with running_aws():
        port = free_port(8080)
        origins = f"http://localhost:{port},http://{HOST}:{port}"
        with step("deploying template.yaml to it with sam deploy"):
            stack = deploy(STACK, {"S3ForcePathStyle": "true", "CorsAllowedOrigins": origins})
        backend = {"API_URL": stack["ApiUrl"], "API_KEY": stack["ApiKey"], "PORT": str(port)}
        with running(["node", "examples/backend.mjs"], backend, stdout=subprocess.DEVNULL) as process:
            print(f"""
Open http://localhost:{port}/browser/ and drop a file on it.

The page is examples/browser/, its backend examples/backend.mjs. For the pages with Uppy, run
`npm ci --prefix examples/uppy`, then open http://localhost:{port}/uppy/6/.

Press Ctrl-C to stop; this deletes the bucket and the files in it.""")
            raise Failed(f"examples/backend.mjs exited with status {process.wait()}; see its output above")


def run():
    with running_aws():
        with step("deploying template.yaml to it with sam deploy"):
            stack = deploy(STACK, {"S3ForcePathStyle": "true"})
        log_group = f"/presigned-upload/{STACK}"
        with step(f"uploading {FILE.name} through it and reading it back"):
            try:
                upload_and_read_back(stack)
            except Failed as error:
                log = "\n".join(event["message"] for event in log_events(client("logs"), log_group))
                raise Failed(f"{error}\nthe function's log:\n{log}") from error
        authorization = shlex.quote(f"Authorization: Bearer {stack['ApiKey']}")
        body = json.dumps({"fileName": FILE.name, "fileType": "text/markdown"})
        print(f"""
the API:      {stack["ApiUrl"]}
the API key:  {stack["ApiKey"]}
the bucket:   {stack["BucketName"]}

To upload {FILE.name}, paste these two lines into another terminal, in this folder:

curl -sS {stack["ApiUrl"]}/media/ -H {authorization} -d '{body}' -o grant.json
python3 local/form.py grant.json | curl -sSi --fail-with-body --config - -F file=@{FILE.name}

The function's log; press Ctrl-C to stop:
""")
        follow(log_group)


def main():
    match sys.argv[1:]:
        case ["run"]:
            with exit_on_failure("make run", status_if_interrupted=0):
                run()
        case ["demo"]:
            with exit_on_failure("make demo", status_if_interrupted=0):
                demo()
        case ["with", *command] if command:
            with exit_on_failure("stack.py with"), running_aws(), running(command, {}) as process:
                sys.exit(process.wait())
        case ["deploy", stack_name, *parameters]:
            with exit_on_failure("stack.py deploy"):
                print(json.dumps(deploy(stack_name, dict(parameter.split("=", 1) for parameter in parameters))))
        case ["outputs", stack_name]:
            with exit_on_failure("stack.py outputs"):
                print(json.dumps(outputs_of(stack_name)))
        case ["delete", stack_name]:
            with exit_on_failure("stack.py delete"):
                delete(stack_name)
        case ["call", service, operation, arguments]:
            with exit_on_failure("stack.py call"):
                print(json.dumps(getattr(client(service), operation)(**json.loads(arguments)), default=str))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
