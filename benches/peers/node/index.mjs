// The same function in Node.js, bundled with esbuild: SDK clients and API keys at module level.

import { randomUUID, timingSafeEqual } from "node:crypto";
import { S3Client } from "@aws-sdk/client-s3";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";

const s3 = new S3Client({});
const secretsManager = new SecretsManagerClient({});
const secret = await secretsManager.send(new GetSecretValueCommand({ SecretId: process.env.API_KEYS_SECRET_ID }));
const apiKeys = Object.entries(JSON.parse(secret.SecretString)).map(([name, apiKey]) => [name, Buffer.from(apiKey)]);

export async function handler(event, context) {
  const presented = Buffer.from((event.headers.authorization ?? "").replace(/^Bearer /, ""));
  const caller = apiKeys.find(([, apiKey]) => apiKey.length === presented.length && timingSafeEqual(apiKey, presented));
  if (!caller) {
    return { statusCode: 401 };
  }
  const { fileName, fileType } = JSON.parse(event.body);
  const key = `tmp/${randomUUID()}/${fileName}`;
  const post = await createPresignedPost(s3, {
    Bucket: process.env.UPLOAD_BUCKET,
    Key: key,
    Fields: { "Content-Type": fileType },
    Conditions: [["eq", "$Content-Type", fileType], ["content-length-range", 1, 5 * 1024 ** 3]],
    Expires: 3600,
  });
  console.log(JSON.stringify({ level: "INFO", message: "granted", requestId: context.awsRequestId, caller: caller[0] }));
  const body = JSON.stringify({ ...post, fileKey: key });
  return { statusCode: 200, headers: { "content-type": "application/json" }, body };
}
