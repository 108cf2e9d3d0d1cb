// The same resume with npm's resumable-stream, on the Redis that the bench measures. Started by the
// bench; prints one line of JSON. Two processes, as in production: one produces, one resumes.
//
//   node resume.mjs ADDRESS PREFIX lone COUNT       one resume at a time, each of another stream
//   node resume.mjs ADDRESS PREFIX at-once COUNT    so many at the same moment, ROUNDS times
//   node resume.mjs ADDRESS PREFIX killed 1         the producer is killed in the middle of an answer
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { createResumableStreamContext } from "resumable-stream/ioredis";

// As the bench's own answers: 200 chunks, about as long, all there when somebody resumes.
const CHUNKS = 200;
const CHUNK = "a word of it ";
const ROUNDS = 10;
const WARM_UP = 20;
// Without anything for so long a reader counts as hanging.
const HANGS_MS = 5000;

const [address, prefix, mode, number] = process.argv.slice(2);
const count = Number(number);
const [host, port] = address.split(":");
const redis = () => new Redis({ host, port: Number(port) });
const publisher = redis();
const context = createResumableStreamContext({
  waitUntil: null,
  keyPrefix: prefix,
  publisher,
  subscriber: redis(),
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Streams with all their chunks but the end, or one that goes on for ever.
async function produce() {
  for (let at = 0; at < count; at++) {
    const source = new ReadableStream({
      async start(controller) {
        for (let chunk = 0; chunk < CHUNKS; chunk++) controller.enqueue(CHUNK);
        while (mode === "produce-slowly") {
          await sleep(50);
          controller.enqueue(CHUNK);
        }
      },
    });
    const stream = await context.createNewResumableStream(`stream-${at}`, () => source);
    const reader = stream.getReader();
    let length = 0;
    while (length < CHUNKS * CHUNK.length) length += (await reader.read()).value.length;
    if (mode === "produce-slowly") drain(reader);
  }
  console.log("ready");
}

async function drain(reader) {
  while (!(await reader.read()).done);
}

async function producer(streams, how = "produce") {
  const me = fileURLToPath(import.meta.url);
  const args = [me, address, prefix, how, String(streams)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await once(createInterface({ input: child.stdout }), "line");
  return child;
}

// Milliseconds from asking to the last of the missing characters.
async function resume(stream) {
  const begin = performance.now();
  const readable = await context.resumeExistingStream(`stream-${stream}`, 0);
  const reader = readable.getReader();
  let length = 0;
  while (length < CHUNKS * CHUNK.length) length += (await reader.read()).value.length;
  const took = performance.now() - begin;
  if (length !== CHUNKS * CHUNK.length) throw new Error(`${length} characters came`);
  await reader.cancel();
  return took;
}

async function lone() {
  const child = await producer(count + WARM_UP);
  const times = [];
  for (let at = 0; at < count + WARM_UP; at++) {
    const took = await resume(at);
    if (at >= WARM_UP) times.push(took);
    await sleep(1);
  }
  child.kill("SIGKILL");
  return { times };
}

async function atOnce() {
  const child = await producer(count * (ROUNDS + 1));
  const times = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const streams = Array.from({ length: count }, (_, at) => round * count + at);
    const took = await Promise.all(streams.map(resume));
    if (round > 0) times.push(...took);
    await sleep(5);
  }
  child.kill("SIGKILL");
  return { times };
}

// What becomes of a promise: what `tell` says, or that it hangs.
function outcome(promise, tell) {
  const told = promise.then(tell, (error) => `error: ${error.message}`);
  return Promise.race([told, sleep(HANGS_MS).then(() => "hangs")]);
}

async function killed() {
  const child = await producer(1, "produce-slowly");
  const following = (await context.resumeExistingStream("stream-0", 0)).getReader();
  for (let reads = 0; reads < 10; reads++) await following.read();
  child.kill("SIGKILL");
  await once(child, "exit");
  // What was under way still comes.
  await sleep(200);
  const told = ({ done }) => (done ? "ends as if it were complete" : "goes on");
  const reader = await outcome(following.read(), told);
  const begin = performance.now();
  const again = context.resumeExistingStream("stream-0", 0);
  const resumed = await outcome(
    again.then(async (stream) => (stream ? stream.getReader().read() : stream)),
    (read) => (read ? told(read) : String(read)),
  );
  return { reader, resumed, afterMs: performance.now() - begin };
}

const modes = { lone, "at-once": atOnce, killed };
if (mode.startsWith("produce")) {
  await produce();
} else {
  console.log(JSON.stringify(await modes[mode]()));
  process.exit(0);
}
