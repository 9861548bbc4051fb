// Uploads a file with a presigned POST that accepts only a file of this size.
//
//     API_URL=https://… API_KEY=… node examples/post.mjs FILE
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

const { API_URL, API_KEY } = process.env;

/** Uploads a file, and returns its object key. */
async function upload(path) {
  const file = await openAsBlob(path); // `fetch` reads it from the disk as it sends it

  const granted = await fetch(`${API_URL}/media/`, {
    method: "POST",
    headers: { "x-api-key": API_KEY },
    body: JSON.stringify({ fileName: basename(path), fileType: "application/octet-stream", fileSize: file.size }),
  });
  if (!granted.ok) throw new Error(`the API refused: ${granted.status} ${await granted.text()}`);
  const { url, fields, fileKey } = await granted.json();

  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file); // S3 ignores the fields after it
  // By default, `fetch` keeps the file in memory in case of a redirect: https://github.com/nodejs/undici/issues/4058
  const uploaded = await fetch(url, { method: "POST", body: form, redirect: "error" });
  if (!uploaded.ok) {
    const error = (await uploaded.text()).matchAll(/<(?:Code|Message)>([^<]*)/g);
    throw new Error(`S3 refused: ${uploaded.status} ${Array.from(error, ([, text]) => text).join(": ")}`);
  }
  return fileKey;
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
