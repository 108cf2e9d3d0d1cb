// A thin band below an answer: which node wrote which part of it, in the node's colour.

import { nodeHue } from "../fleet/hues.js";
import { make, say } from "../dom.js";

/** One writer's part: from this index to the next one's. */
export interface Writer {
  readonly epoch: number;
  readonly from: number;
  /** Where the playground tells. */
  readonly node: string | undefined;
}

/** After many takeovers the last ones are named; the band shows all. */
const MOST_NAMES = 4;

export class Ribbon {
  readonly #band = make("div", { class: "ribbon-band", aria: { hidden: "true" } });
  readonly #words = make("span", "ribbon-words");
  readonly element = make("div", { class: "ribbon", hidden: true }, this.#band, this.#words);

  show(writers: readonly Writer[], total: number, live: boolean): void {
    const named = writers.filter((writer) => writer.node !== undefined || writers.length > 1);
    this.element.hidden = named.length === 0 || total === 0;
    if (this.element.hidden) return;
    while (this.#band.childElementCount > writers.length) this.#band.lastElementChild?.remove();
    writers.forEach((writer, at) => {
      const part = (this.#band.children[at] ?? this.#band.appendChild(make("i"))) as HTMLElement;
      const end = writers[at + 1]?.from ?? total;
      part.style.flexGrow = String(Math.max(0, end - writer.from));
      part.style.setProperty("--hue", nodeHue(writer.node));
      part.title = `${writer.node ?? `epoch ${writer.epoch}`}: chunks ${writer.from} to ${Math.max(writer.from, end - 1)}`;
      part.classList.toggle("growing", live && at === writers.length - 1);
    });
    const names = writers.map((writer) => writer.node ?? `epoch ${writer.epoch}`);
    const list = names.filter((name, at) => name !== names[at - 1]);
    const shown = list.length > MOST_NAMES ? ["…", ...list.slice(1 - MOST_NAMES)] : list;
    say(this.#words, `${live ? "being written by" : "written by"} ${shown.join(" → ")}`);
    this.#words.title = list.join(" → ");
  }
}
