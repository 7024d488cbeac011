// What the GPU reads of a cell: its kernels relative to the cell's middle, as numbers that float32 holds well at any zoom.
//
// All is computed in doubles and rounded once. In a plain entry the logit of a point p, from the cell's middle, is
//     prior - (u + f0 px + f1 py)^2 - (v + f2 py)^2
// in powers of two, relative to the largest logit in the cell. That is exact enough unless the cell lies far out on the
// slopes of its kernels: there, large numbers would cancel. A full entry then takes u and v only as far as the kernel's
// axis can lie from the cell, has the rest as a linear term, and subtracts the best kernel's linear term from all, which a
// softmax does not feel.

const { LOG2E } = Math; // nats to powers of two
const HALF = Math.sqrt(LOG2E / 2);
const STEEP = 60; // nats between the cell's top and its bar, beyond which weights may vanish in a float
const DEEP = 300; // nats between the highest prior and the bar, beyond which squares lose digits
const WIDEST = 32; // between the lowest colour and the highest, for 16 bits to hold them

/** A ring of texels in which the cells last drawn have their entries; a copy of it is uploaded row by row. */
export class Entries {
  constructor(kernels, texels, width, rows) {
    this.kernels = kernels;
    this.width = width; // texels, a power of two
    this.rows = rows;
    this.texels = texels; // of a full entry
    this.size = width * rows;
    this.words = new Uint32Array(4 * this.size);
    this.floats = new Float32Array(this.words.buffer);
    this.head = 0;
    this.fresh = []; // [first, last) that has not been uploaded
    this.queue = []; // cells in the order of the ring
    this.oldest = 0;
    this.turn = 0; // entries that are wanted in this turn have not been drawn with yet
    let [low, high] = [Infinity, -Infinity];
    for (const colour of kernels.colours) {
      low = Math.min(low, colour);
      high = Math.max(high, colour);
    }
    this.low = low;
    this.range = Math.max(high - low, 1e-6);
  }

  /** Whether plain entries do for a cell. */
  plain(cell) {
    if (cell.plain === undefined) {
      let prior = -Infinity;
      for (const j of cell.list) prior = Math.max(prior, this.kernels.priors[j]);
      const { bar, top } = cell;
      cell.plain = this.kernels.order === 0 && this.range <= WIDEST && top - bar < STEEP && prior - bar < DEEP;
    }
    return cell.plain;
  }

  /** Forget all: the texture is a new one. */
  reset() {
    for (const cell of this.queue) cell.place = -1;
    this.queue = [];
    this.oldest = 0;
    this.head = 0;
    this.fresh = [];
  }

  /** Want a cell's entries, and make them if need be; false if that would overwrite what has to be drawn first. */
  want(cell) {
    if (cell.place < 0 && !this.put(cell)) return false;
    cell.turn = this.turn;
    return true;
  }

  put(cell) {
    const plain = this.plain(cell);
    const length = cell.list.length * (plain ? 2 : this.texels);
    let first = this.head + (this.head & 1); // plain entries begin at even places, so that none runs over a row's end
    if (first + length > this.size) {
      if (!this.release(this.head, this.size)) return false;
      this.head = first = 0;
    }
    if (!this.release(first, first + length)) return false;
    cell.place = first;
    this.head = first + length;
    this.queue.push(cell);
    this.fresh.push([first, this.head]);
    (plain ? writePlain : writeFull)(this, cell);
    return true;
  }

  /** Take places from the cells that were there; false if one of them is wanted. */
  release(first, last) {
    for (; this.oldest < this.queue.length; this.oldest++) {
      const cell = this.queue[this.oldest];
      const end = cell.place + cell.list.length * (cell.plain ? 2 : this.texels);
      if (cell.place >= last || end <= first) break;
      if (cell.turn === this.turn) return false;
      cell.place = -1;
    }
    if (this.oldest > 4096) {
      this.queue = this.queue.slice(this.oldest);
      this.oldest = 0;
    }
    return true;
  }

  /** Hand each run of rows that changed to `upload(row, rows, words)`. */
  flush(upload) {
    let run = null;
    for (const [first, last] of this.fresh) {
      const [row, end] = [Math.floor(first / this.width), Math.ceil(last / this.width)];
      if (run && row >= run[0] && row <= run[1]) run[1] = Math.max(run[1], end);
      else {
        if (run) this.hand(run, upload);
        run = [row, end];
      }
    }
    if (run) this.hand(run, upload);
    this.fresh = [];
    this.turn++;
  }

