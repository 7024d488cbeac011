// A view drawn: which cells are seen, which list each is drawn with, and what is put off when a frame has no time left.

import { Entries } from "./zoom_entries.js";
import { Lists } from "./zoom_lists.js";
import { clamp, firstPixel } from "./zoom_numbers.js";
import { BATCH, CORNERS, FLOATS } from "./zoom_painter.js";

const SMALL = 12; // px of the target; cells are no smaller
const LARGE = 2048; // px; and no larger, for a float32 to tell their pixels apart
const FEW = 16; // kernels; cells with so few gain nothing by being divided
const MANY = 64; // kernels; longer lists are not drawn with just because better ones are not ready
const LEAST = 4; // lists or entries that a frame makes however late it is, or a slow machine would never come to an end
const ROOT = 256; // px; the plane is not told apart by finer roots than this, however far one is from the picture

export class Scene {
  constructor(painter, kernels) {
    this.painter = painter;
    this.kernels = kernels;
    this.lists = new Lists(kernels);
    this.entries = new Entries(kernels, painter.texels, painter.wide, painter.rows);
    const batch = () => ({ rows: new Float32Array(FLOATS * CORNERS * BATCH), count: 0 });
    this.batches = { plain: batch(), full: batch() };
    this.beyond = false; // whether the picture goes on outside its canvas, as render(region=...) has it
  }

  /** The graphics were lost and are there again: lists are kept, entries are not. */
  renew(painter) {
    this.painter = painter;
    this.entries.reset();
  }

  /**
   * Draw a view: left and top in px of the canvas, scale, width and height in pixels of the target. Works on lists until
   * `deadline` (as performance.now() has it); what is not ready by then is drawn by its forebears' lists, or left out
   * where those are long. True when all was ready.
   */
  draw(view, room, deadline = Infinity) {
    this.painter.begin(view.width, view.height, room);
    return this.go(view, deadline, false);
  }

  /** Only make the lists and entries of a view, until the deadline; true when all are ready. */
  prepare(view, deadline) {
    const ready = this.go(view, deadline, true);
    this.painter.upload(this.entries);
    return ready;
  }

  go(view, deadline, dry) {
    const { lists, kernels } = this;
    this.view = view;
    this.dry = dry;
    this.deadline = deadline;
    this.ready = true;
    this.holes = false; // whether cells were left out
    this.made = 0; // lists and entries
    this.work = 0; // kernels times pixels
    this.cells = 0;
    lists.begin();
    // the box of pixels that are drawn at all, and the box of the plane that holds their centres
    this.box = [0, 0, view.width, view.height];
    if (!this.beyond) {
      const [left, top] = [firstPixel(-view.left * view.scale), firstPixel(-view.top * view.scale)];
      const right = firstPixel((kernels.width - view.left) * view.scale);
      const bottom = firstPixel((kernels.height - view.top) * view.scale);
      this.box = [Math.max(left, 0), Math.max(top, 0), Math.min(right, view.width), Math.min(bottom, view.height)];
    }
    const [left, top, right, bottom] = this.box;
    if (left < right && top < bottom) {
      const side = lists.rootSide(ROOT / view.scale);
      const column = (px) => Math.floor((view.left + px / view.scale) / side);
      const row = (px) => Math.floor((view.top + px / view.scale) / side);
      for (let y = row(top + 0.5); y <= row(bottom - 0.5); y++) {
        for (let x = column(left + 0.5); x <= column(right - 0.5); x++) {
          const known = lists.root(side, x, y, false);
          if (!known) this.made++;
          const root = known ?? lists.root(side, x, y, !this.late());
          if (root) this.visit(root, null);
          else this.holes = true;
        }
      }
      if (!dry) this.flush();
    }
    this.ready &&= !this.holes;
    return this.ready;
  }

  late() {
    return this.made > LEAST && performance.now() > this.deadline;
  }

  /** Draw a cell, or its children; `packed` is the nearest forebear whose entries are on the GPU. */
  visit(cell, packed) {
    const { view, box, lists } = this;
    cell.stamp = lists.turn;
    const x0 = (cell.x0 - view.left) * view.scale;
    const y0 = (cell.y0 - view.top) * view.scale;
    const side = cell.side * view.scale;
    const left = Math.max(firstPixel(x0), box[0]);
    const top = Math.max(firstPixel(y0), box[1]);
    // as the neighbours compute their left and top, to the bit: no pixel may fall between two cells
    const right = Math.min(firstPixel((cell.x0 + cell.side - view.left) * view.scale), box[2]);
    const bottom = Math.min(firstPixel((cell.y0 + cell.side - view.top) * view.scale), box[3]);
    if (left >= right || top >= bottom) return;
    if (cell.place >= 0) packed = cell;
    const length = cell.list.length;
    if (side > LARGE || (length > FEW && side >= 2 * SMALL)) {
      if (!cell.children) this.made++;
      const children = cell.children ?? (this.late() ? undefined : lists.divide(cell));
      if (children) {
        for (let k = 0; k < 4; k++) this.visit(children[k], packed);
        return;
      }
      if (children === undefined) {
        this.ready = false;
        if (this.dry && length > MANY && !(packed && packed.list.length <= MANY)) this.holes = true;
      } // where there is no room for more lists, this one has to do
    }
    if (cell.place < 0) this.made++;
    if (this.dry) {
      if (cell.place < 0 && this.late()) {
        this.ready = false;
        if (length > MANY && side >= 2 * SMALL && !(packed && packed.list.length <= MANY)) this.holes = true;
      } else this.entries.want(cell);
      return;
    }
    let by = cell;
    if (cell.place < 0 && this.late() && packed && packed.list.length <= MANY) {
      by = packed;
      this.ready = false;
    } else if (!this.ready && length > MANY && side >= 2 * SMALL) {
      this.holes = true;
      return;
    }
    this.add(by, left, top, right, bottom);
  }

  add(cell, left, top, right, bottom) {
    const { view, entries, batches } = this;
    const batch = batches[entries.plain(cell) ? "plain" : "full"];
    if (batch.count === BATCH) this.flush();
    if (!entries.want(cell)) {
      this.flush(); // what was to be drawn by the oldest entries is drawn, so that they may go
      entries.want(cell);
    }
    const middle = cell.side / 2;
    // the corner of a pixel near the cell's middle, so that what is told in float32 is small
    const x = clamp(Math.round((cell.x0 + middle - view.left) * view.scale), left, right);
    const y = clamp(Math.round((cell.y0 + middle - view.top) * view.scale), top, bottom);
    const { rows } = batch;
    const first = FLOATS * CORNERS * batch.count++;
    let at = first;
    rows[at++] = left;
    rows[at++] = top;
    rows[at++] = right;
    rows[at++] = bottom;
    rows[at++] = x;
    rows[at++] = y;
    rows[at++] = view.left + x / view.scale - (cell.x0 + middle);
    rows[at++] = view.top + y / view.scale - (cell.y0 + middle);
    rows[at++] = cell.place;
    rows[at++] = cell.list.length;
    rows.copyWithin(at, first, at);
    rows.copyWithin(at + FLOATS, first, at + FLOATS);
    this.work += cell.list.length * (right - left) * (bottom - top);
    this.cells++;
  }

  /** Draw what has been gathered. */
  flush() {
    this.painter.upload(this.entries);
    for (const [kind, batch] of Object.entries(this.batches)) {
      this.painter.cells(kind, batch.rows, batch.count, 1 / this.view.scale, this.entries);
      batch.count = 0;
    }
  }
}
