// Makes a TypeScript client of `openapi.yaml`, and uploads files with it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { environment, stored } from "./support.mjs";

const local = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "client-"));
after(() => rmSync(folder, { recursive: true }));
symlinkSync(local("node_modules"), join(folder, "node_modules"));
copyFileSync(local("client.mts"), join(folder, "client.mts"));
const run = (program, ...args) =>
  execFileSync(join("node_modules/.bin", program), args, { cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
run("openapi-typescript", local("../../openapi.yaml"), "--output", "api.d.ts");
run("tsc", "--strict", "--noEmitOnError", "--target", "es2022", "--module", "nodenext", "client.mts");
const { Refused, uploader } = await import(join(folder, "client.mjs"));

const PART_SIZE = 5 << 20; // the smallest that S3 accepts
const client = uploader(environment("API_URL"), environment("API_KEY"));
const content = new Uint8Array(2 * PART_SIZE + 1).map((_, index) => index % 251);

for (const [name, upload] of [
  ["form.txt", client.byForm],
  ["put.txt", client.byPut],
  ["parts.txt", (file) => client.inParts(file, PART_SIZE)],
]) {
  test(`the generated client uploads ${name}`, async () => {
    const fileName = `${crypto.randomUUID()}-${name}`;

    const objectKey = await upload(new File([content], fileName, { type: "text/plain" }));

    const [object, ...others] = await stored(fileName);
    assert.match(objectKey, new RegExp(`^tmp/.+/${fileName}$`));
    assert(object.equals(content));
    assert.deepEqual(others, []);
  });
}

test("the generated client reports the health of the function", async () => {
  assert(await client.isHealthy());
});

test("the generated client says why the API refused a request", async () => {
  const invalid = new File([], "..", { type: "image/*" });

  await assert.rejects(
    client.byForm(invalid),
    new Refused("400 bad_request: fileName must not be `.` or `..`, fileType must not contain a wildcard"),
  );
  await assert.rejects(
    uploader(environment("API_URL"), "unknown").byPut(invalid),
    new Refused("401 unauthorized: unknown API key"),
  );
});
