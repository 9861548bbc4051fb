"""Prints how many nanoseconds boto3 takes for one policy and its signature: the median of 20 rounds."""

import pathlib
import statistics
import timeit

import boto3
from botocore.config import Config

CALLS = 500
SESSION_TOKEN = (pathlib.Path(__file__).parents[2] / "src" / "session_token.txt").read_text()

s3 = boto3.client(
    "s3",
    region_name="eu-central-1",
    aws_access_key_id="ASIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    aws_session_token=SESSION_TOKEN,
    config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
)


def sign():
    return s3.generate_presigned_post(
        "uploads",
        "tmp/00000000-0000-0000-0000-000000000001/web-app-manifest-512x512.png",
        Fields={"Content-Type": "image/png"},
        Conditions=[{"Content-Type": "image/png"}, ["content-length-range", 1, 5 * 1024**3]],
        ExpiresIn=3600,
    )


assert sign()["fields"]["x-amz-signature"]
print(round(statistics.median(timeit.repeat(sign, number=CALLS, repeat=20)) / CALLS * 1e9))
