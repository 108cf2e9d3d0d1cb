// Every frame of every socket of this page, newest first: filtered, paused, opened. Bounded, and
// drawn only while somebody looks. Tokens never come here: the client has put `…` in their place, and
// what looks like one all the same is covered once more.

import type { FrameRecord } from "@chatcluster/client";
import { icon, iconButton, make, say } from "../dom.js";
import { nodeHue } from "./hues.js";

/** Frames that are remembered, and shown at once. */
const REMEMBERED = 1_000;
const REMEMBERED_BYTES = 8_000_000;
const SHOWN = 150;
const TOKEN = /"(?:token|resumeToken|ticket)"\s*:\s*"[^"]*"|eyJ[\w-]+\.[\w-]+\.[\w-]*/g;

export class Inspector {
  readonly element: HTMLElement;
  readonly #list = make("ol", { class: "frames", tabIndex: 0, aria: { label: "Frames, newest first" } });
  readonly #count = make("span", "dim");
  readonly #filter: HTMLInputElement;
  readonly #pause: HTMLButtonElement;
  #records: FrameRecord[] = [];
  #waiting: FrameRecord[] = [];
  #paused = false;
  #seen = 0;
  #frame = 0;
  #visible = false;

  constructor() {
    this.#filter = make("input", { type: "search", class: "filter", placeholder: "Filter: TAKEOVER, an id, node-2 …", aria: { label: "Filter frames" } });
    this.#filter.oninput = () => this.#redraw();
    this.#pause = iconButton("pause", "Pause the list", () => this.#toggle(), "small");
    const clear = iconButton("trash", "Clear the list", () => this.#clear(), "small");
    this.element = make("div", "inspector", make("div", "inspector-head", this.#filter, this.#count, this.#pause, clear), this.#list);
  }

  add(record: FrameRecord): void {
    this.#seen++;
    const into = this.#paused ? this.#waiting : this.#records;
    into.push(record);
    if (into.length > REMEMBERED * 1.2 || record.bytes > REMEMBERED_BYTES / REMEMBERED) into.splice(0, excess(into));
    this.#schedule();
  }

  show(visible: boolean): void {
    this.#visible = visible;
    if (visible) this.#redraw();
  }

  #toggle(): void {
    this.#paused = !this.#paused;
    if (!this.#paused) this.#records = [...this.#records, ...this.#waiting.splice(0)].slice(-REMEMBERED);
    this.#pause.replaceChildren(icon(this.#paused ? "start" : "pause"));
    this.#pause.setAttribute("aria-label", this.#paused ? "Go on with the list" : "Pause the list");
    this.#pause.setAttribute("aria-pressed", String(this.#paused));
    this.#redraw();
  }

  #clear(): void {
    this.#records = [];
    this.#waiting = [];
    this.#redraw();
  }

  #schedule(): void {
    if (!this.#visible || this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#redraw();
    });
  }

  #redraw(): void {
    const wanted = this.#filter.value.trim().toLowerCase();
    say(this.#count, this.#paused ? `paused, ${this.#waiting.length} waiting` : `${this.#seen.toLocaleString("en")}`);
    if (!this.#visible || (this.#paused && this.#list.querySelector("details[open]"))) return;
    const records: FrameRecord[] = [];
    for (let at = this.#records.length - 1; at >= 0 && records.length < SHOWN; at--) {
      const record = this.#records[at];
      if (record && (wanted === "" || fits(record, wanted))) records.push(record);
    }
    this.#draw(records);
  }

  readonly #rows = new WeakMap<FrameRecord, HTMLElement>();

  #draw(records: readonly FrameRecord[]): void {
    const rows = records.map((record) => {
      const row = this.#rows.get(record) ?? rowOf(record);
      this.#rows.set(record, row);
      return row;
    });
    const wanted = new Set(rows);
    for (const row of [...this.#list.children]) if (!wanted.has(row as HTMLElement)) row.remove();
    rows.forEach((row, at) => {
      if (this.#list.children[at] !== row) this.#list.insertBefore(row, this.#list.children[at] ?? null);
    });
  }
}

/** How many of the oldest are too many, or too much. */
function excess(records: readonly FrameRecord[]): number {
  let bytes = 0;
  for (let at = records.length - 1; at >= 0; at--) {
    bytes += records[at]?.bytes ?? 0;
    if (bytes > REMEMBERED_BYTES || records.length - at > REMEMBERED) return at + 1;
  }
  return 0;
}

function fits(record: FrameRecord, wanted: string): boolean {
  if (record.type.toLowerCase().includes(wanted) || record.node?.includes(wanted)) return true;
  return wanted.length > 2 && text(record).toLowerCase().includes(wanted);
}

function text(record: FrameRecord, space?: number): string {
  return JSON.stringify(record.frame, null, space).replace(TOKEN, (found) => found.replace(/"[^"]*"$|^eyJ.*$/, '"…"'));
}

function rowOf(record: FrameRecord): HTMLElement {
  const time = new Date(record.at);
  const clock = `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  const direction = make("span", { class: `direction ${record.direction}`, title: record.direction === "in" ? "received" : "sent" }, record.direction === "in" ? "↓" : "↑");
  const row = make(
    "summary",
    {},
    direction,
    make("time", {}, clock),
    make("i", { class: "dot", title: `${record.node ?? "?"}, socket ${record.socket}` }),
    make("b", {}, record.type),
    make("span", "gist", gist(record)),
  );
  row.style.setProperty("--hue", nodeHue(record.node));
  const details = make("details", {}, row);
  details.ontoggle = () => {
    if (details.open && !details.querySelector("pre")) details.append(make("pre", { tabIndex: 0 }, `${record.node ?? "?"}, socket ${record.socket}, ${record.bytes} bytes\n${text(record, 2)}`));
  };
  return make("li", { data: { type: record.type } }, details);
}

/** What matters of a frame, in a few words. */
function gist({ frame }: FrameRecord): string {
  const data = ("data" in frame && frame.data ? frame.data : frame) as Record<string, unknown>;
  const count = Array.isArray(data["chunks"]) ? data["chunks"].length : 0;
  const index = typeof data["index"] === "number" ? data["index"] : undefined;
  const parts = [
    index === undefined ? "" : count > 1 ? `${index}–${index + count - 1}` : `${index}`,
    ...["status", "state", "mode", "code", "reason", "node"].map((key) => (typeof data[key] === "string" ? data[key] : "")),
    ...["lastChunkIndex", "from", "truncateTo", "totalChunks", "epoch", "reconnectAfterMs"].map((key) => (typeof data[key] === "number" ? `${key} ${data[key]}` : "")),
    typeof data["digest"] === "string" ? data["digest"] : "",
  ];
  return parts.filter(Boolean).join("  ");
}
