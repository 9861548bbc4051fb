// Tests examples/browser/ in Chromium: what a user does and sees, and what arrives in the bucket.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import axe from "axe-core";

import {
  addCallers,
  environment,
  fail,
  intercept,
  isComplete,
  launchBrowser,
  loseResponse,
  startBackend,
  startCable,
  stored,
  unfinished,
} from "./support.mjs";

const S3 = new URL(environment("AWS_ENDPOINT_URL"));
const [POST, PUT] = ["Presigned POST (form)", "Presigned PUT"];
const NO_CONNECTION = "No connection: you are offline, or the storage does not accept uploads from this site.";
const BUSY = "The server is busy. Try again in a moment.";
const FAILED_REQUEST = /^Failed to load resource: /; // Chromium logs every status of 400 or more

let browser, cable, backend, limited, hasty, hastyKey, folder;

before(async () => {
  const callers = await addCallers([{ maxBytes: 1000, allowedTypes: "image/*" }, { expiresIn: 5 }]);
  hastyKey = callers[1];
  const keys = [environment("API_KEY"), ...callers];
  [backend, limited, hasty] = await Promise.all(keys.map((API_KEY) => startBackend({ API_KEY })));
  folder = await mkdtemp(join(tmpdir(), "page-"));
  cable = await startCable(S3);
  browser = await launchBrowser(`--host-resolver-rules=MAP ${S3.host} 127.0.0.1:${cable.port}`);
});

after(async () => {
  await browser?.close();
  for (const it of [backend, limited, hasty, cable]) it?.stop();
  await rm(folder, { recursive: true });
});

/** A test of the page; it fails if the console shows anything that `expected` does not match. */
function testPage(name, { origin = () => backend.origin, expected = /^$/, prepare, skip, ...context }, run) {
  test(name, { timeout: 120_000, skip }, async () => {
    const page = await browser.newPage(context);
    const problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => problems.push(message.text()));
    page.setDefaultTimeout(45_000);
    try {
      await prepare?.(page);
      await page.goto(`${origin()}/browser/`);
      await run(page, await speedLimiter(page));
    } finally {
      cable.repair();
      await page.close();
    }
    assert.deepEqual(
      problems.filter((problem) => !expected.test(problem)),
      [],
    );
  });
}

function png(name, size = 1000) {
  return { name: `${randomBytes(4).toString("hex")} ${name}`, mimeType: "image/png", buffer: randomBytes(size) };
}

/** Changes a constant of `upload.js`. */
function changeScript(page, from, to) {
  return page.route("**/upload.js", async (route) => {
    const response = await route.fetch();
    const script = await response.text();
    assert.equal(script.split(from).length, 2, `${from} is in upload.js once`);
    await route.fulfill({ response, body: script.replace(from, to) });
  });
}

/** Makes the page send files of more than 10 MB in parts of 5 MiB, because large files take long. */
async function sendSmallParts(page) {
  await changeScript(page, "= 100e6", "= 10e6");
  await changeBody(page, "**/v1/uploads", { partSize: 5 * 2 ** 20 });
}

/** Writes a file to the disk, because Playwright is slow to pass large ones to the browser. */
async function largeFile(size) {
  const { name, buffer } = png("a.bin", size);
  const path = join(folder, name);
  await writeFile(path, buffer);
  return { name, buffer, path };
}

function changeBody(page, url, changes) {
  return page.route(url, (route) => {
    const body = { ...route.request().postDataJSON(), ...changes };
    return route.continue({ postData: JSON.stringify(body) });
  });
}

const choose = (page, ...files) =>
  page.setInputFiles(
    "input[type=file]",
    files.map((file) => file.path ?? file),
  );
const itemOf = (page, { name }) => page.getByRole("listitem").filter({ hasText: name });
const shows = (page, file, text) => itemOf(page, file).getByText(text).waitFor();
const button = (page, name, file) => page.getByRole("button", { name: `${name} ${file.name}`, exact: true });
const isUploaded = (page, file) => shows(page, file, /^Uploaded/);

/** Compares with `equals`, because a difference between large files is too long to print. */
async function assertStored({ name, buffer }) {
  const objects = await stored(name);
  assert.equal(objects.length, 1, "one object has this name");
  assert.ok(objects[0].equals(buffer), "the object is the file");
}

