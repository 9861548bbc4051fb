// Prints how many nanoseconds the SDK takes for one policy and its signature: the median of 20 rounds, after two others.

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { S3Client } from "@aws-sdk/client-s3";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";

const ROUNDS = 20;
const CALLS = 500;
const sessionToken = readFileSync(new URL("../../src/session_token.txt", import.meta.url), "utf8");
const credentials = {
  accessKeyId: "ASIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  sessionToken,
};
const s3 = new S3Client({ region: "eu-central-1", credentials });

function sign() {
  return createPresignedPost(s3, {
    Bucket: "uploads",
    Key: "tmp/00000000-0000-0000-0000-000000000001/web-app-manifest-512x512.png",
    Fields: { "Content-Type": "image/png" },
    Conditions: [["eq", "$Content-Type", "image/png"], ["content-length-range", 1, 5 * 1024 ** 3]],
    Expires: 3600,
  });
}

assert((await sign()).fields["X-Amz-Signature"]);
const rounds = [];
for (let round = -2; round < ROUNDS; round += 1) {
  const start = process.hrtime.bigint();
  for (let call = 0; call < CALLS; call += 1) {
    await sign();
  }
  if (round >= 0) {
    rounds.push(Number(process.hrtime.bigint() - start) / CALLS);
  }
}
rounds.sort((one, other) => one - other);
console.log(Math.round(rounds[ROUNDS / 2]));
