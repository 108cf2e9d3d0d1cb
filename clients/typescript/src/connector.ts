// The life of a session's sockets: which address, when, make-before-break, heartbeats, when to give
// up. What is said on them is not its business. Pure: time and chance come in, effects go out.

import { Backoff } from "./backoff.js";
import { ABNORMAL, DONE, FORBIDDEN, UNAUTHENTICATED, reconnects } from "./close.js";
import type { Effect } from "./effect.js";
import { ChatError } from "./errors.js";
import type { Goaway, Welcome } from "./frames.js";
import { FAREWELL_MS, STEP_MS, Socket } from "./socket.js";

/** So many sockets that break before they open, in a row, and the next one asks for a ticket. */
export const UNEXPLAINED = 3;
/** How often a refused token is replaced before the session stops. */
const TOKEN_TRIES = 2;

/** Why a dial came to nothing before there was a socket. */
export interface DialFailure {
  readonly why: string;
  /**
   * `token`: another one may help. `user`: there is no other one. `refused`: nothing helps.
   * `passing`: another time or another address may.
   */
  readonly blame: "token" | "user" | "refused" | "passing";
  readonly retryAfterMs?: number;
}

export interface ConnectorOptions {
  readonly urls: readonly string[];
  readonly first: number | undefined;
  readonly sessionId: string | undefined;
  /** Whether another token can be had. */
  readonly canRenew: boolean;
  readonly giveUpAfterMs: number | undefined;
  readonly random: () => number;
  readonly effects: Effect[];
  /** A socket is gone. */
  readonly lost: (socket: number) => void;
  readonly now: number;
}

export class Connector {
  /** Why it stopped, if it did. */
  stopped: ChatError | undefined;
  sessionId: string | undefined;
  /** Sockets that were welcomed. */
  connections = 0;
  /** From the last HEARTBEAT to its answer. */
  rttMs: number | undefined;
  readonly #options: ConnectorOptions;
  readonly #backoff: Backoff;
  #sockets: Socket[] = [];
  #last = 0;
  #address: number;
  #dialAt: number | undefined;
  #downSince: number | undefined;
  #resume: string | undefined;
  #unexplained = 0;
  #tokenTries = 0;
  /** Told by the last `wakeAt`. */
  #due = Infinity;

  constructor(options: ConnectorOptions) {
    this.#options = options;
    this.sessionId = options.sessionId;
    this.#backoff = new Backoff(options.random);
    const first = options.first ?? Math.floor(options.random() * options.urls.length);
    this.#address = first % options.urls.length;
    this.#dialAt = options.now;
    this.#downSince = options.now;
  }

  /** The newest socket that may be spoken to. */
  get primary(): Socket | undefined {
    return this.#sockets.findLast((socket) => socket.usable);
  }

  socket(no: number): Socket | undefined {
    return this.#sockets.find((socket) => socket.no === no);
  }

  get usable(): readonly Socket[] {
    return this.#sockets.filter((socket) => socket.usable);
  }

