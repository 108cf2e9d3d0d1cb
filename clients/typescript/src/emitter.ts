// Typed listeners. A listener that throws is reported like any uncaught error and disturbs nobody else.

/** Calls back until {@link Unsubscribe} is called. */
export type Listener<T> = (event: T) => void;
/** Ends one subscription; calling it twice is harmless. */
export type Unsubscribe = () => void;

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  on<K extends keyof Events>(name: K, listener: Listener<Events[K]>): Unsubscribe {
    // One wrapper for each subscription: the same function may listen twice.
    const own: Listener<Events[K]> = (event) => listener(event);
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set.add(own as Listener<never>));
    return () => void set.delete(own as Listener<never>);
  }

  has(name: keyof Events): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }

  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as Listener<Events[K]>)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
