// The options of @uppy/aws-s3 6.3 and newer, for a backend that passes requests on to presigned-upload:
//
//     uppy.use(AwsS3, presignedUpload(uppy));
//
// Files up to `multipartAbove` bytes are sent with a presigned PUT, or with a presigned POST if `form` is true.

const MiB = 1024 * 1024;
// The upload was aborted, or its token has expired or was made for another API key. It may also be complete, if
// the responses to all of Uppy's four attempts were lost; "Retry" then sends the file a second time.
const LOST = ["NoSuchUpload", "upload_token_expired", "invalid_upload_token"];

export function presignedUpload(uppy, { form = false, multipartAbove = 100 * MiB, partSize = 16 * MiB } = {}) {
  const uploadTokens = new Map(); // by object key
  // Uppy reads only the first 1,000 parts that S3 lists.
  const getChunkSize = ({ size }) => Math.max(partSize, Math.ceil(size / 1000 / MiB) * MiB);

  uppy.on("upload-error", (file, { code }) => {
    // Without this, "Retry" would try to continue an upload that S3 has lost.
    if (LOST.includes(code)) uppy.setFileState(file.id, { s3Multipart: undefined });
  });
  uppy.on("restored", () => {
    // An upload token permits only parts of the size that it was made for, so start again if that size has changed.
    const changed = uppy.getFiles().filter((file) => file.meta.partSize !== getChunkSize(file));
    for (const { id } of changed) uppy.setFileState(id, { s3Multipart: undefined });
  });

  return {
    shouldUseMultipart: (file) => file.size > multipartAbove,
    getChunkSize,
    // The API chooses the object key, but a request that is to be signed names only this: the id of the file, until
    // the response contains the object key.
    generateObjectKey(file) {
      if (file.s3Multipart) uploadTokens.set(file.s3Multipart.key, file.meta.uploadToken);
      return file.id;
    },
    async signRequest({ method, key, uploadId, partNumber = 1 }) {
      if (uploadId) {
        const request = { uploadToken: uploadTokens.get(key), uploadId, partNumbers: [partNumber] };
        const { parts, list, complete, abort } = await ask("/v1/uploads/sign", request);
        return { PUT: parts[0], GET: list, POST: complete, DELETE: abort }[method];
      }
      const file = uppy.getFile(key);
      const fileType = file.type || "application/octet-stream";
      const request = { fileName: file.meta.name, fileType, fileSize: file.size };
      // Without a response, Uppy sends a request again, and S3 must accept it although the object exists by then. That
      // cannot replace another object: each grant has a new object key.
      if (method === "PUT") return ask(form ? "/media/" : "/v1/assets/presign", request);
      const partSize = getChunkSize(file);
      const upload = await ask("/v1/uploads", { ...request, partSize, overwrite: true });
      uploadTokens.set(upload.key, upload.uploadToken);
      uppy.setFileMeta(file.id, { uploadToken: upload.uploadToken, partSize }); // for Golden Retriever to save
      return { ...upload.create, key: upload.key };
    },
  };
}

async function ask(path, request) {
  const headers = { "Content-Type": "application/json" };
  const noConnection = () => Promise.reject(new Error("No connection to the server. Try again later."));
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(request) }).catch(noConnection);
  // Another server may have responded, for example with the login page of a Wi-Fi network.
  const body = await response.json().catch(response.ok ? noConnection : () => ({}));
  if (response.ok) return body;
  const reasons = body.details?.fields?.map(({ name, reason }) => `${name} ${reason}`).join("; ");
  const reason = reasons ?? body.detail ?? body.message ?? `the server responded with ${response.status}`;
  throw Object.assign(new Error(`The upload was refused: ${reason}`), { code: body.code });
}
