// The verdict, as large as it deserves: green while nothing is lost, red as soon as something is.

import type { Verdict } from "../audit.js";
import { icon, make, say } from "../dom.js";

export interface Faults {
  readonly kill: number;
  readonly drain: number;
  readonly pause: number;
  readonly redis: number;
}

export class VerdictView {
  readonly element: HTMLElement;
  /** The same in one line, where there is no room. */
  readonly pill: HTMLButtonElement;
  readonly #headline = make("strong", {});
  readonly #numbers = new Map<string, HTMLElement>();
  readonly #under = make("p", "verdict-under");
  readonly #findings = make("ul", { class: "findings", hidden: true });
  readonly #pillText = make("span", {});

  constructor(open: () => void) {
    const number = (name: string, label: string) => {
      const value = make("dd", {}, "0");
      value.dataset["count"] = name;
      this.#numbers.set(name, value);
      return make("div", `count count-${name}`, value, make("dt", {}, label));
    };
    const counts = make("dl", "counts-row", number("chunks", "chunks"), number("lost", "lost"), number("twice", "twice"), number("wrong", "wrong"));
    this.element = make(
      "section",
      { class: "verdict", data: { verdict: "waiting" }, aria: { label: "Verdict" } },
      make("div", "verdict-head", make("span", "seal", icon("check")), this.#headline),
      counts,
      this.#under,
      this.#findings,
    );
    this.pill = make("button", { class: "verdict-pill", type: "button", onclick: open, title: "The verdict" }, make("i", "dot"), this.#pillText);
    this.update({ chunks: 0, lost: 0, twice: 0, wrong: 0, fitting: 0, stored: 0, findings: [] }, undefined);
  }

  update(verdict: Verdict, faults: Faults | undefined): void {
    const bad = verdict.lost + verdict.twice + verdict.wrong > 0;
    const state = bad ? "bad" : verdict.chunks > 0 ? "good" : "waiting";
    if (this.element.dataset["verdict"] !== state) {
      this.element.querySelector(".seal")?.replaceChildren(icon(bad ? "close" : "check"));
    }
    this.element.dataset["verdict"] = this.pill.dataset["verdict"] = state;
    const headline = bad ? "Something is wrong" : state === "good" ? "Nothing lost, nothing twice" : "Nothing counted yet";
    say(this.#headline, headline);
    for (const name of ["chunks", "lost", "twice", "wrong"] as const) {
      const cell = this.#numbers.get(name);
      if (cell) say(cell, verdict[name].toLocaleString("en"));
    }
    say(this.#under, sentence(verdict, faults));
    say(this.#pillText, bad ? `${verdict.lost} lost, ${verdict.twice} twice, ${verdict.wrong} wrong` : `${verdict.chunks.toLocaleString("en")} chunks, 0 lost`);
    this.#findings.hidden = verdict.findings.length === 0;
    if (this.#findings.childElementCount !== verdict.findings.length) {
      this.#findings.replaceChildren(...verdict.findings.map((finding) => make("li", {}, finding)));
    }
  }
}

function sentence(verdict: Verdict, faults: Faults | undefined): string {
  if (verdict.chunks === 0) return "Counted by this page from indexes and digests, then compared with what is stored.";
  const named = (count: number, what: string) => (count > 0 ? [`${count} ${what}${count === 1 ? "" : "s"}`] : []);
  const survived = faults ? [...named(faults.kill, "kill"), ...named(faults.drain, "drain"), ...named(faults.pause, "pause"), ...named(faults.redis, "store fault")] : [];
  const through = survived.length > 0 ? `Through ${survived.join(", ")}. ` : "";
  if (verdict.fitting === 0) return `${through}Each chunk is checked as it comes, each answer again when it ends.`;
  const answers = `${verdict.fitting} ${verdict.fitting === 1 ? "answer" : "answers"}`;
  const compared = verdict.stored === verdict.fitting ? "and the same text as stored" : `and ${verdict.stored} compared with the stored text so far`;
  return `${through}${answers} with the right digest ${compared}.`;
}
