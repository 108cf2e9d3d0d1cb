// What the page knows of the nodes: asked again and again, and what was done to them by whom.

import { dev, type DevNode, type NodeAct, type NodePhase, type RedisAct } from "./dev.js";
import type { ChaosNode } from "./chaos.js";
import { Incidents, type Notice } from "./incidents.js";

/** An answer that is followed, as the fleet sees it. */
export interface Written {
  readonly messageId: string | undefined;
  readonly epoch: number;
  readonly writer: string | undefined;
}

const LOOK_MS = 700;
const LOOK_HIDDEN_MS = 3_000;
/** A phase that changes so soon after an act of this page is its effect. */
const EFFECT_MS = 4_000;

interface Since {
  phase: NodePhase;
  at: number;
}

export class Fleet {
  nodes: readonly DevNode[] = [];
  /** The page's socket. */
  reading: string | undefined;
  gone = false;
  readonly hasRedis: boolean;
  readonly incidents = new Incidents();
  readonly counts = { kill: 0, drain: 0, pause: 0, redis: 0 };
  readonly #written: () => readonly Written[];
  readonly #changed: () => void;
  readonly #since = new Map<string, Since>();
  readonly #acts = new Map<string, number>();
  /** messageId → epoch → node */
  readonly #writers = new Map<string, Map<number, string>>();

  constructor(nodes: readonly DevNode[], hasRedis: boolean, written: () => readonly Written[], changed: () => void) {
    this.hasRedis = hasRedis;
    this.#written = written;
    this.#changed = changed;
    this.#take(nodes);
    // Who was there before the page has been there for long.
    for (const since of this.#since.values()) since.at = -Infinity;
    this.#watch();
  }

  #watch(): void {
    setTimeout(() => void this.look().finally(() => this.#watch()), document.hidden ? LOOK_HIDDEN_MS : LOOK_MS);
  }

  /** Asks now. */
  async look(): Promise<void> {
    try {
      this.#take(await dev.nodes());
      this.gone = false;
    } catch {
      this.gone = true;
    }
    this.incidents.sweep(performance.now());
    this.#changed();
  }

  #take(nodes: readonly DevNode[]): void {
    const now = performance.now();
    for (const node of nodes) {
      const since = this.#since.get(node.name);
      if (since?.phase === node.phase) continue;
      this.#since.set(node.name, { phase: node.phase, at: now });
      const own = now - (this.#acts.get(node.name) ?? -Infinity) < EFFECT_MS;
      if (since?.phase === "serving" && !own) this.#seen(node);
    }
    this.nodes = nodes;
  }

  /** Somebody else did it. */
  #seen(node: DevNode): void {
    const kind = node.phase === "dead" ? "kill" : node.phase === "paused" ? "pause" : "drain";
    this.#begin(kind, node.name);
  }

  #begin(kind: "kill" | "drain" | "pause" | "redis", target: string): void {
    this.counts[kind]++;
    const everyone = kind === "redis";
    const writing = new Map<string, number>();
    for (const { messageId, epoch, writer } of this.#written()) {
      if (messageId !== undefined && writer === target && !everyone) writing.set(messageId, epoch);
    }
    this.incidents.begin({ kind, target, at: performance.now(), reading: target === this.reading, writing });
  }

  async act(node: string, act: NodeAct, ms?: number): Promise<void> {
    this.#acts.set(node, performance.now());
    const phase = this.nodes.find((one) => one.name === node)?.phase;
    if (act !== "start" && phase === "serving") this.#begin(act, node);
    this.#changed();
    await dev.node(node, act, ms);
    await this.look();
  }

  async redis(act: RedisAct): Promise<void> {
    this.#begin("redis", act);
    this.#changed();
    await dev.redis(act);
  }

  notice(notice: Notice): void {
    if (this.incidents.notice(notice)) this.#changed();
  }

  /** Which node wrote under which epoch, as the provider's calls tell. */
  async writers(messageId: string): Promise<ReadonlyMap<number, string>> {
    const known = this.#writers.get(messageId) ?? new Map<number, string>();
    this.#writers.set(messageId, known);
    for (const call of await dev.calls().catch(() => [])) {
      if (call.messageId === messageId) known.set(call.epoch, call.node);
    }
    for (const [epoch, node] of known) if (this.incidents.name(messageId, epoch, node)) this.#changed();
    return known;
  }

  /** Nodes where followed answers are written now. */
  writing(): Set<string> {
    const alive = new Set(this.nodes.filter((node) => node.phase !== "dead").map((node) => node.name));
    return new Set(this.#written().map((one) => one.writer).filter((name) => name !== undefined && alive.has(name))) as Set<string>;
  }

  /** Something is followed that has not ended. */
  isStreaming(): boolean {
    return this.#written().length > 0;
  }

  forChaos(): ChaosNode[] {
    const now = performance.now();
    const writing = this.writing();
    return this.nodes.map(({ name, phase }) => {
      const since = this.#since.get(name)?.at ?? now;
      const serving = phase === "serving";
      return { name, phase, servingFor: serving ? now - since : 0, downFor: serving ? 0 : now - since, writes: writing.has(name), reads: name === this.reading };
    });
  }

  /** Somebody still gets over the last fault. */
  isRecovering(): boolean {
    return this.incidents.list.some((one) => one.state === "open");
  }
}
