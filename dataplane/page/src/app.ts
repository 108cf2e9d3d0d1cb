// Puts the page together: one client, one chat, one fleet, and the lines between them.

import { ChatClient, type ConnectionState } from "@chatcluster/client";
import { Audit } from "./audit.js";
import { Chat } from "./chat/chat.js";
import { Composer } from "./chat/composer.js";
import type { Room } from "./chat/live_answer.js";
import { contentOf, STARTERS, type Prompt } from "./chat/prompts.js";
import { Sidebar } from "./chat/sidebar.js";
import { Banner } from "./connection/banner.js";
import { setUser, storedMessage, user, type Place } from "./connection/place.js";
import { make } from "./dom.js";
import { ChaosRunner } from "./fleet/chaos_runner.js";
import { Fleet } from "./fleet/fleet.js";
import { nodeHue } from "./fleet/hues.js";
import { Inspector } from "./fleet/inspector.js";
import { LiveStrip } from "./fleet/nodes_view.js";
import { Panel } from "./fleet/panel.js";
import { VerdictView } from "./fleet/verdict_view.js";
import { Layout } from "./layout.js";
import { Library } from "./library.js";
import * as route from "./route.js";
import { Shortcuts } from "./shortcuts.js";
import { Theme } from "./theme.js";

const NOTHING: ReadonlyMap<number, string> = new Map();

export class App {
  readonly #place: Place;
  readonly #library: Library;
  readonly #audit = new Audit();
  readonly #inspector = new Inspector();
  readonly #client: ChatClient;
  readonly #chat: Chat;
  readonly #fleet: Fleet | undefined;
  readonly #chaos: ChaosRunner | undefined;
  readonly #composer: Composer;
  readonly #sidebar: Sidebar;
  readonly #panel: Panel;
  readonly #layout: Layout;
  readonly #banner: Banner;
  readonly #strip: LiveStrip | undefined;
  readonly #shortcuts: Shortcuts;
  #drawing = false;

