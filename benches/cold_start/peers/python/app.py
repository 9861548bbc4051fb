"""The same in Python: boto3, its clients and the secret at module level."""

import hmac
import json
import os
import uuid

import boto3
from botocore.config import Config

BUCKET = os.environ["UPLOAD_BUCKET"]
MAX_BYTES = 5 * 1024**3
EXPIRES_IN = 3600

secrets_manager = boto3.client("secretsmanager")
s3 = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))
API_KEYS = json.loads(secrets_manager.get_secret_value(SecretId=os.environ["API_KEYS_SECRET_ID"])["SecretString"])


def handler(event, context):
    presented = event["headers"].get("authorization", "").removeprefix("Bearer ").encode()
    callers = [name for name, api_key in API_KEYS.items() if hmac.compare_digest(api_key.encode(), presented)]
    if not callers:
        return answer(401, {"message": "unauthorized"})
    body = json.loads(event["body"])
    key = f"tmp/{uuid.uuid4()}/{body['fileName']}"
    post = s3.generate_presigned_post(
        BUCKET,
        key,
        Fields={"Content-Type": body["fileType"]},
        Conditions=[{"Content-Type": body["fileType"]}, ["content-length-range", 1, MAX_BYTES]],
        ExpiresIn=EXPIRES_IN,
    )
    print(json.dumps({"level": "INFO", "message": "granted", "request_id": context.aws_request_id, "caller": callers[0]}))
    return answer(200, {**post, "fileKey": key})


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
