#!/usr/bin/env bash
# Uploads a file with a presigned POST that accepts only a file of this size.
#
#     API_URL=https://… API_KEY=… examples/post.sh FILE
set -euo pipefail

: "${API_URL:?}" "${API_KEY:?}" "${1:?expected a file}"
file=$1
name=$(basename -- "$file" | sed 's/["\\]/\\&/g')
size=$(wc -c < "$file")

# The header comes from a file, because ps shows the arguments of curl to every user of the machine.
grant=$(curl -sS --fail-with-body "$API_URL/media/" -H @<(printf 'x-api-key: %s' "$API_KEY") -d @- << JSON
{ "fileName": "$name", "fileType": "application/octet-stream", "fileSize": $size }
JSON
) && [[ $grant == {* ]] || { echo "${grant:+the API refused: $grant}" >&2; exit 1; }

# Prints the URL and the fields as a configuration file for curl.
curl_config='
import json, sys
grant = json.load(sys.stdin)
print("url =", json.dumps(grant["url"]))
for field in grant["fields"].items():
    print("form-string =", json.dumps("=".join(field), ensure_ascii=False))'
# From standard input, because quotes, commas and semicolons have a meaning for -F.
error=$(curl -sS --fail-with-body --config <(python3 -c "$curl_config" <<< "$grant") -F file=@- < "$file") ||
  { sed -n 's/.*<Code>\(.*\)<\/Code>.*<Message>\(.*\)<\/Message>.*/S3 refused: \1: \2/p' <<< "$error" >&2; exit 1; }

python3 -c 'import json, sys; print(json.load(sys.stdin)["fileKey"])' <<< "$grant"
