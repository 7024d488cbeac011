// The bytes of a mixture, taken apart and checked: the other end of app/kernels.py, where the format is written down.

const HEADER = 32; // bytes
const MAGIC = 0x4b454f4d; // "MOEK", read as a little-endian word
const VERSION = 1;
const LARGEST = 1e9; // of any parameter, as in moesaic.mixture.render
const LEAST = 1e-9; // of a factor's diagonal, 1/px

/** A mixture as plain arrays in float64: lists and entries are computed in doubles, so that deep zooms stay exact. */
export class Kernels {
  constructor({ width, height, channels, order, count, centres, factors, priors, colours, slopes }) {
    this.width = width; // px of the canvas
    this.height = height;
    this.channels = channels; // 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; premultiplied
    this.order = order; // 1 where experts have slopes
    this.count = count;
    this.priors = Float64Array.from(priors);
    this.colours = Float64Array.from(colours); // (count, channels)
    this.slopes = slopes && Float64Array.from(slopes); // (count, channels, 2), or null
    this.x = new Float64Array(count);
    this.y = new Float64Array(count);
    this.f0 = new Float64Array(count); // u = f0 dx + f1 dy, v = f2 dy, logit = prior - (u u + v v) / 2
    this.f1 = new Float64Array(count);
    this.f2 = new Float64Array(count);
    for (let j = 0; j < count; j++) {
      this.x[j] = centres[2 * j];
      this.y[j] = centres[2 * j + 1];
      this.f0[j] = factors[3 * j];
      this.f1[j] = factors[3 * j + 1];
      this.f2[j] = factors[3 * j + 2];
    }
  }

  get hasAlpha() {
    return this.channels === 2 || this.channels === 4;
  }
}

/** Read a mixture from an ArrayBuffer; throws an Error whose message is a sentence for the user. */
export function readKernels(buffer) {
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength < HEADER) {
    throw new Error(damaged("it is too short"));
  }
  const header = new DataView(buffer, 0, HEADER);
  const word = (place) => header.getUint32(4 * place, true);
  if (word(0) !== MAGIC) {
    throw new Error(damaged("it does not begin like one"));
  }
  if (word(1) !== VERSION) {
    throw new Error(`These kernels are of version ${word(1)}, and this page reads version ${VERSION}: reload the page.`);
  }
  const [count, channels, order, width, height] = [word(2), word(3), word(4), word(5), word(6)];
  if (count < 1 || channels < 1 || channels > 4 || order > 1 || width < 1 || height < 1) {
    throw new Error(damaged("its header makes no sense"));
  }
  const expected = HEADER + count * (16 + 12 + 4 + 4 * channels * (order ? 3 : 1));
  if (buffer.byteLength !== expected) {
    throw new Error(damaged(`it has ${buffer.byteLength} bytes where ${expected} are needed`));
  }
  const take = new Taker(buffer, HEADER);
  const found = {
    centres: take.doubles(2 * count),
    factors: take.floats(3 * count),
    priors: take.floats(count),
    colours: take.floats(channels * count),
    slopes: order ? take.floats(2 * channels * count) : null,
  };
  check(found);
  return new Kernels({ width, height, channels, order, count, ...found });
}

function damaged(why) {
  return `This is no complete mixture of kernels (${why}): load the file again.`;
}

function check(found) {
  for (const values of Object.values(found)) {
    for (let i = 0; values && i < values.length; i++) {
      if (!(Math.abs(values[i]) <= LARGEST)) { // true for NaN, too
        throw new Error(damaged("it holds values that are no numbers, or beyond all bounds"));
      }
    }
  }
  for (let i = 0; i < found.factors.length; i += 3) {
    if (!(found.factors[i] >= LEAST && found.factors[i + 2] >= LEAST)) {
      throw new Error(damaged("a kernel has no width"));
    }
  }
}

/** Arrays out of a buffer, one after another; little-endian whatever the machine is. */
class Taker {
  constructor(buffer, offset) {
    this.view = new DataView(buffer);
    this.offset = offset;
  }

  doubles(length) {
    const values = new Float64Array(length);
    for (let i = 0; i < length; i++, this.offset += 8) values[i] = this.view.getFloat64(this.offset, true);
    return values;
  }

  floats(length) {
    const values = new Float32Array(length);
    for (let i = 0; i < length; i++, this.offset += 4) values[i] = this.view.getFloat32(this.offset, true);
    return values;
  }
}
