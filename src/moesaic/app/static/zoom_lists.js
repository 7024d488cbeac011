// Which kernels matter where: a quadtree of square cells, each with the list of the kernels that can be seen in it.
//
// As in moesaic/mixture/backends/cover.py a kernel is judged by its largest logit in a cell against the cell's bar, a lower
// bound on the largest logit of every point there: at no point can it weigh more than exp(largest - bar) of the best.
// Where the CPU leaves out what falls short by a margin that suffices for any number of kernels, here those bounds are
// added up, times how far a kernel's values can pull, and the least kernels are left out while the sum stays below ERROR.
// That halves the lists, and a picture still differs by a quarter of a level of 8 bits at the very most. A child chooses
// from its parent's list and takes over what the parent lost.

const BLOCKS = 4; // along each side of a cell; a bar for the whole cell at once would be loose
const HOPEFUL = 12; // nats; kernels that stay this far below the cell's largest logit are not tried for the bar
const ERROR = 1 / 1024; // of values in [0, 1], by all that is left out
const BINS = 4; // to the nat, in which kernels are sorted by how far they fall short

/** One cell and what can be seen in it. */
class Cell {
  constructor(x0, y0, side, list, bar, top, lost) {
    this.x0 = x0; // px of the canvas; exact, since sides are powers of two
    this.y0 = y0;
    this.side = side;
    this.list = list; // Int32Array of kernels
    this.bar = bar; // at every point of the cell some kernel's logit is at least this
    this.top = top; // and none is above this
    this.lost = lost; // a bound on the error by kernels that are not in the list
    this.children = null;
    this.stamp = 0; // the turn in which it was last asked for
    this.place = -1; // where its entries lie on the GPU, and of which sort they are: see zoom_entries.js
    this.turn = -1;
    this.plain = undefined;
  }
}

export class Lists {
  /** `room` bounds how many places in lists are kept (4 bytes each). */
  constructor(kernels, room = 6e6) {
    this.kernels = kernels;
    this.room = room;
    this.pull = pull(kernels);
    // what falls short by this much is not even counted: together it is less than exp(-12)
    this.margin = Math.log(kernels.count) + 12 + Math.log(Math.max(1, kernels.order ? worst(kernels) : this.pull));
    this.bins = new Float64Array(Math.ceil(this.margin * BINS) + 1);
    this.share = Float64Array.from(this.bins, (_, bin) => Math.exp(-bin / BINS));
    this.side = 2 ** Math.ceil(Math.log2(Math.max(kernels.width, kernels.height)));
    this.roots = new Map(); // by "side,column,row"; most views need one alone
    this.held = 0; // places in all lists
    this.turn = 0;
    const everyone = Int32Array.from({ length: kernels.count }, (_, j) => j);
    this.all = new Cell(0, 0, Infinity, everyone, -Infinity, Infinity, 0);
    this.ids = new Int32Array(kernels.count);
    this.tops = new Float64Array(kernels.count);
    this.bars = new Float64Array(BLOCKS * BLOCKS);
    this.corners = new Float64Array((BLOCKS + 1) * (BLOCKS + 1));
  }

  /** Begin a turn: what is asked for from now on is worth keeping. */
  begin() {
    this.turn++;
  }

  /** The side of the roots for a view in which they shall take at least `wanted` px of the canvas. */
  rootSide(wanted) {
    return this.side * 2 ** Math.max(0, Math.ceil(Math.log2(wanted / this.side)));
  }

  /** The root cell of a side, in a column and row of the plane, made if `make`; else null where it is not there. */
  root(side, column, row, make = true) {
    const key = `${side},${column},${row}`;
    let cell = this.roots.get(key);
    if (!cell && make) {
      cell = this.choose(this.all, column * side, row * side, side);
      this.roots.set(key, cell);
    }
    if (cell) cell.stamp = this.turn;
    return cell ?? null;
  }

  /** The four children of a cell, made where they are not there; null where there is no room for them. */
  divide(cell) {
    if (!cell.children) {
      if (this.held + 4 * cell.list.length > this.room) this.sweep();
      if (this.held + 4 * cell.list.length > this.room) return null;
      const { x0, y0 } = cell;
      const half = cell.side / 2;
      cell.children = [0, 1, 2, 3].map((k) =>
        this.choose(cell, x0 + (k & 1) * half, y0 + (k >> 1) * half, half),
      );
    }
    return cell.children;
  }

  /** Forget what this turn did not ask for. */
  sweep() {
    for (const [key, root] of this.roots) {
      this.prune(root);
      if (root.stamp !== this.turn) {
        this.held -= root.list.length;
        this.roots.delete(key);
      }
    }
  }

  prune(cell) {
    if (!cell.children) return;
    for (const child of cell.children) this.prune(child);
    if (cell.children.every((child) => child.stamp !== this.turn && !child.children)) {
      for (const child of cell.children) this.held -= child.list.length;
      cell.children = null;
    }
  }

