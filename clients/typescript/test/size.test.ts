// What a page pays for the client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Minified and gzipped, in bytes. */
const CEILING = 11_000;

test("the package stays small and brings nothing with it", async (t) => {
  const entry = fileURLToPath(new URL("../../dist/index.js", import.meta.url));
  const built = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
    metafile: true,
  });
  const size = gzipSync(built.outputFiles[0]!.contents, { level: 9 }).length;
  t.diagnostic(`${size} bytes minified and gzipped`);
  assert.ok(size < CEILING, `${size} bytes`);
  assert.ok(
    Object.keys(built.metafile.inputs).every((path) => path.includes("dist/")),
    "no dependency",
  );
});
