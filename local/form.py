"""Prints the form of a presigned POST as a configuration of curl: its URL and its fields, without the file.

    python3 local/form.py grant.json | curl --config - -F file=@README.md
"""

import json
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
with open(sys.argv[1], encoding="utf-8") as file:
    grant = json.load(file)
if "fields" not in grant:
    sys.exit(f"{sys.argv[1]} holds no presigned POST: {grant}")
print("url =", json.dumps(grant["url"]))
for name, value in grant["fields"].items():
    print("form-string =", json.dumps(f"{name}={value}", ensure_ascii=False))
