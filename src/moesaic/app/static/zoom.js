// Endless zoom: a mixture of kernels drawn at any scale, in the browser, from the kernels themselves.
//
// A view is { left, top, scale }: which place of the picture lies at the canvas's left top corner, in px of the picture,
// and how many CSS px one px of the picture takes. Nothing is drawn unless something changed. While a view moves it may
// be drawn at a half or a quarter of the resolution, as fast as the graphics are; as soon as it rests it is drawn sharp.

import { Ellipses } from "./zoom_ellipses.js";
import { Hands } from "./zoom_hands.js";
import { readKernels } from "./zoom_kernels.js";
import { clamp } from "./zoom_numbers.js";
import { Pace } from "./zoom_pace.js";
import { Painter } from "./zoom_painter.js";
import { Scene } from "./zoom_scene.js";

const BUDGET = 6; // ms a frame for lists and entries; what is not ready then waits for the next frame
const CLOSEST = 1024; // CSS px a px of the picture, or times the scale at which it fits, whichever is more
const FARTHEST = 0.5; // times the scale at which it fits
const RESTS = 140; // ms without a change, after which a view is drawn sharp
const GLIDE = 180; // ms for a step by key, button or double click
const CONTEXT = { alpha: true, antialias: false, depth: false, stencil: false, powerPreference: "high-performance" };

export class Zoom {
  #canvas;
  #gl = null;
  #onview;
  #kernels = null;
  #scene = null;
  #painter = null;
  #overlay = null;
  #ellipses = false;
  #beyond = false;
  #view = { left: 0, top: 0, scale: 1 };
  #fitted = true; // until the user moves, a canvas of another size shows the whole picture again
  #glide = null;
  #drift = null; // CSS px a ms, after a drag
  #moved = -Infinity;
  budget = BUDGET;
  #changed = false; // since the last frame
  #waiting = null; // the next frame
  #resting = null; // the timer that asks for a sharp picture
  #shown = false; // anything at all
  #sharp = false; // all lists ready, at full resolution
  #callers = []; // of settled()
  #frames = 0;
  #milliseconds = 0;
  #pace = new Pace();
  #ends = new AbortController();

  /** Whether this browser can draw it at all. */
  static supported() {
    try {
      const gl = document.createElement("canvas").getContext("webgl2", CONTEXT);
      gl?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers give out few contexts
      return Boolean(gl);
    } catch {
      return false;
    }
  }

