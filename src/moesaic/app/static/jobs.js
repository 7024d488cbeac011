// The jobs of this browser: remembered over a reload, asked about while they run.

import * as api from "./api.js";

const KEY = "moesaic.jobs";
const MOST = 40; // remembered
const SHOWN = 400; // ms between two questions about the job that is looked at
const OTHERS = 2000; // and about each other one, or while the page is out of sight
const TRIES = [1, 2, 4, 8, 15]; // seconds between questions while the server does not answer

const active = (job) => job.state === "queued" || job.state === "running";

export class Jobs {
  #entries = []; // newest first: {id, verb, name, thumb}
  #states = new Map(); // id -> what the server said last
  #asked = new Map(); // id -> ms
  #shown = null;
  #timer = null;
  #lost = 0;

  /** `changed(job)`, `left(id, why)` with "gone", "cancelled" or "removed", `lost(seconds | null)`: null when it answers again. */
  constructor({ changed, left, lost }) {
    Object.assign(this, { changed, left, lost });
    document.addEventListener("visibilitychange", () => document.hidden || this.#soon(0));
  }

  get entries() {
    return this.#entries;
  }

  state(id) {
    return this.#states.get(id) ?? null;
  }

  /** Read what was remembered and ask for all of it. */
  begin() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
      this.#entries = kept.filter((entry) => typeof entry?.id === "string").slice(0, MOST);
    } catch {
      this.#entries = [];
    }
    this.#soon(0);
  }

  add(job, thumb) {
    this.#entries.unshift({ id: job.id, verb: job.verb, name: job.name, thumb });
    for (const old of this.#entries.splice(MOST)) this.#states.delete(old.id);
    this.#states.set(job.id, job);
    this.#asked.set(job.id, performance.now());
    this.#keep();
    this.changed(job);
    this.#soon(SHOWN);
  }

  /** The job that is looked at is asked about more often. */
  look(id) {
    this.#shown = id;
    if (id) this.#soon(0);
  }

  /** Cancel it, or remove what is done; it is forgotten here either way once the server has heard. */
  async remove(id) {
    const job = this.#states.get(id);
    const why = job && active(job) ? "cancelled" : "removed"; // what is cancelled keeps its picture on the server
    try {
      await api.remove(id);
    } catch (cause) {
      if (!cause.gone) throw cause;
    }
    this.#forget(id, why);
  }

  #forget(id, why) {
    const before = this.#entries.length;
    this.#entries = this.#entries.filter((entry) => entry.id !== id);
    this.#states.delete(id);
    this.#asked.delete(id);
    if (this.#entries.length === before) return;
    this.#keep();
    this.left(id, why);
  }

  #keep() {
    for (let thumbs = this.#entries.length; thumbs >= 0; thumbs = thumbs ? thumbs >> 1 : -1) {
      const kept = this.#entries.map((entry, at) => (at < thumbs ? entry : { ...entry, thumb: null }));
      try {
        localStorage.setItem(KEY, JSON.stringify(kept));
        return;
      } catch {
        // no room, or storage is forbidden: with fewer small pictures, or not at all
      }
    }
  }

  #soon(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#round(), delay);
  }

  #due(now) {
    return this.#entries.filter(({ id }) => {
      const job = this.#states.get(id);
      if (!job) return true;
      const every = id === this.#shown && !document.hidden ? SHOWN : OTHERS;
      if (active(job)) return now - (this.#asked.get(id) ?? 0) >= every - 20;
      return job.expires && job.expires * 1000 < Date.now();
    });
  }

  async #round() {
    for (const { id } of this.#due(performance.now())) {
      try {
        const job = await api.job(id);
        this.#answered();
        this.#asked.set(id, performance.now());
        if (!this.#entries.some((entry) => entry.id === id)) continue; // removed meanwhile
        this.#states.set(id, job);
        this.changed(job);
      } catch (cause) {
        if (cause.gone) {
          this.#answered();
          this.#forget(id, "gone");
        } else if (cause instanceof api.Lost || cause.busy) {
          const seconds = cause.wait ?? TRIES[Math.min(this.#lost, TRIES.length - 1)];
          this.#lost += 1;
          this.lost(seconds);
          return this.#soon(1000 * seconds);
        } else {
          this.#asked.set(id, performance.now()); // a fault of the server: ask again in the usual time
        }
      }
    }
    const waiting = this.#entries.some(({ id }) => !this.#states.has(id) || active(this.#states.get(id)));
    this.#soon(waiting ? SHOWN : 30_000);
  }

  #answered() {
    if (this.#lost) this.lost(null);
    this.#lost = 0;
  }
}
