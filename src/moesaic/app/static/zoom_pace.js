// How coarse a moving picture has to be: as fine as the graphics can draw in time, told from how late frames come.

const SLOW = 24; // ms from asking for a frame to its beginning; longer than a screen of 60 frames a second takes
const TELLING = 3; // slow frames in a row, since any one may have another cause
const SMOOTH = 30; // frames without a slow one, after which a finer picture is tried

export class Pace {
  divisor = 1; // of the resolution along each side, while a view moves
  coarsest = 4; // that it may become
  #slow = 0;
  #smooth = 0;

  /** A frame of a moving view begins; it was asked for so many ms ago. */
  moving(waited) {
    if (waited <= SLOW) {
      this.#slow = 0;
      this.#smooth++;
      return;
    }
    this.#smooth = 0;
    if (++this.#slow >= TELLING && this.divisor < this.coarsest) {
      this.divisor *= 2;
      this.#slow = 0;
    }
  }

  /** The view rests. The next movement begins finer if this one was smooth, so that a slow start is not for ever. */
  rests() {
    if (this.#smooth >= SMOOTH && this.divisor > 1) this.divisor /= 2;
    this.#slow = this.#smooth = 0;
  }
}