  hand([row, end], upload) {
    upload(row, end - row, this.words.subarray(4 * row * this.width, 4 * end * this.width));
  }
}

function writePlain({ kernels, words, floats, low, range }, cell) {
  const { x, y, f0, f1, f2, priors, colours, channels } = kernels;
  const cx = cell.x0 + cell.side / 2;
  const cy = cell.y0 + cell.side / 2;
  const scale = 65535 / range;
  let at = 4 * cell.place;
  for (const j of cell.list) {
    const dx = cx - x[j];
    const dy = cy - y[j];
    floats[at] = HALF * (f0[j] * dx + f1[j] * dy);
    floats[at + 1] = HALF * f2[j] * dy;
    floats[at + 2] = HALF * f0[j];
    floats[at + 3] = HALF * f1[j];
    floats[at + 4] = HALF * f2[j];
    floats[at + 5] = LOG2E * (priors[j] - cell.top);
    const first = j * channels;
    let [one, two] = [0, 0];
    one = Math.round((colours[first] - low) * scale);
    if (channels > 1) one |= Math.round((colours[first + 1] - low) * scale) << 16;
    if (channels > 2) two = Math.round((colours[first + 2] - low) * scale);
    if (channels > 3) two |= Math.round((colours[first + 3] - low) * scale) << 16;
    words[at + 6] = one;
    words[at + 7] = two;
    at += 8;
  }
}

function writeFull({ kernels, floats, texels }, cell) {
  const { x, y, f0, f1, f2, priors, colours, slopes, channels } = kernels;
  const half = cell.side / 2;
  const cx = cell.x0 + half;
  const cy = cell.y0 + half;
  const best = cell.list.length ? surest(kernels, cell, cx, cy) : null;
  let at = 4 * cell.place;
  for (const j of cell.list) {
    const dx = cx - x[j];
    const dy = cy - y[j];
    const part = split(kernels, j, dx, dy, half);
    floats[at] = HALF * part.u;
    floats[at + 1] = HALF * part.v;
    floats[at + 2] = HALF * f0[j];
    floats[at + 3] = HALF * f1[j];
    floats[at + 4] = HALF * f2[j];
    floats[at + 5] = LOG2E * (priors[j] - part.rest - best.level);
    floats[at + 6] = LOG2E * (part.bx - best.bx);
    floats[at + 7] = LOG2E * (part.by - best.by);
    for (let c = 0; c < 4; c++) {
      const from = j * channels + c;
      const held = c < channels;
      const [sx, sy] = held && slopes ? [slopes[2 * from], slopes[2 * from + 1]] : [0, 0];
      floats[at + 8 + c] = held ? colours[from] + sx * dx + sy * dy : 0;
      if (texels === 5) {
        floats[at + 12 + c] = sx;
        floats[at + 16 + c] = sy;
      }
    }
    at += 4 * texels;
  }
}

/** A logit as a square of what stays small in the cell, and a linear rest: see above. `rest` is what to take off the prior. */
function split({ f0, f1, f2 }, j, dx, dy, half) {
  const wholeU = f0[j] * dx + f1[j] * dy;
  const wholeV = f2[j] * dy;
  const mostU = (f0[j] + Math.abs(f1[j])) * half;
  const mostV = f2[j] * half;
  const u = Math.max(-mostU, Math.min(mostU, wholeU));
  const v = Math.max(-mostV, Math.min(mostV, wholeV));
  return {
    u,
    v,
    rest: ((wholeU - u) * (wholeU + u) + (wholeV - v) * (wholeV + v)) / 2,
    bx: -(wholeU - u) * f0[j],
    by: -(wholeU - u) * f1[j] - (wholeV - v) * f2[j],
  };
}

/** The kernel that is best in the cell's middle: its level there and its slope are what all others are told from. */
function surest(kernels, cell, cx, cy) {
  const { x, y, f0, f1, f2, priors } = kernels;
  let [best, level] = [cell.list[0], -Infinity];
  for (const j of cell.list) {
    const u = f0[j] * (cx - x[j]) + f1[j] * (cy - y[j]);
    const v = f2[j] * (cy - y[j]);
    const logit = priors[j] - (u * u + v * v) / 2;
    if (logit > level) [best, level] = [j, logit];
  }
  const { bx, by } = split(kernels, best, cx - x[best], cy - y[best], cell.side / 2);
  return { level, bx, by };
}
