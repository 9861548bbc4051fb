// Tests examples/backend.mjs: what it passes on, what it refuses, and which files it serves.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createServer, request } from "node:http";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";

import { startBackend } from "./support.mjs";

const RECEIVED = [];
let api, backend, cutOff;

before(async () => {
  api = createServer(async (received, response) => {
    RECEIVED.push([received.method, received.url, received.headers["x-api-key"], await text(received)]);
    response.writeHead(418, { "Content-Type": "application/problem+json" }).end('{"code":"teapot"}');
  });
  await new Promise((resolve) => api.listen(0, "127.0.0.1", resolve));
  const API_URL = `http://127.0.0.1:${api.address().port}`;
  [backend, cutOff] = await Promise.all([
    startBackend({ API_URL, API_KEY: "secret" }),
    startBackend({ API_URL: "http://127.0.0.1:2", API_KEY: "secret" }),
  ]);
});

after(() => {
  for (const it of [backend, cutOff]) it.stop();
  api.close();
});

/** Sends a request without changing its path, as `fetch` would; returns its status, media type and body. */
function send(method, path, { origin = backend.origin, to = backend, body, ...headers } = {}) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(to.origin);
    const sent = request({ hostname, port, method, path, headers: { origin, ...headers } }, async (response) => {
      resolve([response.statusCode, response.headers["content-type"], await text(response)]);
    });
    sent.on("error", reject).end(body);
  });
}

const problem = (status, title, code, detail) => [
  status,
  "application/problem+json",
  JSON.stringify({ type: "about:blank", title, status, code, detail }),
];

test("passes the four routes on with the API key, and the response back", async () => {
  for (const path of ["/media/", "/v1/assets/presign", "/v1/uploads", "/v1/uploads/sign"]) {
    RECEIVED.length = 0;

    const response = await send("POST", path, { body: '{"fileName": "a"}' });

    assert.deepEqual(response, [418, "application/problem+json", '{"code":"teapot"}']);
    assert.deepEqual(RECEIVED, [["POST", path, "secret", '{"fileName": "a"}']]);
  }
});

test("passes nothing else on", async () => {
  RECEIVED.length = 0;
  const tooLong = " ".repeat(64 * 1024 + 1);
  const onlyOwnPages = problem(403, "Forbidden", "forbidden", "only pages of this site may upload");
  const needsLength = problem(
    413,
    "Payload Too Large",
    "payload_too_large",
    "expected a Content-Length of at most 65536",
  );
  const noRoute = problem(404, "Not Found", "not_found", "no route matches the method and the path");

  for (const [path, options, expected] of [
    ["/media/", { origin: "https://example.com", body: "{}" }, onlyOwnPages],
    ["/media/", { origin: "null", body: "{}" }, onlyOwnPages],
    ["/media/", { origin: backend.origin.replace(/\d+$/, "1"), body: "{}" }, onlyOwnPages],
    ["/media/", { host: "example.com", origin: "http://example.com", body: "{}" }, onlyOwnPages],
    ["/media/", { body: "{" }, problem(400, "Bad Request", "bad_request", "the body is not valid JSON")],
    ["/media/", { body: tooLong }, needsLength],
    ["/media/", { "transfer-encoding": "chunked", body: "{}" }, needsLength],
    ["/v1/uploads/confirm", { body: "{}" }, noRoute],
    ["/media/../v1/uploads", { body: "{}" }, noRoute],
  ]) {
    assert.deepEqual(await send("POST", path, options), expected, path);
  }
  assert.deepEqual(RECEIVED, []);
});

test("reports that the API does not respond", async () => {
  const response = await send("POST", "/media/", { to: cutOff, origin: cutOff.origin, body: "{}" });

  assert.deepEqual(response, problem(502, "Bad Gateway", "bad_gateway", "no response from the API"));
});

test("serves the pages, and no other file", async () => {
  const served = async (path) => (await send("GET", path)).slice(0, 2);

  assert.deepEqual(await served("/browser/"), [200, "text/html; charset=utf-8"]);
  assert.deepEqual(await served("/browser/upload.js?v=1"), [200, "text/javascript; charset=utf-8"]);
  assert.deepEqual(await served("/browser/style.css"), [200, "text/css; charset=utf-8"]);
  for (const path of [
    "/",
    "/browser",
    "/browser/missing.js",
    "/backend.mjs",
    "/browser/../backend.mjs",
    "/browser/%2e%2e/backend.mjs",
    "/browser/..%2fbackend.mjs",
    "/browser/..\\backend.mjs",
    "/browser//backend.mjs",
    "//browser/page.js",
    "/put.mjs",
    "/uppy/.npmrc",
    "/browser/page.js%00.html",
    "http://localhost/browser/",
  ]) {
    assert.deepEqual(await served(path), [404, "application/problem+json"], path);
  }
});

test("does not start without the URL and the key of the API", () => {
  for (const env of [{ API_URL: "https://example.com" }, { API_KEY: "secret" }]) {
    const { status, stderr } = spawnSync(process.execPath, ["../../examples/backend.mjs"], {
      cwd: import.meta.dirname,
      env,
    });

    assert.deepEqual([status, String(stderr)], [2, "backend.mjs: set API_URL and API_KEY to those of your stack\n"]);
  }
});
