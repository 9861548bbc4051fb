// Uploads with the pages in `examples/uppy/`, and reads from the bucket what arrived.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import {
  fail,
  intercept,
  isComplete,
  launchBrowser,
  loseResponse,
  startBackend,
  stored,
  unfinished,
} from "./support.mjs";

const MiB = 1024 * 1024;
const MULTIPART = "multipart-above=1&part-size=5";
const REFUSED_BY_S3 = {
  5: "The upload was refused: S3 responded with 403 (SignatureDoesNotMatch)",
  6: "S3 returned 403 – SignatureDoesNotMatch",
};

let backend, browser, folder;

before(async () => {
  execFileSync("npm", ["run", "build"], { cwd: new URL("../../examples/uppy", import.meta.url), stdio: "inherit" });
  [backend, browser, folder] = await Promise.all([startBackend(), launchBrowser(), mkdtemp(join(tmpdir(), "uppy-"))]);
});

after(async () => {
  await browser?.close();
  backend?.stop();
  await rm(folder, { recursive: true });
});

/** Writes a file of random bytes, whose name no other test uses. */
async function randomFile({ bytes = 1000, prefix = "" } = {}) {
  const content = randomBytes(bytes);
  const path = join(folder, `${prefix}${randomBytes(4).toString("hex")}.png`);
  await writeFile(path, content);
  return { path, name: basename(path), content };
}

/** Opens a page; collects the errors in its console, what it asks its backend for, and the parts that it has sent. */
async function open(t, version, query = "") {
  const page = await browser.newPage();
  t.after(() => page.close());
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  const asked = [];
  const partsSent = [];
  page.on("requestfinished", (request) => {
    const { origin, pathname, searchParams } = new URL(request.url());
    const part = searchParams.get("partNumber");
    if (part && request.method() === "PUT") partsSent.push(Number(part));
    if (origin === backend.origin && request.method() === "POST") asked.push([pathname, request.postDataJSON()]);
  });
  await page.goto(`${backend.origin}/uppy/${version}/?${query}`);
  return { page, errors, asked, partsSent };
}

async function choose(page, file) {
  await page.locator("input.uppy-Dashboard-input").first().setInputFiles(file.path);
}

async function startUpload(page) {
  await page.locator(".uppy-StatusBar-actionBtn--upload").click();
}

/** Waits until a file is uploaded. */
async function uploaded(page, file) {
  await page.locator("#object-keys li", { hasText: file.name }).waitFor();
}

/** Returns the reason that a file in the Dashboard shows for its failure. */
function reason(page, text) {
  return page.locator(".uppy-Dashboard-Item").getByRole("button", { name: text, exact: true });
}

/** Refuses to replace the object, as S3 may; the local AWS completes an upload twice. */
const exists = (route) =>
  route.request().headers()["if-none-match"] ? fail(412, "PreconditionFailed")(route) : route.continue();

/** Starts a multipart upload of three parts, whose last two wait until `release` is called. */
async function startAndHold(t, version) {
  const opened = await open(t, version, MULTIPART);
  const { page } = opened;
  const file = await randomFile({ bytes: 11 * MiB });
  const granted = page.waitForResponse((response) => response.url().endsWith("/v1/uploads"));
  const signed = page.waitForRequest((request) => request.url().endsWith("/v1/uploads/sign"));
  const later = /partNumber=[23]/;
  await page.route(later, () => {});
  await choose(page, file);
  const firstPart = page.waitForResponse((response) => /partNumber=1/.test(response.url()));
  await startUpload(page);
  await (await firstPart).finished();
  const { uploadToken } = await (await granted).json();
  const { uploadId } = (await signed).postDataJSON();
  return { ...opened, version, file, uploadToken, uploadId, release: () => page.unroute(later) };
}

/** Loads the page again once Golden Retriever has saved the upload; chooses the file again. */
async function reload({ page, version, file, uploadToken, uploadId, release }, query = MULTIPART) {
  const saved = { version, texts: [uploadToken, uploadId] };
  // Not with `waitForFunction`, which does not wait for the promise of an asynchronous function.
  for (const deadline = Date.now() + 10_000; !(await page.evaluate(hasSaved, saved)); await setTimeout(50)) {
    assert.ok(Date.now() < deadline, "Golden Retriever saves the upload");
  }
  await page.goto(`${backend.origin}/uppy/${version}/?${query}`);
  await release();
  await page.getByRole("button", { name: "Re-select" }).click();
  await choose(page, file);
}

/** Returns whether the state that Golden Retriever has saved contains these texts; runs in the page. */
async function hasSaved({ version, texts }) {
  const result = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  async function readDatabase() {
    const database = await result(indexedDB.open("uppy-blobs"));
    const record = await result(database.transaction("metadata").objectStore("metadata").get("uppy-6"));
    database.close();
    return record?.metadata;
  }
  const state = version === 5 ? localStorage.getItem("uppyState:uppy-5") : await readDatabase();
  return texts.every((text) => state?.includes(text));
}