const assertNotStored = async ({ name }) => assert.equal((await stored(name)).length, 0);

/** Returns a function that limits the speed of each connection, in bytes per second; -1 is no limit. */
async function speedLimiter(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  return (uploadThroughput) => {
    const conditions = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput };
    return session.send("Network.emulateNetworkConditions", conditions);
  };
}

/** Passes on the first permission that the page asks for at this path once it has expired. */
async function expireFirst(page, path) {
  const request = { url: `${environment("API_URL")}${path}`, headers: { "x-api-key": hastyKey } };
  const passOn = async (route) => {
    const response = await route.fetch(request);
    await setTimeout(6500);
    await route.fulfill({ response });
  };
  await page.route(`**${path}`, passOn, { times: 1 });
}

/** Holds requests to this URL until the function that this returns is called. */
async function hold(page, url, options) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route(url, (route) => released.then(() => route.continue()), options);
  return release;
}

const partNumber = (request) => new URL(request.url()).searchParams.get("partNumber");
const isPart = (request) => request.method() === "PUT" && partNumber(request) !== null;

/** Returns a list to which the number of each part is added when it has been sent. */
function finishedParts(page) {
  const parts = [];
  page.on("requestfinished", (request) => isPart(request) && parts.push(partNumber(request)));
  return parts;
}

const isUpload = (request) => ["POST", "PUT"].includes(request.method());

for (const [route, label, path] of [
  ["form", POST, "/media/"],
  ["put", PUT, "/v1/assets/presign"],
]) {
  testPage(`uploads a file with a name in Japanese and an emoji: ${route}`, {}, async (page) => {
    const file = png("図面 (最終版) 😀.png", 300_000);
    await page.getByLabel(label).check();

    await choose(page, file);
    await isUploaded(page, file);

    await assertStored(file);
    await shows(page, file, new RegExp(`^tmp/.*/${file.name.replace(/[()]/g, "\\$&")}$`));
  });

  testPage(
    `explains that the permission has expired, and retries: ${route}`,
    { expected: FAILED_REQUEST, prepare: (page) => expireFirst(page, path) },
    async (page) => {
      const file = png("a.png");
      await page.getByLabel(label).check();

      await choose(page, file);
      await shows(page, file, "The permission to upload has expired. Try again.");
      await assertNotStored(file);
      await button(page, "Retry", file).click();
      await isUploaded(page, file);

      await assertStored(file);
    },
  );

  testPage(`retries after a cut connection: ${route}`, { expected: FAILED_REQUEST }, async (page, limitSpeed) => {
    const file = png("a.png", 2e6);
    await page.getByLabel(label).check();
    await limitSpeed(100_000);

    await choose(page, file);
    await shows(page, file, /[kM]B\/s/);
    cable.cut();
    await shows(page, file, NO_CONNECTION);
    cable.repair();
    await limitSpeed(-1);
    await button(page, "Retry", file).click();
    await isUploaded(page, file);

    await assertStored(file);
  });

  testPage(`cancels: ${route}`, {}, async (page, limitSpeed) => {
    const file = png("a.png", 2e6);
    await page.getByLabel(label).check();
    await limitSpeed(100_000);

    await choose(page, file);
    await shows(page, file, /[kM]B\/s/);
    await button(page, "Cancel", file).click();
    await shows(page, file, "Cancelled");

    await assertNotStored(file);
  });
}

for (const [what, label, handle, message] of [
  ["the response to a form is lost", POST, loseResponse, NO_CONNECTION],
  ["the response to a PUT is lost", PUT, loseResponse, NO_CONNECTION],
  ["S3 fails after it has stored a form", POST, fail(500, "InternalError", { isStored: true }), BUSY],
  ["S3 fails after it has stored a PUT", PUT, fail(500, "InternalError", { isStored: true }), BUSY],
  ["S3 is still storing a PUT", PUT, fail(409, "ConditionalRequestConflict", { isStored: true }), BUSY],
]) {
  testPage(`stores a file once if ${what}`, { expected: FAILED_REQUEST }, async (page) => {
    const file = png("a.png");
    await page.getByLabel(label).check();
    await intercept(page, isUpload, handle);

    await choose(page, file);
    await shows(page, file, message);
    await button(page, "Retry", file).click();
    await isUploaded(page, file);

    await assertStored(file);
  });
}