  constructor(place: Place) {
    this.#place = place;
    this.#library = new Library(localStorage, place.kind === "playground" ? user() : "");
    this.#client = new ChatClient({ urls: place.urls, token: () => place.token() });
    const room = this.#room();
    this.#chat = new Chat(this.#client, this.#library, room);
    if (place.kind === "playground") {
      const written = () => this.#chat.live().map(({ messageId, epoch, writer }) => ({ messageId, epoch, writer }));
      this.#fleet = new Fleet(place.nodes, place.hasRedis, written, () => this.#changed());
      this.#chaos = new ChaosRunner(this.#fleet, () => this.#keepBusy(), () => this.#changed());
    }
    const theme = new Theme();
    this.#composer = new Composer({ send: (content) => this.#send(content), stop: () => this.#chat.stop() }, place.simulated);
    this.#sidebar = new Sidebar(this.#sidebarActions(), () => this.#layout.closeDrawers(), this.#foot());
    const verdict = new VerdictView(() => this.#layout.toggle("fleet"));
    this.#panel = new Panel(verdict, this.#inspector, this.#fleet, this.#chaos, () => this.#layout.closeDrawers() || this.#layout.toggle("fleet"));
    this.#banner = new Banner(() => this.#client.reconnect());
    this.#shortcuts = this.#keys(theme);
    this.#layout = new Layout(
      { sidebar: this.#sidebar.element, panel: this.#panel.element, turns: this.#chat.list, composer: this.#composer.element, banner: this.#banner.element, pill: verdict.pill, themeButton: theme.button },
      () => this.#shortcuts.help(),
      (prompt) => this.#ask(prompt),
      this.#fleet === undefined ? [] : place.simulated ? STARTERS : STARTERS.slice(0, 1),
    );
    this.#chat.following = this.#layout.following;
    this.#strip = this.#fleet && new LiveStrip(this.#composer.strip, this.#fleet, (what) => this.#panel.failed(what));
    this.#listen();
    this.#go();
  }

  #room(): Room {
    return {
      audit: this.#audit,
      notice: (notice) => this.#fleet?.notice(notice),
      writers: (messageId) => this.#fleet?.writers(messageId) ?? Promise.resolve(NOTHING),
      stored: (messageId) => storedMessage(this.#place, messageId),
      changed: () => this.#changed(),
      announce: (text) => this.#layout.announce(text),
    };
  }

  #listen(): void {
    this.#client.on("frame", (record) => {
      this.#audit.frame(record);
      this.#inspector.add(record);
      this.#changed();
    });
    this.#client.on("state", (state) => this.#state(state));
    this.#client.on("goaway", () => this.#fleet?.notice({ type: "left", node: this.#fleet.reading, at: performance.now() }));
    this.#library.onForeignChange(() => {
      this.#chat.refresh();
      this.#changed();
    });
    addEventListener("hashchange", () => this.#go());
    addEventListener("online", () => this.#client.reconnect());
    addEventListener("pagehide", () => this.#chat.keep());
    document.addEventListener("visibilitychange", () => document.hidden && this.#chat.keep());
    this.#state(this.#client.state);
  }

  #state(state: ConnectionState): void {
    this.#banner.show(state);
    const fleet = this.#fleet;
    if (state.kind === "open") {
      if (fleet) fleet.reading = state.node;
      fleet?.notice({ type: "connected", node: state.node, at: performance.now() });
    } else if (fleet?.reading !== undefined) {
      fleet.notice({ type: "left", node: fleet.reading, at: performance.now() });
      fleet.reading = undefined;
    }
    this.#changed();
  }

  /** Everything that shows counts is drawn once a frame, however much happened. */
  #changed(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    this.#panel.stale();
    setTimeout(() => requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    }), 60);
  }

  #draw(): void {
    const live = this.#chat.shownLive();
    const state = this.#client.state;
    const node = state.kind === "open" ? state.node : undefined;
    const place = node ?? (state.kind === "closed" && state.final ? "closed" : "connecting …");
    this.#layout.title(this.#chat.title(), place, node ? "good" : "warn");
    this.#layout.hueOf(nodeHue(node));
    this.#layout.empty(this.#chat.current === undefined);
    this.#composer.busy(live !== undefined);
    this.#sidebar.show(this.#library.list(), this.#chat.isShared ? undefined : this.#chat.current?.id, this.#chat.liveConversations());
    const writer = live?.writer;
    const phase = this.#fleet?.nodes.find((one) => one.name === writer)?.phase;
    this.#strip?.show(live !== undefined, writer, phase, this.#fleet?.reading);
    this.#panel.update(this.#audit.verdict());
  }

  #send(content: string): void {
    this.#chat.ask(content);
    this.#remember();
  }

  #ask(prompt: Prompt): void {
    const directive = this.#place.simulated ? prompt.directive : undefined;
    if (directive !== undefined) this.#composer.direct(directive);
    this.#send(contentOf(prompt.question, directive));
    this.#composer.focus();
  }

  /** Chaos without an answer would show nothing; one that costs something is asked for by a person. */
  #keepBusy(): void {
    const [first] = STARTERS;
    if (first && this.#place.simulated && this.#chat.live().length === 0) this.#send(contentOf(first.question, first.directive));
  }

  /** The address names what is shown, without a step in the history for each. */
  #remember(): void {
    const id = this.#chat.current?.id;
    if (!this.#chat.isShared) history.replaceState(null, "", id ? `#/c/${id}` : location.pathname);
  }

  #go(): void {
    const goal = route.read(location.hash);
    if (goal.kind === "message") return this.#goToMessage(goal.id);
    this.#chat.open(goal.kind === "conversation" ? this.#library.get(goal.id) : undefined);
    this.#remember();
  }

  #goToMessage(id: string): void {
    const holding = this.#library.holding(id);
    if (!holding) return this.#chat.openMessage(id);
    this.#chat.showVariant(holding, id);
    this.#chat.open(holding);
    const element = this.#chat.element(id);
    const isLast = element?.closest(".turn")?.nextElementSibling === null;
    if (!isLast) {
      element?.scrollIntoView();
      this.#layout.following.release();
    }
    element?.classList.add("linked");
  }

  #open(id: string | undefined): void {
    this.#chat.open(id === undefined ? undefined : this.#library.get(id));
    this.#remember();
    this.#layout.closeDrawers();
    this.#composer.focus();
  }

  #sidebarActions() {
    return {
      create: () => this.#open(undefined),
      open: (id: string) => this.#open(id),
      rename: (id: string, title: string) => this.#chat.rename(id, title),
      remove: (id: string) => this.#remove(id),
    };
  }

  #remove(id: string): void {
    const conversation = this.#library.get(id);
    this.#library.remove(id);
    if (this.#chat.current?.id === id) {
      this.#chat.open(undefined);
      this.#remember();
    }
    if (conversation) {
      this.#sidebar.offerUndo("Deleted.", () => {
        this.#library.save(conversation);
        this.#changed();
      });
    }
    this.#changed();
  }

  #foot(): HTMLElement {
    if (this.#place.kind !== "playground") return make("div", "foot", make("span", "dim", "One node, your token"));
    const input = make("input", { id: "user", value: user(), maxLength: 64, spellcheck: false, attributes: { autocomplete: "off" } });
    input.onchange = () => {
      setUser(input.value.trim() || "alice");
      history.replaceState(null, "", location.pathname);
      location.reload();
    };
    return make("div", "foot", make("label", { htmlFor: "user" }, "You are"), input);
  }

  #keys(theme: Theme): Shortcuts {
    const list = [
      { keys: "/", about: "write", run: () => this.#composer.focus() },
      { keys: "n", about: "new conversation", run: () => this.#open(undefined) },
      { keys: "r", about: "regenerate the last answer", run: () => this.#chat.regenerateLast() },
      { keys: "f", about: "show or hide the fleet", run: () => this.#layout.toggle("fleet") },
      { keys: "t", about: "dark or light", run: () => theme.toggle() },
      ...(this.#fleet ? [{ keys: "k", about: "kill the node that writes this answer", run: () => this.#strip?.kill() }] : []),
    ];
    return new Shortcuts(list, () => {
      if (!this.#layout.closeDrawers()) this.#chat.stop();
    });
  }
}

