// One answer that is followed: what the client says of it goes to its view, to the audit and to the
// timeline, and where the reader stands is kept over a reload.

import type { Answer, AnswerEvent, Seal } from "@chatcluster/client";
import type { Audit } from "../audit.js";
import type { Notice } from "../fleet/incidents.js";
import type { StoredMessage } from "../connection/place.js";
import * as snapshots from "../snapshots.js";
import { AnswerView, type AnswerActions } from "./answer_view.js";
import type { Writer } from "./ribbon.js";

/** What an answer needs of the page. */
export interface Room {
  readonly audit: Audit;
  notice(notice: Notice): void;
  /** Which node wrote under which epoch; empty where nobody tells. */
  writers(messageId: string): Promise<ReadonlyMap<number, string>>;
  stored(messageId: string): Promise<StoredMessage | undefined>;
  /** Something changed that others show: who writes, what lives. */
  changed(): void;
  /** For those who cannot see it. */
  announce(text: string): void;
}

/** How often the place of the reader is written down; longer for long answers. */
const KEEP_MS = 1_500;
const RIBBON_MS = 120;

export class LiveAnswer {
  readonly view: AnswerView;
  readonly answer: Answer;
  readonly #room: Room;
  #writers: Writer[] = [];
  #tail = 0;
  #keptAt = 0;
  #ribbonDue = false;
  ended = false;

  constructor(answer: Answer, actions: AnswerActions, room: Room) {
    this.answer = answer;
    this.#room = room;
    this.view = new AnswerView(actions);
    answer.done.catch(() => undefined);
    answer.accepted.catch(() => undefined);
    const { messageId, chunks, base } = answer;
    if (messageId !== undefined) {
      this.#named(messageId);
      room.audit.begin(messageId, chunks, base);
    }
    for (const chunk of chunks) this.view.add(chunk);
    this.#tail = base + chunks.length;
    for (const type of ["accepted", "chunk", "reset", "takeover", "status", "recovery", "complete", "error"] as const) {
      answer.on(type, (event) => this.#on(event));
    }
  }

  get messageId(): string | undefined {
    return this.answer.messageId;
  }

  /** Epoch of the last chunk. */
  get epoch(): number {
    return this.#writers.at(-1)?.epoch ?? 0;
  }

  /** Who writes it now, where that is known. */
  get writer(): string | undefined {
    return this.ended ? undefined : this.#writers.at(-1)?.node;
  }

  /** Writes down where the reader stands. */
  keep(): void {
    if (this.messageId !== undefined && !this.ended) snapshots.keep(this.messageId, this.answer.snapshot());
  }

  stop(): void {
    this.answer.cancel();
    this.view.note("Stopping …");
  }

  #named(messageId: string): void {
    this.view.element.dataset["message"] = messageId;
    this.view.element.id = `m-${messageId}`;
  }

