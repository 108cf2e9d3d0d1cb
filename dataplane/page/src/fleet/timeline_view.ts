// The incidents as bars: from the fault over the new connection and the takeover to the next word.

import { icon, make, say, type IconName } from "../dom.js";
import { nodeHue } from "./hues.js";
import type { Incident, Incidents, Step } from "./incidents.js";

const TITLES: Record<Incident["fault"]["kind"], { icon: IconName; words: (target: string) => string }> = {
  kill: { icon: "kill", words: (target) => `${target} killed` },
  drain: { icon: "drain", words: (target) => `${target} drained` },
  pause: { icon: "pause", words: (target) => `${target} paused` },
  redis: { icon: "fleet", words: (target) => `Redis: ${target}` },
};

const STEPS: Record<Step["name"], string> = {
  left: "connection lost",
  connected: "reconnected",
  takeover: "taken over",
  text: "text goes on",
};

export class TimelineView {
  readonly #list = make("ol", { class: "timeline", aria: { label: "What was broken, newest first" } });
  readonly #empty = make("p", "empty", "Nothing was broken yet. Kill a node while it writes: here you see how long it took until the text went on.");
  readonly element = make("div", "timeline-place", this.#empty, this.#list);
  readonly #rows = new Map<number, { row: HTMLElement; drawn: string }>();

  update(incidents: Incidents): void {
    this.#empty.hidden = incidents.list.length > 0;
    const rows = incidents.list.map((incident) => this.#row(incident));
    rows.forEach((row, at) => {
      if (this.#list.children[at] !== row) this.#list.insertBefore(row, this.#list.children[at] ?? null);
    });
    while (this.#list.children.length > rows.length) this.#list.lastElementChild?.remove();
    const shown = new Set(incidents.list.map((incident) => incident.id));
    for (const id of this.#rows.keys()) if (!shown.has(id)) this.#rows.delete(id);
  }

  #row(incident: Incident): HTMLElement {
    const state = JSON.stringify([incident.state, incident.steps, incident.silence]);
    const known = this.#rows.get(incident.id);
    if (known?.drawn === state) return known.row;
    const row = known?.row ?? this.#newRow(incident);
    row.dataset["state"] = incident.state;
    row.querySelector(".incident-body")?.replaceChildren(...body(incident));
    const result = row.querySelector(".incident-result");
    if (result) say(result, resultOf(incident));
    this.#rows.set(incident.id, { row, drawn: state });
    return row;
  }

  #newRow({ fault }: Incident): HTMLElement {
    const { icon: shape, words } = TITLES[fault.kind];
    const time = new Date(performance.timeOrigin + fault.at).toTimeString().slice(0, 8);
    const head = make("div", "incident-head", icon(shape), make("strong", {}, words(fault.target)), make("time", {}, time), make("span", "incident-result"));
    const row = make("li", { class: "incident", data: { kind: fault.kind } }, head, make("div", "incident-body"));
    row.style.setProperty("--hue", fault.kind === "redis" ? "var(--node-none)" : nodeHue(fault.target));
    return row;
  }
}

function resultOf({ state, steps, silence, fault }: Incident): string {
  const text = steps.find((step) => step.name === "text");
  if (text) return silence === undefined ? `${duration(text.ms)}` : `silent for ${duration(silence)}`;
  const connected = steps.find((step) => step.name === "connected");
  if (connected && state === "over") return `back in ${duration(connected.ms)}`;
  if (state === "unnoticed") return fault.kind === "redis" ? "" : "no answer of yours was there";
  return state === "open" ? "…" : "over";
}

function body(incident: Incident): Node[] {
  const steps = incident.steps;
  if (steps.length === 0) return [];
  const total = Math.max(1, ...steps.map((step) => step.ms));
  const bar = make("div", { class: "bar", aria: { hidden: "true" } });
  let before = 0;
  for (const step of steps) {
    const part = make("i", { class: `part ${step.name}` });
    part.style.flexGrow = String(Math.max(step.ms - before, total / 60));
    if (step.node !== undefined) part.style.setProperty("--to", nodeHue(step.node));
    bar.append(part);
    before = step.ms;
  }
  const list = make("ul", "steps");
  for (const step of steps) {
    const who = step.node === undefined ? "" : ` ${step.name === "connected" ? "to" : "by"} ${step.node}`;
    const what = step.name === "left" && incident.fault.kind === "drain" ? "told to move" : STEPS[step.name];
    list.append(make("li", step.name, make("span", {}, `${what}${who}`), make("b", {}, `${step.ms.toLocaleString("en")} ms`)));
  }
  return [bar, list];
}

function duration(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : `${(ms / 1_000).toFixed(1)} s`;
}
