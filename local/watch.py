"""`make watch`: serves the function with hot reload, alongside a local AWS with a bucket, a secret and a role.

Everything listens on 127.0.0.1 and stops on Ctrl-C. It does not deploy template.yaml; stack.py does.
"""

import json

from aws import HOST, REGION, VENV_BIN, Failed, client, exit_on_failure, free_port, running, running_aws, step

BUCKET = "uploads"
SECRET = "api-keys"
API_KEY = "local-development-key"  # also in the files of events/
ROLE = "presigned-upload"

TRUST_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def create_resources():
    """Creates the bucket, the secret and a role with the function's permissions; returns the role's credentials."""
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    secret = client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({"default": API_KEY}))
    # The permissions on S3 and Secrets Manager that template.yaml gives the function.
    role_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                "Resource": f"arn:aws:s3:::{BUCKET}/tmp/*",
            },
            {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret["ARN"]},
        ],
    }
    iam = client("iam")
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST_POLICY))["Role"]
    iam.put_role_policy(RoleName=ROLE, PolicyName=ROLE, PolicyDocument=json.dumps(role_policy))
    assumed = client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="watch", DurationSeconds=43200)
    return assumed["Credentials"]


def main():
    with running_aws():
        with step(f"creating the bucket `{BUCKET}`, the secret `{SECRET}` and a role"):
            credentials = create_resources()
        environment = {
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
            "AWS_REGION": REGION,
            "S3_FORCE_PATH_STYLE": "true",
            "UPLOAD_BUCKET": BUCKET,
            "API_KEYS_SECRET_ID": SECRET,
        }
        function_port = free_port(9000)
        print(f"serving the function at http://{HOST}:{function_port} with the API key {API_KEY}; press Ctrl-C to stop")
        print("you can ignore a warning about AWS_LAMBDA_MAX_CONCURRENCY, which cargo-lambda sets for every function")
        command = [VENV_BIN / "cargo-lambda", "lambda", "watch", "--disable-cors"]
        command += ["--invoke-address", HOST, "--invoke-port", str(function_port)]
        with running(command, environment) as watch:
            raise Failed(f"cargo lambda watch exited with status {watch.wait()}; see its output above")


if __name__ == "__main__":
    with exit_on_failure("make watch", status_if_interrupted=0):
        main()
