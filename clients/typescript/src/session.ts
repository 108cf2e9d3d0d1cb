// The session machine: frames and commands in, effects out. It owns the requests and the follows, and
// says on which socket each is spoken of. Pure: no socket, no timer, no token; time and chance come in.
//
// Reading order: `connector` (sockets) → here (what a frame does) → `follow` (one message).

import { Backoff, FIRST_MS } from "./backoff.js";
import { Connector, type DialFailure } from "./connector.js";
import type { Effect } from "./effect.js";
import { ChatError } from "./errors.js";
import { Follow } from "./follow.js";
import type {
  Accepted,
  Chunks,
  Cursor,
  ErrorData,
  Recovery,
  Reset,
  Seal,
  ServerFrame,
  Status,
  Takeover,
} from "./frames.js";
import type { AnswerEvent } from "./answer.js";
import type { Parsed } from "./parse.js";
import { type ChatRequest, Requests } from "./requests.js";
import type { Socket } from "./socket.js";

/** Requests and follows of one client at a time; a server's socket has no room for more. */
export const MAX_ANSWERS = 256;
/** So often a text that does not fit its digest is read again. */
export const REREADS = 3;

export interface SessionOptions {
  readonly urls: readonly string[];
  readonly first?: number | undefined;
  readonly sessionId?: string | undefined;
  readonly canRenew: boolean;
  readonly giveUpAfterMs?: number | undefined;
  readonly random: () => number;
  readonly now: number;
}

export class Session {
  /** To be done, in order; whoever does them takes them out. */
  readonly effects: Effect[] = [];
  readonly connector: Connector;
  goaways = 0;
  unreadable = 0;
  unknown = 0;
  readonly #random: () => number;
  readonly #requests = new Requests();
  readonly #follows = new Map<string, Follow>();

  constructor(options: SessionOptions) {
    this.#random = options.random;
    const lost = (socket: number): void => this.#lose(socket);
    const { first, sessionId, giveUpAfterMs } = options;
    this.connector = new Connector({
      ...options,
      first,
      sessionId,
      giveUpAfterMs,
      effects: this.effects,
      lost,
    });
  }

  /** Answers that are neither ended nor let go. */
  get size(): number {
    return this.#requests.size + this.#follows.size;
  }

  /** When `tick` has something to do. */
  wakeAt(): number {
    const follows = [...this.#follows.values()].map((f) =>
      Math.min(f.retryAt ?? Infinity, f.cancelAt ?? Infinity),
    );
    // Without a socket nothing can be repeated; WELCOME sends what is due.
    const repeats =
      this.connector.primary === undefined ? Infinity : Math.min(this.#requests.wakeAt(), ...follows);
    return Math.min(this.connector.wakeAt(), repeats);
  }

  tick(now: number): void {
    this.connector.tick(now);
    this.#speak(now);
  }

  // ---- Commands

  send(frame: ChatRequest, now: number): void {
    this.#requests.add(frame);
    this.#speak(now);
  }

  follow(messageId: string, from: Cursor | undefined, now: number): Follow {
    const known = this.#follows.get(messageId);
    if (known !== undefined) return known;
    const follow = new Follow(messageId, this.#random, from);
    this.#follows.set(messageId, follow);
    this.#speak(now);
    return follow;
  }

  unfollow(messageId: string, now: number): void {
    if (!this.#follows.delete(messageId)) return;
    for (const { no } of this.connector.usable)
      this.#push({ kind: "send", socket: no, frame: { type: "UNFOLLOW", messageId } });
    this.#release(now);
  }

  cancel(messageId: string): void {
    const follow = this.#follows.get(messageId);
    const socket = this.connector.primary;
    if (follow === undefined) return;
    follow.cancelling = true;
    if (socket !== undefined) this.#sendCancel(socket.no, follow);
  }

  /** A request that is no longer wanted: it is not repeated. */
  forgetRequest(requestId: string): void {
    this.#requests.remove(requestId);
  }

  /** False: it was never sent, and now it will not be. */
  cancelRequest(requestId: string): boolean {
    const sent = this.#requests.cancel(requestId);
    if (!sent) this.#requests.remove(requestId);
    return sent;
  }

  close(): void {
    this.connector.stop(new ChatError("CLOSED", "the client was closed"));
    this.#failAll();
  }

  // ---- What sockets do

  dialFailed(no: number, failure: DialFailure, now: number): void {
    this.connector.dialFailed(no, failure, now);
    this.#speak(now);
  }

  closed(no: number, code: number, reason: string, now: number): void {
    this.connector.closed(no, code, reason, now);
    this.#speak(now);
  }

  message(no: number, parsed: Parsed, now: number): void {
    const socket = this.connector.socket(no);
    if (socket === undefined || socket.leavingUntil !== undefined) return;
    socket.heardAt = now;
    if (parsed.kind === "unreadable") this.unreadable += 1;
    if (parsed.kind === "unknown") this.unknown += 1;
    if (parsed.kind === "frame") this.#frame(socket, parsed.frame, now);
  }

  #frame(socket: Socket, frame: ServerFrame, now: number): void {
    switch (frame.type) {
      case "WELCOME":
        if (this.connector.welcome(socket, frame.data, now)) {
          this.#speak(now);
          this.#release(now);
        }
        return;
      case "ACCEPTED":
        return this.#accepted(socket, frame.data, now);
      case "CHUNK":
      case "CHUNKS":
        return this.#chunks(socket, frame.data, now);
      case "COMPLETE":
        return this.#complete(socket, frame.data, now);
      case "RECOVERY":
        return this.#recovery(socket, frame.data, now);
      case "RESET":
        return this.#reset(socket, frame.data);
      case "TAKEOVER":
        return this.#takeover(socket, frame.data);
      case "STATUS":
        return this.#status(socket, frame.data);
      case "GOAWAY":
        this.goaways += 1;
        this.#push({ kind: "goaway", goaway: frame.data });
        return this.connector.goaway(socket, frame.data, now);
      case "TOKEN_EXPIRING":
        return this.#push({ kind: "authenticate", socket: socket.no });
      case "HEARTBEAT_ACK":
        if (typeof frame.data.t === "number") this.connector.rttMs = now - frame.data.t;
        return;
      case "ERROR":
        return this.#error(socket, frame.data, now);
    }
  }

  #accepted(socket: Socket, { requestId, ...accepted }: Accepted, now: number): void {
    const { messageId } = accepted;
    const request = requestId === undefined ? undefined : this.#requests.remove(requestId);
    let follow = this.#follows.get(messageId);
    if (request === undefined && follow === undefined) {
      // Let go before it was accepted.
      return this.#push({ kind: "send", socket: socket.no, frame: { type: "UNFOLLOW", messageId } });
    }
    if (follow === undefined) this.#follows.set(messageId, (follow = new Follow(messageId, this.#random)));
    if (follow.source === undefined || follow.source <= socket.no) {
      // This socket follows it from 0 now, whatever it did before.
      follow.source = socket.no;
      follow.asked = undefined;
      follow.resyncing = false;
      follow.retryAt = undefined;
    }
    if (request !== undefined && requestId !== undefined) {
      this.#push({ kind: "accepted", accepted: { ...accepted, requestId }, follow });
      if (request.cancelling) this.cancel(messageId);
    }
    this.#release(now);
  }

  #chunks(socket: Socket, chunks: Chunks, now: number): void {
    const follow = this.#heard(socket, chunks.messageId);
    if (follow === undefined || follow.resyncing) return;
    const fresh = follow.take(chunks);
    if (fresh === "gap") return this.#askLater(follow, follow.backoff.failed(0), now);
    for (const { index, epoch, chunk, cursor } of fresh) {
      this.#push({ kind: "tell", follow, event: { type: "chunk", index, epoch, chunk }, cursor });
    }
  }

