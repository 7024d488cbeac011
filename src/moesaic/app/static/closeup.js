// The frame around the endless zoom: its canvas, a label that tells how close one is, and buttons.

import * as api from "./api.js";
import { make, show, tell } from "./dom.js";
import { Tiles } from "./tiles.js";
import { Zoom } from "./zoom.js";

const STEP = 2; // by a press of + or -

export class Closeup {
  #drawing = false;

  constructor(job) {
    this.job = job;
    const button = (label, text, press, more = {}) =>
      make("button", { type: "button", "aria-label": label, title: label, onclick: press, ...more }, text);
    this.canvas = make("canvas", {
      tabIndex: 0,
      role: "img",
      "aria-label": `${job.result.name}, an endless picture. Plus and minus come closer and go back, 0 shows the whole, the arrow keys move.`,
    });
    this.label = make("output", { className: "scale", "aria-live": "off" });
    this.note = make("p", { className: "note", role: "status" }, "Opening the endless picture…");
    this.edges = button("Show the pieces it is made of", "Pieces", () => this.#pieces(), { "aria-pressed": "false" });
    this.glass = make("div", { className: "glass" }); // what lies over the picture, such as a map
    this.tools = make("div", { className: "tools", role: "group", "aria-label": "Zoom" },
      button("Go back", "−", () => this.#by(1 / STEP)),
      this.label,
      button("Come closer", "+", () => this.#by(STEP)),
      button("Show the whole picture", "Fit", () => this.#fit()),
      this.edges);
    if (document.fullscreenEnabled) {
      this.tools.append(button("Fill the screen, or leave that", "Full screen", () => this.#fill()));
    }
    const drawn = job.verb === "decode" ? Number(job.options.scale ?? 1) : 1; // px for each of the mixture
    this.size = [job.result.width, job.result.height].map((side) => Math.round(side / drawn));
    [this.glass.style.width, this.glass.style.height] = this.size.map((side) => `${side}px`);
    this.element = make("div", { className: "closeup" },
      make("div", { className: "pane" }, this.canvas, this.glass), this.note, this.tools);
  }

  /** Fetch the mixture and draw it; a sentence stands in its place where that fails. */
  async open(signal) {
    const { id } = this.job;
    try {
      if (Zoom.supported()) {
        const bytes = await api.kernels(id, signal);
        if (signal.aborted) return;
        this.zoom = new Zoom(this.canvas, { onview: (view) => this.#moved(view) });
        this.zoom.load(bytes);
        tell(this.note, "");
      } else {
        tell(this.note, "This browser has no WebGL2, so moesaic draws what you see. The first time takes a moment…");
        this.zoom = new Tiles(this.canvas, { onview: (view) => this.#moved(view), onfirst: () => tell(this.note, "") });
        show(this.edges, false); // the server draws the picture alone
        this.zoom.load(id, ...this.size);
      }
    } catch (cause) {
      if (!signal.aborted) tell(this.note, `${cause.message} The picture could not be opened for zooming.`);
    }
  }

  dispose() {
    this.zoom?.dispose();
  }

  #moved({ left, top, scale }) {
    this.#busy();
    this.glass.style.transform = `scale(${scale}) translate(${-left}px, ${-top}px)`;
    const map = this.glass.querySelector("img");
    this.glass.classList.toggle("close", scale * this.size[0] > (map?.naturalWidth || Infinity));
    this.label.textContent = `${scale < 9.95 ? scale.toFixed(1) : Math.round(scale).toLocaleString("en")}×`;
  }

  /** Whether the picture is still being drawn, for those who cannot see it. */
  #busy() {
    if (this.#drawing || !this.zoom?.settled) return;
    this.#drawing = true;
    this.canvas.setAttribute("aria-busy", "true");
    this.zoom.settled().then(() => {
      this.#drawing = false;
      this.canvas.setAttribute("aria-busy", "false");
    });
  }

  #by(factor) {
    this.zoom?.zoomBy(factor);
  }

  #fit() {
    this.zoom?.fit();
  }

  #pieces() {
    if (!this.zoom) return;
    const on = this.edges.getAttribute("aria-pressed") !== "true";
    this.edges.setAttribute("aria-pressed", String(on));
    this.zoom.ellipses = on;
  }

  #fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.requestFullscreen().catch(() => tell(this.note, "This browser cannot fill the screen."));
  }
}