for (const [what, handle] of [
  ["does not come", () => {}],
  ["is a login page", (route) => route.fulfill({ contentType: "text/html", body: "<title>Sign in</title>" })],
]) {
  const prepare = (page) => changeScript(page, "= 60_000", "= 5000");
  testPage(`retries if the permission ${what}`, { prepare }, async (page) => {
    const file = png("a.png");
    await page.route("**/media/", handle, { times: 1 });

    await choose(page, file);
    await shows(page, file, NO_CONNECTION);
    await assertNotStored(file);
    await button(page, "Retry", file).click();
    await isUploaded(page, file);

    await assertStored(file);
  });
}

testPage("uploads several files, three at a time, and announces the end of each", {}, async (page) => {
  const files = Array.from({ length: 5 }, (_, index) => png(`${index}.png`, 100_000));
  const release = await hold(page, `${S3.origin}/**`);

  await choose(page, ...files);
  await page.getByText("Waiting · 100 kB").nth(1).waitFor();
  const waiting = await page.getByText("Waiting · 100 kB").count();
  release();
  for (const file of files) await isUploaded(page, file);

  assert.equal(waiting, 2);
  for (const file of files) await assertStored(file);
  const announced = await page.getByRole("log").locator("p").allTextContents();
  assert.deepEqual(announced.sort(), files.map(({ name }) => `${name}: Uploaded · 100 kB`).sort());
});

testPage("uploads files that are dropped anywhere on the page", {}, async (page) => {
  const file = png("a.png");
  const content = [...file.buffer];
  const dataTransfer = await page.evaluateHandle(
    ({ name, content }) => {
      const dropped = new DataTransfer();
      dropped.items.add(new File([new Uint8Array(content)], name, { type: "image/png" }));
      return dropped;
    },
    { name: file.name, content },
  );

  await page.dispatchEvent("body", "drop", { dataTransfer });
  await isUploaded(page, file);

  await assertStored(file);
});

for (const [what, file, message] of [
  ["an empty file", png("a.png", 0), "This file is empty. Choose one that has content."],
  ["a file that is too large", png("a.png", 1001), "This file is too large."],
  ["another type", { ...png("a.txt"), mimeType: "text/plain" }, "Files of this type are not accepted."],
  [
    "a name that S3 would not accept",
    png("$$.png"),
    "This file name is not accepted. Rename the file and choose it again.",
  ],
]) {
  testPage(
    `refuses ${what}, without a retry`,
    { origin: () => limited.origin, expected: FAILED_REQUEST },
    async (page) => {
      await choose(page, file);
      await shows(page, file, message);

      assert.equal(await button(page, "Retry", file).isVisible(), false);
      await assertNotStored(file);
    },
  );
}

for (const [label, path, changes, message, detail] of [
  [POST, "/media/", { fileSize: 999 }, "This file is too large.", /^S3: 400 EntityTooLarge: /],
  [
    PUT,
    "/v1/assets/presign",
    { checksumSha256: "A".repeat(43) + "=" },
    "This file was damaged on the way. Try again.",
    /^S3: 400 BadDigest: /,
  ],
  [PUT, "/v1/assets/presign", { fileSize: 999 }, "The upload failed.", /^S3: 403 SignatureDoesNotMatch: /],
]) {
  testPage(`explains what S3 refuses: ${detail}`, { expected: FAILED_REQUEST }, async (page) => {
    const file = png("a.png");
    await page.getByLabel(label).check();
    await changeBody(page, `**${path}`, changes);

    await choose(page, file);
    await shows(page, file, message);

    await shows(page, file, detail);
    await assertNotStored(file);
  });
}

testPage("explains that a file has changed", { expected: FAILED_REQUEST }, async (page) => {
  const file = await largeFile(1000);
  await page.route("**/media/", async (route) => {
    await appendFile(file.path, "more");
    await route.continue();
  });

  await choose(page, file);
  await shows(page, file, "This file has changed or cannot be read. Choose it again.");

  await assertNotStored(file);
});

testPage("explains that a PUT has already stored the file", { expected: FAILED_REQUEST }, async (page) => {
  const file = png("a.png");
  await page.getByLabel(PUT).check();
  await intercept(page, isUpload, async (route) => {
    await route.fetch();
    await route.continue();
  });

  await choose(page, file);
  await shows(page, file, "This file has already been uploaded.");

  await assertStored(file);
});

