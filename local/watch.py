"""A local AWS beside `cargo lambda watch`: ministack with a bucket and a secret, and the function with hot reload.

Run by `make watch`. Everything listens on 127.0.0.1 and ends with Ctrl-C.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import botocore.config
import botocore.exceptions
import botocore.session

PROJECT = pathlib.Path(__file__).resolve().parent.parent
STATE = PROJECT / ".local"
VENV_BIN = pathlib.Path(sys.executable).parent

HOST = "127.0.0.1"
REGION = "eu-central-1"
BUCKET = "uploads"
SECRET = "api-keys"
API_KEY = "local-api-key"  # what the files of events/ present
ROLE = "presigned-upload"

TRUST_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


class Failed(Exception):
    """A step that failed, and what to do about it."""


@contextlib.contextmanager
def step(what):
    print(f"{what} … ", end="", flush=True)
    started_at = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started_at:.1f} s", flush=True)


def free_port(preferred):
    """The preferred port, or another one where that is taken."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            free = listener.getsockname()[1]
            if free != preferred:
                print(f"port {preferred} is taken; using {free}")
            return free
    raise Failed(f"no port of {HOST} is free")


def wait_for(url, process, log):
    """Waits until a server answers anything at all, as long as its process lives."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"it ended with status {process.returncode}; see {log}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise Failed(f"it does not answer at {url} after 60 s; see {log}")


@contextlib.contextmanager
def running(command, env, **kwargs):
    """A program in a process group of its own, which ends with this block."""
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd=PROJECT, start_new_session=True, **kwargs)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
                break


def forget_the_shell():
    """Takes the shell's own AWS settings, settings of the function and proxies out of what is started here."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "UPLOAD_", "API_KEYS_", "S3_")):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, no_proxy=HOST)


def make_resources(endpoint):
    """The bucket, the secret, and temporary credentials of a role that may do what the function may do."""
    session = botocore.session.Session()
    session.set_credentials("test", "test")

    def client(service):
        path_style = botocore.config.Config(s3={"addressing_style": "path"})
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint, config=path_style)

    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    secret = client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({"default": API_KEY}))
    # What template.yaml allows the function on S3 and Secrets Manager, and nothing else.
    role_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/tmp/*"},
            {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret["ARN"]},
        ],
    }
    iam = client("iam")
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST_POLICY))["Role"]
    iam.put_role_policy(RoleName=ROLE, PolicyName=ROLE, PolicyDocument=json.dumps(role_policy))
    assumed = client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="watch", DurationSeconds=43200)
    return assumed["Credentials"]


def main():
    STATE.mkdir(exist_ok=True)
    forget_the_shell()
    aws_port, function_port = free_port(4566), free_port(9000)
    aws_url, function_url = f"http://{HOST}:{aws_port}", f"http://{HOST}:{function_port}"
    log = STATE / "ministack.log"
    ministack = {
        "AUTH": "true",
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(aws_port),
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    with log.open("w") as output, contextlib.ExitStack() as processes:
        with step(f"starting a local AWS at {aws_url}"):
            command = [VENV_BIN / "ministack"]
            aws = processes.enter_context(running(command, ministack, stdout=output, stderr=output))
            wait_for(f"{aws_url}/_ministack/health", aws, log)
        with step(f"making the bucket `{BUCKET}`, the secret `{SECRET}` and a role"):
            credentials = make_resources(aws_url)
        function = {
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": aws_url,
            "S3_FORCE_PATH_STYLE": "true",
            "UPLOAD_BUCKET": BUCKET,
            "API_KEYS_SECRET_ID": SECRET,
        }
        print(f"serving the function at {function_url}; the API key is {API_KEY}; Ctrl-C ends it")
        print(f"paste the README's commands into another terminal, with {function_url} in them")
        print("a warning about AWS_LAMBDA_MAX_CONCURRENCY means nothing: cargo-lambda sets it for every function")
        command = [VENV_BIN / "cargo-lambda", "lambda", "watch"]
        command += ["--invoke-address", HOST, "--invoke-port", str(function_port), "--disable-cors"]
        watch = processes.enter_context(running(command, function))
        status = watch.wait()
        raise Failed(f"cargo lambda watch ended with status {status}; what it says stands above")


if __name__ == "__main__":
    # A terminal that is closed, and `kill`, end what was started as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped")
    except (Failed, OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"make watch: {error}")
