"""Uploads a file with a presigned PUT that accepts only this file, and only once.

    API_URL=https://… API_KEY=… python3 examples/put.py FILE
"""

import base64
import hashlib
import os
import re
import sys
from pathlib import Path

import requests


class Refused(Exception):
    """The API or S3 refused the upload."""


def upload(path):
    """Uploads a file, and returns its object key."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)

        granted = requests.post(
            f"{os.environ['API_URL']}/v1/assets/presign",
            headers={"x-api-key": os.environ["API_KEY"]},
            json={
                "fileName": path.name,
                "fileType": "application/octet-stream",
                "fileSize": path.stat().st_size,
                "checksumSha256": base64.b64encode(sha256).decode(),
                "overwrite": False,
            },
            timeout=30,
        )
        if not granted.ok:
            raise Refused(f"the API refused: {granted.status_code} {granted.text}")
        grant = granted.json()

        uploaded = requests.put(grant["url"], headers=grant["headers"], data=file, timeout=30)
    if not uploaded.ok:
        error = re.findall("<(?:Code|Message)>([^<]*)", uploaded.text)
        raise Refused(f"S3 refused: {uploaded.status_code} {': '.join(error)}")
    return grant["key"]


if len(sys.argv) != 2 or not {"API_URL", "API_KEY"} <= os.environ.keys():
    sys.exit(__doc__)
try:
    print(upload(Path(sys.argv[1])))
except Refused as error:
    sys.exit(str(error))
except requests.RequestException as error:
    # Its message contains the URL, which is a secret.
    sys.exit(f"the upload failed: {type(error).__name__}")