testPage(
  "explains a refusal by CORS",
  { origin: () => backend.origin.replace("localhost", "127.0.0.1"), expected: /CORS policy|net::ERR_FAILED/ },
  async (page) => {
    const file = png("a.png");

    await choose(page, file);
    await shows(page, file, NO_CONNECTION);

    await assertNotStored(file);
  },
);

testPage("sends a file of more than 100 MB in parts", {}, async (page) => {
  const file = await largeFile(100e6 + 1);
  const parts = finishedParts(page);

  await choose(page, file);
  await isUploaded(page, file);

  await assertStored(file);
  assert.deepEqual(parts.sort(), ["1", "2", "3", "4", "5", "6"]);
});

const inParts = { prepare: sendSmallParts };
const inPartsWithFailures = { ...inParts, expected: FAILED_REQUEST };

testPage("pauses a multipart upload, and continues with the missing parts", inParts, async (page) => {
  const file = await largeFile(22e6);
  const parts = finishedParts(page);
  const release = await hold(page, /partNumber=[2-5]&/);
  // The page asks for it when it has sent the first part.
  const lastPart = page.waitForRequest(/partNumber=5&/);

  await choose(page, file);
  await lastPart;
  await button(page, "Pause", file).click();
  await shows(page, file, "Paused · 5.2 MB of 22 MB");
  release();
  await page.waitForTimeout(1000);
  await shows(page, file, "Paused · 5.2 MB of 22 MB");
  assert.deepEqual(parts, ["1"]);
  await assertNotStored(file);
  await button(page, "Resume", file).click();
  await isUploaded(page, file);

  await assertStored(file);
  assert.deepEqual(parts.sort(), ["1", "2", "3", "4", "5"], "each part is sent once");
});

for (const [when, url] of [
  ["it starts", "**/v1/uploads"],
  ["it asks for a URL", "**/v1/uploads/sign"],
  ["it finishes", /\?(?!.*partNumber=).*uploadId=/],
]) {
  testPage(`pauses a multipart upload while ${when}`, inParts, async (page) => {
    const file = await largeFile(11e6);
    const release = await hold(page, url, { times: 1 });
    const held = page.waitForRequest(url);

    await choose(page, file);
    await held;
    await button(page, "Pause", file).click();
    await shows(page, file, /^Paused/);
    release();
    await assertNotStored(file);
    await button(page, "Resume", file).click();
    await isUploaded(page, file);

    await assertStored(file);
    assert.deepEqual(await unfinished(file.name), []);
  });
}

testPage("sends parts again after a cut connection", inPartsWithFailures, async (page, limitSpeed) => {
  const file = await largeFile(22e6);
  const parts = finishedParts(page);
  await limitSpeed(500_000);

  await choose(page, file);
  await shows(page, file, /[kM]B\/s/);
  const failed = page.waitForEvent("requestfailed", isPart);
  cable.cut();
  const cutPart = partNumber(await failed);
  cable.repair();
  await limitSpeed(-1);
  await isUploaded(page, file);

  await assertStored(file);
  assert.ok(parts.includes(cutPart), "the part that was cut is sent again");
});

testPage(
  "asks for another URL if that of a part has expired",
  { ...inPartsWithFailures, origin: () => hasty.origin },
  async (page) => {
    const file = await largeFile(22e6);
    await expireFirst(page, "/v1/uploads/sign");
    const expired = page.waitForResponse((response) => isPart(response.request()) && response.status() === 403);

    await choose(page, file);
    await expired;
    await isUploaded(page, file);

    await assertStored(file);
  },
);

testPage(
  "completes a multipart upload in spite of an error after 200 and a lost response",
  inPartsWithFailures,
  async (page) => {
    const file = await largeFile(22e6);
    // S3 refuses to complete an upload again if the object exists; the local AWS responds as the first time.
    await intercept(page, isComplete, fail(200, "InternalError"), loseResponse, fail(412, "PreconditionFailed"));

    await choose(page, file);
    await isUploaded(page, file);

    await assertStored(file);
  },
);

