// The nodes between the reader and the log: who reads to this page, who writes, and what can be done
// to each of them. The lines are the real ones: they move when the answer moves.

import { icon, make, say, svg, textButton } from "../dom.js";
import type { DevNode, NodeAct } from "./dev.js";
import type { Fleet } from "./fleet.js";
import { nodeHue } from "./hues.js";

/** Height of a node's card and the space below it, as the style has it. */
const CARD = 84;
const GAP = 10;
const SIDE = 44;
const PAUSE_MS = 4_000;

interface Act {
  readonly act: NodeAct;
  readonly label: string;
  readonly icon: "kill" | "drain" | "pause" | "start";
  readonly about: string;
  readonly shown: (node: DevNode) => boolean;
}

const ACTS: readonly Act[] = [
  { act: "kill", label: "Kill", icon: "kill", about: "SIGKILL: gone in the middle of a word", shown: (n) => n.phase !== "dead" },
  { act: "drain", label: "Drain", icon: "drain", about: "Moves readers and answers away, as an upgrade does", shown: (n) => n.phase === "serving" },
  { act: "pause", label: "Pause", icon: "pause", about: `SIGSTOP for ${PAUSE_MS / 1_000} s`, shown: (n) => n.phase === "serving" },
  { act: "start", label: "Start", icon: "start", about: "A new process on the same ports", shown: (n) => n.phase !== "serving" },
];

const PHASES: Record<string, string> = {
  serving: "serving", refusing: "draining", handing_over: "handing over", flushing: "flushing", done: "drained", dead: "dead", paused: "paused",
};

interface Card {
  readonly element: HTMLElement;
  readonly phase: HTMLElement;
  readonly sessions: HTMLElement;
  readonly streams: HTMLElement;
  readonly role: HTMLElement;
  readonly buttons: Map<NodeAct, HTMLButtonElement>;
}

export class NodesView {
  readonly element: HTMLElement;
  readonly #fleet: Fleet;
  readonly #cards = new Map<string, Card>();
  readonly #column = make("div", "node-column");
  readonly #wires = svg("svg", { class: "wires", "aria-hidden": "true" });
  readonly #failed: (what: string) => void;
  #drawn = "";

