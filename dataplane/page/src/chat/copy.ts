// Copying, and saying so on the button that did it.

import { icon } from "../dom.js";

const SHOWN_MS = 1_400;

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** The button shows a tick for a moment. */
export function copyFrom(button: HTMLButtonElement, text: () => string): void {
  void copyText(text()).then((done) => {
    const label = button.getAttribute("aria-label") ?? "";
    const before = button.querySelector("svg");
    if (!before || button.dataset["told"]) return;
    button.dataset["told"] = "yes";
    const after = icon(done ? "check" : "close");
    before.replaceWith(after);
    button.setAttribute("aria-label", done ? "Copied" : "Copying is not allowed here");
    setTimeout(() => {
      after.replaceWith(before);
      button.setAttribute("aria-label", label);
      delete button.dataset["told"];
    }, SHOWN_MS);
  });
}