testPage("aborts a multipart upload that is cancelled", inParts, async (page, limitSpeed) => {
  const file = await largeFile(22e6);
  await limitSpeed(500_000);

  await choose(page, file);
  await shows(page, file, /[kM]B\/s/);
  assert.equal((await unfinished(file.name)).length, 1);
  const aborted = page.waitForEvent("requestfinished", (request) => request.method() === "DELETE");
  await button(page, "Cancel", file).click();
  await shows(page, file, "Cancelled");
  await aborted;

  await assertNotStored(file);
  assert.deepEqual(await unfinished(file.name), []);
});

testPage("starts a cancelled upload again before S3 has aborted the last", inParts, async (page, limitSpeed) => {
  const file = await largeFile(11e6);
  await limitSpeed(500_000);
  await choose(page, file);
  await shows(page, file, /[kM]B\/s/);
  await button(page, "Pause", file).click();
  await shows(page, file, /^Paused/);
  await limitSpeed(-1);
  const release = await hold(page, "**/v1/uploads/sign", { times: 1 });
  const held = page.waitForRequest("**/v1/uploads/sign");
  const aborted = page.waitForEvent("requestfinished", (request) => request.method() === "DELETE");

  await button(page, "Cancel", file).click();
  await held;
  await shows(page, file, "Cancelled");
  assert.equal(await button(page, "Resume", file).isVisible(), false);
  await button(page, "Retry", file).click();
  await isUploaded(page, file);
  release();
  await aborted;
  await shows(page, file, /^Uploaded/);

  await assertStored(file);
  assert.deepEqual(await unfinished(file.name), []);
});

testPage("works with the keyboard alone", {}, async (page, limitSpeed) => {
  const file = png("a.png", 2e6);
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const isFocused = (locator) => locator.evaluate((element) => element.matches(":focus-visible"));
  const chooser = page.waitForEvent("filechooser");
  await limitSpeed(100_000);

  await press("Tab");
  await press("Enter");
  await (await chooser).setFiles(file);
  await shows(page, file, /[kM]B\/s/);
  await press("Tab", "Tab");
  assert.ok(await isFocused(button(page, "Cancel", file)));
  await press("Space");
  await shows(page, file, "Cancelled");
  assert.ok(await isFocused(button(page, "Retry", file)));
  await limitSpeed(-1);
  await press("Enter");
  await isUploaded(page, file);
  assert.ok(await isFocused(button(page, "Remove", file)));
  await press("Enter");

  assert.equal(await itemOf(page, file).count(), 0);
  assert.ok(await isFocused(page.getByLabel("Choose files")));
  await assertStored(file);
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 320]) {
    const look = { colorScheme, viewport: { width, height: 800 }, expected: FAILED_REQUEST };
    testPage(`is accessible, and fits: ${colorScheme}, ${width} pixels wide`, look, async (page, limitSpeed) => {
      const file = png(`${"long_name".repeat(10)}.png`, 4e6);
      await page.evaluate(axe.source);
      const check = async (phase) => {
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        const found = violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.deepEqual([found, overflow], [[], 0], phase);
      };
      await limitSpeed(100_000);

      await check("idle");
      await choose(page, file);
      await shows(page, file, /[kM]B\/s/);
      await check("uploading");
      cable.cut();
      await shows(page, file, NO_CONNECTION);
      await check("failed");
      cable.repair();
      await limitSpeed(-1);
      await button(page, "Retry", file).click();
      await isUploaded(page, file);
      await check("done");
    });
  }
}

for (const colorScheme of ["light", "dark"]) {
  const look = { colorScheme, viewport: { width: 640, height: 800 }, skip: !process.env.SCREENSHOTS };
  testPage(`is shown in the README: ${colorScheme}`, look, async (page, limitSpeed) => {
    const text = (name, size) => ({ name, mimeType: "text/plain", buffer: Buffer.alloc(size) });
    const film = { name: "holiday.mp4", path: join(folder, "holiday.mp4") };
    await writeFile(film.path, Buffer.alloc(734e6));

    await limitSpeed(40e6);
    await choose(page, film);
    await choose(page, text("floor plan.pdf", 1_240_000), text("notes.txt", 0));
    await shows(page, film, /^[2-4]\d\d.* left$/);

    const path = new URL(`../../docs/browser-${colorScheme}.png`, import.meta.url).pathname;
    // Hiding the caret would need an inline style, which the page does not permit.
    await page.screenshot({ path, caret: "initial" });
  });
}
