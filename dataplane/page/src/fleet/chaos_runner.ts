// Does what chaos decides, until it is stopped; then everything it broke is started again.

import { mend, next, pace, type ChaosAct } from "./chaos.js";
import type { Fleet } from "./fleet.js";

export class ChaosRunner {
  readonly #fleet: Fleet;
  readonly #keepBusy: () => void;
  readonly #changed: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(fleet: Fleet, keepBusy: () => void, changed: () => void) {
    this.#fleet = fleet;
    this.#keepBusy = keepBusy;
    this.#changed = changed;
  }

  get running(): boolean {
    return this.#timer !== undefined;
  }

  start(): void {
    if (this.running) return;
    this.#schedule(600);
    this.#keepBusy();
    this.#changed();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#changed();
    await Promise.all(mend(this.#fleet.forChaos()).map((act) => this.#do(act)));
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => {
      void this.#step().finally(() => {
        if (this.running) this.#schedule(pace(Math.random));
      });
    }, ms);
  }

  async #step(): Promise<void> {
    this.#keepBusy();
    await this.#fleet.look();
    const act = next(this.#fleet.forChaos(), this.#fleet.isRecovering(), Math.random);
    // Stopped while it looked: nothing more is broken.
    if (act && this.running) await this.#do(act);
  }

  async #do(act: ChaosAct): Promise<void> {
    const ms = act.do === "pause" ? act.ms : undefined;
    // The playground may be gone; the panel says so.
    await this.#fleet.act(act.node, act.do, ms).catch(() => undefined);
  }
}
