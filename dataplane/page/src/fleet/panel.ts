// Beside the chat: the verdict, the nodes, chaos, what happened and what went over the wire.

import type { Verdict } from "../audit.js";
import { icon, iconButton, make, say } from "../dom.js";
import type { ChaosRunner } from "./chaos_runner.js";
import type { Fleet } from "./fleet.js";
import type { Inspector } from "./inspector.js";
import { NodesView, redisButtons } from "./nodes_view.js";
import { TimelineView } from "./timeline_view.js";
import type { VerdictView } from "./verdict_view.js";

export class Panel {
  readonly element: HTMLElement;
  readonly #verdict: VerdictView;
  readonly #fleet: Fleet | undefined;
  readonly #chaos: ChaosRunner | undefined;
  readonly #nodes: NodesView | undefined;
  readonly #timeline = new TimelineView();
  readonly #chaosButton: HTMLButtonElement;
  readonly #chaosWords = make("span", {}, "Unleash chaos");
  readonly #problem = make("p", { class: "problem", hidden: true, attributes: { role: "alert" } });

  constructor(verdict: VerdictView, inspector: Inspector, fleet: Fleet | undefined, chaos: ChaosRunner | undefined, close: () => void) {
    this.#verdict = verdict;
    this.#fleet = fleet;
    this.#chaos = chaos;
    this.#nodes = fleet && new NodesView(fleet, (what) => this.failed(what));
    this.#chaosButton = make("button", { class: "chaos", type: "button", onclick: () => this.#toggleChaos() }, icon("flame"), this.#chaosWords);
    const head = make("div", "panel-head", make("h2", {}, fleet ? "Fleet" : "Connection"), iconButton("close", "Close", close, "drawer-close"));
    const tabs = fleet ? tabbed([["Timeline", this.#timeline.element, () => undefined], ["Frames", inspector.element, (shown) => inspector.show(shown)]]) : only("Frames", inspector);
    const store = fleet?.hasRedis ? redisButtons(fleet, (what) => this.failed(what)) : null;
    this.element = make("aside", { class: "panel", id: "fleet", aria: { label: "Fleet" } }, head, verdict.element, this.#nodes?.element, store, fleet ? this.#chaosButton : null, this.#problem, tabs);
  }

  /** The verdict shown is not the last one: whoever reads it waits for the next update. */
  stale(): void {
    this.#verdict.element.setAttribute("aria-busy", "true");
  }

  update(verdict: Verdict): void {
    this.#verdict.element.removeAttribute("aria-busy");
    this.#verdict.update(verdict, this.#fleet?.counts);
    this.#nodes?.update();
    if (this.#fleet) this.#timeline.update(this.#fleet.incidents);
    const running = this.#chaos?.running ?? false;
    this.#chaosButton.setAttribute("aria-pressed", String(running));
    say(this.#chaosWords, running ? "Stop the chaos, mend everything" : "Unleash chaos");
    if (this.#fleet?.gone) this.failed("The playground does not answer. Start it again with `make dev`.");
    else if (this.#problem.dataset["gone"]) this.failed("");
    if (this.#fleet?.gone) this.#problem.dataset["gone"] = "yes";
    else delete this.#problem.dataset["gone"];
  }

  failed(what: string): void {
    say(this.#problem, what);
    this.#problem.hidden = what === "";
  }

  #toggleChaos(): void {
    if (this.#chaos?.running) void this.#chaos.stop();
    else this.#chaos?.start();
  }
}

function only(title: string, inspector: Inspector): HTMLElement {
  inspector.show(true);
  return make("section", { class: "tabbed", aria: { label: title } }, make("h3", "only", title), inspector.element);
}

/** Tabs as the ARIA practices have them: arrows move, one is in the tab order. */
function tabbed(tabs: readonly (readonly [string, HTMLElement, (shown: boolean) => void])[]): HTMLElement {
  const buttons = tabs.map(([title, body], at) => {
    body.id = `panel-${title.toLowerCase()}`;
    body.setAttribute("role", "tabpanel");
    return make("button", { class: "tab", type: "button", id: `tab-${title.toLowerCase()}`, onclick: () => select(at), attributes: { role: "tab", "aria-controls": body.id } }, title);
  });
  const select = (chosen: number, focus = false) => {
    tabs.forEach(([, body, shown], at) => {
      const button = buttons[at];
      const on = at === chosen;
      button?.setAttribute("aria-selected", String(on));
      if (button) button.tabIndex = on ? 0 : -1;
      if (on && focus) button?.focus();
      body.hidden = !on;
      shown(on);
    });
  };
  const list = make("div", { class: "tabs", attributes: { role: "tablist" } }, ...buttons);
  list.onkeydown = (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (step !== 0 && at >= 0) select((at + step + buttons.length) % buttons.length, true);
  };
  select(0);
  return make("section", "tabbed", list, ...tabs.map(([, body]) => body));
}