  #complete(socket: Socket, seal: Seal, now: number): void {
    const follow = this.#heard(socket, seal.messageId);
    if (follow === undefined || follow.resyncing) return;
    if (seal.totalChunks > follow.next) {
      follow.counters.gaps += 1;
      return this.#askLater(follow, follow.backoff.failed(0), now);
    }
    if (follow.fits(seal) === false) return this.#reread(follow, now);
    this.#end(follow, { type: "complete", seal }, now);
  }

  #recovery(socket: Socket, recovery: Recovery, now: number): void {
    const follow = this.#follows.get(recovery.messageId);
    if (follow === undefined) return;
    if (follow.asked === socket.no) {
      follow.asked = undefined;
      follow.source = socket.no;
      follow.resyncing = false;
    }
    if (follow.source !== socket.no) return;
    if (recovery.status === "RECOVERED" || recovery.status === "COMPLETED") {
      follow.counters.recoveries += 1;
      this.#tell(follow, { type: "recovery", ...recovery });
      if (!follow.agrees(recovery.from, recovery.digest)) this.#reread(follow, now);
    }
    this.#release(now);
  }

  #reset(socket: Socket, reset: Reset): void {
    const follow = this.#heard(socket, reset.messageId);
    if (follow === undefined || follow.resyncing) return;
    follow.counters.resets += 1;
    follow.truncate(reset.truncateTo);
    this.#tell(follow, { type: "reset", ...reset });
  }

  #takeover(socket: Socket, takeover: Takeover): void {
    const follow = this.#heard(socket, takeover.messageId);
    if (follow === undefined) return;
    follow.counters.takeovers += 1;
    this.#tell(follow, { type: "takeover", ...takeover });
  }

  #status(socket: Socket, status: Status): void {
    const follow = this.#follows.get(status.messageId);
    if (follow === undefined) return;
    // The answer to CANCEL_STREAM comes on the socket that was asked, whoever is the source.
    const answered = status.state === "cancelling" || status.state === "sealed";
    if (answered) follow.cancelAt = undefined;
    if (answered || follow.hears(socket.no)) this.#tell(follow, { type: "status", ...status });
  }

  #error(socket: Socket, error: ErrorData, now: number): void {
    const { messageId, requestId } = error;
    const follow = messageId === undefined ? undefined : this.#follows.get(messageId);
    if (error.final === true && messageId !== undefined) {
      if (follow?.hears(socket.no) === true) this.#finalError(follow, error, now);
      return;
    }
    if (requestId !== undefined && this.#requests.has(requestId)) {
      if (this.#requests.refused(requestId, error, this.#patience(error), now))
        return this.#push({ kind: "warning", error });
      this.#requests.remove(requestId);
      return this.#push({
        kind: "refused",
        requestId,
        error: new ChatError(error.code, error.error, error.retryable),
      });
    }
    if (follow?.cancelling === true && error.retryable) follow.cancelAt = now + this.#patience(error);
    this.#push({ kind: "warning", error });
  }

  #finalError(follow: Follow, error: ErrorData, now: number): void {
    if (!error.retryable) {
      return this.#end(follow, { type: "error", error: new ChatError(error.code, error.error, false) }, now);
    }
    if (error.code === "RESET") {
      follow.counters.resets += 1;
      this.#voidAll(follow, "ROLLED_BACK");
    }
    this.#askLater(follow, (error.retryAfterMs ?? 0) + follow.backoff.failed(0), now);
    this.#push({ kind: "warning", error });
  }

  // ---- Helpers

  #push(effect: Effect): void {
    this.effects.push(effect);
  }

  #tell(follow: Follow, event: AnswerEvent): void {
    this.#push({ kind: "tell", follow, event, cursor: follow.cursor });
  }

  /** The follow of a message, where this socket is the one that it listens to. */
  #heard(socket: Socket, messageId: string): Follow | undefined {
    const follow = this.#follows.get(messageId);
    return follow?.hears(socket.no) === true ? follow : undefined;
  }

  #end(follow: Follow, event: AnswerEvent, now: number): void {
    this.#follows.delete(follow.messageId);
    this.#tell(follow, event);
    this.#release(now);
  }

  /** What the server asked for, or a jittered delay. */
  #patience(error: ErrorData): number {
    return (error.retryAfterMs ?? FIRST_MS) + new Backoff(this.#random).failed(0);
  }

  /** RECONNECT after a while; until its RECOVERY nothing of the message is believed. */
  #askLater(follow: Follow, delayMs: number, now: number): void {
    follow.source = follow.asked = undefined;
    follow.resyncing = true;
    follow.retryAt = now + delayMs;
  }

  /** Our text is not the server's: nothing of it counts, it is read from the start. */
  #reread(follow: Follow, now: number): void {
    follow.counters.mismatches += 1;
    if (follow.counters.mismatches > REREADS) {
      const error = new ChatError(
        "INCONSISTENT",
        `the text does not fit its digest, ${follow.counters.mismatches} times`,
      );
      return this.#end(follow, { type: "error", error }, now);
    }
    this.#voidAll(follow, "INCONSISTENT");
    this.#askLater(follow, follow.backoff.failed(0), now);
  }

  #voidAll(follow: Follow, reason: "ROLLED_BACK" | "INCONSISTENT"): void {
    follow.truncate(0);
    const { messageId } = follow;
    const epoch = 0;
    this.#tell(follow, { type: "reset", messageId, reason, truncateTo: 0, epoch });
  }

  #release(now: number): void {
    this.connector.release((no) => [...this.#follows.values()].some((follow) => follow.source === no), now);
  }

  #lose(socket: number): void {
    for (const follow of this.#follows.values()) follow.lose(socket);
    this.#requests.lose(socket);
  }

  /** Says on the primary what it has not been told, or what is due again. */
  #speak(now: number): void {
    if (this.connector.stopped !== undefined) return this.#failAll();
    const socket = this.connector.primary?.no;
    if (socket === undefined) return;
    for (const follow of this.#follows.values()) {
      const due = follow.retryAt === undefined || follow.retryAt <= now;
      if (due && follow.asked !== socket && follow.source !== socket) this.#ask(socket, follow);
      else if (follow.cancelAt !== undefined && follow.cancelAt <= now) this.#sendCancel(socket, follow);
    }
    for (const frame of this.#requests.due(socket, now)) this.#push({ kind: "send", socket, frame });
  }

  #ask(socket: number, follow: Follow): void {
    follow.asked = socket;
    follow.retryAt = undefined;
    const { messageId, cursor } = follow;
    this.#push({ kind: "send", socket, frame: { type: "RECONNECT", messageId, ...cursor } });
    if (follow.cancelling) this.#sendCancel(socket, follow);
  }

  #sendCancel(socket: number, follow: Follow): void {
    follow.cancelAt = undefined;
    this.#push({ kind: "send", socket, frame: { type: "CANCEL_STREAM", messageId: follow.messageId } });
  }

  #failAll(): void {
    const error = this.connector.stopped ?? new ChatError("CLOSED", "the client was closed");
    for (const requestId of this.#requests.ids) {
      this.#requests.remove(requestId);
      this.#push({ kind: "refused", requestId, error });
    }
    for (const follow of [...this.#follows.values()]) {
      this.#follows.delete(follow.messageId);
      this.#tell(follow, { type: "error", error });
    }
  }
}