for (const version of [5, 6]) {
  describe(`Uppy ${version}`, () => {
    for (const [by, path, options] of [
      ["form", "/media/", {}],
      ["put", "/v1/assets/presign", { 5: { overwrite: false }, 6: {} }[version]],
    ]) {
      test(`uploads a small file by ${by}`, async (t) => {
        const { page, errors, asked } = await open(t, version, `by=${by}`);
        const file = await randomFile();

        await choose(page, file);
        await startUpload(page);
        await uploaded(page, file);

        assert.deepEqual(await stored(file.name), [file.content]);
        assert.deepEqual(asked, [[path, { fileName: file.name, fileType: "image/png", fileSize: 1000, ...options }]]);
        assert.deepEqual(errors, []);
      });
    }

    test("uploads a large file in parts", async (t) => {
      const { page, errors, asked, partsSent } = await open(t, version, MULTIPART);
      const file = await randomFile({ bytes: 11 * MiB });
      const described = { fileName: file.name, fileType: "image/png", fileSize: 11 * MiB, partSize: 5 * MiB };
      const request = { 5: described, 6: { ...described, overwrite: true } }[version];

      await choose(page, file);
      await startUpload(page);
      await uploaded(page, file);

      assert.deepEqual(await stored(file.name), [file.content]);
      assert.deepEqual(asked[0], ["/v1/uploads", request]);
      assert.deepEqual(partsSent.sort(), [1, 2, 3]);
      assert.deepEqual(errors, []);
    });

    test("continues after a reload with the parts that are missing", async (t) => {
      const held = await startAndHold(t, version);
      const { page, errors, partsSent, file } = held;

      partsSent.length = 0;
      await reload(held);
      await startUpload(page);
      await uploaded(page, file);

      assert.deepEqual(await stored(file.name), [file.content]);
      assert.deepEqual(partsSent.sort(), [2, 3]);
      assert.deepEqual(errors, []);
    });

    test("starts again after a reload that changes the size of the parts", async (t) => {
      const held = await startAndHold(t, version);
      const { page, errors, partsSent, file } = held;

      partsSent.length = 0;
      await reload(held, "multipart-above=1&part-size=6");
      await startUpload(page);
      await uploaded(page, file);

      assert.deepEqual(await stored(file.name), [file.content]);
      assert.deepEqual(partsSent.sort(), [1, 2]);
      assert.deepEqual(errors, []);
    });

    test("aborts the upload when it is cancelled", async (t) => {
      const { page, errors, file } = await startAndHold(t, version);
      assert.equal((await unfinished(file.name)).length, 1);

      const aborted = page.waitForResponse((response) => response.request().method() === "DELETE");
      await page.locator(".uppy-StatusBar-actions").getByLabel("Cancel").click();

      assert.equal((await aborted).status(), 204);
      assert.deepEqual(await unfinished(file.name), []);
      assert.deepEqual(errors, []);
    });

    test("starts again when S3 has lost the upload", async (t) => {
      const held = await startAndHold(t, version);
      const { page, file, uploadToken, uploadId } = held;
      const status = await page.evaluate(
        async (body) => {
          const headers = { "Content-Type": "application/json" };
          const signed = await fetch("/v1/uploads/sign", { method: "POST", headers, body: JSON.stringify(body) });
          const { abort } = await signed.json();
          return (await fetch(abort.url, { method: abort.method })).status;
        },
        { uploadToken, uploadId, partNumbers: [1] },
      );
      assert.equal(status, 204);

      await reload(held);
      await startUpload(page);
      await page.locator(".uppy-StatusBar-actionBtn--retry").click();
      await uploaded(page, file);

      assert.deepEqual(await stored(file.name), [file.content]);
    });

    test("shows why the API refuses a file", async (t) => {
      const { page } = await open(t, version);

      await choose(page, await randomFile({ prefix: "$$" }));
      await startUpload(page);

      await reason(page, "The upload was refused: fileName must not contain `$$`").waitFor();
    });

    test("reports a login page in place of a grant as no connection", async (t) => {
      const { page } = await open(t, version);
      await page.route("**/v1/assets/presign", (route) => route.fulfill({ contentType: "text/html", body: "Log in" }));

      await choose(page, await randomFile());
      await startUpload(page);

      await reason(page, "No connection to the server. Try again later.").waitFor();
    });

    test("shows why S3 refuses a file", async (t) => {
      const { page } = await open(t, version);
      await page.route(/X-Amz-Signature/, (route) => route.continue({ postData: "a file of another size" }));

      await choose(page, await randomFile());
      await startUpload(page);

      await reason(page, REFUSED_BY_S3[version]).waitFor();
    });
  });
}

describe("Uppy 5", () => {
  test("completes an upload in spite of errors that pass and a lost response", async (t) => {
    const { page, partsSent } = await open(t, 5, MULTIPART);
    const file = await randomFile({ bytes: 11 * MiB });
    await intercept(page, isComplete, fail(200, "InternalError"), fail(503, "SlowDown"), loseResponse, exists);

    await choose(page, file);
    await startUpload(page);
    await uploaded(page, file);

    assert.deepEqual(await stored(file.name), [file.content]);
    assert.deepEqual(partsSent.sort(), [1, 2, 3]);
  });
});

describe("Uppy 6", () => {
  for (const [request, query, matches] of [
    ["a form", "by=form", (it) => it.method() === "POST"],
    ["a PUT", "by=put", (it) => it.method() === "PUT"],
    ["the completion", MULTIPART, isComplete],
  ]) {
    test(`stores a file once if the response to ${request} is lost`, async (t) => {
      const { page } = await open(t, 6, query);
      const file = await randomFile({ bytes: 6 * MiB });
      await intercept(page, matches, loseResponse, exists);

      await choose(page, file);
      await startUpload(page);
      await uploaded(page, file);

      assert.deepEqual(await stored(file.name), [file.content]);
    });
  }
});
