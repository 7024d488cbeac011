// The list of this browser's pictures, newest first: each can be opened again or removed, until it expires.

import * as api from "./api.js";
import { byId, icon, make, show, tell } from "./dom.js";
import { state } from "./words.js";

export class Recent {
  #cards = new Map(); // id -> {item, key}

  /** `labels` from the names of verbs to words; `open(id)` and `remove(id)` when the person asks. */
  constructor({ labels, open, remove }) {
    Object.assign(this, { labels, open, remove });
    this.list = byId("cards");
  }

  /** Draw what has changed: `entries` as Jobs has them, `job(id)` the last answer for each. */
  draw(entries, job, shown) {
    const items = entries.map((entry) => this.#card(entry, job(entry.id), entry.id === shown));
    for (const id of this.#cards.keys()) if (!entries.some((entry) => entry.id === id)) this.#cards.delete(id);
    const before = [...this.list.children];
    if (before.length !== items.length || items.some((item, at) => item !== before[at])) {
      const focused = document.activeElement;
      this.list.replaceChildren(...items);
      if (items.some((item) => item.contains(focused))) focused.focus();
    }
    show(byId("recent"), items.length > 0 || !byId("gone").hidden);
  }

  /** A word about pictures that expired. */
  gone(count, kept) {
    const what = count === 1 ? "One picture was deleted" : `${count} pictures were deleted`;
    tell(byId("gone"), `${what}: they are kept for ${kept}.`);
    show(byId("recent"));
  }

  #card(entry, job, shown) {
    const key = job ? `${job.state} ${state(job)} ${shown}` : `? ${shown}`;
    const old = this.#cards.get(entry.id);
    if (old?.key === key) return old.item;
    const verb = this.labels[entry.verb] ?? entry.verb;
    const doing = job ? state(job) : "looking for it";
    const item = old?.item ?? this.#made(entry, verb);
    const [button] = item.children;
    button.setAttribute("aria-current", String(shown));
    item.querySelector(".state").textContent = doing === "done" ? verb : `${verb}: ${doing}`;
    item.classList.toggle("active", job?.state === "running" || job?.state === "queued");
    item.classList.toggle("failed", job?.state === "failed");
    this.#picture(item.querySelector(".thumb"), entry, job);
    this.#cards.set(entry.id, { item, key });
    return item;
  }

  #made(entry, verb) {
    const words = make("span", { className: "words" },
      make("span", { className: "label" }, entry.name), make("span", { className: "small state" }));
    return make("li", { className: "card" },
      make("button", { type: "button", className: "open", onclick: () => this.open(entry.id) },
        make("span", { className: "thumb" }), words),
      make("button", {
        type: "button", className: "quiet icon-only remove", "aria-label": `Remove ${entry.name} (${verb})`,
        onclick: () => this.remove(entry.id),
      }, icon("close")));
  }

  #picture(place, entry, job) {
    const url = job?.state === "done" && job.result?.views.includes("after") ? api.view(entry.id, "after") : entry.thumb;
    if (place.dataset.url === String(url)) return;
    place.dataset.url = String(url);
    place.replaceChildren(url ? make("img", { src: url, alt: "", loading: "lazy" }) : icon(entry.verb));
  }
}
