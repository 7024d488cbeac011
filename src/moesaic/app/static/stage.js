// The stage: the place where the picture is. It shows nothing yet, a picture, or one of the views of a result.

import * as api from "./api.js";
import { Closeup } from "./closeup.js";
import { byId, icon, make, show, tell } from "./dom.js";
import { Overlay } from "./overlay.js";
import { Slider } from "./slider.js";
import { size } from "./words.js";

const VIEWS = {
  compare: "Before and after",
  zoom: "Zoom into it",
  explain: "All the experts",
};

/** The views that a job has, in the order of the buttons; the first one is shown at once. */
export function viewsOf(job) {
  const has = job.result?.views ?? [];
  const mixture = Boolean(job.result?.mixture) || job.verb === "decode";
  const views = [];
  if (mixture) views.push("zoom");
  if (has.includes("before") && has.includes("after")) views.push("compare");
  if (has.includes("explain")) views.push("explain");
  return views;
}

export class Stage {
  #key = null; // what is shown, so that an answer of the server does not draw it anew
  #closeup = null;
  #stop = null; // an AbortController for what is being fetched

  constructor() {
    this.frame = byId("frame");
  }

  empty() {
    this.#clear("empty");
    show(byId("empty"));
    show(byId("shown"), false);
    this.#wide(false);
  }

  /** The picture as it is; `busy` while it is worked on. */
  picture(picture, { busy = false } = {}) {
    const url = picture.url ?? picture.thumb;
    const key = `picture ${picture.name} ${url}`;
    if (this.#key !== key) {
      this.#clear(key);
      this.#open(picture.name);
      show(byId("views"), false);
      this.frame.append(url ? this.#image(url, picture) : this.#placeholder(picture));
      tell(byId("caption"), picture.width ? `${size(picture.width, picture.height)} pixels` : "");
    }
    this.frame.classList.toggle("busy", busy);
  }

  /** A finished job, by one of its views. */
  result(job, view = viewsOf(job)[0] ?? "after") {
    const key = `job ${job.id} ${view}`;
    if (this.#key === key) return;
    this.#clear(key);
    this.#open(job.result.name);
    this.#buttons(job, view);
    if (view === "zoom") this.#zoom(job);
    else if (view === "compare") this.#compare(job);
    else if (view === "explain") this.#explain(job);
    else this.frame.append(this.#image(api.view(job.id, "after"), job.result));
  }

  #clear(key) {
    this.#key = key;
    this.#stop?.abort();
    this.#stop = new AbortController();
    this.#closeup?.dispose();
    this.#closeup = null;
    this.frame.replaceChildren();
    this.frame.className = "frame";
    tell(byId("caption"), "");
  }

  #open(name) {
    show(byId("empty"), false);
    show(byId("shown"));
    byId("name").textContent = name;
    this.#wide(false);
  }

  #wide(wide) {
    byId("main").classList.toggle("zooming", wide);
  }

  #buttons(job, chosen) {
    const views = viewsOf(job);
    const buttons = views.map((view) => make("button", {
      type: "button", "aria-pressed": String(view === chosen), "data-view": view,
      onclick: () => {
        this.result(job, view);
        byId("views").querySelector(`[data-view="${view}"]`)?.focus();
      },
    }, VIEWS[view]));
    byId("views").replaceChildren(...buttons);
    show(byId("views"), views.length > 1);
  }

  #image(url, { name, width, height }) {
    const image = make("img", { src: url, alt: name, className: "whole", draggable: false });
    if (width && height) {
      image.style.setProperty("--ratio", width / height);
      image.style.setProperty("--wide", `${width}px`);
    }
    return image;
  }

  #placeholder(picture) {
    const words = picture.kind === "moe"
      ? "An endless picture. It opens as soon as the server has read it."
      : "This browser cannot show this file. moesaic may still be able to read it.";
    return make("div", { className: "placeholder" }, icon("picture"), make("p", {}, words));
  }

  #compare(job) {
    const closer = make("button", { type: "button", className: "quiet", "aria-pressed": "false" }, "Look closer");
    const slider = new Slider({
      before: api.view(job.id, "before"),
      after: api.view(job.id, "after"),
      width: job.result.width,
      height: job.result.height,
      closer: (close) => {
        closer.setAttribute("aria-pressed", String(close));
        closer.textContent = close ? "See the whole" : "Look closer";
        tell(byId("caption"), close ? "Drag the picture to move it, and the line to compare." : "Drag the line, or move it with the arrow keys.");
      },
    });
    closer.addEventListener("click", () => slider.toggleCloser());
    const tools = make("div", { className: "tools" }, closer);
    this.frame.append(slider.element, tools);
    if (Overlay.of(job)) this.#lay(new Overlay(job, slider.glass, this.#stop.signal), tools, this.frame);
    tell(byId("caption"), "Drag the line, or move it with the arrow keys.");
  }

  /** A map over the picture, with its button among the tools, and its words beside the picture where there is room. */
  #lay(overlay, tools, within) {
    const { signal } = this.#stop;
    const { legend } = overlay;
    const place = () => (document.fullscreenElement?.contains(tools) ? tools.after(legend) : byId("panel").prepend(legend));
    place();
    document.addEventListener("fullscreenchange", place, { signal });
    signal.addEventListener("abort", () => legend.remove());
    tools.append(overlay.button, overlay.strength);
    overlay.listen(within);
  }

  async #explain(job) {
    const { signal } = this.#stop;
    const waiting = make("p", { className: "placeholder", role: "status" }, "Working out who did what…");
    this.frame.append(waiting);
    tell(byId("caption"), "moesaic is a team of specialists. This shows which of them worked, and on what.");
    try {
      const blob = await api.viewed(job.id, "explain", signal);
      if (signal.aborted) return;
      const url = URL.createObjectURL(blob);
      signal.addEventListener("abort", () => URL.revokeObjectURL(url));
      const sheet = make("img", { src: url, className: "sheet", alt: "Which experts worked, and on what, with a legend" });
      waiting.replaceWith(make("div", { className: "sheets", tabIndex: 0, role: "group", "aria-label": "All the experts" }, sheet));
    } catch (cause) {
      if (!signal.aborted) waiting.textContent = cause.message;
    }
  }

  #zoom(job) {
    this.#wide(true);
    const closeup = new Closeup(job);
    this.#closeup = closeup;
    this.frame.append(closeup.element);
    if (Overlay.of(job)) {
      this.#lay(new Overlay(job, closeup.glass, this.#stop.signal), closeup.tools, closeup.element);
    }
    closeup.open(this.#stop.signal);
    tell(byId("caption"), "Scroll, pinch or press + to come closer; drag or use the arrow keys to move. There are no pixels, so it stays sharp.");
  }
}
