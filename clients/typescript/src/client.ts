// The client: owns sockets and timers, and does what the session machine says.

import { type Address, address } from "./address.js";
import type { Answer, AnswerEvent } from "./answer.js";
import type { DialFailure } from "./connector.js";
import { type Target, prepare } from "./dialler.js";
import type { Dial, Effect } from "./effect.js";
import { Emitter, type Listener, type Unsubscribe } from "./emitter.js";
import { ChatError } from "./errors.js";
import type { Accepted, ClientFrame, Cursor } from "./frames.js";
import type { Follow } from "./follow.js";
import { LiveAnswer } from "./live-answer.js";
import type {
  ClientEvents,
  ClientOptions,
  ClientStats,
  Clock,
  ConnectionState,
  SendRequest,
  Snapshot,
} from "./options.js";
import { type Parsed, parse } from "./parse.js";
import { recordIn, recordOut } from "./record.js";
import { checkedFollow, checkedRequest, checkedUuid } from "./request.js";
import { MAX_ANSWERS, Session } from "./session.js";
import { FAREWELL_MS } from "./socket.js";
import { Wires } from "./wires.js";

/** A timer is never longer: some platforms end long ones at once. */
const LONGEST_SLEEP_MS = 60_000;

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer as number),
};

/**
 * A session over a list of nodes. Connects at once, reconnects by itself, and gives every chunk of
 * every answer exactly once.
 *
 * ```ts
 * const client = new ChatClient({ urls: "wss://chat.example/ws/chat", token: () => fetchToken() });
 * const answer = client.send("Hello");
 * for await (const event of answer) {
 *   if (event.type === "chunk") process.stdout.write(event.chunk.content);
 * }
 * const seal = await answer.done;
 * client.close();
 * ```
 */
export class ChatClient {
  readonly #options: ClientOptions;
  readonly #clock: Clock;
  readonly #addresses: readonly Address[];
  readonly #session: Session;
  readonly #wires: Wires;
  readonly #emitter = new Emitter<ClientEvents>();
  /** Dials that have no socket yet. */
  readonly #dials = new Map<number, AbortController>();
  /** By requestId: not accepted yet. */
  readonly #pending = new Map<string, LiveAnswer>();
  /** By messageId; several where a request was a duplicate. */
  readonly #answers = new Map<string, LiveAnswer[]>();
  #state: ConnectionState = { kind: "idle" };
  #timer: unknown;
  #working = false;
  readonly #online = (): void => this.reconnect();

