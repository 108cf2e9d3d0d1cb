// One answer on the page: its parts as they grow, who wrote which piece of it, how it stands and ended.

import type { Chunk, Seal } from "@chatcluster/client";
import { iconButton, make, say } from "../dom.js";
import { copyFrom } from "./copy.js";
import { Ribbon, type Writer } from "./ribbon.js";
import { segmentFor, type Segment } from "./segments.js";

/** What can be done with an answer. */
export interface AnswerActions {
  regenerate(): void;
  link(): string;
  /** Shows another one of the answers to the same question. */
  show(step: -1 | 1): void;
}

export type Tone = "calm" | "warn" | "bad";

export class AnswerView {
  readonly element: HTMLElement;
  readonly #body = make("div", "answer-body");
  readonly #note = make("p", { class: "answer-note", hidden: true });
  readonly #facts = make("span", "facts");
  readonly #variants = make("span", { class: "variants", hidden: true });
  readonly #actions: HTMLElement;
  readonly #ribbon = new Ribbon();
  #segments: Segment[] = [];
  #content: string[] = [];
  #dirty = new Set<Segment>();
  #frame = 0;

  constructor(actions: AnswerActions) {
    const copy = iconButton("copy", "Copy answer", () => copyFrom(copy, () => this.content));
    const link = iconButton("link", "Copy link to this answer", () => copyFrom(link, actions.link));
    const retry = iconButton("retry", "Regenerate", actions.regenerate, "regenerate");
    this.#variants.append(
      iconButton("chevron", "Previous answer", () => actions.show(-1), "back small"),
      make("span", "variant-place"),
      iconButton("chevron", "Next answer", () => actions.show(1), "small"),
    );
    this.#actions = make("div", "answer-actions", copy, link, retry, this.#variants, this.#facts);
    const waiting = make("div", { class: "waiting", aria: { hidden: "true" } }, make("i"), make("i"), make("i"));
    this.element = make("article", { class: "answer live", aria: { label: "Answer" } }, this.#body, waiting, this.#note, this.#ribbon.element, this.#actions);
  }

  /** TEXT and CODE as they were shown: what the nodes have stored must be the same. */
  get content(): string {
    return this.#content.join("");
  }

  add(chunk: Chunk): void {
    if (chunk.type === "TEXT" || chunk.type === "CODE") this.#content.push(chunk.content);
    let segment = this.#segments.at(-1);
    if (!segment?.takes(chunk)) {
      segment?.finish();
      if (segment) this.#dirty.delete(segment);
      segment = segmentFor(chunk);
      this.#segments.push(segment);
      this.#body.append(segment.element);
    }
    segment.add(chunk);
    this.#dirty.add(segment);
    this.#schedule();
  }

  /** Begins again with what is still true. */
  restart(chunks: readonly Chunk[]): void {
    this.#segments = [];
    this.#content = [];
    this.#dirty.clear();
    this.#body.replaceChildren();
    for (const chunk of chunks) this.add(chunk);
  }

  #schedule(): void {
    if (this.#frame !== 0) return;
    // A tab that nobody sees gets no frames; its text must still be there when it is looked at.
    const later = document.hidden ? (run: () => void) => setTimeout(run, 200) : requestAnimationFrame;
    this.#frame = 1;
    later(() => {
      this.#frame = 0;
      const now = performance.now();
      for (const segment of [...this.#dirty]) if (segment.render(now)) this.#dirty.delete(segment);
      if (this.#dirty.size > 0) this.#schedule();
    });
  }

  /** One line about how it stands; empty: nothing to say. */
  note(text: string, tone: Tone = "calm"): void {
    say(this.#note, text);
    this.#note.hidden = text === "";
    this.#note.dataset["tone"] = tone;
  }

  wrote(writers: readonly Writer[], total: number, live: boolean): void {
    this.#ribbon.show(writers, total, live);
  }

  variants(at: number, of: number): void {
    this.#variants.hidden = of < 2;
    const place = this.#variants.querySelector(".variant-place");
    if (place) say(place, `${at + 1} / ${of}`);
  }

  /** The line under an ended answer. */
  facts(parts: readonly { text: string; tone?: "good" | "bad" | "warn"; title?: string }[]): void {
    this.#facts.replaceChildren(...parts.map(({ text, tone, title }) => make("span", { class: tone ?? "", title: title ?? "" }, text)));
  }

  ended(seal: Seal | undefined): void {
    for (const segment of this.#segments) if (segment === this.#segments.at(-1)) segment.finish();
    this.#dirty.clear();
    this.element.classList.remove("live");
    this.element.dataset["status"] = seal?.status ?? "error";
    if (seal?.status === "failed") this.note(`The answer broke off: ${seal.code ?? seal.finishReason}. What came before is kept.`, "bad");
    else if (seal?.status === "cancelled") this.note("Stopped.", "calm");
    else if (seal) this.note("");
  }
}
