// A map that lies over the picture, pixel on pixel, and tells who did what where: the map, a button and a strength for it,
// and what its colours mean, in words.

import * as api from "./api.js";
import { make, show, tell } from "./dom.js";

const KEY = "w"; // while the focus is at the picture, so that it is in nobody's way elsewhere
const [WEAKEST, STRONGEST, STEP] = [10, 100, 5]; // per cent
const TITLES = { enlarge: "What is sharper here" }; // where nobody is chosen
const USUAL = "Who did what here";

const last = { job: null, on: false, strength: 65 }; // so that another view of the picture goes on as this one was

export class Overlay {
  #fetched = false;

  /** Whether a job has a map. */
  static of(job) {
    return Boolean(job.result?.views?.includes("overlay"));
  }

  /** `signal` ends it; `place` is the element that the map lies in, whose pictures turn grey under it. */
  constructor(job, place, signal) {
    Object.assign(this, { job, place, signal });
    if (last.job !== job.id) Object.assign(last, { job: job.id, on: false });
    this.map = make("img", { className: "map", alt: "", draggable: false, hidden: true });
    const title = TITLES[job.verb] ?? USUAL;
    this.button = make("button", {
      type: "button", "aria-pressed": "false", "aria-keyshortcuts": KEY, title: `${title} (key ${KEY.toUpperCase()})`,
      onclick: () => this.toggle(),
    }, title);
    this.range = make("input", {
      type: "range", min: WEAKEST, max: STRONGEST, step: STEP, value: last.strength, oninput: () => this.#weigh(),
    });
    this.strength = make("label", { className: "strength", hidden: true }, make("span", {}, "Strength"), this.range);
    this.told = make("p", { role: "status" });
    this.colours = make("div", { className: "colours" });
    this.legend = make("section", { className: "legend", "aria-label": "What the colours mean", hidden: true }, this.told, this.colours);
    place.append(this.map);
    this.#weigh();
  }

  /** Take the key where the focus is within this; and be on, where the map was on in another view. */
  listen(within) {
    within.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== KEY || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      event.preventDefault();
      this.toggle();
    }, { signal: this.signal });
    if (last.on) this.toggle(true);
  }

  get on() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  toggle(on = !this.on) {
    last.on = on;
    this.button.setAttribute("aria-pressed", String(on));
    this.place.classList.toggle("mapped", on);
    for (const part of [this.map, this.strength, this.legend]) show(part, on);
    if (on && !this.#fetched) this.#fetch();
  }

  #weigh() {
    last.strength = Number(this.range.value);
    this.range.setAttribute("aria-valuetext", `${last.strength} %`);
    this.map.style.opacity = String(last.strength / 100);
  }

  async #fetch() {
    const { signal } = this;
    this.#fetched = true;
    tell(this.told, "Drawing the map…");
    try {
      const blob = await api.viewed(this.job.id, "overlay", signal);
      const legend = JSON.parse(await (await api.viewed(this.job.id, "legend", signal)).text());
      if (signal.aborted) return;
      const url = URL.createObjectURL(blob);
      signal.addEventListener("abort", () => URL.revokeObjectURL(url));
      this.map.src = url;
      tell(this.told, legend.told);
      this.colours.replaceChildren(...explained(legend));
    } catch (cause) {
      if (signal.aborted) return;
      this.#fetched = false; // another press is another try
      tell(this.told, cause.status === 404 ? "The map of this picture could not be drawn." : cause.message);
    }
  }
}

/** What the colours mean, as elements. */
function explained({ keys, scale, notes }) {
  const parts = [];
  if (keys.length) {
    parts.push(make("ul", { className: "keys" }, ...keys.map(({ colour, label }) => make("li", {}, swatch(colour), label))));
  }
  if (scale) parts.push(ramp(scale));
  if (notes.length) parts.push(make("ul", { className: "notes" }, ...notes.map((note) => make("li", {}, note))));
  return parts;
}

function swatch([red, green, blue]) {
  const patch = make("span", { className: "swatch", "aria-hidden": "true" });
  patch.style.backgroundColor = `rgb(${red} ${green} ${blue})`;
  return patch;
}

/** A scale of amounts: colours from left to right, and numbers below them. */
function ramp({ colours, ticks, unit }) {
  const band = make("span", { className: "band", "aria-hidden": "true" });
  const stops = colours.map(([red, green, blue, alpha]) => `rgb(${red} ${green} ${blue} / ${alpha / 255})`);
  band.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
  const numbers = ticks.map(({ at, label }) => {
    const number = make("span", { className: at < 0.1 ? "first" : at > 0.9 ? "last" : "" }, label);
    number.style.left = `${100 * at}%`;
    return number;
  });
  const said = `A scale from ${ticks[0].label} to ${ticks.at(-1).label} ${unit}`;
  return make("div", { className: "ramp", role: "img", "aria-label": said }, band,
    make("span", { className: "ticks", "aria-hidden": "true" }, ...numbers), make("span", { className: "small", "aria-hidden": "true" }, unit));
}
