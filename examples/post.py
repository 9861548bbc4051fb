"""Uploads a file with a presigned POST that accepts only a file of this size.

    API_URL=https://… API_KEY=… python3 examples/post.py FILE
"""

import os
import re
import sys
from pathlib import Path

import requests
from requests_toolbelt import MultipartEncoder


class Refused(Exception):
    """The API or S3 refused the upload."""


def upload(path):
    """Uploads a file, and returns its object key."""
    granted = requests.post(
        f"{os.environ['API_URL']}/media/",
        headers={"x-api-key": os.environ["API_KEY"]},
        json={"fileName": path.name, "fileType": "application/octet-stream", "fileSize": path.stat().st_size},
        timeout=30,
    )
    if not granted.ok:
        raise Refused(f"the API refused: {granted.status_code} {granted.text}")
    grant = granted.json()

    with path.open("rb") as file:
        # Reads the file as it is sent; requests alone would read all of it into memory.
        form = MultipartEncoder({**grant["fields"], "file": ("file", file)})
        uploaded = requests.post(grant["url"], headers={"Content-Type": form.content_type}, data=form, timeout=30)
    if not uploaded.ok:
        error = re.findall("<(?:Code|Message)>([^<]*)", uploaded.text)
        raise Refused(f"S3 refused: {uploaded.status_code} {': '.join(error)}")
    return grant["fileKey"]


if len(sys.argv) != 2 or not {"API_URL", "API_KEY"} <= os.environ.keys():
    sys.exit(__doc__)
try:
    print(upload(Path(sys.argv[1])))
except Refused as error:
    sys.exit(str(error))
except requests.RequestException as error:
    sys.exit(f"the upload failed: {type(error).__name__}")
