// The frame of the page: conversations, chat, fleet; the outer two become drawers where there is no room.

import { iconButton, make, say } from "./dom.js";
import type { Prompt } from "./chat/prompts.js";
import { Following } from "./chat/scroll.js";

const FLEET_KEY = "chatcluster.fleet.closed";
/** As the style has it. */
const FLEET_DRAWER = "(max-width: 1180px)";
const SIDEBAR_DRAWER = "(max-width: 820px)";

export interface Parts {
  readonly sidebar: HTMLElement;
  readonly panel: HTMLElement;
  readonly turns: HTMLElement;
  readonly composer: HTMLElement;
  readonly banner: HTMLElement;
  readonly pill: HTMLElement;
  readonly themeButton: HTMLElement;
}

export class Layout {
  readonly following: Following;
  readonly #title = make("h1", {});
  readonly #place = make("span", { class: "place", attributes: { role: "status" } });
  readonly #hello: HTMLElement;
  readonly #main: HTMLElement;
  readonly #announcer = make("div", { class: "unseen", aria: { live: "polite" } });
  readonly #scrim = make("div", { class: "scrim", hidden: true });
  readonly #parts: Parts;

  constructor(parts: Parts, help: () => void, choose: (prompt: Prompt) => void, starters: readonly Prompt[]) {
    this.#parts = parts;
    const scroller = make("div", { class: "scroller", id: "conversation", tabIndex: 0, aria: { label: "Conversation" }, attributes: { role: "region" } });
    const playground = starters.length > 0;
    this.#hello = hello(choose, starters);
    const content = make("div", "content", this.#hello, parts.turns);
    scroller.append(content);
    this.following = new Following(scroller, content);
    const menu = iconButton("menu", "Conversations", () => this.toggle("sidebar"), "menu-button");
    const fleet = iconButton("fleet", playground ? "Fleet" : "Connection", () => this.toggle("fleet"), "fleet-button");
    const tools = make("div", "tools", this.#place, parts.pill, iconButton("help", "Keys", help, "help-button"), parts.themeButton, fleet);
    const header = make("header", "header", menu, this.#title, tools);
    const jump = make("div", "jump-place", this.following.button);
    this.#main = make("main", { class: "main" }, header, parts.banner, scroller, jump, parts.composer);
    this.#scrim.onclick = () => this.closeDrawers();
    const skip = make("a", { class: "skip", href: "#prompt" }, "Skip to the message field");
    skip.onclick = (event) => {
      event.preventDefault();
      document.getElementById("prompt")?.focus();
    };
    document.body.append(skip, parts.sidebar, this.#main, parts.panel, this.#scrim, this.#announcer);
    if (localStorage.getItem(FLEET_KEY)) document.body.classList.add("fleet-closed");
    for (const query of [FLEET_DRAWER, SIDEBAR_DRAWER]) matchMedia(query).addEventListener("change", () => this.#fitDrawers());
    this.#fitDrawers();
  }

  title(text: string, place: string, tone: string): void {
    say(this.#title, text || "New conversation");
    document.title = text ? `${text} · ChatCluster` : "ChatCluster";
    say(this.#place, place);
    this.#place.dataset["tone"] = tone;
  }

  hueOf(hue: string): void {
    this.#place.style.setProperty("--hue", hue);
  }

  empty(isEmpty: boolean): void {
    this.#hello.hidden = !isEmpty;
    document.body.classList.toggle("is-empty", isEmpty);
  }

  announce(text: string): void {
    say(this.#announcer, text);
  }

  toggle(which: "sidebar" | "fleet"): void {
    const drawer = matchMedia(which === "fleet" ? FLEET_DRAWER : SIDEBAR_DRAWER).matches;
    if (!drawer && which === "fleet") {
      const closed = document.body.classList.toggle("fleet-closed");
      if (closed) localStorage.setItem(FLEET_KEY, "yes");
      else localStorage.removeItem(FLEET_KEY);
    } else if (drawer) {
      const open = !document.body.classList.contains(`${which}-open`);
      this.closeDrawers();
      document.body.classList.toggle(`${which}-open`, open);
      this.#fitDrawers();
      if (open) this.#element(which).querySelector<HTMLElement>(".drawer-close")?.focus();
    }
  }

  /** True where one was open. */
  closeDrawers(): boolean {
    const open = (["sidebar", "fleet"] as const).find((which) => document.body.classList.contains(`${which}-open`));
    if (!open) return false;
    document.body.classList.remove("sidebar-open", "fleet-open");
    this.#fitDrawers();
    document.querySelector<HTMLElement>(open === "fleet" ? ".fleet-button" : ".menu-button")?.focus();
    return true;
  }

  /** Closes what is in the way on a narrow screen. */
  closeFleetDrawer(): void {
    if (document.body.classList.contains("fleet-open")) this.closeDrawers();
  }

  #element(which: "sidebar" | "fleet"): HTMLElement {
    return which === "fleet" ? this.#parts.panel : this.#parts.sidebar;
  }

  /** A closed drawer is out of the way of keys and screen readers too. */
  #fitDrawers(): void {
    const open = (which: string) => document.body.classList.contains(`${which}-open`);
    const [sidebar, fleet] = [matchMedia(SIDEBAR_DRAWER).matches, matchMedia(FLEET_DRAWER).matches];
    this.#parts.sidebar.inert = sidebar && !open("sidebar");
    this.#parts.panel.inert = fleet && !open("fleet");
    // What an open drawer covers is out of the way as well.
    this.#main.inert = (sidebar && open("sidebar")) || (fleet && open("fleet"));
    this.#scrim.hidden = !this.#main.inert;
  }
}

/** What a newcomer sees. */
function hello(choose: (prompt: Prompt) => void, starters: readonly Prompt[]): HTMLElement {
  const playground = starters.length > 0;
  const cards = starters.map((prompt) => make("button", { class: "starter", type: "button", onclick: () => choose(prompt) }, make("strong", {}, prompt.title), make("span", {}, prompt.about)));
  const lead = playground
    ? "Ask something. While the answer grows, kill the node that writes it. The text goes on, and this page counts every chunk to prove that nothing was lost and nothing came twice."
    : "Ask something. The answer goes on when the connection breaks, when a server dies, and in another tab.";
  return make("div", "hello", make("h2", {}, "An answer that outlives its server"), make("p", {}, lead), playground ? make("div", "starters", ...cards) : null);
}
