// The entry: finds out where the page is, and starts it.

import { App } from "./app.js";
import { findPlace } from "./connection/place.js";
import { askToken } from "./connection/token_dialog.js";
import { make } from "./dom.js";

async function main(): Promise<void> {
  new App(await findPlace(askToken));
}

main().catch((error: unknown) => {
  const words = error instanceof Error ? error.message : String(error);
  document.body.append(make("p", { class: "broken", attributes: { role: "alert" } }, `The page could not start: ${words}. Reload it.`));
  throw error;
});
