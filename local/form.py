"""Prints the URL and the fields of a presigned POST, without the file, as a configuration file for curl.

    python3 local/form.py grant.json | curl --config - -F file=@README.md
"""

import json
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
with open(sys.argv[1], encoding="utf-8") as file:
    grant = json.load(file)
if "fields" not in grant:
    sys.exit(f"{sys.argv[1]} does not contain a presigned POST: {grant}")
print("url =", json.dumps(grant["url"]))
for name, value in grant["fields"].items():
    print("form-string =", json.dumps(f"{name}={value}", ensure_ascii=False))
