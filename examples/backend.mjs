// A backend for the pages in this folder: it keeps the API key, decides who may upload, and serves the pages.
//
//     API_URL=https://… API_KEY=… node examples/backend.mjs
import { readFile } from "node:fs/promises";
import { createServer, STATUS_CODES } from "node:http";
import { extname } from "node:path";
import { text } from "node:stream/consumers";

const { API_URL, API_KEY, PORT = "8080" } = process.env;
const ROUTES = ["/media/", "/v1/assets/presign", "/v1/uploads", "/v1/uploads/sign"];
const MAX_BODY_BYTES = 64 * 1024; // the API's own limit
const API_TIMEOUT_MS = 10_000; // the API responds within 8 seconds
// No name starts with a dot, and nothing is decoded, so no path leaves these folders.
const FILE = /^\/(?:browser|uppy)\/(?:[\w@][\w@.+-]*\/)*(?:[\w@][\w@.+-]*)?$/;
const MEDIA_TYPES = { ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };

/** Returns why this upload is refused, or `undefined` if it is permitted. Put your own rules here. */
function reasonToRefuse(request, route, upload) {
  // Pages of other sites can send requests with your user's cookies, but browsers then name the other origin.
  // Replace these with the origins of your site.
  const { port } = server.address();
  const ownOrigins = [`http://localhost:${port}`, `http://127.0.0.1:${port}`];
  if (!ownOrigins.includes(request.headers.origin)) return "only pages of this site may upload";
  // Your session check: if (!isSignedIn(request.headers.cookie)) return "sign in first";
  // Your rules, of which this one also refuses a missing `fileSize`:
  // if (route !== "/v1/uploads/sign" && !(upload.fileSize > 0 && upload.fileSize <= 10e6)) return "at most 10 MB";
}

async function grant(request, response, route) {
  // A request without a length is refused too.
  if (!(Number(request.headers["content-length"]) <= MAX_BODY_BYTES)) {
    return sendProblem(response, 413, "payload_too_large", `expected a Content-Length of at most ${MAX_BODY_BYTES}`);
  }
  const body = await text(request);
  let upload;
  try {
    upload = Object(JSON.parse(body || "{}")); // an object even for `null`, which the API refuses
  } catch {
    return sendProblem(response, 400, "bad_request", "the body is not valid JSON");
  }
  const reason = reasonToRefuse(request, route, upload);
  if (reason) return sendProblem(response, 403, "forbidden", reason);
  try {
    const signal = AbortSignal.timeout(API_TIMEOUT_MS);
    const granted = await fetch(API_URL + route, { method: "POST", headers: { "x-api-key": API_KEY }, body, signal });
    send(response, granted.status, granted.headers.get("content-type"), await granted.text());
  } catch (error) {
    console.error(`no response from the API: ${error.cause?.message ?? error.message}`);
    sendProblem(response, 502, "bad_gateway", "no response from the API");
  }
}

async function sendFile(response, path) {
  const file = path.endsWith("/") ? `${path}index.html` : path;
  const mediaType = FILE.test(path) && MEDIA_TYPES[extname(file)];
  const content = mediaType && (await readFile(new URL(`.${file}`, import.meta.url)).catch(() => undefined));
  if (!content) return sendProblem(response, 404, "not_found", "there is nothing at this path");
  send(response, 200, `${mediaType}; charset=utf-8`, content);
}

function sendProblem(response, status, code, detail) {
  const problem = { type: "about:blank", title: STATUS_CODES[status], status, code, detail };
  send(response, status, "application/problem+json", JSON.stringify(problem));
}

function send(response, status, mediaType, body) {
  response.writeHead(status, {
    "Content-Type": mediaType,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
  });
  response.end(body);
}

if (!API_URL || !API_KEY) {
  console.error("backend.mjs: set API_URL and API_KEY to those of your stack");
  process.exit(2);
}
const server = createServer(async (request, response) => {
  const [path] = request.url.split("?");
  try {
    if (request.method === "POST" && ROUTES.includes(path)) return await grant(request, response, path);
    if (request.method === "GET") return await sendFile(response, path);
    sendProblem(response, 404, "not_found", "no route matches the method and the path");
  } catch {
    response.destroy(); // the client has closed the connection
  }
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://localhost:${server.address().port}/browser/`));
