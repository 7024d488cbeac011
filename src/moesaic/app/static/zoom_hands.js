// What a user does to the zoom's canvas: wheel, drag, pinch, double click and keys.

const LINE = 16; // px of a wheel that counts in lines
const WHEEL = 0.0016; // of the logarithm of scale, a px of the wheel
const PINCH = 0.01; // the same for a pinch on a trackpad, which browsers report as ctrl and wheel
const MOST = 240; // px of one turn of a wheel
const STEP = 80; // CSS px, by an arrow key
const CLOSER = 2; // by a key or a double click
const LETS_GO = 60; // ms; a pointer that rested that long before it was lifted throws nothing
const THROWN = 0.15; // CSS px a ms

export class Hands {
  constructor(canvas, zoom, signal) {
    this.canvas = canvas;
    this.zoom = zoom;
    this.pointers = new Map(); // where each finger, or the mouse, is
    this.speed = { x: 0, y: 0, at: 0 };
    canvas.style.touchAction = "none"; // touch moves the picture, not the page
    const on = (name, act, options) => canvas.addEventListener(name, act.bind(this), { signal, ...options });
    on("wheel", this.wheel, { passive: false });
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.up);
    on("dblclick", this.twice);
    on("keydown", this.key);
  }

  /** A place of the pointer, CSS px from the canvas's corner. */
  at(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  wheel(event) {
    event.preventDefault();
    const unit = [1, LINE, this.canvas.clientHeight][event.deltaMode] ?? 1;
    const turned = Math.max(-MOST, Math.min(MOST, event.deltaY * unit));
    this.zoom.zoomBy(Math.exp(-turned * (event.ctrlKey ? PINCH : WHEEL)), { ...this.at(event), glide: false });
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    this.speed = { x: 0, y: 0, at: event.timeStamp };
    this.zoom.halt();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.at(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other && this.pointers.size === 2) {
      const apart = (place) => Math.max(8, Math.hypot(place.x - other.x, place.y - other.y));
      const [x, y] = [(now.x + other.x) / 2, (now.y + other.y) / 2];
      this.zoom.moveBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      this.zoom.zoomBy(apart(now) / apart(before), { x, y, glide: false });
    } else if (!other) {
      this.zoom.moveBy(now.x - before.x, now.y - before.y);
      const passed = Math.max(1, event.timeStamp - this.speed.at);
      const fresh = Math.min(1, passed / 40); // a mean over about 40 ms, since single steps jitter
      this.speed.x += fresh * ((now.x - before.x) / passed - this.speed.x);
      this.speed.y += fresh * ((now.y - before.y) / passed - this.speed.y);
      this.speed.at = event.timeStamp;
    }
  }

  up(event) {
    const alone = this.pointers.delete(event.pointerId) && this.pointers.size === 0;
    const { x, y, at } = this.speed;
    this.speed = { x: 0, y: 0, at: event.timeStamp }; // the finger that stays begins anew
    if (!alone || event.type === "pointercancel" || event.timeStamp - at > LETS_GO) return;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    if (Math.hypot(x, y) > THROWN) this.zoom.drift(x, y);
  }

  twice(event) {
    this.zoom.zoomBy(event.shiftKey ? 1 / CLOSER : CLOSER, this.at(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // those are the browser's
    const far = event.shiftKey ? 4 * STEP : STEP;
    const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
    if (moves[event.key]) this.zoom.moveBy(...moves[event.key], { glide: true });
    else if (event.key === "+" || event.key === "=") this.zoom.zoomBy(CLOSER);
    else if (event.key === "-" || event.key === "_") this.zoom.zoomBy(1 / CLOSER);
    else if (event.key === "0" || event.key === "Home") this.zoom.fit();
    else return;
    event.preventDefault();
  }
}
