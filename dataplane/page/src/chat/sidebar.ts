// The list of conversations: new, open, rename, delete; at its end who is asking.

import { iconButton, make, say, textButton } from "../dom.js";
import type { Conversation } from "../library.js";

export interface SidebarActions {
  create(): void;
  open(id: string): void;
  rename(id: string, title: string): void;
  remove(id: string): void;
}

export class Sidebar {
  readonly element: HTMLElement;
  readonly #list = make("ul", { class: "conversations", aria: { label: "Conversations" } });
  readonly #actions: SidebarActions;
  readonly #undo = make("div", { class: "undo", hidden: true, attributes: { role: "status" } });
  #rows = new Map<string, HTMLLIElement>();

  constructor(actions: SidebarActions, close: () => void, foot: HTMLElement) {
    this.#actions = actions;
    const brand = make("div", "brand", mark(), make("strong", {}, "ChatCluster"), iconButton("close", "Close conversations", close, "drawer-close"));
    const fresh = textButton("plus", "New conversation", actions.create, "fresh");
    this.element = make("nav", { class: "sidebar", id: "sidebar", aria: { label: "Conversations" } }, brand, fresh, this.#list, this.#undo, foot);
  }

  show(conversations: readonly Conversation[], current: string | undefined, live: ReadonlySet<string>): void {
    const rows = conversations.map((one) => this.#row(one, one.id === current, live.has(one.id)));
    const same = rows.length === this.#list.children.length && rows.every((row, at) => row === this.#list.children[at]);
    if (!same) this.#list.replaceChildren(...rows);
    for (const id of this.#rows.keys()) if (!conversations.some((one) => one.id === id)) this.#rows.delete(id);
  }

  #row(conversation: Conversation, isCurrent: boolean, isLive: boolean): HTMLLIElement {
    const { id, title } = conversation;
    const row = this.#rows.get(id) ?? this.#newRow(id);
    const open = row.querySelector<HTMLButtonElement>(".conversation");
    const name = open?.querySelector("span");
    if (!open || !name) return row;
    say(name, title);
    open.title = title;
    if (isCurrent) open.setAttribute("aria-current", "page");
    else open.removeAttribute("aria-current");
    row.classList.toggle("is-live", isLive);
    return row;
  }

  #newRow(id: string): HTMLLIElement {
    const open = make("button", { class: "conversation", type: "button", onclick: () => this.#actions.open(id) }, make("span"));
    const rename = iconButton("edit", "Rename", () => this.#rename(row, id), "small");
    const remove = iconButton("trash", "Delete", () => this.#actions.remove(id), "small");
    const row = make("li", {}, open, make("span", "row-actions", rename, remove));
    this.#rows.set(id, row);
    return row;
  }

  #rename(row: HTMLLIElement, id: string): void {
    const open = row.querySelector<HTMLButtonElement>(".conversation");
    if (!open) return;
    const input = make("input", { class: "rename", value: open.textContent ?? "", maxLength: 120, aria: { label: "Title" } });
    let over = false;
    const end = (save: boolean) => {
      if (over) return;
      over = true;
      const title = input.value.trim();
      input.replaceWith(open);
      if (save && title) this.#actions.rename(id, title);
      open.focus();
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    };
    input.onblur = () => end(true);
    open.replaceWith(input);
    input.select();
  }

  /** What was deleted comes back while this is shown. */
  offerUndo(text: string, undo: () => void): void {
    const hide = () => {
      clearTimeout(timer);
      this.#undo.hidden = true;
    };
    const timer = setTimeout(hide, 8_000);
    const button = make("button", { class: "link", type: "button", onclick: () => (hide(), undo()) }, "Undo");
    this.#undo.replaceChildren(make("span", {}, text), button);
    this.#undo.hidden = false;
  }
}

function mark(): HTMLElement {
  return make("span", { class: "mark", aria: { hidden: "true" } }, make("i"), make("i"), make("i"));
}
