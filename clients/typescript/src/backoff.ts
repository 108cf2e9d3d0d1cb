// When to try again: full jitter between nothing and a ceiling that doubles, and a memory that is not
// wiped by a connection that breaks at once. Pure: chance and time come in.

/** Ceiling of the first delay, in milliseconds. */
export const FIRST_MS = 100;
/** Ceiling of every delay. */
export const LONGEST_MS = 10_000;
/** A connection must have lived so long before failures are forgotten. */
export const STABLE_MS = 30_000;

export class Backoff {
  #failures = 0;
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Failures since the last stable connection. */
  get failures(): number {
    return this.#failures;
  }

  /** One more failure, of a connection that lived for `livedMs`. How long to wait now. */
  failed(livedMs: number): number {
    if (livedMs >= STABLE_MS) this.#failures = 0;
    this.#failures += 1;
    const ceiling = Math.min(FIRST_MS * 2 ** Math.min(this.#failures - 1, 16), LONGEST_MS);
    return ceiling * this.#random();
  }

  /** Forgets failures: for what proves by itself that it went on. */
  succeeded(): void {
    this.#failures = 0;
  }
}
