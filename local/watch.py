"""`cargo lambda watch` beside a local AWS: the function with hot reload, a bucket, a secret and the function's role.

Run by `make watch`. Everything listens on 127.0.0.1 and ends with Ctrl-C. The stack of template.yaml is in stack.py.
"""

import json
import os

from aws import CA, HOST, REGION, VENV_BIN, Failed, client, free_port, running, running_aws, said_plainly, step

BUCKET = "uploads"
SECRET = "api-keys"
API_KEY = "local-api-key"  # what the files of events/ present
ROLE = "presigned-upload"

TRUST_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def make_resources():
    """The bucket, the secret, and temporary credentials of a role that may do what the function may do."""
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
    with running_aws() as (_, state):
        with step(f"making the bucket `{BUCKET}`, the secret `{SECRET}` and a role"):
            credentials = make_resources()
        environment = {
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            "SSL_CERT_FILE": str(CA),
            "S3_FORCE_PATH_STYLE": "true",
            "UPLOAD_BUCKET": BUCKET,
            "API_KEYS_SECRET_ID": SECRET,
        }
        # A file of the function's own: cargo has to go on trusting what this machine trusts.
        env_file = state / "function.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        function_port = free_port(9000)
        print(f"serving the function at http://{HOST}:{function_port}; the API key is {API_KEY}; Ctrl-C ends it")
        print("a warning about AWS_LAMBDA_MAX_CONCURRENCY means nothing: cargo-lambda sets it for every function")
        command = [VENV_BIN / "cargo-lambda", "lambda", "watch", "--env-file", env_file]
        command += ["--invoke-address", HOST, "--invoke-port", str(function_port), "--disable-cors"]
        with running(command, {}) as watch:
            raise Failed(f"cargo lambda watch ended with status {watch.wait()}; what it says stands above")


if __name__ == "__main__":
    with said_plainly("make watch", status_if_interrupted=0):
        main()
