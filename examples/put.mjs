// Uploads a file with a presigned PUT that accepts only this file, and only once.
//
//     API_URL=https://… API_KEY=… node examples/put.mjs FILE
import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { basename } from "node:path";

const { API_URL, API_KEY } = process.env;
const path = process.argv[2];

const file = await openAsBlob(path); // which `fetch` reads from the disk as it sends it
const sha256 = createHash("sha256");
for await (const chunk of createReadStream(path)) sha256.update(chunk);

const granted = await fetch(`${API_URL}/v1/assets/presign`, {
  method: "POST",
  headers: { "x-api-key": API_KEY },
  body: JSON.stringify({
    fileName: basename(path),
    fileType: "application/octet-stream",
    fileSize: file.size,
    checksumSha256: sha256.digest("base64"),
    overwrite: false,
  }),
});
if (!granted.ok) {
  console.error(`the API refused: ${granted.status} ${await granted.text()}`);
  process.exit(1);
}
const { url, key, headers } = await granted.json();

const uploaded = await fetch(url, { method: "PUT", headers, body: file });
if (!uploaded.ok) {
  const error = (await uploaded.text()).matchAll(/<(?:Code|Message)>([^<]*)/g);
  console.error(`S3 refused: ${uploaded.status} ${Array.from(error, ([, text]) => text).join(": ")}`);
  process.exit(1);
}

console.log(key);
