// A picture that may be worked on: a file of this person, or what a job of the server holds.

import * as api from "./api.js";
import { bytes } from "./words.js";

const THUMB = 480; // px
const isMixture = (name) => /\.moe$/i.test(name);

export class Picture {
  constructor({ name, kind, file = null, from = null, url = null, width = null, height = null }) {
    Object.assign(this, { name, kind, file, from, url, width, height, thumb: null });
  }

  /** What the server is given: the file unless it has it already. */
  get source() {
    return this.from ?? this.file;
  }

  /** Free the memory that shows a file. */
  dispose() {
    if (this.url?.startsWith("blob:")) URL.revokeObjectURL(this.url);
  }
}

/** From a file; `url` stays null where the browser cannot show such files, which does not mean that moesaic cannot read it. */
export async function fromFile(file) {
  const name = file.name || "pasted.png";
  if (isMixture(name)) return new Picture({ name, kind: "moe", file });
  const picture = new Picture({ name, kind: "picture", file, url: URL.createObjectURL(file) });
  const image = new Image();
  image.src = picture.url;
  try {
    await image.decode();
  } catch {
    picture.dispose();
    picture.url = null;
    return picture;
  }
  picture.width = image.naturalWidth;
  picture.height = image.naturalHeight;
  picture.thumb = thumbnail(image);
  return picture;
}

/** From what a job holds: "input" or "result". */
export function fromJob(job, which) {
  const result = which === "result" ? job.result : null;
  const name = result?.name ?? job.name;
  return new Picture({
    name,
    kind: (result ? result.mixture : job.input?.kind === "moe" || isMixture(name)) ? "moe" : "picture",
    from: { job: job.id, which },
    url: job.result?.views.includes(result ? "after" : "before") ? api.view(job.id, result ? "after" : "before") : null,
    width: (result ?? job.input)?.width ?? null,
    height: (result ?? job.input)?.height ?? null,
  });
}

/** A sentence if the server would refuse it anyway, so that nobody waits for that; else null. */
export function refusal(picture, limits) {
  if (picture.file && limits.body_bytes && picture.file.size > limits.body_bytes) {
    return `${picture.name} is ${bytes(picture.file.size)}, and this server takes at most ${bytes(limits.body_bytes)}. Save a smaller copy and try that.`;
  }
  if (picture.file && picture.file.size === 0) return `${picture.name} is empty. Choose another file.`;
  if (picture.width && limits.pixels && picture.width * picture.height > limits.pixels) {
    const millions = (pixels) => `${Math.round(pixels / 1e6)} megapixels`;
    return `${picture.name} has ${millions(picture.width * picture.height)}, and this server takes at most ${millions(limits.pixels)}. Save a smaller copy and try that.`;
  }
  return null;
}

/** A small copy as a data: address, which survives a reload of the page; null where there is none. */
function thumbnail(image) {
  const shrink = Math.min(1, THUMB / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * shrink));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * shrink));
  try {
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/webp", 0.7);
  } catch {
    return null;
  }
}
