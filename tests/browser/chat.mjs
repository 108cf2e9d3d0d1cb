// What a reader does and sees on the page, by the words and roles that a reader knows it by.
import assert from "node:assert/strict";
import { eventually } from "./playground.mjs";

/** Writes and sends; a directive in the text replaces the page's own. */
export async function ask(page, text) {
  await page.getByLabel("Your message").fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
}

/** The answer shown last. */
export const answer = (page) => page.getByRole("article", { name: "Answer" }).last();

export async function messageId(page) {
  return eventually(() => answer(page).getAttribute("data-message"), "the answer has an id");
}

/** Waits until the last answer has so many characters; where it never has, what the page says is told. */
export async function grows(page, characters = 200) {
  try {
    await eventually(async () => (await textOf(page)).length >= characters, `the answer has ${characters} characters`);
  } catch (error) {
    const length = (await textOf(page)).length;
    throw new Error(`${error.message}, but ${length}. The page says: ${await page.locator("body").innerText()}`, { cause: error });
  }
}

export const textOf = (page) => answer(page).locator(".answer-body").innerText();

/** Waits for the end, and for the comparison with the stored text. */
export async function ended(page, patience = 60_000) {
  await answer(page).getByText("same as stored").waitFor({ timeout: patience });
}

/** What the copy button gives: the text as the page has it, without any rendering. */
export async function copied(page) {
  await answer(page).getByRole("button", { name: "Copy answer" }).click();
  await answer(page).getByRole("button", { name: "Copied" }).waitFor();
  return page.evaluate(() => navigator.clipboard.readText());
}

/** The verdict as it stands once everything that happened is drawn. */
export async function verdict(page) {
  await page.locator(".verdict:not([aria-busy])").waitFor({ state: "attached" });
  return page.evaluate(() => {
    const panel = document.querySelector(".verdict");
    const count = (name) => Number(panel.querySelector(`[data-count="${name}"]`).textContent.replace(/\D/g, ""));
    return {
      state: panel.dataset.verdict,
      chunks: count("chunks"), lost: count("lost"), twice: count("twice"), wrong: count("wrong"),
      findings: [...panel.querySelectorAll(".findings li")].map((one) => one.textContent),
    };
  });
}

/** Everything was counted, and nothing was wrong: a verdict over nothing would say nothing. */
export async function assertClean(page, atLeast) {
  const seen = await verdict(page);
  assert.deepEqual([seen.state, seen.lost, seen.twice, seen.wrong, seen.findings], ["good", 0, 0, 0, []]);
  assert.ok(seen.chunks >= atLeast, `only ${seen.chunks} chunks were counted`);
  assert.deepEqual(page.problems, []);
}

/** The copied text is the stored one, and so is what is shown, apart from Markdown's signs. */
export async function assertStored(page, playground) {
  const stored = await playground.stored(await messageId(page));
  assert.equal(await copied(page), stored.content);
  assert.ok(stored.content.length > 0);
  const letters = (text) => text.replace(/[^\p{L}\p{N}]/gu, "");
  const shown = await answer(page).locator(".answer-body").evaluate((body) => {
    const copy = body.cloneNode(true);
    for (const other of copy.querySelectorAll(".thinking, .tool, .citation, .code-head")) other.remove();
    return copy.textContent;
  });
  // A list's numbers are no text of the page.
  assert.equal(letters(shown), letters(stored.content.replace(/^\d+\. /gm, "")));
  return stored;
}

/** The node that the page is connected to. */
export async function reading(page) {
  return eventually(() => page.evaluate(() => document.querySelector(".node.reads")?.dataset.node), "the page reads from a node");
}
