// Two pictures of one size, one over the other, parted by a line that a mouse, a finger or the arrow keys move. Both can
// be brought closer together: then a drag on the pictures moves them, and the line still parts them.

import { make } from "./dom.js";
import { Look } from "./look.js";

const STEP = 2; // per cent, by an arrow key
const LEAP = 10; // by Page Up and Page Down

export class Slider {
  #at = 50; // per cent of the width that shows the picture before
  #look = new Look();

  /** `names` are the words for left and right; `width` and `height` in px of the pictures. */
  constructor({ before, after, names = ["Before", "After"], width, height, closer = () => {} }) {
    this.names = names;
    this.closer = closer;
    this.under = make("img", { src: after, alt: `${names[1]}: the whole picture`, draggable: false, className: "layer" });
    this.over = make("img", { src: before, alt: `${names[0]}: the whole picture`, draggable: false, className: "layer" });
    this.clip = make("div", { className: "clip" }, this.over);
    this.handle = make("div", {
      className: "handle",
      role: "slider",
      tabIndex: 0,
      "aria-label": `${names[0]} and ${names[1].toLowerCase()}`,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-orientation": "horizontal",
    }, make("span", { className: "grip", "aria-hidden": "true" }));
    const tags = names.map((name, side) => make("span", { className: `tag side${side}`, "aria-hidden": "true" }, name));
    this.glass = make("div", { className: "glass" }); // what lies over both, such as a map
    this.element = make("div", { className: "slider" }, this.under, this.clip, this.glass, ...tags, this.handle);
    this.element.style.setProperty("--ratio", width / height);
    this.element.style.setProperty("--wide", `${width}px`);
    this.tags = tags;
    this.width = width;
    this.#listen();
    this.at = 50;
  }

  get at() {
    return this.#at;
  }

  set at(value) {
    this.#at = Math.min(Math.max(value, 0), 100);
    const shown = Math.round(this.#at);
    this.element.style.setProperty("--at", `${this.#at}%`);
    this.handle.setAttribute("aria-valuenow", String(shown));
    this.handle.setAttribute("aria-valuetext", `${shown} % ${this.names[0].toLowerCase()}, ${100 - shown} % ${this.names[1].toLowerCase()}`);
    this.tags[0].classList.toggle("away", this.#at < 14);
    this.tags[1].classList.toggle("away", this.#at > 86);
  }

  get scale() {
    return this.#look.scale;
  }

  /** One pixel of the picture on one of the screen, or four times closer where that is no closer than the whole. */
  toggleCloser() {
    const box = this.element.getBoundingClientRect();
    const actual = this.width / box.width;
    this.#look.zoom(this.#look.scale > 1 ? 1 : actual > 1.4 ? actual : 4, box.width / 2, box.height / 2, box);
    this.#draw();
  }

  #draw() {
    for (const layer of [this.under, this.over, this.glass]) layer.style.transform = this.#look.transform;
    const close = this.#look.scale > 1;
    this.element.classList.toggle("close", close);
    this.closer(close);
  }

  #listen() {
    const { element, handle } = this;
    let held = null; // {id, pan, x, y}
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || held) return;
      const pan = this.#look.scale > 1 && !handle.contains(event.target);
      held = { id: event.pointerId, pan, x: event.clientX, y: event.clientY };
      element.setPointerCapture(event.pointerId);
      if (!pan) this.#move(event);
      if (!pan) handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => {
      if (event.pointerId !== held?.id) return;
      if (!held.pan) return this.#move(event);
      this.#look.pan(event.clientX - held.x, event.clientY - held.y, element.getBoundingClientRect());
      held.x = event.clientX;
      held.y = event.clientY;
      this.#draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => event.pointerId === held?.id && (held = null));
    }
    element.addEventListener("dblclick", () => this.toggleCloser());
    handle.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP,
        PageDown: -LEAP, PageUp: LEAP, Home: -100, End: 100,
      };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.at = Math.round(this.#at) + moves[event.key];
    });
  }

  #move(event) {
    const box = this.element.getBoundingClientRect();
    this.at = (100 * (event.clientX - box.left)) / box.width;
  }
}
