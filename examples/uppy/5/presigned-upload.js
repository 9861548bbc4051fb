// The options of @uppy/aws-s3 5, for a backend that passes requests on to presigned-upload:
//
//     uppy.use(AwsS3, presignedUpload(uppy, AwsS3));
//
// Files up to `multipartAbove` bytes are sent with a presigned PUT, or with a presigned POST if `form` is true.

const MiB = 1024 * 1024;
// The upload was aborted, or its token has expired or was made for another API key.
const LOST = ["NoSuchUpload", "upload_token_expired", "invalid_upload_token"];
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 16_000]; // before the next attempts

export function presignedUpload(uppy, AwsS3, options = {}) {
  const { form = false, multipartAbove = 100 * MiB, partSize = 16 * MiB } = options;
  const uploadTokens = new Map(); // by object key
  // S3 lists 1,000 parts at a time, and `listParts` asks once.
  const getChunkSize = ({ size }) => Math.max(partSize, Math.ceil(size / 1000 / MiB) * MiB);

  const describe = (file) => ({
    fileName: file.meta.name,
    fileType: file.type || "application/octet-stream",
    fileSize: file.size,
  });
  const sign = (file, { key, uploadId, partNumber = 1, signal }) => {
    const uploadToken = uploadTokens.get(key) ?? file.meta.uploadToken;
    return ask("/v1/uploads/sign", { uploadToken, uploadId, partNumbers: [partNumber] }, signal);
  };

  uppy.on("upload-error", (file, { code }) => {
    // Without this, "Retry" would continue an upload that S3 has lost; Uppy remembers it by the data of the file too.
    if (LOST.includes(code)) uppy.setFileState(file.id, { s3Multipart: undefined, data: file.data.slice() });
  });
  uppy.on("restored", () => {
    // An upload token permits only parts of the size that it was made for, so start again if that size has changed.
    const changed = uppy.getFiles().filter((file) => file.meta.partSize !== getChunkSize(file));
    for (const { id } of changed) uppy.setFileState(id, { s3Multipart: undefined });
  });

  return {
    shouldUseMultipart: (file) => file.size > multipartAbove,
    getChunkSize,
    async getUploadParameters(file, { signal }) {
      if (form) return { method: "POST", ...(await ask("/media/", describe(file), signal)) };
      const { url, key, headers } = await ask("/v1/assets/presign", { ...describe(file), overwrite: false }, signal);
      return { method: "PUT", url, headers, fields: { key } }; // Uppy does not send `fields`, but reports their `key`.
    },
    async createMultipartUpload(file, signal) {
      const partSize = getChunkSize(file);
      const { key, uploadToken, create } = await ask("/v1/uploads", { ...describe(file), partSize }, signal);
      const uploadId = text(await send(create, signal), "UploadId");
      uploadTokens.set(key, uploadToken);
      uppy.setFileMeta(file.id, { uploadToken, partSize }); // for Golden Retriever to save
      return { key, uploadId };
    },
    signPart: async (file, part) => (await sign(file, part)).parts[0],
    async listParts(file, upload) {
      const list = await send((await sign(file, upload)).list, upload.signal);
      const parts = Array.from(list.querySelectorAll("Part"));
      return parts.map((part) => ({ PartNumber: Number(text(part, "PartNumber")), ETag: text(part, "ETag") }));
    },
    async completeMultipartUpload(file, { parts, ...upload }) {
      const list = parts.map((it) => `<Part><PartNumber>${it.PartNumber}</PartNumber><ETag>${it.ETag}</ETag></Part>`);
      const body = `<CompleteMultipartUpload>${list.join("")}</CompleteMultipartUpload>`;
      const complete = async () => {
        const completed = await send((await sign(file, upload)).complete, upload.signal, body);
        return text(completed, "Location");
      };
      try {
        return { key: upload.key, location: await retry(complete, upload.signal) };
      } catch (error) {
        // An earlier attempt completed the upload, and its response was lost.
        if (error.code === "PreconditionFailed") return { key: upload.key };
        throw error;
      }
    },
    // Uppy catches no error here; the bucket aborts unfinished uploads after some days.
    abortMultipartUpload: (file, upload) =>
      sign(file, upload).then(({ abort }) => send(abort)).catch((error) => uppy.log(error)),
    async uploadPartBytes(request) {
      try {
        return await AwsS3.uploadPartBytes(request);
      } catch (error) {
        // With this message, Uppy asks for another URL; its others are only "Non 2xx" and "Unknown error".
        const { source, message } = error;
        if (!source || message === "Request has expired") throw error;
        throw Object.assign(s3Error(source.status, source.responseText), { source });
      }
    },
  };
}

/** Repeats an attempt that fails for a reason that may pass, because Uppy aborts the upload after an error. */
async function retry(attempt, signal, [pause, ...pauses] = PAUSES_MS) {
  try {
    return await attempt();
  } catch (error) {
    if (!error.mayPass || !pause || signal.aborted) throw error;
  }
  await new Promise((resolve) => setTimeout(resolve, pause));
  return retry(attempt, signal, pauses);
}

async function ask(path, request, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await tryFetch(path, { method: "POST", headers, body: JSON.stringify(request), signal });
  // Another server may have responded, for example with the login page of a Wi-Fi network.
  const body = await response.json().catch(response.ok ? noConnection : () => ({}));
  if (response.ok) return body;
  const reasons = body.details?.fields?.map(({ name, reason }) => `${name} ${reason}`).join("; ");
  const reason = reasons ?? body.detail ?? body.message ?? `the server responded with ${response.status}`;
  throw refusal(reason, body.code, response.status);
}

async function send({ method, url, headers }, signal, body) {
  const response = await tryFetch(url, { method, headers, body, signal });
  const xml = await response.text().catch(noConnection);
  // S3 may find an error only after it has responded with 200.
  if (!response.ok || xml.includes("<Error>")) throw s3Error(response.status, xml);
  return new DOMParser().parseFromString(xml, "application/xml");
}

function s3Error(status, xml) {
  if (!status) return connectionError();
  const code = xml.match(/<Code>([^<]*)/)?.[1];
  return refusal(`S3 responded with ${status}${code ? ` (${code})` : ""}`, code, status);
}

function refusal(reason, code, status) {
  const mayPass = status < 400 || status === 429 || status >= 500;
  return Object.assign(new Error(`The upload was refused: ${reason}`), { code, mayPass });
}

const connectionError = () =>
  Object.assign(new Error("No connection to the server. Try again later."), { mayPass: true });
const noConnection = () => Promise.reject(connectionError());
const tryFetch = (url, init) => fetch(url, init).catch(noConnection);
const text = (xml, name) => xml.querySelector(name).textContent;
