// Dark or light: as the system says, until the reader chooses.

import { icon, iconButton } from "./dom.js";

const KEY = "chatcluster.theme";

function chosen(): "dark" | "light" {
  const kept = localStorage.getItem(KEY);
  if (kept === "dark" || kept === "light") return kept;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export class Theme {
  readonly button: HTMLButtonElement;

  constructor() {
    this.button = iconButton("moon", "Dark", () => this.toggle());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#apply());
    this.#apply();
  }

  toggle(): void {
    localStorage.setItem(KEY, chosen() === "dark" ? "light" : "dark");
    this.#apply();
  }

  #apply(): void {
    const dark = chosen() === "dark";
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
    const label = dark ? "Light colours" : "Dark colours";
    this.button.replaceChildren(icon(dark ? "sun" : "moon"));
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
  }
}