  /** A new cell: those of another cell's list that can be seen in a square inside it. */
  choose(from, x0, y0, side) {
    const { ids, tops } = this;
    const { x, y, f0, f1, f2, priors } = this.kernels;
    const { list } = from;
    const enough = from.bar - this.margin;
    let count = 0;
    let top = -Infinity;
    for (let i = 0; i < list.length; i++) {
      const j = list[i];
      const largest = priors[j] - nearest(f0[j], f1[j], f2[j], x0 - x[j], y0 - y[j], side) / 2;
      if (largest >= enough) {
        ids[count] = j;
        tops[count++] = largest;
        if (largest > top) top = largest;
      }
    }
    const bar = Math.max(from.bar, this.raise(count, top, x0, y0, side));
    let lost = from.lost * Math.exp(from.bar - bar) || 0; // 0 times infinity at the root
    const [short, dropped] = this.spare(count, bar, ERROR - lost, x0, y0, side);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (bar - tops[i] < short) ids[kept++] = ids[i];
    }
    lost += dropped;
    this.held += kept;
    return new Cell(x0, y0, side, ids.slice(0, kept), bar, top, lost);
  }

  /** How far short of the bar a kernel must fall to be left out, so that the error stays within `most`; and the error. */
  spare(count, bar, most, x0, y0, side) {
    const { ids, tops, bins, share } = this;
    bins.fill(0);
    for (let i = 0; i < count; i++) {
      const short = bar - tops[i];
      if (short > 0) {
        const bin = Math.min(Math.floor(short * BINS), bins.length - 1);
        bins[bin] += this.kernels.order ? reach(this.kernels, ids[i], x0, y0, side) : this.pull;
      }
    }
    let error = 0;
    let bin = bins.length;
    while (bin > 1 && error + bins[bin - 1] * share[bin - 1] <= most) error += bins[--bin] * share[bin];
    return [bin / BINS, error];
  }

  /** The lowest of the bars of a square's blocks, each that of the kernel that is surest of it, among the first `count`. */
  raise(count, top, x0, y0, side) {
    const { x, y, f0, f1, f2, priors } = this.kernels;
    const { ids, tops, bars, corners } = this;
    const step = side / BLOCKS;
    bars.fill(-Infinity);
    for (let i = 0; i < count; i++) {
      if (tops[i] < top - HOPEFUL) continue;
      const j = ids[i];
      const dx = x0 - x[j];
      const across = f0[j] * step;
      for (let row = 0, at = 0; row <= BLOCKS; row++) {
        const dy = y0 + row * step - y[j];
        const v = f2[j] * dy;
        const rest = priors[j] - (v * v) / 2;
        let u = f0[j] * dx + f1[j] * dy;
        for (let column = 0; column <= BLOCKS; column++, at++, u += across) corners[at] = rest - (u * u) / 2;
      }
      // a concave function is smallest in a corner
      for (let row = 0, block = 0; row < BLOCKS; row++) {
        for (let column = 0, at = row * (BLOCKS + 1); column < BLOCKS; column++, at++, block++) {
          let low = corners[at];
          if (corners[at + 1] < low) low = corners[at + 1];
          if (corners[at + BLOCKS + 1] < low) low = corners[at + BLOCKS + 1];
          if (corners[at + BLOCKS + 2] < low) low = corners[at + BLOCKS + 2];
          if (low > bars[block]) bars[block] = low;
        }
      }
    }
    let bar = Infinity;
    for (let block = 0; block < bars.length; block++) if (bars[block] < bar) bar = bars[block];
    return bar - 1e-9 * Math.abs(bar); // rounding must not lift it above what it bounds
  }
}

/** The least that u u + v v can be over a square: at the kernel's centre, or on a side that faces it. */
function nearest(a, b, c, left, above, side) {
  const right = left + side;
  const below = above + side;
  const edgeX = left > 0 ? left : right < 0 ? right : 0; // a kernel centred on a side is met there in any case
  const edgeY = above > 0 ? above : below < 0 ? below : 0;
  if (edgeX === 0 && edgeY === 0) return 0;
  let least = Infinity;
  if (edgeX !== 0) {
    const best = (-a * b * edgeX) / (b * b + c * c);
    const dy = best < above ? above : best > below ? below : best;
    const u = a * edgeX + b * dy;
    least = u * u + c * c * dy * dy;
  }
  if (edgeY !== 0) {
    const best = (-b * edgeY) / a;
    const dx = best < left ? left : best > right ? right : best;
    const u = a * dx + b * edgeY;
    const square = u * u + c * c * edgeY * edgeY;
    if (square < least) least = square;
  }
  return least;
}

/** How far apart colours lie: by how much a constant expert can pull the picture. */
function pull({ colours }) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of colours) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return Math.max(high - low, 1e-3);
}

/** How far the values of a kernel with slopes can lie from a picture in [0, 1], over a square. */
function reach({ x, y, colours, slopes, channels }, j, x0, y0, side) {
  const across = Math.max(Math.abs(x0 - x[j]), Math.abs(x0 + side - x[j]));
  const down = Math.max(Math.abs(y0 - y[j]), Math.abs(y0 + side - y[j]));
  let most = 0;
  for (let c = 0; c < channels; c++) {
    const at = j * channels + c;
    const value = Math.abs(colours[at]) + Math.abs(slopes[2 * at]) * across + Math.abs(slopes[2 * at + 1]) * down;
    if (value > most) most = value;
  }
  return 1 + most;
}

/** The same, of any kernel over the canvas. */
function worst(kernels) {
  let most = 1;
  const side = Math.max(kernels.width, kernels.height);
  for (let j = 0; j < kernels.count; j++) most = Math.max(most, reach(kernels, j, 0, 0, side));
  return most;
}
