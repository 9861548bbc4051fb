"""Uploads a file with the client that openapi-python-client makes of `openapi.yaml`, for `examples.rs`.

    API_URL=https://… API_KEY=… python3 client.py FILE

Prints the object keys of a presigned POST, a presigned PUT and a multipart upload.
"""

import base64
import hashlib
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import requests
from presigned_upload_client import AuthenticatedClient
from presigned_upload_client.api.health import get_health
from presigned_upload_client.api.uploads import (
    create_presigned_post,
    create_presigned_put,
    sign_multipart_requests,
    start_multipart_upload,
)
from presigned_upload_client.models import (
    Health,
    InvalidMember,
    MultipartSignRequest,
    MultipartUploadRequest,
    PresignedPostRequest,
    PresignedPutRequest,
    Problem,
    ProblemCode,
    ProblemDetails,
)

PART_SIZE = 5 << 20  # the smallest that S3 accepts

api = AuthenticatedClient(base_url=os.environ["API_URL"], token=os.environ["API_KEY"])
path = Path(sys.argv[1])
content = path.read_bytes()


def send(method, url, **arguments):
    response = requests.request(method, url, timeout=30, **arguments)
    assert response.ok and "<Error>" not in response.text, response.text
    return response


def upload_by_form():
    request = PresignedPostRequest(path.name, "text/plain")
    form = create_presigned_post.sync(client=api, body=request)
    send("POST", form.url, data=form.fields.to_dict(), files={"file": content})
    return form.file_key


def upload_by_put():
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    request = PresignedPutRequest(path.name, "text/plain", len(content), checksum, overwrite=False)
    put = create_presigned_put.sync(client=api, body=request)
    send("PUT", put.url, data=content, headers=put.headers.to_dict())
    return put.key


def upload_in_parts():
    request = MultipartUploadRequest(path.name, "text/plain", len(content), PART_SIZE)
    upload = start_multipart_upload.sync(client=api, body=request)
    started = send(upload.create.method, upload.create.url, headers=upload.create.headers.to_dict())
    upload_id = ElementTree.fromstring(started.content).findtext("{*}UploadId")
    request = MultipartSignRequest(upload.upload_token, upload_id, list(range(1, upload.part_count + 1)))
    signed = sign_multipart_requests.sync(client=api, body=request)
    completed = ""
    for part in signed.parts:
        start = (part.part_number - 1) * upload.part_size
        etag = send("PUT", part.url, data=content[start : start + part.size]).headers["ETag"]
        completed += f"<Part><PartNumber>{part.part_number}</PartNumber><ETag>{etag}</ETag></Part>"
    completed = f"<CompleteMultipartUpload>{completed}</CompleteMultipartUpload>"
    send(signed.complete.method, signed.complete.url, data=completed, headers=signed.complete.headers.to_dict())
    return upload.key


health = get_health.sync(client=api)
assert health == Health("healthy", "presigned-upload is running", health.timestamp), health

refused = create_presigned_post.sync(client=api, body=PresignedPostRequest("..", "image/*"))
fields = [
    InvalidMember("fileName", "must not be `.` or `..`"),
    InvalidMember("fileType", "must not contain a wildcard"),
]
details = ProblemDetails(fields)
invalid = "missing or invalid members: fileName, fileType"
assert refused == Problem("about:blank", "Bad Request", 400, ProblemCode.BAD_REQUEST, invalid, details), refused

unknown = AuthenticatedClient(base_url=os.environ["API_URL"], token="unknown")
refused = create_presigned_put.sync(client=unknown)
assert refused == Problem("about:blank", "Unauthorized", 401, ProblemCode.UNAUTHORIZED, "unknown API key"), refused

for upload in (upload_by_form, upload_by_put, upload_in_parts):
    print(upload())
