// Builds the page into dataplane/src/page, where the data plane embeds it. `--check` builds into a
// temporary folder and compares: what is committed must be what the sources give.
import { build } from "esbuild";
import { mkdtemp, readFile, rm, writeFile, mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const committed = join(here, "../src/page");
const require = createRequire(import.meta.url);
const font = require.resolve("@fontsource-variable/inter/files/inter-latin-wght-normal.woff2");
const FILES = ["index.html", "page.js", "page.css", "icon.svg", "inter.woff2", "LICENSES.txt"];

/** Whose code or shapes are in the files, and the texts that must go with them. */
const LICENSES = [
  ["marked", "marked/package.json", ["LICENSE.md", "LICENSE"]],
  ["DOMPurify", "dompurify", ["LICENSE"]],
  ["highlight.js", "highlight.js/package.json", ["LICENSE"]],
  ["Inter", "@fontsource-variable/inter/package.json", ["LICENSE"]],
];

async function packageFolder(entry) {
  let folder = dirname(require.resolve(entry));
  while (folder.includes("node_modules")) {
    const found = await readFile(join(folder, "package.json")).then(JSON.parse, () => undefined);
    if (found?.name && entry.startsWith(found.name)) return folder;
    folder = dirname(folder);
  }
  throw new Error(`no package folder of ${entry}`);
}

async function licenses() {
  const texts = ["What is in page.js and inter.woff2 beside ChatCluster's own code (Apache-2.0).\n"];
  for (const [name, entry, names] of LICENSES) {
    const folder = await packageFolder(entry);
    const read = names.map((file) => readFile(join(folder, file), "utf8"));
    texts.push(`\n==== ${name} ====\n\n${(await Promise.any(read)).trim().replace(/\r\n/g, "\n")}\n`);
  }
  return texts.join("");
}

async function make(folder) {
  await mkdir(folder, { recursive: true });
  await build({
    absWorkingDir: here,
    entryPoints: { page: "src/main.ts" },
    outdir: folder,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022"],
    legalComments: "none", // all of them are in LICENSES.txt
    charset: "utf8",
    logLevel: "warning",
    alias: { "@chatcluster/client": join(here, "../../clients/typescript/src/index.ts") },
  });
  await build({
    absWorkingDir: here,
    entryPoints: { page: "src/style/page.css" },
    outdir: folder,
    bundle: true,
    minify: true,
    target: ["chrome111", "firefox113", "safari16.4"],
    external: ["/page/*"],
    logLevel: "warning",
  });
  for (const name of ["index.html", "icon.svg"]) {
    await writeFile(join(folder, name), await readFile(join(here, "assets", name)));
  }
  await writeFile(join(folder, "inter.woff2"), await readFile(font));
  await writeFile(join(folder, "LICENSES.txt"), await licenses());
}

async function check() {
  const folder = await mkdtemp(join(tmpdir(), "page-"));
  try {
    await make(folder);
    const differs = async (name) => {
      const [made, kept] = [await readFile(join(folder, name)), await readFile(join(committed, name)).catch(() => null)];
      return kept === null || !made.equals(kept);
    };
    const stale = [];
    for (const name of FILES) if (await differs(name)) stale.push(name);
    if (stale.length > 0) throw new Error(`not what the sources give: ${stale.join(", ")}. Run: npm run build -w dataplane/page`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function report() {
  for (const name of FILES.slice(0, 5)) {
    const bytes = await readFile(join(committed, name));
    console.log(`${name.padEnd(12)} ${String(bytes.length).padStart(7)} bytes, ${String(gzipSync(bytes).length).padStart(6)} gzipped`);
  }
}

if (process.argv.includes("--check")) {
  await check();
  console.log("page: the committed files are what the sources give");
} else {
  await make(committed);
  await report();
}
