// Keeps the end in sight for whoever is looking at it, and lets go as soon as the reader scrolls up.

import { icon, make } from "../dom.js";

/** Nearer than this is at the end. */
const END_PIXELS = 48;

export class Following {
  readonly #scroller: HTMLElement;
  readonly button: HTMLButtonElement;
  #pinned = true;
  #top = 0;

  constructor(scroller: HTMLElement, content: HTMLElement) {
    this.#scroller = scroller;
    this.button = make("button", { class: "jump", type: "button", hidden: true, onclick: () => this.jump(true) }, icon("down"), "Jump to latest");
    // A wheel upwards lets go before the position shows it: the text may be growing faster.
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.#scrolls() && this.#pin(false), { passive: true });
    scroller.addEventListener("touchmove", () => this.#pin(this.#atEnd()), { passive: true });
    scroller.addEventListener("scroll", () => {
      // Growth moves the end away, and a jump is on its way there: only upwards is the reader's wish.
      if (this.#atEnd()) this.#pin(true);
      else if (scroller.scrollTop < this.#top - 1) this.#pin(false);
      this.#top = scroller.scrollTop;
    }, { passive: true });
    new ResizeObserver(() => this.#grown()).observe(content);
    new ResizeObserver(() => this.#grown()).observe(scroller);
  }

  jump(smooth = false): void {
    this.#pin(true);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  }

  /** Stays where it is, for example at a message that was linked to. */
  release(): void {
    this.#pin(this.#atEnd());
  }

  #grown(): void {
    if (this.#pinned) this.jump();
    else this.#pin(this.#atEnd());
  }

  #scrolls(): boolean {
    return this.#scroller.scrollHeight > this.#scroller.clientHeight;
  }

  #atEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < END_PIXELS;
  }

  #pin(pinned: boolean): void {
    this.#pinned = pinned;
    this.button.hidden = pinned;
  }
}
