// Uploads files to S3 with permission from your backend. To use it in your own page, copy this file: it needs no other.
//
//     const objectKey = await upload(file, { signal, onProgress: (bytes) => (bar.value = bytes / file.size) });

const MULTIPART_ABOVE_BYTES = 100e6;
const PARTS_AT_ONCE = 4;
const CHECKSUM_MAX_BYTES = 16 * 2 ** 20; // the browser can only digest what is in memory
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 16_000]; // before the next attempts
const STALLED_AFTER_MS = 60_000;
const LOST = ["NoSuchUpload", "upload_token_expired", "invalid_upload_token"]; // a multipart upload cannot continue
const NEVER = new AbortController().signal;

// Each row: what went wrong, in plain words; when another attempt can succeed; and the codes, which are those of S3 and
// the API, members that the API rejects, and our own.
const REASONS = [
  ["This file is empty. Choose one that has content.", "never", "Empty", "EntityTooSmall"],
  ["This file is too large.", "never", "EntityTooLarge", "fileSize"],
  ["Files of this type are not accepted.", "never", "fileType"],
  ["This file name is not accepted. Rename the file and choose it again.", "never", "fileName"],
  ["This file has already been uploaded.", "never", "PreconditionFailed"],
  ["This file has changed or cannot be read. Choose it again.", "never", "Unreadable"],
  ["This file was damaged on the way. Try again.", "later", "BadDigest"],
  ["You may not upload. Sign in and try again.", "later", "unauthorized", "forbidden"],
  ["This upload has expired. Try again from the start.", "later", ...LOST],
  ["The permission to upload has expired. Try again.", "soon", "Expired", "ExpiredToken"],
  ["The server is busy. Try again in a moment.", "soon", "Busy", "InternalError", "SlowDown", "RequestTimeout"],
  // A page cannot find out which of the two it is.
  ["No connection: you are offline, or the storage does not accept uploads from this site.", "soon", "NoConnection"],
];

/** Why an upload failed: `message` for the user, `code` and `detail` for developers, `retry` as in `REASONS`. */
export class UploadError extends Error {
  constructor(code, detail = "") {
    const [message, retry] = REASONS.find(([, , ...codes]) => codes.includes(code)) ?? ["The upload failed.", "later"];
    super(message);
    Object.assign(this, { code, detail, retry });
  }
}

/** Returns the route for a file: `"form"` or, if it is large, `"multipart"`. The third route is `"put"`. */
export const routeFor = (file) => (file.size > MULTIPART_ABOVE_BYTES ? "multipart" : "form");

/**
 * Uploads a file and returns its object key.
 *
 * Abort the signal to pause or to cancel. To continue, call this again with the same `state`, an object that you keep:
 * a multipart upload sends only the parts that are missing. To give one up, call `abandon` once this has rejected.
 */
export async function upload(file, { route = routeFor(file), signal = NEVER, onProgress = () => {}, state = {} } = {}) {
  if (file.size === 0) throw new UploadError("Empty");
  // A form is a little larger than its file.
  const options = { signal, state, onProgress: (bytes) => onProgress(Math.min(bytes, file.size)) };
  try {
    return await (route === "multipart" ? multipart(file, options) : sendWhole({ form, put }[route], file, options));
  } catch (error) {
    // The browser reports a file that has changed as a lost connection too.
    const reading = file.slice(0, 1).arrayBuffer();
    const isReadable = await reading.catch(() => false);
    throw isReadable ? error : new UploadError("Unreadable");
  }
}

/** Deletes the parts of a multipart upload that is not complete, and forgets it. */
export async function abandon(state) {
  const { grant } = state;
  delete state.grant;
  if (grant?.uploadId) await send((await sign(grant, 1)).abort);
}

/** Sends a file in one request, and repeats this request if called again after S3 may have stored the file. */
async function sendWhole(askFor, file, { signal, onProgress, state }) {
  const isRetry = Boolean(state.grant);
  const { key, ...request } = (state.grant ??= await askFor(file, signal));
  try {
    await send(request, { signal, onProgress });
  } catch (error) {
    if (signal.aborted || ["NoConnection", "Busy"].includes(error.code)) throw error;
    delete state.grant;
    // An earlier attempt stored the file, and its response was lost.
    if (!isRetry || error.code !== "PreconditionFailed") throw error;
  }
  delete state.grant;
  return key;
}

async function form(file, signal) {
  const { url, fields, fileKey: key } = await ask("/media/", describe(file), signal);
  const body = new FormData();
  for (const [name, value] of Object.entries({ ...fields, file })) body.append(name, value); // S3 wants `file` last
  return { method: "POST", url, body, key };
}

async function put(file, signal) {
  const bound = { ...describe(file), checksumSha256: await sha256(file), overwrite: false };
  return { method: "PUT", body: file, ...(await ask("/v1/assets/presign", bound, signal)) };
}

async function multipart(file, { signal, onProgress, state }) {
  if (!state.grant) {
    const { create, ...grant } = await ask("/v1/uploads", describe(file), signal);
    // The signal does not abort this, because `abandon` needs the id of an upload that S3 has started.
    state.grant = { ...grant, uploadId: textOf(await send(create), "UploadId"), etags: {} };
  }
  const { grant } = state;
  try {
    await sendParts(file, grant, { signal, onProgress });
    await complete(grant, signal);
  } catch (error) {
    if (LOST.includes(error.code)) delete state.grant;
    throw error;
  }
  delete state.grant;
  return grant.key;
}