  get #dialling(): boolean {
    return this.#sockets.some((socket) => socket.dialling);
  }

  /** When `tick` has something to do. */
  wakeAt(): number {
    const dialAt = this.#dialling ? Infinity : (this.#dialAt ?? Infinity);
    const giveUpAt = (this.#downSince ?? Infinity) + (this.#options.giveUpAfterMs ?? Infinity);
    this.#due = Math.min(dialAt, giveUpAt, ...this.#sockets.map((socket) => socket.wakeAt));
    return this.#due;
  }

  /** Does whatever is due. */
  tick(now: number): void {
    const late = now - this.#due;
    for (const socket of [...this.#sockets]) this.#mind(socket, late, now);
    if (this.stopped !== undefined) return;
    const { giveUpAfterMs } = this.#options;
    if (
      giveUpAfterMs !== undefined &&
      this.#downSince !== undefined &&
      now >= this.#downSince + giveUpAfterMs
    ) {
      const why = `no node answered for ${giveUpAfterMs} ms at ${this.#options.urls.join(", ")}`;
      return this.stop(new ChatError("UNREACHABLE", why, true), ABNORMAL);
    }
    if (this.#dialAt !== undefined && this.#dialAt <= now && !this.#dialling) this.#dial(now);
  }

  /** Does not wait for the next attempt, and asks open sockets for a sign of life. */
  hurry(now: number): void {
    if (this.#dialAt !== undefined) this.#dialAt = now;
    for (const socket of this.usable) this.#probe(socket, now);
  }

  /** The token is there, the socket is being opened. */
  opening(no: number, now: number): void {
    const socket = this.socket(no);
    if (socket !== undefined) socket.deadline = now + STEP_MS;
  }

  /** The socket is open; WELCOME is due. */
  opened(no: number, now: number): void {
    const socket = this.socket(no);
    if (socket === undefined) return;
    socket.openedAt = now;
    socket.deadline = now + STEP_MS;
  }

  /** WELCOME. True: the first one of this socket. */
  welcome(socket: Socket, welcome: Welcome, now: number): boolean {
    const first = socket.welcomedAt === undefined;
    socket.welcome(welcome.node, welcome.heartbeatMs, now);
    this.sessionId = welcome.sessionId;
    this.#resume = welcome.resumeToken;
    if (!first) return false;
    this.connections += 1;
    this.#downSince = undefined;
    this.#dialAt = undefined;
    this.#tokenTries = 0;
    // Where only tickets get through, one more failure is enough to use one again.
    this.#unexplained = socket.byTicket ? UNEXPLAINED - 1 : 0;
    const url = this.#url(socket);
    const tookMs = now - socket.dialledAt;
    const { node, sessionId } = welcome;
    this.#push({ kind: "state", state: { kind: "open", node, url, sessionId, tookMs } });
    return true;
  }

  /** GOAWAY: a successor is dialled while this socket goes on. */
  goaway(socket: Socket, goaway: Goaway, now: number): void {
    this.#resume = goaway.resumeToken;
    const again = socket.toldToGo;
    socket.toldToGo = true;
    if (again || socket !== this.primary) return;
    this.#avoid(socket.address);
    // From one node that goes to the next one that goes: not without a pause.
    const hasty = socket.lived(now) < STEP_MS && this.connections > 1;
    const pause = hasty ? this.#backoff.failed(0) : 0;
    this.#dialAt = Math.min(this.#dialAt ?? Infinity, now + Math.max(goaway.reconnectAfterMs, pause));
  }

  /** Closes every socket older than the primary that nobody listens to. */
  release(listened: (socket: number) => boolean, now: number): void {
    const newest = this.primary;
    for (const socket of this.usable) {
      if (socket === newest || listened(socket.no)) continue;
      socket.leavingUntil = now + FAREWELL_MS;
      this.#push({ kind: "close", socket: socket.no });
    }
  }

  /** No socket came about. */
  dialFailed(no: number, failure: DialFailure, now: number): void {
    const socket = this.#forget(no);
    if (socket === undefined || socket.leavingUntil !== undefined) return;
    const { blame, why } = failure;
    if (blame === "refused") return this.stop(new ChatError("REFUSED", why, false, FORBIDDEN), FORBIDDEN);
    if (blame === "token") this.#tokenTries += 1;
    const hopeless = blame === "token" && (!this.#options.canRenew || this.#tokenTries > TOKEN_TRIES);
    if (blame === "user" || hopeless) {
      return this.stop(new ChatError("UNAUTHENTICATED", why, false, UNAUTHENTICATED), UNAUTHENTICATED);
    }
    // A server without tickets, or none at all: the next one is dialled as usual.
    if (blame === "passing") this.#unexplained = Math.min(this.#unexplained, UNEXPLAINED - 1);
    this.#again(socket, failure.retryAfterMs ?? 0, failure.why, now);
  }

  /** The socket is gone. */
  closed(no: number, code: number, reason: string, now: number): void {
    const socket = this.#forget(no);
    if (socket === undefined || socket.leavingUntil !== undefined) return;
    const why = `${code} ${reason}`.trimEnd();
    if (!reconnects(code)) {
      const error = new ChatError(
        code === UNAUTHENTICATED ? "UNAUTHENTICATED" : "REFUSED",
        `closed for good: ${why}`,
        false,
        code,
      );
      return this.stop(error, code, reason);
    }
    if (socket.welcomedAt === undefined) {
      if (socket.openedAt === undefined) this.#unexplained += 1;
      return this.#again(socket, 0, why, now);
    }
    const left = this.primary;
    if (left !== undefined) {
      // It carries what this one did; if it was told to go, its successor is wanted still.
      if (left.toldToGo) this.#dialAt ??= now;
      return;
    }
    this.#push({ kind: "state", state: { kind: "closed", code, reason, final: false } });
    const successor = this.#sockets.find((other) => other.dialling);
    if (successor === undefined) return this.#again(socket, 0, why, now);
    this.#downSince = now;
    this.#tellConnecting(successor);
  }

  /** Ends everything: by its owner, or because going on is no use. */
  stop(error: ChatError, code: number = DONE, reason: string = error.message): void {
    if (this.stopped !== undefined) return;
    this.stopped = error;
    this.#dialAt = this.#downSince = undefined;
    for (const socket of [...this.#sockets]) {
      if (socket.leavingUntil === undefined) this.#push({ kind: "close", socket: socket.no });
      this.#forget(socket.no);
    }
    this.#push({ kind: "state", state: { kind: "closed", code, reason, final: true } });
  }

  #push(effect: Effect): void {
    this.#options.effects.push(effect);
  }

  #url(socket: Socket): string {
    return this.#options.urls[socket.address] ?? "";
  }

  #mind(socket: Socket, late: number, now: number): void {
    if (socket.leavingUntil !== undefined) {
      if (socket.leavingUntil <= now) this.#abandon(socket);
      return;
    }
    // A timer that was held back, by a sleeping device or a hidden tab, says nothing of the peer.
    const answered = socket.heardAt >= socket.probedAt;
    if (socket.usable && answered && late > socket.heartbeatMs / 2) this.#probe(socket, now);
    if (socket.silentAt <= now) {
      this.#push({ kind: "abandon", socket: socket.no });
      return this.closed(socket.no, ABNORMAL, "no sign of life", now);
    }
    if (socket.beatAt <= now) this.#beat(socket, now);
  }

  #beat(socket: Socket, now: number): void {
    socket.beatAt = now + socket.heartbeatMs;
    this.#push({ kind: "send", socket: socket.no, frame: { type: "HEARTBEAT", t: now } });
  }

  /** Half a heartbeat to answer, from now. */
  #probe(socket: Socket, now: number): void {
    socket.probedAt = now;
    socket.heardAt = now - socket.heartbeatMs;
    this.#beat(socket, now);
  }

  #abandon(socket: Socket): void {
    this.#push({ kind: "abandon", socket: socket.no });
    this.#forget(socket.no);
  }

  #forget(no: number): Socket | undefined {
    const socket = this.socket(no);
    if (socket === undefined) return undefined;
    this.#sockets = this.#sockets.filter((other) => other !== socket);
    this.#options.lost(no);
    return socket;
  }

  #dial(now: number): void {
    this.#dialAt = undefined;
    const ticket = this.#unexplained >= UNEXPLAINED;
    const socket = new Socket((this.#last += 1), this.#address, ticket, now);
    this.#sockets.push(socket);
    if (this.primary === undefined) this.#tellConnecting(socket);
    const { no, address } = socket;
    this.#push({
      kind: "dial",
      socket: no,
      address,
      sessionId: this.sessionId,
      resume: this.#resume,
      ticket,
    });
  }

  #tellConnecting(socket: Socket): void {
    const attempt = this.#backoff.failures;
    this.#push({ kind: "state", state: { kind: "connecting", url: this.#url(socket), attempt } });
  }

  /** Another attempt, at another address where there is one. */
  #again(socket: Socket, atLeastMs: number, why: string, now: number): void {
    this.#avoid(socket.address);
    const inMs = this.#backoff.failed(socket.lived(now)) + atLeastMs;
    this.#dialAt = now + inMs;
    if (this.primary !== undefined) return;
    this.#downSince ??= now;
    const attempt = this.#backoff.failures;
    this.#push({ kind: "state", state: { kind: "reconnecting", inMs, attempt, why } });
  }

  /** The next dial goes to another address, chosen by chance. */
  #avoid(address: number): void {
    const others = this.#options.urls.length - 1;
    if (others > 0)
      this.#address = (address + 1 + Math.floor(this.#options.random() * others)) % this.#options.urls.length;
  }
}
