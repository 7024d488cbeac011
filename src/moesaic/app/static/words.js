// Numbers as people say them: time left, bytes, sizes, and what each figure means.

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export function duration(seconds) {
  if (seconds < 5) return "a few seconds";
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} seconds`;
  if (seconds < 90) return "a minute";
  if (seconds < 3300) return `${Math.round(seconds / 60)} minutes`;
  if (seconds < 5400) return "an hour";
  if (seconds < 129600) return `${Math.round(seconds / 3600)} hours`;
  return `${Math.round(seconds / 86400)} days`;
}

export function bytes(count) {
  if (count < 1000) return plural(count, "byte", "bytes");
  const [value, unit] = count < 999500 ? [count / 1e3, "kB"] : [count / 1e6, "MB"];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export const size = (width, height) => `${width} × ${height}`;

/** What a job is at, for the eye; it may change with every answer. */
export function progress(job) {
  if (job.state === "queued") {
    if (!job.ahead) return "Starting…";
    return `Waiting: ${plural(job.ahead, "picture is", "pictures are")} ahead of yours`;
  }
  if (job.left !== null && job.left !== undefined) {
    if (job.left < 1) return "Almost done";
    return job.left < 5 ? "A few seconds left" : `About ${duration(job.left)} left`;
  }
  return job.done ? `${Math.round(100 * job.done)} % done` : "Getting ready…";
}

/** The state of a job in a word or two, for a list. */
export function state(job) {
  if (job.state === "queued") return "waiting";
  if (job.state === "running") return job.done ? `${Math.round(100 * job.done)} %` : "working";
  if (job.state === "failed") return "did not work";
  return job.state;
}

const MEANINGS = {
  size: ["Size", "Width and height in pixels: the more, the larger it can be shown or printed."],
  file: ["File", "How much room the file takes on a disk."],
  bpp: ["Bits per pixel", "The size of the file shared out over the pixels. A usual JPEG takes 1 to 3."],
  psnr: ["Likeness", "How close it is to the original (PSNR, in decibels). Above 30 is close; above 40 few people see a difference."],
  experts: ["Pieces", "How many soft coloured ellipses the picture is made of. It has no pixels, so it stays sharp at any zoom."],
};

/** The figures of a result as rows {key, label, value, meaning}; only those that it has. */
export function figures(result) {
  const values = {
    size: result.width && result.height ? `${size(result.width, result.height)} pixels` : null,
    file: result.bytes ? bytes(result.bytes) : null,
    bpp: result.bpp ? result.bpp.toFixed(2) : null,
    psnr: result.psnr ? `${result.psnr.toFixed(1)} dB` : null,
    experts: result.figures?.experts ? Number(result.figures.experts).toLocaleString("en") : null,
  };
  return Object.keys(MEANINGS)
    .filter((key) => values[key])
    .map((key) => ({ key, label: MEANINGS[key][0], value: values[key], meaning: MEANINGS[key][1] }));
}

/** When a result goes, from its second of expiry. */
export function expiry(expires, now = Date.now() / 1000) {
  if (!expires) return "";
  return `Kept here for ${duration(Math.max(expires - now, 0))}, then deleted. Download what you want to keep.`;
}
