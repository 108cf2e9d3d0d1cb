// Asks for a token where no playground gives one.

import { make, say } from "../dom.js";

export function askToken(why: string): Promise<string> {
  return new Promise((resolve) => {
    const input = make("textarea", {
      id: "token", rows: 4, required: true, spellcheck: false, placeholder: "eyJhbGciOi…",
      attributes: { autocomplete: "off", "aria-describedby": "token-why" },
    });
    const problem = make("p", { id: "token-why", class: why ? "problem" : "dim" });
    say(problem, why || "This node knows its users by JSON Web Tokens. Yours stays in this tab.");
    const form = make(
      "form",
      { class: "dialog-form", method: "dialog" },
      make("h2", {}, "Who are you?"),
      problem,
      make("label", { htmlFor: "token" }, "Token"),
      input,
      make("div", "dialog-buttons", make("button", { class: "button primary", type: "submit" }, "Connect")),
    );
    const dialog = make("dialog", { class: "dialog token-dialog", aria: { label: "Token" } }, form);
    form.onsubmit = (event) => {
      event.preventDefault();
      const token = input.value.trim().replace(/^Bearer\s+/i, "");
      if (!token) return;
      dialog.close();
      dialog.remove();
      resolve(token);
    };
    dialog.oncancel = (event) => event.preventDefault();
    document.body.append(dialog);
    dialog.showModal();
  });
}