  constructor(canvas, { onview = () => {} } = {}) {
    this.#canvas = canvas;
    this.#onview = onview;
    this.#gl = canvas.getContext("webgl2", CONTEXT);
    if (!this.#gl) throw new Error("This browser cannot draw the endless picture: it lacks WebGL 2.");
    const { signal } = this.#ends;
    canvas.addEventListener("webglcontextlost", (event) => this.#lost(event), { signal });
    canvas.addEventListener("webglcontextrestored", () => this.#restored(), { signal });
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(canvas);
    this.#watchRatio();
    new Hands(canvas, this, signal);
  }

  /** Show a mixture, all of it; throws an Error with a sentence for the user if the bytes are damaged. */
  load(buffer) {
    this.#kernels = readKernels(buffer);
    this.#shown = false;
    this.#sharp = false;
    this.#setUp(true);
    this.#size();
    this.fit({ glide: false });
  }

  get view() {
    return { ...this.#view };
  }

  /** The canvas's size in CSS px. */
  get extent() {
    return [this.#canvas.clientWidth || 1, this.#canvas.clientHeight || 1];
  }

  /** The scale at which all of the picture is seen. */
  get whole() {
    const [width, height] = this.extent;
    return this.#kernels ? Math.min(width / this.#kernels.width, height / this.#kernels.height) : 1;
  }

  get ellipses() {
    return this.#ellipses;
  }

  /** Whether kernels are shown, as ellipses at one standard deviation. */
  set ellipses(wanted) {
    this.#ellipses = Boolean(wanted);
    this.#request();
  }

  get beyond() {
    return this.#beyond;
  }

  /** Whether the picture goes on outside its edges, where its kernels go on; views have no limits then. */
  set beyond(wanted) {
    this.#beyond = Boolean(wanted);
    this.#sharp = false;
    this.#request();
  }

  /** How many places in lists of kernels are kept at most, 4 bytes each; what is beyond is made anew or done without. */
  set room(places) {
    this.#scene.lists.room = places;
  }

  /** What the resolution of a moving picture may be divided by at most, where the graphics are slow: 1, 2 or 4. */
  set coarsest(divisor) {
    this.#pace.coarsest = divisor;
    this.#pace.divisor = Math.min(this.#pace.divisor, divisor);
  }

  /** Go to a view at once. */
  show(view) {
    this.#glide = this.#drift = null;
    this.#go(view);
    this.#fitted = false;
  }

  /** Show the whole picture. */
  fit({ glide = true } = {}) {
    if (!this.#kernels) return;
    const scale = this.whole;
    const [width, height] = this.extent;
    const view = {
      scale,
      left: (this.#kernels.width - width / scale) / 2,
      top: (this.#kernels.height - height / scale) / 2,
    };
    if (glide) this.#glideTo(view);
    else this.show(view);
    this.#fitted = true;
  }

  /** Come closer by a factor, or go back by one below 1; the place under (x, y), CSS px, stays: the middle by default. */
  zoomBy(factor, { x = this.extent[0] / 2, y = this.extent[1] / 2, glide = true } = {}) {
    const from = (glide && this.#glide?.to) || this.#view;
    const scale = this.#limit(from.scale * factor);
    const view = { scale, left: from.left + x / from.scale - x / scale, top: from.top + y / from.scale - y / scale };
    if (glide) this.#glideTo(view);
    else this.show(view);
    this.#fitted = false;
  }

  /** Move what is seen by CSS px. */
  moveBy(dx, dy, { glide = false } = {}) {
    const from = (glide && this.#glide?.to) || this.#view;
    const view = { scale: from.scale, left: from.left - dx / from.scale, top: from.top - dy / from.scale };
    if (glide) this.#glideTo(view);
    else this.show(view);
  }

  /** Go on moving after a drag, ever slower; CSS px a ms. */
  drift(vx, vy) {
    this.#drift = { vx, vy, at: performance.now() };
    this.#request();
  }

  /** Stop whatever moves by itself. */
  halt() {
    this.#glide = this.#drift = null;
  }

  /** Draw the view now, sharp, however long it takes. */
  draw() {
    if (!this.#painter) return;
    this.#size();
    this.#paint(1, Infinity);
  }

  /** The view as pixels of the canvas, drawn now: premultiplied RGBA in rows from the top. */
  readPixels() {
    this.draw();
    return { width: this.#canvas.width, height: this.#canvas.height, data: this.#painter?.read() ?? new Uint8Array() };
  }

  /** Resolves when the view rests and is drawn sharp. */
  settled() {
    return this.#sharp && !this.#waiting ? Promise.resolve() : new Promise((resolve) => this.#callers.push(resolve));
  }

  /** What drawing the last frame took: for benchmarks. */
  get figures() {
    const { cells = 0, work = 0, lists } = this.#scene ?? {};
    const pixels = this.#canvas.width * this.#canvas.height;
    const { frames, milliseconds } = { frames: this.#frames, milliseconds: this.#milliseconds };
    return { frames, milliseconds, cells, work, pixels, places: lists?.held ?? 0, room: lists?.room ?? 0, divisor: this.#pace.divisor };
  }

  /** Give everything back; the canvas can be thrown away. */
  dispose() {
    this.#ends.abort();
    this.observer.disconnect();
    cancelAnimationFrame(this.#waiting);
    clearTimeout(this.#resting);
    this.#painter?.dispose();
    this.#overlay?.dispose();
    this.#painter = this.#overlay = this.#scene = this.#kernels = null;
    this.#gl?.getExtension("WEBGL_lose_context")?.loseContext();
    for (const call of this.#callers.splice(0)) call();
  }

  #setUp(anew) {
    if (!anew && !this.#kernels) return;
    this.#painter?.dispose();
    this.#overlay?.dispose();
    this.#painter = new Painter(this.#gl, this.#kernels);
    this.#overlay = new Ellipses(this.#gl, this.#kernels);
    if (anew) this.#scene = new Scene(this.#painter, this.#kernels);
    else this.#scene.renew(this.#painter);
  }

  #lost(event) {
    event.preventDefault(); // else it never comes back
    this.#painter = this.#overlay = null;
  }

  #restored() {
    this.#setUp(false);
    this.#sharp = false;
    this.#request();
  }

  #watchRatio() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    const { signal } = this.#ends;
    query.addEventListener("change", () => { this.#watchRatio(); this.#resize(); }, { once: true, signal });
  }

  /** Give the canvas as many pixels as it takes on the screen; whether they changed. */
  #size() {
    const [width, height] = this.extent.map((side) => Math.max(1, Math.round(side * devicePixelRatio)));
    if (this.#canvas.width === width && this.#canvas.height === height) return false;
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#sharp = false;
    return true;
  }

  #resize() {
    if (!this.#kernels) return;
    if (this.#fitted) this.fit({ glide: false });
    else this.#go(this.#view);
  }

  #limit(scale) {
    return clamp(scale, FARTHEST * this.whole, Math.max(CLOSEST, CLOSEST * this.whole));
  }

  #go(view) {
    this.#view = this.#kernels && !this.#beyond ? this.#within(view) : { ...view };
    this.#moved = performance.now();
    this.#changed = true;
    this.#sharp = false;
    this.#request();
  }

  /** A view near another, in which the picture cannot be lost. */
  #within({ left, top, scale }) {
    scale = this.#limit(scale);
    const kept = (start, extent, side) => {
      const seen = extent / scale;
      if (side <= seen) return (side - seen) / 2;
      return clamp(start, -seen / 2, side - seen / 2);
    };
    const [width, height] = this.extent;
    return { scale, left: kept(left, width, this.#kernels.width), top: kept(top, height, this.#kernels.height) };
  }

  #glideTo(view) {
    this.#drift = null;
    const to = this.#beyond ? view : this.#within(view);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.#go(to);
      return;
    }
    this.#glide = { from: this.#view, to, began: performance.now() };
    this.#request();
  }

  /** Where what moves by itself is by now. */
  #advance(now) {
    if (this.#glide) {
      const { from, to, began } = this.#glide;
      const part = clamp((now - began) / GLIDE, 0, 1);
      this.#go(part < 1 ? between(from, to, 1 - (1 - part) ** 3) : to);
      if (part === 1) this.#glide = null;
    } else if (this.#drift) {
      const { vx, vy, at } = this.#drift;
      const passed = Math.max(0, now - at);
      const [left, top] = [vx * passed, vy * passed];
      const slower = Math.exp(-passed / 220);
      this.moveBy(left, top);
      if (Math.hypot(vx, vy) * slower > 0.02) this.#drift = { vx: vx * slower, vy: vy * slower, at: Math.max(now, at) };
      this.#request();
    }
  }

  #request() {
    if (this.#waiting === null && !this.#ends.signal.aborted) {
      const asked = performance.now();
      this.#waiting = requestAnimationFrame((now) => this.#frame(now, performance.now() - asked));
    }
  }

  /** `waited` ms after it was asked for: longer than the screen takes, if the graphics are still busy. */
  #frame(now, waited) {
    this.#waiting = null;
    if (!this.#painter || !this.#kernels) return;
    this.#advance(now);
    this.#size();
    const moving = this.#changed || performance.now() - this.#moved < RESTS;
    this.#changed = false;
    if (moving) this.#pace.moving(waited);
    else this.#pace.rests();
    this.#paint(moving && this.#shown ? this.#pace.divisor : 1, this.budget);
  }

  #paint(divisor, budget) {
    const began = performance.now();
    const { width, height } = this.#canvas;
    const ratio = devicePixelRatio;
    const { left, top, scale } = this.#view;
    const [across, down] = [Math.ceil(width / divisor), Math.ceil(height / divisor)];
    this.#scene.beyond = this.#beyond;
    const view = { left, top, scale: (scale * ratio) / divisor, width: across, height: down };
    // a picture with holes is worse than the one before, which is shown instead; at first there is none
    let ready = this.#scene.prepare(view, began + budget);
    if (!ready && this.#shown && this.#scene.holes) this.#present(view);
    else if (ready || this.#shown) {
      ready = this.#scene.draw(view, [width, height], this.#shown ? began + budget : Infinity);
      if (!this.#scene.holes) this.#painter.view = view;
      if (ready && divisor === 1 && this.#isWhole(view)) this.#painter.keepBase(view);
      this.#present(view);
    }
    this.#sharp = ready && divisor === 1;
    this.#milliseconds = performance.now() - began;
    this.#frames++;
    this.#onview({ ...this.#view, milliseconds: this.#milliseconds, frames: this.#frames });
    clearTimeout(this.#resting);
    if (!ready || this.#glide || this.#drift) this.#request();
    else if (!this.#sharp) this.#resting = setTimeout(() => this.#request(), RESTS);
    else if (!this.#waiting) for (const call of this.#callers.splice(0)) call();
  }

  /** Whether a view shows all of the picture, finer than any before. */
  #isWhole({ left, top, scale, width, height }) {
    const { width: across, height: down } = this.#kernels;
    const fits = left <= 0 && top <= 0 && left + width / scale >= across && top + height / scale >= down;
    return fits && scale > (this.#painter.baseView?.scale ?? 0);
  }

  #present(view) {
    const { width, height } = this.#canvas;
    const { left, top, scale } = this.#view;
    const pixels = scale * devicePixelRatio;
    const { width: across, height: down } = this.#kernels;
    const whole = this.#beyond
      ? [0, 0, width, height]
      : [-left * pixels, -top * pixels, (across - left) * pixels, (down - top) * pixels];
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    this.#painter.show([width, height], view, pixels, whole, devicePixelRatio, dark ? [0.16, 0.24] : [0.8, 0.95]);
    if (this.#ellipses) this.#overlay.draw({ left, top, scale: pixels, width, height }, devicePixelRatio);
    this.#shown = true;
  }
}

/** A view part of the way to another: scales by equal factors in equal times, around the place that stays. */
function between(from, to, part) {
  const scale = from.scale * (to.scale / from.scale) ** part;
  // the place that both views show at the same spot moves along a straight line; where scales agree, so does the corner
  const same = Math.abs(to.scale / from.scale - 1) < 1e-9;
  const share = same ? part : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
  return { scale, left: from.left + (to.left - from.left) * share, top: from.top + (to.top - from.top) * share };
}
