// A browser, ways to disturb its requests, the backend of the examples, and the bucket as its owner sees it.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream";
import { setTimeout } from "node:timers/promises";

import { AwsClient } from "aws4fetch";
import { chromium } from "playwright-core";

/** Reads a variable that the test in `tests/it/examples.rs` sets. */
export function environment(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run \`make e2e\``);
  return value;
}

export function launchBrowser(...options) {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", ...options];
  return chromium.launch({ executablePath: environment("CHROMIUM"), args });
}

/** Starts a server that passes connections on to another one, and that can cut them. */
export async function startCable({ hostname, port }) {
  const sockets = new Set();
  let isCut = false;
  const server = createServer((client) => {
    if (isCut) return client.destroy();
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    }
    pipeline(client, upstream, client, () => {});
  });
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: server.address().port,
    cut,
    repair: () => (isCut = false),
    stop: () => server.close(cut),
  };
}

/** Starts `examples/backend.mjs` on a free port; returns its origin, and a function that stops it. */
export async function startBackend(env) {
  const backend = spawn(process.execPath, ["examples/backend.mjs"], {
    cwd: new URL("../..", import.meta.url),
    env: { ...process.env, PORT: "0", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface(backend.stdout)) {
    return { origin: new URL(line).origin, stop: () => backend.kill() };
  }
  throw new Error("the backend did not start");
}

const root = new AwsClient({
  accessKeyId: environment("AWS_ACCESS_KEY_ID"),
  secretAccessKey: environment("AWS_SECRET_ACCESS_KEY"),
  region: environment("AWS_DEFAULT_REGION"),
});

async function s3(path) {
  const response = await root.fetch(`${environment("AWS_ENDPOINT_URL")}/${environment("BUCKET")}${path}`, {
    aws: { service: "s3" },
  });
  if (!response.ok) throw new Error(`S3 responded with ${response.status}: ${await response.text()}`);
  return response;
}

/** Returns the object keys in an XML list of S3 that end in this file name. */
async function objectKeys(query, fileName) {
  const list = await (await s3(`/?${query}&encoding-type=url`)).text();
  const keys = Array.from(list.matchAll(/<Key>([^<]*)<\/Key>/g), ([, key]) => decodeURIComponent(key));
  return keys.filter((key) => key.endsWith(`/${fileName}`));
}

/** Returns the content of each object with this file name; a test that uploads one file expects one. */
export async function stored(fileName) {
  const keys = await objectKeys("list-type=2", fileName);
  const read = async (key) => Buffer.from(await (await s3(`/${encodeURIComponent(key)}`)).arrayBuffer());
  return Promise.all(keys.map(read));
}

/** Returns the object keys of the multipart uploads for this file name that are neither completed nor aborted. */
export const unfinished = (fileName) => objectKeys("uploads", fileName);

/** Adds callers with limits of their own to the secret, and returns their API keys. */
export async function addCallers(limits) {
  const callers = limits.map((limit) => ({ key: randomBytes(32).toString("hex"), ...limit }));
  const SecretId = environment("SECRET_ID");
  const { SecretString } = await secretsManager("GetSecretValue", { SecretId });
  const names = Object.fromEntries(callers.map((caller) => [`node-${caller.key.slice(0, 8)}`, caller]));
  const secret = { ...JSON.parse(SecretString), ...names };
  await secretsManager("PutSecretValue", { SecretId, SecretString: JSON.stringify(secret) });
  // After an unknown API key, the function reads the secret again, at most once in 10 seconds.
  const request = { method: "POST", headers: { "x-api-key": callers[0].key } };
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await setTimeout(500)) {
    const { status } = await fetch(`${environment("API_URL")}/media/`, request);
    if (status !== 401) return callers.map(({ key }) => key);
  }
  throw new Error("the function does not know the new API keys");
}

async function secretsManager(operation, body) {
  const response = await root.fetch(environment("AWS_ENDPOINT_URL"), {
    method: "POST",
    aws: { service: "secretsmanager" },
    headers: { "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": `secretsmanager.${operation}` },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${operation}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Handles the first matching requests to S3, each with one of these; passes on all others. */
export function intercept(page, matches, ...handlers) {
  return page.route(`${environment("AWS_ENDPOINT_URL")}/**`, (route) => {
    const handle = matches(route.request()) ? handlers.shift() : undefined;
    return handle ? handle(route) : route.continue();
  });
}

export const isComplete = (request) => request.method() === "POST" && request.url().includes("uploadId=");

/** Lets S3 do what the request asks for, without a response. */
export async function loseResponse(route) {
  await route.fetch();
  await route.abort("connectionreset");
}

/** Responds with this error of S3, after S3 has stored the file if `isStored`. */
export const fail = (status, code, { isStored = false } = {}) => async (route) => {
  if (isStored) await route.fetch();
  const body = `\n<Error><Code>${code}</Code><Message>MESSAGE</Message></Error>`;
  await route.fulfill({ status, body, headers: { "Access-Control-Allow-Origin": "*" } });
};