  constructor(options: ClientOptions) {
    const { urls, token, first, giveUpAfterMs, random = Math.random } = options;
    const list = typeof urls === "string" ? [urls] : [...urls];
    if (list.length === 0) throw new TypeError("urls: at least one");
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#addresses = list.map(address);
    const sessionId =
      options.sessionId === undefined ? undefined : checkedUuid("sessionId", options.sessionId);
    const canRenew = typeof token === "function";
    const now = this.#clock.now();
    this.#session = new Session({ urls: list, first, sessionId, giveUpAfterMs, canRenew, random, now });
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    if (Socket === undefined)
      throw new TypeError('no WebSocket here: give the option WebSocket, for example of "ws"');
    this.#wires = new Wires(Socket, {
      opened: (no) => this.#run((at) => this.#session.connector.opened(no, at)),
      message: (no, data) => this.#message(no, data),
      closed: (no, code, reason) => this.#run((at) => this.#session.closed(no, code, reason, at)),
    });
    globalThis.addEventListener?.("online", this.#online);
    // It dials in the next turn of the event loop: listeners that are added until then hear everything.
    this.#sleep();
  }

  /** How the connection stands. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** The session in use; undefined before the first WELCOME unless given. */
  get sessionId(): string | undefined {
    return this.#session.connector.sessionId;
  }

  get stats(): ClientStats {
    const { connector, goaways, unreadable, unknown } = this.#session;
    const { connections, rttMs } = connector;
    return { connections, reconnects: Math.max(0, connections - 1), goaways, unreadable, unknown, rttMs };
  }

  /**
   * Starts an answer and follows it. Repeated with the same requestId until accepted or refused for good.
   * Throws a TypeError for what no server would take, a {@link ChatError} where the client has stopped.
   */
  send(request: SendRequest | string): Answer {
    const frame = checkedRequest(typeof request === "string" ? { content: request } : request);
    const known = this.#pending.get(frame.requestId);
    if (known !== undefined) return known;
    this.#checkRoom();
    const answer = new LiveAnswer(this.#owner, frame.requestId);
    this.#pending.set(frame.requestId, answer);
    this.#run((now) => this.#session.send(frame, now));
    return answer;
  }

  /** Follows an answer from the start or from a cursor. One that is followed already is the same object. */
  follow(messageId: string, from?: Snapshot): Answer {
    const id = checkedUuid("messageId", messageId);
    const start = checkedFollow(from);
    const known = this.#answers.get(id)?.[0];
    if (known !== undefined) return known;
    this.#checkRoom();
    const answer = new LiveAnswer(this.#owner, undefined);
    this.#answers.set(id, [answer]);
    this.#run((now) => answer.begin(id, this.#session.follow(id, start, now), start));
    return answer;
  }

  /** Listens to one kind of event. */
  on<K extends keyof ClientEvents>(name: K, listener: Listener<ClientEvents[K]>): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /** Does not wait for the next attempt: for example when the device is back online (done by itself in browsers). */
  reconnect(): void {
    this.#run((now) => {
      this.#session.connector.hurry(now);
      this.#session.tick(now);
    });
  }

  /** Says goodbye and stops. Answers without a seal end with CLOSED; nothing is left that keeps a process alive. */
  close(): void {
    this.#run(() => this.#session.close());
  }

  readonly #owner = {
    cancel: (answer: LiveAnswer): void => this.#cancel(answer),
    unfollow: (answer: LiveAnswer): void => this.#unfollow(answer),
  };

  #checkRoom(): void {
    const { stopped } = this.#session.connector;
    if (stopped !== undefined)
      throw new ChatError(
        stopped.code,
        `the client has stopped: ${stopped.message}`,
        false,
        stopped.closeCode,
      );
    if (this.#session.size >= MAX_ANSWERS)
      throw new ChatError("RATE_LIMITED", `${MAX_ANSWERS} answers are followed already`, true);
  }

  #cancel(answer: LiveAnswer): void {
    const { requestId, messageId } = answer;
    if (messageId !== undefined) return this.#run(() => this.#session.cancel(messageId));
    if (requestId === undefined || this.#session.cancelRequest(requestId)) return;
    this.#pending.delete(requestId);
    answer.fail(new ChatError("CANCELLED", "cancelled before it was sent"));
  }

  #unfollow(answer: LiveAnswer): void {
    const { requestId, messageId } = answer;
    if (messageId !== undefined) {
      const left = (this.#answers.get(messageId) ?? []).filter((other) => other !== answer);
      if (left.length > 0) this.#answers.set(messageId, left);
      else this.#answers.delete(messageId);
      if (left.length === 0) this.#run((now) => this.#session.unfollow(messageId, now));
    } else if (requestId !== undefined) {
      this.#pending.delete(requestId);
      this.#session.forgetRequest(requestId);
    }
    answer.fail(new ChatError("UNFOLLOWED", "no longer followed here"));
  }

  /** Gives the machine one input, does what it wants done, and sets the timer. */
  #run(input: (now: number) => void): void {
    input(this.#clock.now());
    // What a listener causes is done by the loop that called it.
    if (this.#working) return;
    this.#working = true;
    try {
      const { effects } = this.#session;
      for (let effect = effects.shift(); effect !== undefined; effect = effects.shift()) this.#do(effect);
    } finally {
      this.#working = false;
    }
    this.#sleep();
  }

  #sleep(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#session.connector.stopped !== undefined) return this.#leave();
    const ms = this.#session.wakeAt() - this.#clock.now();
    const wait = Math.min(Math.max(ms, 0), LONGEST_SLEEP_MS);
    this.#timer = this.#clock.setTimeout(() => this.#run((now) => this.#session.tick(now)), wait);
  }

  /** Stopped: sockets have a moment to say goodbye, then nothing is left. */
  #leave(): void {
    globalThis.removeEventListener?.("online", this.#online);
    for (const dial of this.#dials.values()) dial.abort();
    this.#dials.clear();
    if (this.#wires.size > 0)
      this.#timer = this.#clock.setTimeout(() => this.#wires.abandonAll(), FAREWELL_MS);
  }

  #do(effect: Effect): void {
    switch (effect.kind) {
      case "dial":
        return void this.#dial(effect);
      case "send":
        return this.#send(effect.socket, effect.frame);
      case "authenticate":
        return void this.#authenticate(effect.socket);
      case "close":
        this.#endDial(effect.socket);
        return this.#wires.close(effect.socket);
      case "abandon":
        this.#endDial(effect.socket);
        return this.#wires.abandon(effect.socket);
      case "state":
        this.#state = effect.state;
        return this.#emitter.emit("state", effect.state);
      case "goaway":
        return this.#emitter.emit("goaway", effect.goaway);
      case "warning":
        return this.#emitter.emit("warning", effect.error);
      case "accepted":
        return this.#accepted(effect.accepted, effect.follow);
      case "refused":
        return this.#refused(effect.requestId, effect.error);
      case "tell":
        return this.#tell(effect.follow, effect.event, effect.cursor);
    }
  }

  #accepted(accepted: Accepted & { requestId: string }, follow: Follow): void {
    const answer = this.#pending.get(accepted.requestId);
    if (answer === undefined || !this.#pending.delete(accepted.requestId)) return;
    const others = this.#answers.get(accepted.messageId) ?? [];
    this.#answers.set(accepted.messageId, [...others, answer]);
    answer.accept(accepted, follow, others[0]);
  }

  #refused(requestId: string, error: ChatError): void {
    const answer = this.#pending.get(requestId);
    this.#pending.delete(requestId);
    answer?.fail(error);
  }

  #tell(follow: Follow, event: AnswerEvent, cursor: Cursor): void {
    const answers = this.#answers.get(follow.messageId) ?? [];
    if (event.type === "complete" || event.type === "error") this.#answers.delete(follow.messageId);
    for (const answer of answers) answer.apply(event, cursor);
  }

  // ---- Sockets

  #send(no: number, frame: ClientFrame): void {
    const text = JSON.stringify(frame);
    if (this.#emitter.has("frame")) this.#emitter.emit("frame", recordOut(frame, text, this.#where(no)));
    this.#wires.send(no, text);
  }

  #message(no: number, data: unknown): void {
    const parsed: Parsed = parse(data);
    if (this.#emitter.has("frame")) this.#emitter.emit("frame", recordIn(parsed, data, this.#where(no)));
    this.#run((now) => this.#session.message(no, parsed, now));
  }

  #where(no: number): { socket: number; node: string | undefined; at: number } {
    return { socket: no, node: this.#session.connector.socket(no)?.node, at: Date.now() };
  }

  async #token(): Promise<string> {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  async #dial(dial: Dial): Promise<void> {
    const { socket } = dial;
    const abort = new AbortController();
    this.#dials.set(socket, abort);
    const found = await prepare(dial, {
      address: this.#addresses[dial.address]!,
      token: () => this.#token(),
      fetch: this.#options.fetch ?? globalThis.fetch,
      signal: abort.signal,
      opening: () => this.#run((now) => this.#session.connector.opening(socket, now)),
    });
    if (abort.signal.aborted) return;
    this.#dials.delete(socket);
    const failure = "blame" in found ? found : this.#open(socket, found);
    if (failure !== undefined) this.#run((now) => this.#session.dialFailed(socket, failure, now));
  }

  #open(socket: number, { url, protocols }: Target): DialFailure | undefined {
    try {
      this.#wires.open(socket, url, protocols);
      return undefined;
    } catch (error) {
      // The platform's own refusal: characters of the token, or a page that may not connect there.
      return { why: `the WebSocket was not allowed: ${String(error)}`, blame: "refused" };
    }
  }

  #endDial(socket: number): void {
    this.#dials.get(socket)?.abort();
    this.#dials.delete(socket);
  }

  async #authenticate(socket: number): Promise<void> {
    if (typeof this.#options.token !== "function") return;
    try {
      this.#send(socket, { type: "AUTH", token: await this.#token() });
    } catch (error) {
      // The socket lives until the old token ends; then the next dial asks for a token again.
      this.#emitter.emit("warning", {
        code: "UNAUTHENTICATED",
        error: `no new token: ${String(error)}`,
        retryable: true,
      });
    }
  }
}
