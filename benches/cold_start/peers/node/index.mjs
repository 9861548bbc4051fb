// The same in Node.js: the SDK's clients and the secret at module level, bundled with esbuild.

import { randomUUID, timingSafeEqual } from "node:crypto";
import { S3Client } from "@aws-sdk/client-s3";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";

const BUCKET = process.env.UPLOAD_BUCKET;
const MAX_BYTES = 5 * 1024 ** 3;
const EXPIRES_IN = 3600;

const s3 = new S3Client({});
const secretsManager = new SecretsManagerClient({});
const secret = await secretsManager.send(new GetSecretValueCommand({ SecretId: process.env.API_KEYS_SECRET_ID }));
const apiKeys = Object.entries(JSON.parse(secret.SecretString)).map(([name, apiKey]) => [name, Buffer.from(apiKey)]);

export async function handler(event, context) {
  const presented = Buffer.from((event.headers.authorization ?? "").replace(/^Bearer /, ""));
  const caller = apiKeys.find(([, apiKey]) => apiKey.length === presented.length && timingSafeEqual(apiKey, presented));
  if (!caller) {
    return answer(401, { message: "unauthorized" });
  }
  const { fileName, fileType } = JSON.parse(event.body);
  const key = `tmp/${randomUUID()}/${fileName}`;
  const post = await createPresignedPost(s3, {
    Bucket: BUCKET,
    Key: key,
    Fields: { "Content-Type": fileType },
    Conditions: [["eq", "$Content-Type", fileType], ["content-length-range", 1, MAX_BYTES]],
    Expires: EXPIRES_IN,
  });
  console.log(JSON.stringify({ level: "INFO", message: "granted", requestId: context.awsRequestId, caller: caller[0] }));
  return answer(200, { ...post, fileKey: key });
}

function answer(statusCode, body) {
  return { statusCode, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}
