#!/usr/bin/env bash
# Uploads a file with a presigned PUT that accepts only this file, and only once.
#
#     API_URL=https://… API_KEY=… examples/put.sh FILE
set -euo pipefail

: "${API_URL:?}" "${API_KEY:?}" "${1:?expected a file}"
file=$1
name=$(basename -- "$file" | sed 's/["\\]/\\&/g')
size=$(wc -c < "$file")
sha256=$(openssl dgst -sha256 -binary < "$file" | base64)

# The header comes from a file, because ps shows the arguments of curl to every user of the machine.
grant=$(curl -sS --fail-with-body "$API_URL/v1/assets/presign" -H @<(printf 'x-api-key: %s' "$API_KEY") -d @- << JSON
{
  "fileName": "$name",
  "fileType": "application/octet-stream",
  "fileSize": $size,
  "checksumSha256": "$sha256",
  "overwrite": false
}
JSON
) && [[ $grant == {* ]] || { echo "${grant:+the API refused: $grant}" >&2; exit 1; }

# Prints the URL and the headers as a configuration file for curl.
curl_config='
import json, sys
grant = json.load(sys.stdin)
print("url =", json.dumps(grant["url"]))
for header in grant["headers"].items():
    print("header =", json.dumps(": ".join(header)))'
# --globoff, because curl expands brackets in the name of the file.
error=$(python3 -c "$curl_config" <<< "$grant" | curl -sS --fail-with-body --globoff --config - -T "$file") ||
  { sed -n 's/.*<Code>\(.*\)<\/Code>.*<Message>\(.*\)<\/Message>.*/S3 refused: \1: \2/p' <<< "$error" >&2; exit 1; }

python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])' <<< "$grant"
