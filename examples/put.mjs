// Uploads a file with a presigned PUT that accepts only this file, and only once.
//
//     API_URL=https://… API_KEY=… node examples/put.mjs FILE
import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { basename } from "node:path";

const { API_URL, API_KEY } = process.env;

/** Uploads a file, and returns its object key. */
async function upload(path) {
  const file = await openAsBlob(path); // `fetch` reads it from the disk as it sends it
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
  if (!granted.ok) throw new Error(`the API refused: ${granted.status} ${await granted.text()}`);
  const { url, key, headers } = await granted.json();

  // By default, `fetch` keeps the file in memory in case of a redirect: https://github.com/nodejs/undici/issues/4058
  const uploaded = await fetch(url, { method: "PUT", headers, body: file, redirect: "error" });
  if (!uploaded.ok) {
    const error = (await uploaded.text()).matchAll(/<(?:Code|Message)>([^<]*)/g);
    throw new Error(`S3 refused: ${uploaded.status} ${Array.from(error, ([, text]) => text).join(": ")}`);
  }
  return key;
}

const [, , path] = process.argv;
if (!API_URL || !API_KEY || !path) {
  console.error("expected API_URL, API_KEY and a file");
  process.exit(1);
}
try {
  console.log(await upload(path));
} catch (error) {
  console.error(error.message, String(error.cause ?? ""));
  process.exitCode = 1;
}
