"""The same function in Python: boto3 clients and API keys at module level."""

import hmac
import json
import os
import uuid

import boto3
from botocore.config import Config

secrets_manager = boto3.client("secretsmanager")
s3 = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))
API_KEYS = json.loads(secrets_manager.get_secret_value(SecretId=os.environ["API_KEYS_SECRET_ID"])["SecretString"])


def handler(event, context):
    presented = event["headers"].get("authorization", "").removeprefix("Bearer ").encode()
    callers = [name for name, api_key in API_KEYS.items() if hmac.compare_digest(api_key.encode(), presented)]
    if not callers:
        return {"statusCode": 401}
    request = json.loads(event["body"])
    key = f"tmp/{uuid.uuid4()}/{request['fileName']}"
    post = s3.generate_presigned_post(
        os.environ["UPLOAD_BUCKET"],
        key,
        Fields={"Content-Type": request["fileType"]},
        Conditions=[{"Content-Type": request["fileType"]}, ["content-length-range", 1, 5 * 1024**3]],
        ExpiresIn=3600,
    )
    print(json.dumps({"level": "INFO", "message": "granted", "request_id": context.aws_request_id, "caller": callers[0]}))
    body = json.dumps({**post, "fileKey": key})
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body}