  #on(event: AnswerEvent): void {
    const messageId = this.messageId;
    if (messageId !== undefined && event.type !== "accepted") this.#room.audit.given(messageId, event);
    switch (event.type) {
      case "accepted":
        this.#named(event.messageId);
        this.#room.changed();
        break;
      case "chunk":
        this.#chunk(event);
        break;
      case "reset":
        this.view.restart(this.answer.chunks);
        this.#tail = event.truncateTo;
        this.#writers = this.#writers.filter((writer) => writer.from < event.truncateTo);
        this.view.note("The store went back; the text was read again from there.", "warn");
        break;
      case "takeover":
        this.#wrote(event.epoch, event.from);
        this.view.note("Another node goes on.", "warn");
        this.#room.announce("Another node continues the answer.");
        break;
      case "recovery":
        if (event.live && event.epoch > this.epoch && this.epoch > 0) this.#epoch(event.epoch);
        break;
      case "status":
        this.#status(event.state);
        break;
      case "complete":
        this.#end(event.seal);
        break;
      case "error":
        this.#failed(event.error.code, event.error.message);
        break;
    }
  }

  #chunk({ chunk, index, epoch }: AnswerEvent & { type: "chunk" }): void {
    if (epoch !== this.epoch) this.#wrote(epoch, index);
    this.#tail = index + 1;
    this.view.note("");
    this.view.add(chunk);
    const now = performance.now();
    if (this.messageId !== undefined) this.#room.notice({ type: "chunk", message: this.messageId, epoch, at: now });
    if (now - this.#keptAt > Math.max(KEEP_MS, this.#tail)) {
      this.#keptAt = now;
      this.keep();
    }
    this.#ribbon();
  }

  #epoch(epoch: number): void {
    if (this.messageId !== undefined) this.#room.notice({ type: "epoch", message: this.messageId, epoch, at: performance.now() });
  }

  #wrote(epoch: number, from: number): void {
    if (epoch > this.epoch && this.epoch > 0) this.#epoch(epoch);
    this.#writers = [...this.#writers.filter((writer) => writer.from < from && writer.epoch < epoch), { epoch, from, node: undefined }];
    void this.#askWriters();
  }

  async #askWriters(): Promise<void> {
    const { messageId } = this;
    if (messageId === undefined) return;
    const nodes = await this.#room.writers(messageId);
    this.#writers = this.#writers.map((writer) => ({ ...writer, node: nodes.get(writer.epoch) ?? writer.node }));
    this.#ribbon();
    this.#room.changed();
  }

  #ribbon(): void {
    if (this.#ribbonDue) return;
    this.#ribbonDue = true;
    setTimeout(() => {
      this.#ribbonDue = false;
      this.view.wrote(this.#writers, this.#tail, !this.ended);
    }, RIBBON_MS);
  }

  #status(state: string): void {
    const texts: Record<string, string> = {
      waiting: "The provider is silent. The answer is still open.",
      paused: "The store is away. Nothing is lost; it goes on by itself.",
      cancelling: "Stopping …",
    };
    this.view.note(texts[state] ?? "", state === "paused" ? "warn" : "calm");
  }

  #end(seal: Seal): void {
    this.#over(seal);
    const { digestOk } = this.answer.stats;
    const facts = [
      { text: `${seal.totalChunks.toLocaleString("en")} chunks` },
      { text: `${(seal.latencyMs / 1_000).toFixed(1)} s` },
      digestOk === false ? { text: "digest differs", tone: "bad" as const } : { text: "digest ok", tone: "good" as const, title: seal.digest },
    ];
    this.view.facts(facts);
    this.#room.announce(`The answer is ${seal.status}: ${seal.totalChunks} chunks.`);
    void this.#compare(seal, facts);
  }

  /** The text that the nodes keep must be the one that is shown. */
  async #compare(seal: Seal, facts: { text: string; tone?: "good" | "bad" | "warn" }[]): Promise<void> {
    const stored = await this.#room.stored(seal.messageId);
    if (stored === undefined) return;
    const same = stored.content === this.view.content && stored.digest === seal.digest;
    this.#room.audit.stored(seal.messageId, stored, this.view.content);
    this.view.facts([...facts, same ? { text: "same as stored", tone: "good" } : { text: "differs from stored", tone: "bad" }]);
    this.#room.changed();
  }

  #failed(code: string, message: string): void {
    if (code === "CLOSED" || code === "UNFOLLOWED") return;
    this.#over(undefined);
    const gone = code === "NOT_FOUND" || code === "EXPIRED";
    this.view.note(gone ? "The nodes no longer keep this answer. Regenerate asks again." : message, gone ? "calm" : "bad");
    this.#room.announce(message);
  }

  #over(seal: Seal | undefined): void {
    this.ended = true;
    const { messageId } = this;
    if (messageId !== undefined) {
      snapshots.drop(messageId);
      this.#room.notice({ type: "ended", message: messageId, at: performance.now() });
    }
    this.view.ended(seal);
    void this.#askWriters();
    this.#ribbon();
    this.#room.changed();
  }
}