async function sendParts(file, { etags, partCount, partSize, ...grant }, { signal, onProgress }) {
  const part = (number) => file.slice((number - 1) * partSize, number * partSize);
  const numbers = Array.from({ length: partCount }, (_, index) => index + 1);
  const missing = numbers.filter((number) => !etags[number]).values(); // an iterator, to share among the senders
  const sent = numbers.map((number) => (etags[number] ? part(number).size : 0));
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);

  async function sendMissing() {
    for (const number of missing) await retry(() => sendPart(number), stop);
  }
  async function sendPart(number) {
    // Each attempt has a new URL, because the last one may have expired.
    const { url } = (await sign(grant, number, stop)).parts[0];
    const report = (bytes) => {
      sent[number - 1] = bytes;
      onProgress(sent.reduce((sum, it) => sum + it));
    };
    const sending = send({ method: "PUT", url, body: part(number) }, { signal: stop, onProgress: report });
    etags[number] = (await sending).getResponseHeader("ETag");
    if (!etags[number]) throw new UploadError("HiddenETag", "the bucket's CORS rules do not expose ETag");
  }
  try {
    await Promise.all(Array.from({ length: PARTS_AT_ONCE }, sendMissing));
  } finally {
    ended.abort(); // if a part has failed, so that the others are not sent in vain
  }
}

async function complete({ etags, ...grant }, signal) {
  const describePart = ([number, etag]) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`;
  const parts = Object.entries(etags).map(describePart).join("");
  const namespace = "http://s3.amazonaws.com/doc/2006-03-01/";
  const body = `<CompleteMultipartUpload xmlns="${namespace}">${parts}</CompleteMultipartUpload>`;
  try {
    await retry(async () => send({ ...(await sign(grant, 1, signal)).complete, body }, { signal }), signal);
  } catch (error) {
    // An earlier attempt completed the upload, and its response was lost.
    if (error.code !== "PreconditionFailed") throw error;
  }
}

const sign = ({ uploadToken, uploadId }, partNumber, signal) =>
  ask("/v1/uploads/sign", { uploadToken, uploadId, partNumbers: [partNumber] }, signal);

const describe = ({ name, type, size }) => ({
  fileName: name,
  fileType: type || "application/octet-stream",
  fileSize: size,
});

async function sha256(file) {
  // `crypto.subtle` exists only in pages from https: or localhost.
  if (file.size > CHECKSUM_MAX_BYTES || !crypto.subtle) return undefined;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return btoa(String.fromCharCode(...new Uint8Array(digest)));
}

async function retry(attempt, signal, [pause, ...pauses] = PAUSES_MS) {
  try {
    return await attempt();
  } catch (error) {
    if (error.retry !== "soon" || !pause) throw error;
  }
  signal.throwIfAborted();
  // The pause is random, so that not all clients come back at once. If the signal ends it, the next attempt fails.
  const over = AbortSignal.any([signal, AbortSignal.timeout(pause * (0.5 + Math.random()))]);
  await new Promise((resolve) => over.addEventListener("abort", resolve));
  return retry(attempt, signal, pauses);
}

/** Asks your backend, which adds the API key. */
async function ask(path, body, signal = NEVER) {
  const fail = (error) => {
    throw signal.aborted ? signal.reason : new UploadError("NoConnection", `API: ${error.message}`);
  };
  const stop = AbortSignal.any([signal, AbortSignal.timeout(STALLED_AFTER_MS)]);
  const response = await fetch(path, { method: "POST", body: JSON.stringify(body), signal: stop }).catch(fail);
  // A permission that is not JSON comes from something else, such as the login page of a network.
  const content = await response.json().catch((error) => (response.ok ? fail(error) : {}));
  if (response.ok) return content;
  const [field] = content.details?.fields ?? [];
  const detail = field ? `${field.name} ${field.reason}` : (content.detail ?? content.message);
  throw new UploadError(isBusy(response) ? "Busy" : (field?.name ?? content.code), `API: ${response.status} ${detail}`);
}

const isBusy = ({ status }) => [409, 429].includes(status) || status >= 500; // 409: S3 is busy with this object
const textOf = (response, element) => response.responseText.match(`<${element}>([^<]*)`)?.[1];

/** Sends a request to S3; not with `fetch`, which does not report how much it has sent. */
function send({ method, url, headers = {}, body }, { signal = NEVER, onProgress = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    let stalled;
    request.onprogress = request.onloadstart = () => {
      clearTimeout(stalled);
      stalled = setTimeout(abort, STALLED_AFTER_MS);
    };
    request.upload.onprogress = ({ loaded }) => {
      request.onprogress();
      onProgress(loaded);
    };
    signal.addEventListener("abort", abort);
    request.onloadend = () => {
      clearTimeout(stalled);
      signal.removeEventListener("abort", abort);
      if (signal.aborted) return reject(signal.reason);
      if (request.status === 0) return reject(new UploadError("NoConnection"));
      // S3 may find an error only after it has responded with 200.
      if (request.status < 300 && !request.responseText.includes("<Error>")) return resolve(request);
      const [code, message] = ["Code", "Message"].map((name) => textOf(request, name));
      const isExpired = code === "AccessDenied" && message?.includes("expired");
      const reason = isExpired ? "Expired" : isBusy(request) ? "Busy" : code;
      reject(new UploadError(reason, `S3: ${request.status} ${code}: ${message}`));
    };
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.send(body);
  });
}
