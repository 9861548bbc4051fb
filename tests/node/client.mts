// Uploads a file with the types that openapi-typescript makes of `openapi.yaml`; `client.test.mjs` makes `api.d.ts`.
import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

// @ts-expect-error: a form cannot enforce a checksum
export const request: Schemas["PresignedPostRequest"] = { fileName: "a", fileType: "a/b", checksumSha256: "" };

/** Thrown if the API or S3 refuses a request. */
export class Refused extends Error {}

function refused(error: Schemas["Problem"] | Schemas["GatewayError"]) {
  // An error from API Gateway has only a message.
  if (!("code" in error)) return new Refused(error.message);
  const reasons = error.details?.fields.map(({ name, reason }) => `${name} ${reason}`);
  return new Refused(`${error.status} ${error.code}: ${reasons?.join(", ") ?? error.detail}`);
}

async function send(url: string, init: RequestInit) {
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok || text.includes("<Error>")) throw new Refused(`${response.status} ${text}`);
  return { headers: response.headers, text };
}

export function uploader(baseUrl: string, apiKey: string) {
  const api = createClient<paths>({ baseUrl, headers: { "x-api-key": apiKey } });
  const sendToS3 = ({ url, ...init }: Schemas["S3Request"], body?: string) => send(url, { ...init, body });

  return {
    async byForm(file: File) {
      const { data: grant, error } = await api.POST("/media", { body: { fileName: file.name, fileType: file.type } });
      if (error) throw refused(error);
      const form = new FormData();
      for (const [name, value] of Object.entries(grant.fields)) form.append(name, value);
      form.append("file", file);
      await send(grant.url, { method: "POST", body: form });
      return grant.fileKey;
    },

    async byPut(file: File) {
      const body = { fileName: file.name, fileType: file.type, fileSize: file.size, overwrite: false };
      const { data: grant, error } = await api.POST("/v1/assets/presign", { body });
      if (error) throw refused(error);
      await send(grant.url, { method: "PUT", headers: grant.headers, body: file });
      return grant.key;
    },

    async inParts(file: File, partSize: number) {
      const body = { fileName: file.name, fileType: file.type, fileSize: file.size, partSize };
      const { data: upload, error } = await api.POST("/v1/uploads", { body });
      if (error) throw refused(error);
      const uploadId = /<UploadId>(.*)<\/UploadId>/.exec((await sendToS3(upload.create)).text)?.[1] ?? "";
      const partNumbers = Array.from({ length: upload.partCount }, (_, index) => index + 1);
      const signed = await api.POST("/v1/uploads/sign", {
        body: { uploadToken: upload.uploadToken, uploadId, partNumbers },
      });
      if (signed.error) throw refused(signed.error);
      const sendPart = async ({ partNumber, size, url }: Schemas["Part"]) => {
        const start = (partNumber - 1) * upload.partSize;
        const { headers } = await send(url, { method: "PUT", body: file.slice(start, start + size) });
        return `<Part><PartNumber>${partNumber}</PartNumber><ETag>${headers.get("ETag")}</ETag></Part>`;
      };
      const parts = await Promise.all(signed.data.parts.map(sendPart));
      const complete = `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`;
      await sendToS3(signed.data.complete, complete);
      return upload.key;
    },

    async isHealthy() {
      const { data } = await api.GET("/healthz");
      return data?.status === "healthy";
    },
  };
}
