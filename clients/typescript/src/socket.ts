// The machine's book of one socket: dialled, open, welcomed, leaving. Pure.

/** Longest time for each step: opening, and from open to WELCOME; in milliseconds. */
export const STEP_MS = 5_000;
/** Longest time for a token: a person may have to log in. */
export const TOKEN_MS = 60_000;
/** How long a closing socket may take to say goodbye. */
export const FAREWELL_MS = 1_000;
/** No heartbeat is shorter or longer, whatever the server says. */
const SHORTEST_HEARTBEAT_MS = 20;
const LONGEST_HEARTBEAT_MS = 60_000;

export class Socket {
  readonly no: number;
  readonly address: number;
  readonly byTicket: boolean;
  readonly dialledAt: number;
  node: string | undefined;
  openedAt: number | undefined;
  welcomedAt: number | undefined;
  heartbeatMs = 0;
  beatAt = Infinity;
  /** Of the last sign of life. */
  heardAt: number;
  /** Of the last question whether anybody is there. */
  probedAt = -Infinity;
  /** Before WELCOME: when it counts as failed. */
  deadline: number;
  /** Closed by us: when it is dropped at the latest. */
  leavingUntil: number | undefined;
  /** GOAWAY came: a successor is wanted. */
  toldToGo = false;

  constructor(no: number, address: number, byTicket: boolean, now: number) {
    this.no = no;
    this.address = address;
    this.byTicket = byTicket;
    this.dialledAt = now;
    this.heardAt = now;
    this.deadline = now + TOKEN_MS;
  }

  /** Frames may be sent. */
  get usable(): boolean {
    return this.welcomedAt !== undefined && this.leavingUntil === undefined;
  }

  get dialling(): boolean {
    return this.welcomedAt === undefined && this.leavingUntil === undefined;
  }

  lived(now: number): number {
    return this.welcomedAt === undefined ? 0 : now - this.welcomedAt;
  }

  welcome(node: string, heartbeatMs: number, now: number): void {
    this.node = node;
    this.welcomedAt ??= now;
    this.heartbeatMs = Math.min(Math.max(heartbeatMs, SHORTEST_HEARTBEAT_MS), LONGEST_HEARTBEAT_MS);
    this.beatAt = now + this.heartbeatMs;
  }

  /** When silence means that the peer is gone. */
  get silentAt(): number {
    return this.welcomedAt === undefined ? this.deadline : this.heardAt + 1.5 * this.heartbeatMs;
  }

  /** When this socket needs attention next. */
  get wakeAt(): number {
    return this.leavingUntil ?? Math.min(this.silentAt, this.beatAt);
  }
}