  constructor(fleet: Fleet, failed: (what: string) => void) {
    this.#fleet = fleet;
    this.#failed = failed;
    const you = make("div", "end you", make("span", {}, "you"));
    const log = make("div", "end log", make("i"), make("i"), make("i"), make("i"), make("span", {}, "log"));
    this.element = make("div", { class: "nodes", attributes: { role: "group" }, aria: { label: "Nodes" } }, this.#wires, you, this.#column, log);
    new ResizeObserver(() => this.#wire(true)).observe(this.element);
  }

  update(): void {
    for (const node of this.#fleet.nodes) this.#show(node);
    this.element.classList.toggle("gone", this.#fleet.gone);
    this.#wire(false);
  }

  #show(node: DevNode): void {
    const card = this.#cards.get(node.name) ?? this.#newCard(node.name);
    const reads = node.name === this.#fleet.reading;
    const writes = this.#fleet.writing().has(node.name);
    card.element.dataset["phase"] = node.phase;
    say(card.phase, PHASES[node.phase] ?? node.phase);
    say(card.sessions, plural(node.sessions, "session"));
    say(card.streams, plural(node.streams, "stream"));
    say(card.role, [writes ? "writes" : "", reads ? "reads to you" : ""].filter(Boolean).join(" · "));
    card.element.classList.toggle("reads", reads);
    card.element.classList.toggle("writes", writes);
    for (const { act, shown } of ACTS) {
      const button = card.buttons.get(act);
      if (button) button.hidden = !shown(node);
    }
  }

  #newCard(name: string): Card {
    const phase = make("span", "phase");
    const sessions = make("span");
    const streams = make("span");
    const role = make("span", "role");
    const buttons = new Map<NodeAct, HTMLButtonElement>();
    const row = make("div", "node-acts");
    for (const { act, label, icon: shape, about } of ACTS) {
      const button = textButton(shape, label, () => this.#do(name, act), `small act-${act}`);
      button.title = about;
      button.setAttribute("aria-label", `${label} ${name}`);
      buttons.set(act, button);
      row.append(button);
    }
    const head = make("div", "node-head", make("i", "dot"), make("strong", {}, name), phase, role);
    const element = make("div", { class: "node", data: { node: name } }, head, make("div", "node-row", row, make("div", "counts", sessions, streams)));
    element.style.setProperty("--hue", nodeHue(name));
    const card = { element, phase, sessions, streams, role, buttons };
    this.#cards.set(name, card);
    this.#column.append(element);
    return card;
  }

  #do(name: string, act: NodeAct): void {
    this.#fleet.act(name, act, PAUSE_MS).catch((error: Error) => this.#failed(error.message));
  }

  /** Drawn again only where something moved. */
  #wire(anyway: boolean): void {
    const nodes = this.#fleet.nodes;
    const writing = this.#fleet.writing();
    const width = this.element.clientWidth;
    const state = `${width} ${this.#fleet.isStreaming()} ${nodes.map((n) => `${n.name}${n.phase}${n.name === this.#fleet.reading}${writing.has(n.name)}`).join()}`;
    if (width === 0 || (!anyway && state === this.#drawn)) return;
    this.#drawn = state;
    const height = nodes.length * (CARD + GAP) - GAP;
    const middle = height / 2;
    const lines: SVGElement[] = [];
    nodes.forEach((node, at) => {
      const y = at * (CARD + GAP) + CARD / 2;
      const left = `M${SIDE} ${y} C${SIDE / 2 + 4} ${y} ${SIDE / 2} ${middle} ${SIDE / 2} ${middle}`;
      const right = `M${width - SIDE} ${y} C${width - SIDE / 2 - 4} ${y} ${width - SIDE / 2} ${middle} ${width - SIDE / 2} ${middle}`;
      const reads = node.name === this.#fleet.reading;
      lines.push(wire(left, node.name, !reads ? "idle" : this.#fleet.isStreaming() ? "flow" : "held"));
      const kind = writing.has(node.name) ? "flow" : reads && this.#fleet.isStreaming() ? "flow back" : "idle";
      lines.push(wire(right, node.name, kind));
    });
    this.#wires.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#wires.replaceChildren(...lines);
  }
}

function wire(d: string, node: string, kind: string): SVGElement {
  const path = svg("path", { d, class: `wire ${kind}` });
  path.style.setProperty("--hue", nodeHue(node));
  return path;
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Above the text while an answer grows: who writes it, and the button that everybody wants to press. */
export class LiveStrip {
  readonly #element: HTMLElement;
  readonly #words = make("span", "strip-words");
  readonly #kill: HTMLButtonElement;
  readonly #drain: HTMLButtonElement;
  #writer: string | undefined;

  constructor(element: HTMLElement, fleet: Fleet, failed: (what: string) => void) {
    this.#element = element;
    const act = (what: NodeAct) => () => {
      const name = this.#writer;
      if (name !== undefined) fleet.act(name, what).catch((error: Error) => failed(error.message));
    };
    this.#kill = textButton("kill", "Kill it", act("kill"), "small act-kill");
    this.#drain = textButton("drain", "Drain it", act("drain"), "small act-drain");
    element.append(make("i", "dot"), this.#words, make("span", "push"), this.#kill, this.#drain);
  }

  show(live: boolean, writer: string | undefined, phase: string | undefined, reading: string | undefined): void {
    this.#element.hidden = !live;
    if (!live) return;
    const well = phase === "serving";
    this.#writer = well ? writer : undefined;
    this.#element.style.setProperty("--hue", well || writer === undefined ? nodeHue(writer) : "var(--bad)");
    this.#element.classList.toggle("lost", writer !== undefined && !well);
    const reader = reading === undefined ? "" : reading === writer ? ", and reads it to you" : `, ${reading} reads it to you`;
    const lost = phase === "dead" ? `${writer} is dead; another node takes over when its lease ends` : `${writer} is ${PHASES[phase ?? ""] ?? "away"}; the answer moves`;
    say(this.#words, writer === undefined ? "Waiting for a node …" : well ? `${writer} writes this${reader}` : lost);
    this.#kill.hidden = this.#drain.hidden = this.#writer === undefined;
    this.#kill.querySelector("span")?.replaceChildren(`Kill ${writer ?? ""}`);
    this.#drain.querySelector("span")?.replaceChildren("Drain");
    this.#kill.setAttribute("aria-label", `Kill ${writer ?? "it"}, which writes this answer`);
  }

  /** For the key. */
  kill(): void {
    if (!this.#kill.hidden && !this.#element.hidden) this.#kill.click();
  }
}

/** Faults of the store, where there is one to break. */
export function redisButtons(fleet: Fleet, failed: (what: string) => void): HTMLElement {
  const button = (act: "restart" | "pause" | "kill-pubsub", label: string, about: string) => {
    const made = make("button", { class: "button small", type: "button", title: about }, label);
    made.onclick = () => void fleet.redis(act).catch((error: Error) => failed(error.message));
    return made;
  };
  return make(
    "div",
    { class: "redis", attributes: { role: "group" }, aria: { label: "Redis" } },
    make("div", "redis-head", icon("fleet"), make("strong", {}, "Redis"), make("span", "dim", "the log of all nodes")),
    make("div", "node-acts",
      button("restart", "Empty it", "SIGKILL, and an empty one on the same port: owners write everything back"),
      button("pause", "Pause 4 s", "SIGSTOP: answers wait, and go on"),
      button("kill-pubsub", "Cut hints", "Every subscriber loses its connection")),
  );
}
