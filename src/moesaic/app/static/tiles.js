// Zooming where the browser has no WebGL2: the server draws what is in sight. The same calls as those of Zoom.

import { tile } from "./api.js";

const PIXELS = 1024 * 1024; // what the server draws at once
const SETTLED = 140; // ms without a move before the server is asked
const CLOSEST = 4096;

export class Tiles {
  #view = { left: 0, top: 0, scale: 1 }; // of the canvas of the mixture; scale: CSS px for each of its px
  #drawn = null; // {image, region}
  #timer = null;
  #asked = null; // an AbortController
  #stop = new AbortController();

  /** `onfirst` is told when there is something to be seen. */
  constructor(canvas, { onview = () => {}, onfirst = () => {} } = {}) {
    Object.assign(this, { canvas, onview, onfirst });
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(canvas);
    this.#listen();
  }

  /** `job` instead of bytes: the server keeps the mixture. */
  load(job, width, height) {
    Object.assign(this, { job, width, height });
    this.fit();
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    const scale = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.show({ left: (this.width - clientWidth / scale) / 2, top: (this.height - clientHeight / scale) / 2, scale });
  }

  show({ left, top, scale }) {
    const { clientWidth, clientHeight } = this.canvas;
    const whole = Math.min(clientWidth / this.width, clientHeight / this.height);
    const next = Math.min(Math.max(scale, whole), CLOSEST);
    const keep = (from, extent, shown) =>
      shown >= extent ? (extent - shown) / 2 : Math.min(Math.max(from, 0), extent - shown);
    this.#view = {
      left: keep(left, this.width, clientWidth / next),
      top: keep(top, this.height, clientHeight / next),
      scale: next,
    };
    this.draw();
    this.onview(this.#view);
  }

  /** By a factor, with a point of the canvas kept where it is. */
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const { left, top, scale } = this.#view;
    const whole = Math.min(this.canvas.clientWidth / this.width, this.canvas.clientHeight / this.height);
    const next = Math.min(Math.max(scale * factor, whole), CLOSEST);
    this.show({ left: left + x / scale - x / next, top: top + y / scale - y / next, scale: next });
  }

  draw() {
    if (!this.job) return;
    const { canvas } = this;
    const dense = Math.min(devicePixelRatio, 2);
    const [wide, tall] = [Math.round(canvas.clientWidth * dense), Math.round(canvas.clientHeight * dense)];
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, wide, tall);
    if (this.#drawn) {
      const { image, region } = this.#drawn;
      const zoom = this.#view.scale * dense;
      pen.drawImage(image, (region.left - this.#view.left) * zoom, (region.top - this.#view.top) * zoom,
        (region.right - region.left) * zoom, (region.bottom - region.top) * zoom);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fetch(dense), SETTLED);
  }

  async #fetch(dense) {
    const { left, top, scale } = this.#view;
    const region = {
      left: Math.max(left, 0),
      top: Math.max(top, 0),
      right: Math.min(left + this.canvas.clientWidth / scale, this.width),
      bottom: Math.min(top + this.canvas.clientHeight / scale, this.height),
    };
    if (this.#drawn && Object.keys(region).every((side) => Math.abs(region[side] - this.#drawn.region[side]) < 0.01 / scale)) return;
    let width = (region.right - region.left) * scale * dense;
    let height = (region.bottom - region.top) * scale * dense;
    const shrink = Math.min(1, Math.sqrt(PIXELS / (width * height)));
    [width, height] = [width, height].map((side) => Math.max(1, Math.floor(side * shrink)));
    this.#asked?.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    try {
      const answer = await fetch(tile(this.job, region, width, height), { signal });
      if (!answer.ok) return;
      const image = await createImageBitmap(await answer.blob());
      if (signal.aborted) return image.close();
      if (!this.#drawn) this.onfirst();
      this.#drawn?.image.close();
      this.#drawn = { image, region };
      this.draw();
    } catch {
      // moved on, or the server is away: what is drawn stays
    }
  }

  #listen() {
    const { canvas } = this;
    const { signal } = this.#stop;
    const held = new Map(); // id of a pointer -> {x, y}
    const on = (kind, heard, options = {}) => canvas.addEventListener(kind, heard, { signal, ...options });
    const spread = () => {
      const [a, b] = [...held.values()];
      return b ? Math.hypot(a.x - b.x, a.y - b.y) : null;
    };
    on("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.offsetX, event.offsetY);
    }, { passive: false });
    on("dblclick", (event) => this.zoomBy(2, event.offsetX, event.offsetY));
    on("pointerdown", (event) => {
      held.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      canvas.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const apart = spread();
      held.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      const { left, top, scale } = this.#view;
      if (apart) this.zoomBy(spread() / apart, event.offsetX, event.offsetY);
      else this.show({ left: left - (event.offsetX - before.x) / scale, top: top - (event.offsetY - before.y) / scale, scale });
    });
    for (const end of ["pointerup", "pointercancel"]) on(end, (event) => held.delete(event.pointerId));
    on("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { left, top, scale } = this.#view;
      const step = 60 / scale;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (event.key in moves) this.show({ left: left + moves[event.key][0], top: top + moves[event.key][1], scale });
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
  }

  dispose() {
    clearTimeout(this.#timer);
    this.#asked?.abort();
    this.#stop.abort();
    this.resized.disconnect();
  }
}
