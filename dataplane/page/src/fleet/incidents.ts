// A timeline of what was broken and how the answers got over it, in milliseconds: kill → reconnect →
// takeover → first chunk after it. Only what this page itself saw. Pure: times come in.

export type FaultKind = "kill" | "drain" | "pause" | "redis";

export interface Fault {
  readonly kind: FaultKind;
  /** Its node, or what was done to Redis. */
  readonly target: string;
  readonly at: number;
  /** The page's socket was there. */
  readonly reading: boolean;
  /** Answers that are followed here and were written there, with their epochs. */
  readonly writing: ReadonlyMap<string, number>;
}

export interface Step {
  readonly name: "left" | "connected" | "takeover" | "text";
  /** Milliseconds after the fault. */
  readonly ms: number;
  /** Whose turn it is then, where it is known. */
  readonly node?: string;
}

export interface Incident {
  readonly id: number;
  readonly fault: Fault;
  steps: Step[];
  /** Between the last chunk before and the first one after, in milliseconds. */
  silence?: number;
  state: "open" | "over" | "unnoticed";
}

/** What the page notices. */
export type Notice =
  | { readonly type: "left"; readonly node: string | undefined; readonly at: number }
  | { readonly type: "connected"; readonly node: string; readonly at: number }
  | { readonly type: "epoch"; readonly message: string; readonly epoch: number; readonly at: number }
  | { readonly type: "chunk"; readonly message: string; readonly epoch: number; readonly at: number }
  | { readonly type: "ended"; readonly message: string; readonly at: number };

export const MAX_INCIDENTS = 60;
/** What has not come by then does not come. */
const OVERDUE_MS = 40_000;

export class Incidents {
  readonly list: Incident[] = [];
  #lastChunk = new Map<string, number>();
  #next = 1;
  #before = new Map<number, number>();

  begin(fault: Fault): Incident {
    const touched = fault.reading || fault.writing.size > 0;
    const incident: Incident = { id: this.#next++, fault, steps: [], state: touched ? "open" : "unnoticed" };
    const last = Math.max(0, ...[...this.#lastChunk.values()]);
    if (last > 0) this.#before.set(incident.id, last);
    this.list.unshift(incident);
    this.list.length = Math.min(this.list.length, MAX_INCIDENTS);
    return incident;
  }

  /** True where it changed something. */
  notice(notice: Notice): boolean {
    let changed = false;
    for (const incident of this.list) {
      if (incident.state === "open") changed = this.#apply(incident, notice) || changed;
    }
    if (notice.type === "chunk") this.#lastChunk.set(notice.message, notice.at);
    if (notice.type === "ended") this.#lastChunk.delete(notice.message);
    return changed;
  }

  /** Ends what waits for something that does not come any more. True where it changed something. */
  sweep(now: number): boolean {
    const overdue = this.list.filter((one) => one.state === "open" && now - one.fault.at > OVERDUE_MS);
    for (const incident of overdue) incident.state = "over";
    return overdue.length > 0;
  }

  #apply(incident: Incident, notice: Notice): boolean {
    const { fault } = incident;
    const ms = Math.max(0, Math.round(notice.at - fault.at));
    const has = (name: Step["name"]) => incident.steps.some((step) => step.name === name);
    const add = (step: Step) => {
      incident.steps.push(step);
      return true;
    };
    switch (notice.type) {
      case "left":
        return fault.reading && !has("left") && add({ name: "left", ms });
      case "connected": {
        if (!fault.reading || !has("left") || has("connected")) return false;
        add({ name: "connected", ms, node: notice.node });
        // Nobody wrote there, and nothing is being read: that was all.
        if (fault.writing.size === 0 && this.#lastChunk.size === 0) incident.state = "over";
        return true;
      }
      case "epoch": {
        const before = fault.writing.get(notice.message);
        return before !== undefined && notice.epoch > before && !has("takeover") && add({ name: "takeover", ms });
      }
      case "chunk":
        return this.#text(incident, notice, ms);
      case "ended":
        return this.#ended(incident, notice.message);
    }
  }

  #text(incident: Incident, notice: Notice & { type: "chunk" }, ms: number): boolean {
    const { fault } = incident;
    const has = (name: Step["name"]) => incident.steps.some((step) => step.name === name);
    const before = fault.writing.get(notice.message);
    const taken = before !== undefined && notice.epoch > before;
    if (fault.writing.size > 0 && !taken) return false;
    if (fault.reading && !has("connected") && has("left")) return false;
    if (fault.writing.size === 0 && !has("connected")) return false;
    if (taken && !has("takeover")) incident.steps.push({ name: "takeover", ms });
    incident.steps.push({ name: "text", ms });
    const last = this.#lastChunk.get(notice.message) ?? this.#before.get(incident.id);
    if (last !== undefined) incident.silence = Math.max(0, Math.round(notice.at - last));
    incident.state = "over";
    return true;
  }

  #ended(incident: Incident, message: string): boolean {
    const { fault } = incident;
    if (fault.writing.size > 0 && !fault.writing.has(message)) return false;
    incident.state = "over";
    return true;
  }

  /** The takeover's node is learnt later, from the provider's calls. */
  name(message: string, epoch: number, node: string): boolean {
    let changed = false;
    for (const incident of this.list) {
      const before = incident.fault.writing.get(message);
      if (before === undefined || epoch !== before + 1) continue;
      incident.steps = incident.steps.map((step) => {
        if (step.name !== "takeover" || step.node !== undefined) return step;
        changed = true;
        return { ...step, node };
      });
    }
    return changed;
  }
}
