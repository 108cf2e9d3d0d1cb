// Keys, and the dialog that lists them. Single letters work only while nobody is writing, and can be
// switched off (WCAG 2.1.4).

import { make } from "./dom.js";

export interface Shortcut {
  readonly keys: string;
  readonly about: string;
  readonly run: () => void;
}

const OFF_KEY = "chatcluster.shortcuts.off";

export class Shortcuts {
  readonly #list: readonly Shortcut[];
  readonly #escape: () => void;
  readonly #dialog: HTMLDialogElement;

  constructor(list: readonly Shortcut[], escape: () => void) {
    this.#list = list;
    this.#escape = escape;
    this.#dialog = this.#makeDialog();
    document.addEventListener("keydown", (event) => this.#on(event));
  }

  help(): void {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #on(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing) return;
    if (event.key === "Escape" && !document.querySelector("dialog[open], :popover-open")) return this.#escape();
    const writes = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
    if (writes || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (localStorage.getItem(OFF_KEY)) return;
    const found = event.key === "?" ? { run: () => this.help() } : this.#list.find((one) => one.keys === event.key);
    if (!found) return;
    event.preventDefault();
    found.run();
  }

  #makeDialog(): HTMLDialogElement {
    const fixed = [["Enter", "send"], ["Shift Enter", "begin a new line"], ["Esc", "stop the answer, close a drawer"], ["?", "this list"]] as const;
    const rows = [...fixed, ...this.#list.map(({ keys, about }) => [keys, about] as const)];
    const table = make("dl", "keys", ...rows.map(([keys, about]) => make("div", {}, make("dt", {}, ...keys.split(" ").map((key) => make("kbd", {}, key))), make("dd", {}, about))));
    const off = make("input", { type: "checkbox", id: "letters", checked: !localStorage.getItem(OFF_KEY) });
    off.onchange = () => (off.checked ? localStorage.removeItem(OFF_KEY) : localStorage.setItem(OFF_KEY, "yes"));
    const close = make("button", { class: "button primary", type: "submit" }, "Close");
    const form = make("form", { class: "dialog-form", method: "dialog" }, make("h2", {}, "Keys"), table,
      make("div", "dialog-buttons", make("label", "check", off, "Letters work as keys"), make("span", "push"), close));
    const dialog = make("dialog", { class: "dialog", aria: { label: "Keys" } }, form);
    dialog.onclick = (event) => event.target === dialog && dialog.close();
    document.body.append(dialog);
    return dialog;
  }
}
