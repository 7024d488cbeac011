// The kernels in view as ellipses at one standard deviation, laid over the picture.

import { Program } from "./zoom_painter.js";

const CORNERS = 48; // of the polygon that stands for an ellipse
const MOST = 20000; // ellipses
const FLOATS = 5; // of an instance: centre, factor
const THICK = 3; // CSS px: a light line between dark ones is seen on any picture

const OUTLINE = `#version 300 es
precision highp float;
layout(location = 0) in vec2 centre; // px of the screen
layout(location = 1) in vec3 factor; // 1/px
uniform vec2 size;
uniform float thick;
out float across;

void main() {
  float angle = float(gl_VertexID >> 1) * (6.283185307179586 / ${CORNERS}.0);
  float side = float(gl_VertexID & 1) * 2.0 - 1.0;
  // L^T d lies on a circle, and is solved from below
  vec2 d = vec2(0.0, sin(angle) / factor.z);
  d.x = (cos(angle) - factor.y * d.y) / factor.x;
  vec2 along = vec2(0.0, cos(angle) / factor.z);
  along.x = (-sin(angle) - factor.y * along.y) / factor.x;
  vec2 outward = normalize(vec2(along.y, -along.x) + 1e-12);
  vec2 at = 2.0 * (centre + d + 0.5 * side * thick * outward) / size - 1.0;
  gl_Position = vec4(at.x, -at.y, 0.0, 1.0);
  across = side;
}`;

const LINE = `#version 300 es
precision highp float;
in float across;
out vec4 colour;

void main() {
  float light = smoothstep(0.6, 0.3, abs(across));
  colour = vec4(vec3(light), 1.0) * mix(0.4, 0.9, light) * smoothstep(1.0, 0.8, abs(across));
}`;

export class Ellipses {
  constructor(gl, kernels) {
    this.gl = gl;
    this.kernels = kernels;
    this.program = new Program(gl, OUTLINE, LINE);
    this.instances = new Float32Array(FLOATS * Math.min(MOST, kernels.count));
    this.buffer = gl.createBuffer();
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    for (const [place, length, first] of [[0, 2, 0], [1, 3, 2]]) {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, length, gl.FLOAT, false, 4 * FLOATS, 4 * first);
      gl.vertexAttribDivisor(place, 1);
    }
  }

  /** Draw those in a view of the screen, whose scale is in pixels of the screen. */
  draw(view, ratio) {
    const { gl, program } = this;
    const count = this.gather(view);
    gl.useProgram(program.made);
    gl.uniform2f(program.at("size"), view.width, view.height);
    gl.uniform1f(program.at("thick"), THICK * ratio);
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.instances.subarray(0, FLOATS * count), gl.STREAM_DRAW);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 2 * (CORNERS + 1), count);
    gl.disable(gl.BLEND);
  }

  /** The kernels whose ellipse meets the view; how many they are. */
  gather({ left, top, scale, width, height }) {
    const { x, y, f0, f1, f2, count } = this.kernels;
    const { instances } = this;
    let at = 0;
    for (let j = 0; j < count && at < instances.length; j++) {
      const px = (x[j] - left) * scale;
      const py = (y[j] - top) * scale;
      const tall = scale / f2[j];
      const wide = (scale * Math.hypot(f1[j], f2[j])) / (f0[j] * f2[j]); // standard deviation along x
      if (px + wide < 0 || py + tall < 0 || px - wide > width || py - tall > height) continue;
      instances[at] = px;
      instances[at + 1] = py;
      instances[at + 2] = f0[j] / scale;
      instances[at + 3] = f1[j] / scale;
      instances[at + 4] = f2[j] / scale;
      at += FLOATS;
    }
    return at / FLOATS;
  }

  dispose() {
    this.gl.deleteProgram(this.program.made);
    this.gl.deleteBuffer(this.buffer);
    this.gl.deleteVertexArray(this.array);
  }
}
