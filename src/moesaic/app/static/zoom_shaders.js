// The programs of the zoom, as text. Pixels are counted from the top left while a picture is drawn; it is turned upside
// down, as WebGL has it, only when it is shown.

/** Rectangles of pixels; each brings the entries to draw it with, and where its pixels lie from the entries' origin. */
export const CELLS = `#version 300 es
precision highp float;
layout(location = 0) in vec4 box;     // left, top, right, bottom, px of the target
layout(location = 1) in vec4 origin;  // a pixel (x, y), and where its corner lies from the cell's middle, px of the canvas
layout(location = 2) in vec2 entries; // place of the first texel, and how many kernels
uniform vec2 size;                    // of the target, px
flat out vec4 from;
flat out ivec2 which;

void main() {
  vec2 corner = vec2(gl_VertexID & 1, (gl_VertexID >> 1) & 1);
  gl_Position = vec4(2.0 * mix(box.xy, box.zw, corner) / size - 1.0, 0.0, 1.0);
  from = origin;
  which = ivec2(entries);
}`;

const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D table; // bits, since a float's bits might not survive a texture of floats
uniform float pixel;      // px of the canvas
uniform int shift;        // log2 of the table's width
uniform int channels;
flat in vec4 from;
flat in ivec2 which;
out vec4 colour;

uvec4 texel(int place) {
  return texelFetch(table, ivec2(place & ((1 << shift) - 1), place >> shift), 0);
}

// as moesaic decodes: clipped; no colour is above its alpha, since colours are divided by it there
vec4 shown(vec4 value) {
  value = clamp(value, 0.0, 1.0);
  if (channels == 1) return vec4(value.xxx, 1.0);
  if (channels == 2) return vec4(min(value.xxx, value.y), value.y);
  if (channels == 3) return vec4(value.xyz, 1.0);
  return vec4(min(value.xyz, value.w), value.w);
}
`;

/** Constant colours in 16 bits each, and weights that one float can hold: what most cells need, two texels a kernel. */
export const PLAIN = `${HEAD}
uniform vec2 range; // lowest colour, and how far it is to the highest

void main() {
  vec2 p = (gl_FragCoord.xy - from.xy) * pixel + from.zw;
  vec4 sum = vec4(0.0);
  float weight = 0.0;
  int end = which.x + 2 * which.y;
  for (int place = which.x; place < end; place += 2) {
    vec4 a = uintBitsToFloat(texel(place)); // u and v at the cell's middle; factors
    uvec4 b = texel(place + 1);             // the last factor, log prior, colours
    float u = a.x + a.z * p.x + a.w * p.y;
    float v = a.y + uintBitsToFloat(b.x) * p.y;
    float w = exp2(uintBitsToFloat(b.y) - u * u - v * v);
    sum += w * vec4(unpackUnorm2x16(b.z), unpackUnorm2x16(b.w));
    weight += w;
  }
  colour = shown(range.x + range.y * (sum / weight));
}`;

/** Any kernels: slopes, colours beyond bounds, and logits so far apart that weights are relative to a running maximum. */
export const FULL = `${HEAD}
uniform int texels; // a kernel: 3, or 5 with slopes

void main() {
  vec2 p = (gl_FragCoord.xy - from.xy) * pixel + from.zw;
  vec4 sum = vec4(0.0);
  float weight = 0.0;
  float most = -3.0e38;
  int end = which.x + texels * which.y;
  for (int place = which.x; place < end; place += texels) {
    vec4 a = uintBitsToFloat(texel(place));
    vec4 b = uintBitsToFloat(texel(place + 1)); // the last factor, log prior, what is linear in the logit
    vec4 value = uintBitsToFloat(texel(place + 2));
    if (texels == 5) {
      value += p.x * uintBitsToFloat(texel(place + 3)) + p.y * uintBitsToFloat(texel(place + 4));
    }
    float u = a.x + a.z * p.x + a.w * p.y;
    float v = a.y + b.x * p.y;
    float logit = b.y + b.z * p.x + b.w * p.y - u * u - v * v;
    float above = max(most, logit);
    float kept = exp2(most - above);
    float w = exp2(logit - above);
    most = above;
    sum = sum * kept + w * value;
    weight = weight * kept + w;
  }
  colour = shown(sum / weight);
}`;

/** All of the canvas, for what is shown. */
export const SCREEN = `#version 300 es
void main() {
  gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}`;

/** The picture that was drawn, over a checkerboard where it lets one through. */
export const SHOW = `#version 300 es
precision highp float;
uniform sampler2D drawn;
uniform sampler2D base; // the whole canvas, coarse
uniform vec2 size;  // of the screen, px
uniform vec4 whole; // the canvas of the mixture on the screen: left, top, right, bottom
uniform vec2 drawnUnit;  // of the texture, a px of the screen
uniform vec2 drawnFirst; // of the texture, the corner of the screen
uniform vec2 drawnEnd;   // of what was drawn into the texture
uniform vec2 drawnMost;  // the middle of the last texel that was drawn into
uniform vec2 baseUnit;
uniform vec2 baseFirst;
uniform vec2 baseEnd;
uniform vec2 baseMost;
uniform float dark; // squares of the checkerboard
uniform float light;
uniform float square; // px, of the checkerboard; 0 for none
out vec4 colour;

void main() {
  vec2 at = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);
  vec2 there = at * drawnUnit + drawnFirst;
  colour = texture(drawn, clamp(there, vec2(0.0), drawnMost));
  if (any(lessThan(there, vec2(0.0))) || any(greaterThan(there, drawnEnd))) {
    there = at * baseUnit + baseFirst;
    bool reaches = all(greaterThan(there, vec2(0.0))) && all(lessThan(there, baseEnd));
    colour = reaches ? texture(base, min(there, baseMost)) : vec4(0.0);
  }
  bool inside = all(greaterThan(at, whole.xy)) && all(lessThan(at, whole.zw));
  if (square > 0.0 && inside) {
    ivec2 cell = ivec2(floor(at / square));
    colour = vec4(colour.rgb + (1.0 - colour.a) * (((cell.x + cell.y) & 1) == 0 ? light : dark), 1.0);
  }
}`;
