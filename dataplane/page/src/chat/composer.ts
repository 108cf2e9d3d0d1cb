// Where the reader writes: the text, what goes before it in a demonstration, and Send or Stop.

import { icon, iconButton, make, textButton } from "../dom.js";
import { withoutDirective } from "../library.js";
import { contentOf, DEFAULT_DIRECTIVE, DEMOS, type Prompt } from "./prompts.js";

const MAX_CHARACTERS = 10_000;
const GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");

export interface ComposerActions {
  send(content: string): void;
  stop(): void;
}

export class Composer {
  readonly element: HTMLElement;
  /** Room for what lives above the text. */
  readonly strip = make("div", { class: "live-strip", hidden: true });
  readonly #input: HTMLTextAreaElement;
  readonly #send: HTMLButtonElement;
  readonly #stop: HTMLButtonElement;
  readonly #chip = make("span", "directive-slot");
  #directive: string | undefined;
  #busy = false;

  constructor(actions: ComposerActions, demos: boolean) {
    this.#input = make("textarea", {
      id: "prompt", rows: 1, maxLength: MAX_CHARACTERS, placeholder: "Ask something …",
      aria: { label: "Your message" }, attributes: { enterkeyhint: "send" },
    });
    this.#send = iconButton("send", "Send", () => undefined, "send");
    this.#send.type = "submit";
    this.#stop = iconButton("stop", "Stop the answer (Esc)", actions.stop, "stop");
    this.#stop.hidden = true;
    const row = make("div", "composer-row", demos ? this.#demoMenu() : null, this.#chip, make("span", "push"), this.#stop, this.#send);
    const form = make("form", { class: "composer", aria: { label: "Write" } }, this.#input, row);
    const hint = make("p", "composer-hint", make("kbd", {}, "Enter"), " sends, ", make("kbd", {}, "Shift Enter"), " begins a line, ", make("kbd", {}, "Esc"), " stops, ", make("kbd", {}, "?"), " shows the other keys");
    this.element = make("div", "composer-place", this.strip, form, hint);
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit(actions);
    };
    this.#input.oninput = () => this.#fit();
    this.#input.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    };
    if (demos) this.direct(DEFAULT_DIRECTIVE);
    this.#send.disabled = true;
  }

  #submit(actions: ComposerActions): void {
    const text = this.#input.value.trim();
    if (!text) return;
    actions.send(contentOf(text, this.#directive));
    this.#input.value = "";
    this.#fit();
  }

  #fit(): void {
    if (!GROWS_BY_ITSELF) {
      this.#input.style.height = "auto";
      this.#input.style.height = `${this.#input.scrollHeight}px`;
    }
    this.#send.disabled = this.#input.value.trim() === "";
  }

  focus(): void {
    this.#input.focus();
  }

  busy(busy: boolean): void {
    if (busy === this.#busy) return;
    this.#busy = busy;
    // The focus must not vanish with the button it is on.
    const focused = document.activeElement === this.#stop;
    this.#stop.hidden = !busy;
    if (!busy && focused) this.focus();
  }

  /** Puts a prompt into the composer; the reader sends it. */
  fill(prompt: Prompt): void {
    if (prompt.directive !== undefined) this.direct(prompt.directive);
    this.#input.value = prompt.question;
    this.#fit();
    this.focus();
  }

  /** What the simulated provider is told before every question; undefined: nothing. */
  direct(directive: string | undefined): void {
    this.#directive = directive;
    this.#chip.replaceChildren();
    if (directive === undefined) return;
    const remove = iconButton("close", "Send without a directive", () => this.direct(undefined), "small");
    this.#chip.append(make("span", { class: "directive", title: "What the simulated provider is told before your question" }, make("code", {}, `sim ${directive}`), remove));
  }

  #demoMenu(): HTMLElement {
    const menu = make("div", { class: "menu", id: "demos", popover: "auto", attributes: { role: "menu" }, aria: { label: "Demonstrations" } });
    for (const prompt of DEMOS) {
      const choose = () => {
        menu.hidePopover();
        this.fill(prompt);
      };
      const words = [make("strong", {}, prompt.title), make("span", {}, prompt.about)];
      menu.append(make("button", { class: "menu-item", type: "button", onclick: choose, attributes: { role: "menuitem" } }, ...words));
    }
    menu.onkeydown = (event) => {
      const items = [...menu.querySelectorAll("button")];
      const at = items.indexOf(document.activeElement as HTMLButtonElement);
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      if (step === 0) return;
      event.preventDefault();
      items[(at + step + items.length) % items.length]?.focus();
    };
    menu.addEventListener("toggle", () => menu.matches(":popover-open") && menu.querySelector("button")?.focus());
    const button = textButton("spark", "Demos", () => undefined, "small demos-button");
    button.setAttribute("popovertarget", menu.id);
    return make("span", "demos", button, menu);
  }
}

/** The reader's question, the directive beside it. */
export function questionBubble(content: string): HTMLElement {
  const { directive, text } = withoutDirective(content);
  return make(
    "div",
    { class: "question", aria: { label: "You" } },
    text ? make("p", {}, text) : null,
    directive ? make("span", "question-directive", icon("spark"), make("code", {}, directive)) : null,
  );
}
