"""Uploads a file of any size in parts, four at a time, and continues where it was interrupted.

    API_URL=https://… API_KEY=… python3 examples/multipart.py [--abort] FILE

Press Ctrl-C to interrupt it, and run it again to continue: S3 keeps the parts, and FILE.upload the rest. With --abort,
both are deleted, and the next run starts again. PART_SIZE sets the size of the parts in bytes.
"""

import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from xml.etree import ElementTree

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

PARTS_AT_ONCE = 4
URLS_AT_ONCE = 100  # the most that the API signs
# The upload was aborted, or its token has expired or was made for another API key.
LOST = ("NoSuchUpload", "upload_token_expired", "invalid_upload_token")

http = requests.Session()
# Six retries, after 0, 1, 2, 4, 8 and 16 seconds, if a connection is lost or a server is overloaded.
OVERLOADED = [429, 500, 502, 503, 504]
retry = Retry(6, backoff_factor=0.5, status_forcelist=OVERLOADED, allowed_methods=None, raise_on_status=False)
for scheme in ("http://", "https://"):
    http.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=PARTS_AT_ONCE))


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Part:
    """The bytes of one part: requests asks for their number, and reads them from the disk as it sends them."""

    def __init__(self, path, start, size):
        self.path, self.start, self.size = path, start, size

    def __len__(self):
        return self.size

    def __iter__(self):
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, 1 << 20))):
                left -= len(chunk)
                yield chunk


def ask_api(path, body):
    response = http.post(
        os.environ["API_URL"] + path, headers={"x-api-key": os.environ["API_KEY"]}, json=body, timeout=30
    )
    if not response.ok:
        code = re.search('"code": *"([^"]*)', response.text)
        raise Refused(code and code[1], f"the API refused: {response.status_code} {response.text}")
    return response.json()


def ask_s3(request, body=None):
    response = http.request(request["method"], request["url"], headers=request.get("headers"), data=body, timeout=60)
    # S3 may find an error only after it has responded with 200.
    if not response.ok or "<Error>" in response.text:
        error = re.findall("<(?:Code|Message)>([^<]*)", response.text)
        raise Refused(error and error[0], f"S3 refused: {response.status_code} {': '.join(error)}")
    return response


def start(path):
    """Starts an upload; returns all that is needed to continue it."""
    file = {"fileName": path.name, "fileType": "application/octet-stream", "fileSize": path.stat().st_size}
    upload = ask_api("/v1/uploads", {**file, "partSize": int(os.environ.get("PART_SIZE", 0)) or None})
    started = ElementTree.fromstring(ask_s3(upload.pop("create")).content)
    return {**upload, "uploadId": started.findtext("{*}UploadId"), "modifiedAt": path.stat().st_mtime_ns}


def sign(upload, part_numbers):
    """Asks for the URLs of these parts, and of the other requests."""
    body = {"uploadToken": upload["uploadToken"], "uploadId": upload["uploadId"], "partNumbers": part_numbers}
    return ask_api("/v1/uploads/sign", body)


def send_part(path, upload, part):
    number = part["partNumber"]
    body = Part(path, (number - 1) * upload["partSize"], part["size"])
    try:
        sent = ask_s3({"method": "PUT", "url": part["url"]}, body)
    except Refused as error:
        if error.code != "AccessDenied":
            raise
        [part] = sign(upload, [number])["parts"]  # because the URL has expired
        sent = ask_s3({"method": "PUT", "url": part["url"]}, body)
    return number, sent.headers["ETag"]


def send_parts(path, upload, etags):
    """Sends the parts that are missing, and adds their ETags."""
    missing = [number for number in range(1, upload["partCount"] + 1) if number not in etags]
    pool = ThreadPoolExecutor(PARTS_AT_ONCE)
    try:
        for first in range(0, len(missing), URLS_AT_ONCE):
            signed = sign(upload, missing[first : first + URLS_AT_ONCE])
            for sent in as_completed([pool.submit(send_part, path, upload, part) for part in signed["parts"]]):
                number, etags[number] = sent.result()
                print(f"\r{len(etags)} of {upload['partCount']} parts", end="", file=sys.stderr, flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        print(file=sys.stderr)


def complete(upload, etags):
    parts = "".join(f"<Part><PartNumber>{it}</PartNumber><ETag>{etags[it]}</ETag></Part>" for it in sorted(etags))
    body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'
    for delay in (1, 2, 4, 8, None):
        try:
            return ask_s3(sign(upload, [1])["complete"], body)
        except Refused as error:
            if error.code == "PreconditionFailed":
                return None  # An earlier attempt completed the upload, and its response was lost.
            if error.code in LOST:
                # Only the bucket can show whether an earlier attempt completed it, and this program may not read there.
                sys.exit(
                    f"{error}; the upload may be complete: check whether {upload['key']} is in the bucket, "
                    "and run this with --abort before you upload the file again"
                )
            if delay is None or error.code not in ("InternalError", "SlowDown"):
                raise
        time.sleep(delay)


def resume(path, upload):
    """Returns the ETags of the parts that S3 has, or `None` if it has lost the upload."""
    if (path.stat().st_size, path.stat().st_mtime_ns) != (upload["fileSize"], upload["modifiedAt"]):
        sys.exit(f"{path} has changed since its upload started; abort the upload with --abort")
    try:
        listed = ElementTree.fromstring(ask_s3(sign(upload, [1])["list"]).content)
    except Refused as error:
        if error.code not in LOST:
            raise
        if "etags" in upload:
            return dict(upload["etags"])  # The upload may be complete: `complete` finds out.
        print("the upload has expired or was aborted; starting again", file=sys.stderr)
        return None
    # Of more than 1,000 parts, S3 lists only the first 1,000.
    etags = {int(part.findtext("{*}PartNumber")): part.findtext("{*}ETag") for part in listed.findall("{*}Part")}
    print(f"continuing: S3 has {len(etags)} of {upload['partCount']} parts", file=sys.stderr)
    return etags


def abort(upload):
    try:
        ask_s3(sign(upload, [1])["abort"])
    except Refused as error:
        if error.code not in LOST:
            raise


def save(state, upload):
    state.touch(mode=0o600)  # because the upload token is a secret
    state.write_text(json.dumps(upload))


def run(path, is_abort):
    state = path.with_name(path.name + ".upload")
    upload = json.loads(state.read_text()) if state.exists() else None
    if is_abort:
        if upload:
            abort(upload)
            state.unlink()
        return
    etags = resume(path, upload) if upload else None
    if etags is None:
        upload, etags = start(path), {}
        save(state, upload)
    send_parts(path, upload, etags)
    save(state, {**upload, "etags": list(etags.items())})
    complete(upload, etags)
    state.unlink()
    print(upload["key"])


if len(sys.argv) < 2 or not {"API_URL", "API_KEY"} <= os.environ.keys():
    sys.exit(__doc__)
*options, file = sys.argv[1:]
try:
    run(Path(file), is_abort="--abort" in options)
except Refused as error:
    sys.exit(str(error))
except requests.RequestException as error:
    # Its message contains the URL, which is a secret.
    sys.exit(f"no connection ({type(error).__name__}); run this again to continue")
except KeyboardInterrupt:
    print("interrupted; run this again to continue", file=sys.stderr)
    os._exit(130)  # without waiting for the parts that are being sent
