// Says that the connection is away, for how long, and what can be done; silent while all is well.

import type { ConnectionState } from "@chatcluster/client";
import { icon, make, say } from "../dom.js";

/** A move to another node takes less; a banner that comes and goes at once only frightens. */
const PATIENCE_MS = 700;
const TICK_MS = 250;

export class Banner {
  readonly #text = make("span", {});
  readonly #button: HTMLButtonElement;
  readonly element: HTMLElement;
  #timer: ReturnType<typeof setInterval> | undefined;
  #since = 0;
  #dueAt = 0;
  #why = "";

  constructor(reconnect: () => void) {
    this.#button = make("button", { class: "button small", type: "button", onclick: reconnect }, "Try now");
    this.element = make("div", { class: "banner", hidden: true, attributes: { role: "status" } }, icon("reload"), this.#text, this.#button);
  }

  show(state: ConnectionState): void {
    if (state.kind === "open" || state.kind === "idle") return this.#hide();
    if (state.kind === "closed" && !state.final) return;
    if (this.#since === 0) this.#since = performance.now();
    this.#dueAt = state.kind === "reconnecting" ? performance.now() + state.inMs : 0;
    this.#why = state.kind === "closed" ? `closed for good (${state.code}${state.reason ? ` ${state.reason}` : ""})` : "";
    this.element.dataset["tone"] = this.#why ? "bad" : "warn";
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  #tick(): void {
    const now = performance.now();
    if (!this.#why && now - this.#since < PATIENCE_MS) return;
    const left = Math.ceil((this.#dueAt - now) / 1_000);
    const wait = left > 0 ? `Next try in ${left} s.` : "Connecting …";
    const lost = `The connection is away. ${wait} Nothing is lost: answers go on and are caught up.`;
    say(this.#text, this.#why ? `The connection was ${this.#why}. Reload the page to go on.` : lost);
    this.#button.hidden = !!this.#why || left <= 0;
    this.element.hidden = false;
  }

  #hide(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#since = 0;
    this.element.hidden = true;
  }
}
