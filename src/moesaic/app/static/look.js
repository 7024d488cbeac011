// Where a picture is looked at, and how closely: a scale and a shift that never leave a gap at an edge.

const CLOSEST = 16;

export class Look {
  scale = 1;
  x = 0; // px of the screen, by which the picture's corner lies outside
  y = 0;

  /** To another scale, with the point (x, y) of the box kept where it is. */
  zoom(scale, x, y, box) {
    const next = Math.min(Math.max(scale, 1), CLOSEST);
    const grown = next / this.scale;
    this.x = x - (x - this.x) * grown;
    this.y = y - (y - this.y) * grown;
    this.scale = next;
    this.pan(0, 0, box);
  }

  pan(dx, dy, box) {
    this.x = Math.min(0, Math.max(this.x + dx, box.width * (1 - this.scale)));
    this.y = Math.min(0, Math.max(this.y + dy, box.height * (1 - this.scale)));
  }

  get transform() {
    return this.scale === 1 ? "none" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
  }
}
