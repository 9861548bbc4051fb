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

path = Path(sys.argv[1])
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
        sys.exit(f"the API refused: {granted.status_code} {granted.text}")
    grant = granted.json()

    uploaded = requests.put(grant["url"], headers=grant["headers"], data=file, timeout=30)
    if not uploaded.ok:
        error = re.findall("<(?:Code|Message)>([^<]*)", uploaded.text)
        sys.exit(f"S3 refused: {uploaded.status_code} {': '.join(error)}")

print(grant["key"])
