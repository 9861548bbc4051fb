"""Signs requests to S3 with botocore, for `signatures.rs` to compare.

Reads JSON from standard input: how to sign, and an array of requests. Writes an array of their presigned URLs.
"""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode

signing = json.load(sys.stdin)
signed_at = datetime.datetime.fromtimestamp(signing["signedAt"], datetime.timezone.utc)
botocore.auth.get_current_datetime = lambda: signed_at  # the signer reads the clock itself
credentials = Credentials(signing["accessKeyId"], signing["secretAccessKey"], signing["sessionToken"])
signer = botocore.auth.S3SigV4QueryAuth(credentials, "s3", signing["region"], signing["expiresIn"])

urls = []
for request in signing["requests"]:
    url = signing["bucketUrl"] + percent_encode(request["objectKey"], safe="/~")
    aws_request = AWSRequest(request["method"], url, request["headers"], params=request["query"])
    signer.add_auth(aws_request)
    urls.append(aws_request.url)
json.dump(urls, sys.stdout)
