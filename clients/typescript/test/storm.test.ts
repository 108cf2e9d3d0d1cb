// The machine against a model of a cluster, by chance: sockets break, move, repeat and skip chunks,
// answers start over. Whatever happens, the reader has the log, each index once between resets.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Chunk, ClientFrame } from "../src/frames.js";
import { ID, Machine, OTHER, chunk, digestOf } from "./machine.js";

interface Follow {
  next: number;
}

class Cluster {
  readonly machine: Machine;
  readonly #random: () => number;
  log: Chunk[] = [];
  epochs: number[] = [];
  epoch = 1;
  sealed = false;
  started = 0;
  faults = { skipped: 0, corrupted: 0 };
  readonly #sockets = new Map<
    number,
    { follow: Follow | undefined; queue: { type: string; data: object }[] }
  >();
  #seen = 0;

  constructor(seed: number) {
    this.#random = mulberry(seed);
    this.machine = new Machine({ random: this.#random });
  }

  chance(p: number): boolean {
    return this.#random() < p;
  }

  pick<T>(list: T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  /** Does what the machine wants: dials succeed mostly, frames are answered. */
  serve(): void {
    const { log } = this.machine;
    for (; this.#seen < log.length; this.#seen++) {
      const effect = log[this.#seen]!;
      if (effect.kind === "dial") {
        if (this.chance(0.3)) this.machine.close(effect.socket);
        else {
          this.#sockets.set(effect.socket, { follow: undefined, queue: [] });
          this.machine.welcome(effect.socket);
        }
      } else if (effect.kind === "send") this.#answer(effect.socket, effect.frame);
      else if (effect.kind === "close") this.#break(effect.socket, 1000);
      else if (effect.kind === "abandon") this.#sockets.delete(effect.socket);
    }
  }

  #answer(no: number, frame: ClientFrame): void {
    const socket = this.#sockets.get(no);
    if (socket === undefined) return;
    if (frame.type === "HEARTBEAT") socket.queue.push({ type: "HEARTBEAT_ACK", data: {} });
    if (frame.type === "CHAT_REQUEST") {
      const { requestId } = frame;
      socket.queue.push({
        type: "ACCEPTED",
        data: {
          requestId,
          messageId: ID,
          conversationId: OTHER,
          userMessageId: OTHER,
          duplicate: this.started++ > 0,
        },
      });
      socket.follow = { next: 0 };
    }
    if (frame.type !== "RECONNECT") return;
    const asked = frame.lastChunkIndex + 1;
    const fits =
      asked <= this.log.length && (frame.digest ?? "00000000") === digestOf(this.log.slice(0, asked));
    const from = fits ? asked : 0;
    const corrupt = fits && from > 0 && this.chance(0.05);
    if (corrupt) this.faults.corrupted += 1;
    const digest = corrupt ? "0badbeef" : digestOf(this.log.slice(0, from));
    const status = this.sealed ? "COMPLETED" : "RECOVERED";
    socket.queue.push({
      type: "RECOVERY",
      data: {
        messageId: ID,
        status,
        from,
        tail: this.log.length,
        epoch: this.epoch,
        live: !this.sealed,
        digest,
        source: "memory",
      },
    });
    if (!fits)
      socket.queue.push({
        type: "RESET",
        data: { messageId: ID, reason: "ROLLED_BACK", truncateTo: 0, epoch: this.epoch },
      });
    socket.follow = { next: from };
  }

  /** Puts what a follow has not got into its socket's queue, as a server would. */
  pump(no: number): void {
    const socket = this.#sockets.get(no)!;
    const { follow } = socket;
    if (follow === undefined) return;
    if (follow.next > 0 && this.chance(0.1)) follow.next -= 1;
    while (follow.next < this.log.length) {
      if (this.chance(0.02)) {
        this.faults.skipped += 1;
        follow.next += 1;
        continue;
      }
      const epoch = this.epochs[follow.next]!;
      let end = follow.next + 1;
      while (end < this.log.length && this.epochs[end] === epoch && this.chance(0.7)) end++;
      socket.queue.push({
        type: "CHUNKS",
        data: { messageId: ID, index: follow.next, epoch, chunks: this.log.slice(follow.next, end) },
      });
      follow.next = end;
    }
    if (!this.sealed) return;
    const data = {
      messageId: ID,
      conversationId: OTHER,
      status: "completed",
      totalChunks: this.log.length,
      digest: digestOf(this.log),
    };
    socket.queue.push({ type: "COMPLETE", data });
    socket.follow = undefined;
  }

  restart(): void {
    this.epoch += 1;
    this.log = [];
    this.epochs = [];
    for (const { follow, queue } of this.#sockets.values()) {
      if (follow === undefined) continue;
      queue.push({ type: "TAKEOVER", data: { messageId: ID, epoch: this.epoch, from: 0, mode: "restart" } });
      queue.push({
        type: "RESET",
        data: { messageId: ID, reason: "RESTARTED", truncateTo: 0, epoch: this.epoch },
      });
      follow.next = 0;
    }
  }

  deliver(no: number): void {
    const frame = this.#sockets.get(no)?.queue.shift();
    if (frame !== undefined) this.machine.frame(no, frame.type, frame.data);
  }

  #break(no: number, code: number): void {
    if (this.#sockets.delete(no)) this.machine.close(no, code);
  }

  step(): void {
    const no = this.pick([...this.#sockets.keys()]);
    const kind = this.#random();
    if (kind < 0.15 && !this.sealed && this.started > 0) {
      this.log.push(chunk(`${this.epoch}.${this.log.length} `));
      this.epochs.push(this.epoch);
    } else if (kind < 0.16 && !this.sealed) this.restart();
    else if (no === undefined || kind > 0.9) this.machine.advance(this.#random() * 400);
    else if (kind < 0.19) this.#break(no, 1006);
    else if (kind < 0.21)
      this.#sockets
        .get(no)
        ?.queue.push({
          type: "GOAWAY",
          data: { reason: "drain", deadlineMs: 1_000, reconnectAfterMs: 50, resumeToken: "r" },
        });
    else if (kind < 0.5) this.pump(no);
    else this.deliver(no);
    this.serve();
  }

  get ended(): boolean {
    return this.machine.events.at(-1) === "complete" || this.machine.events.at(-1) === "error";
  }
}

/** A small generator of chance that a seed repeats. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What a reader has who believes every event. */
function read(machine: Machine): Chunk[] {
  let held: Chunk[] = [];
  for (const { event } of machine.of("tell")) {
    if (event.type === "reset") held = held.slice(0, event.truncateTo);
    if (event.type !== "chunk") continue;
    assert.equal(event.index, held.length, "each index once, in order");
    held.push(event.chunk);
  }
  return held;
}

test("three hundred storms: the reader has the log, and nothing twice", () => {
  const seen = { skipped: 0, corrupted: 0, gaps: 0, resets: 0, errors: 0, complete: 0 };
  for (let seed = 1; seed <= 300; seed++) {
    const cluster = new Cluster(seed);
    cluster.machine.send();
    for (let k = 0; k < 600; k++) cluster.step();
    cluster.sealed = true;
    for (let k = 0; k < 20_000 && !cluster.ended; k++) cluster.step();
    const { machine, log, faults } = cluster;
    const last = machine.last("tell")!;
    const { counters } = last.follow;
    const held = read(machine);
    assert.ok(
      counters.gaps <= faults.skipped,
      `seed ${seed}: ${counters.gaps} gaps of ${faults.skipped} skipped chunks`,
    );
    assert.ok(
      counters.mismatches <= faults.corrupted,
      `seed ${seed}: ${counters.mismatches} mismatches, ${faults.corrupted} made`,
    );
    seen.skipped += faults.skipped;
    seen.corrupted += faults.corrupted;
    seen.gaps += counters.gaps;
    seen.resets += counters.resets;
    if (last.event.type === "error") {
      // Only a server whose digests are wrong again and again brings it to that.
      assert.ok(last.event.error.code === "INCONSISTENT" && faults.corrupted > 3, `seed ${seed}`);
      seen.errors += 1;
      continue;
    }
    assert.equal(last.event.type, "complete", `seed ${seed} has no end`);
    assert.deepEqual(held, log, `seed ${seed}`);
    seen.complete += 1;
  }
  assert.ok(
    seen.complete > 250 && seen.skipped > 100 && seen.gaps > 100 && seen.resets > 100 && seen.corrupted > 10,
    JSON.stringify(seen),
  );
});
