// WebGL2 for the zoom: its programs, the table of entries, the picture that is drawn into, and how it is shown.

import { CELLS, FULL, PLAIN, SCREEN, SHOW } from "./zoom_shaders.js";

const WIDE = 2048; // texels in a row of the table
const ROWS = 512; // with 16 bytes a texel 16 MB
export const BATCH = 4096; // cells drawn by one call
export const FLOATS = 10; // of a corner: box, origin, entries
export const CORNERS = 4; // of a cell; each has the same numbers, since instances of four corners are slow on many GPUs
const SQUARE = 8; // CSS px, of the checkerboard

export class Painter {
  constructor(gl, kernels) {
    this.gl = gl;
    this.kernels = kernels;
    this.texels = kernels.order ? 5 : 3; // of a full entry
    const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.wide = Math.min(WIDE, largest);
    // the longest list must have room, twice
    this.rows = Math.min(largest, Math.max(ROWS, Math.ceil((2 * this.texels * kernels.count) / this.wide)));
    this.programs = { plain: new Program(gl, CELLS, PLAIN), full: new Program(gl, CELLS, FULL), show: new Program(gl, SCREEN, SHOW) };
    this.table = texture(gl, gl.NEAREST);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32UI, this.wide, this.rows);
    this.buffer = gl.createBuffer();
    this.array = gl.createVertexArray();
    this.nothing = gl.createVertexArray(); // of the screen's triangle
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    for (const [place, length, first] of [[0, 4, 0], [1, 4, 4], [2, 2, 8]]) {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, length, gl.FLOAT, false, 4 * FLOATS, 4 * first);
    }
    this.order = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles(BATCH), gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    this.frame = gl.createFramebuffer();
    this.drawn = null;
    this.kept = null; // the last picture without holes, while the next is drawn
    this.view = null; // of `drawn`, once it has no holes: left, top, scale, width, height
    this.keptView = null;
    this.base = null; // the whole canvas of the mixture, for what the kept picture does not reach
    this.baseView = null;
    this.room = [0, 0]; // px of what can be drawn into
    gl.disable(gl.BLEND);
    gl.disable(gl.DITHER);
    gl.disable(gl.DEPTH_TEST);
  }

  /** Put fresh entries into the table. */
  upload(entries) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.table);
    entries.flush((row, rows, words) => {
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row, this.wide, rows, gl.RGBA_INTEGER, gl.UNSIGNED_INT, words);
    });
  }

  /** Begin a picture of a size in pixels, with room for pictures as large as `room`; it is empty. */
  begin(width, height, room) {
    const { gl } = this;
    if (this.room[0] !== room[0] || this.room[1] !== room[1]) this.make(room);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    if (this.view) {
      [this.drawn, this.kept] = [this.kept, this.drawn];
      [this.keptView, this.view] = [this.view, null];
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.drawn, 0);
    }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.size = [width, height];
  }

  make(room) {
    const { gl } = this;
    for (const old of [this.drawn, this.kept]) if (old) gl.deleteTexture(old);
    [this.kept, this.drawn] = [0, 1].map(() => {
      const made = texture(gl, gl.LINEAR);
      gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, ...room);
      return made;
    });
    this.view = this.keptView = null;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.drawn, 0);
    this.room = [...room];
  }

  /** Draw cells by their corners with plain or full entries; `pixel` is one of the target, in px of the canvas. */
  cells(kind, corners, count, pixel, entries) {
    if (!count) return;
    const { gl } = this;
    const program = this.programs[kind];
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.useProgram(program.made);
    gl.bindTexture(gl.TEXTURE_2D, this.table);
    gl.uniform1i(program.at("table"), 0);
    gl.uniform2f(program.at("size"), ...this.size);
    gl.uniform1f(program.at("pixel"), pixel);
    gl.uniform1i(program.at("shift"), Math.log2(this.wide));
    gl.uniform1i(program.at("channels"), this.kernels.channels);
    if (kind === "plain") gl.uniform2f(program.at("range"), entries.low, entries.range);
    else gl.uniform1i(program.at("texels"), this.texels);
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, corners.subarray(0, FLOATS * CORNERS * count), gl.STREAM_DRAW);
    gl.drawElements(gl.TRIANGLES, 6 * count, gl.UNSIGNED_SHORT, 0);
  }

  /** What was drawn shows the whole canvas: it is kept apart, for views that come back from far inside. */
  keepBase(view) {
    const { gl } = this;
    if (this.base) gl.deleteTexture(this.base);
    this.base = texture(gl, gl.LINEAR);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, view.width, view.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.copyTexSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 0, 0, view.width, view.height);
    this.baseView = view;
  }

  /**
   * Show a view on the screen: as it was drawn; or where that has holes or is still to be drawn, the last picture without
   * holes, as far as it goes. `pixels` are the screen's for a px of the canvas, and `whole` is where the canvas lies there.
   */
  show([width, height], view, pixels, whole, ratio, [dark, light]) {
    const { gl } = this;
    const program = this.programs.show;
    const [shown, from] = this.view ? [this.drawn, this.view] : this.keptView ? [this.kept, this.keptView] : [this.drawn, view];
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.useProgram(program.made);
    gl.uniform2f(program.at("size"), width, height);
    const base = this.baseView ?? { ...view, width: 0, height: 0 };
    for (const [unit, name, made, of, [across, down]] of [
      [1, "base", this.base, base, [base.width || 1, base.height || 1]],
      [0, "drawn", shown, from, this.room],
    ]) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, made);
      gl.uniform1i(program.at(name), unit);
      gl.uniform2f(program.at(`${name}End`), of.width / across, of.height / down);
      gl.uniform2f(program.at(`${name}Most`), (of.width - 0.5) / across, (of.height - 0.5) / down);
      gl.uniform2f(program.at(`${name}Unit`), of.scale / pixels / across, of.scale / pixels / down);
      gl.uniform2f(program.at(`${name}First`), ((view.left - of.left) * of.scale) / across, ((view.top - of.top) * of.scale) / down);
    }
    gl.uniform4f(program.at("whole"), ...whole);
    gl.uniform1f(program.at("square"), this.kernels.hasAlpha ? Math.round(SQUARE * ratio) : 0);
    gl.uniform1f(program.at("dark"), dark);
    gl.uniform1f(program.at("light"), light);
    gl.bindVertexArray(this.nothing);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** What was drawn, premultiplied RGBA in rows from the top. */
  read() {
    const { gl } = this;
    const [width, height] = this.size;
    const pixels = new Uint8Array(4 * width * height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    return pixels;
  }

  dispose() {
    const { gl } = this;
    for (const program of Object.values(this.programs)) gl.deleteProgram(program.made);
    gl.deleteTexture(this.table);
    gl.deleteTexture(this.drawn);
    gl.deleteTexture(this.kept);
    gl.deleteTexture(this.base);
    gl.deleteFramebuffer(this.frame);
    gl.deleteBuffer(this.buffer);
    gl.deleteBuffer(this.order);
    gl.deleteVertexArray(this.array);
    gl.deleteVertexArray(this.nothing);
  }
}

/** Two shaders linked, and the places of their uniforms. */
export class Program {
  constructor(gl, vertex, fragment) {
    this.gl = gl;
    this.made = gl.createProgram();
    this.places = new Map();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(this.made, shader);
      gl.deleteShader(shader); // once the program goes
    }
    gl.linkProgram(this.made);
    if (!gl.getProgramParameter(this.made, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`This browser's graphics cannot run the zoom (${gl.getProgramInfoLog(this.made)}).`);
    }
  }

  at(name) {
    if (!this.places.has(name)) this.places.set(name, this.gl.getUniformLocation(this.made, name));
    return this.places.get(name);
  }
}

/** Which corners make the two triangles of each cell. */
function triangles(cells) {
  const order = new Uint16Array(6 * cells);
  for (let k = 0; k < cells; k++) order.set([0, 1, 2, 2, 1, 3].map((corner) => CORNERS * k + corner), 6 * k);
  return order;
}

function texture(gl, filter) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return made;
}
