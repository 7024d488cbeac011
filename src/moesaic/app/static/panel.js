// The column beside the picture: choices, then progress, then what came of it.

import * as api from "./api.js";
import { byId, make, show, tell } from "./dom.js";
import * as words from "./words.js";

const PARTS = ["choose", "working", "result"];
const STILL = 8000; // ms without news after which somebody may think that it is stuck

export class Panel {
  #spoken = null; // the last tenth that was read out
  #news = null; // the last news of a job, and when they came

  /** What the buttons do: `cancel()`, `goOn()`, `again()`. */
  constructor({ cancel, goOn, again }) {
    byId("cancel").addEventListener("click", cancel);
    byId("go-on").addEventListener("click", goOn);
    byId("again").addEventListener("click", again);
    byId("keep").addEventListener("change", () => this.#link());
  }

  /** One of "choose", "working" and "result", or null. */
  part(name) {
    for (const part of PARTS) show(byId(part), part === name);
    show(byId("panel"), name !== null || !byId("trouble").hidden);
    if (name !== "working") this.#spoken = null;
  }

  /** A sentence about what went wrong, until the next step. */
  trouble(sentence, action = null) {
    const place = byId("trouble");
    place.replaceChildren(...(sentence ? [make("p", {}, sentence)] : []));
    if (sentence && action) place.append(make("button", { type: "button", onclick: action.act }, action.label));
    show(place, Boolean(sentence));
    if (!sentence) return;
    show(byId("panel"));
    place.scrollIntoView({ block: "nearest" });
  }

  sending(verb, share) {
    this.part("working");
    byId("working-title").textContent = `${verb.label}: sending the picture`;
    this.#bar(share);
    tell(byId("left"), share === null ? "Sending…" : `${Math.round(100 * share)} % sent`);
    tell(byId("step"), "");
  }

  waiting({ busy, seconds }) {
    const again = `${busy ? "Trying again" : "Looking for it again"} in ${seconds} s.`;
    tell(byId("left"), busy ? "The server has much to do just now." : "The server does not answer.");
    tell(byId("step"), again);
  }

  working(verb, job) {
    this.part("working");
    byId("working-title").textContent = verb.label;
    this.#bar(job.state === "running" ? job.done : null);
    const left = words.progress(job);
    tell(byId("left"), left);
    const news = [job.id, job.state, job.step, job.done, job.left].join();
    if (news !== this.#news?.news) this.#news = { news, since: performance.now() };
    const still = job.state === "running" && performance.now() - this.#news.since > STILL;
    const step = job.step ? `${job.step[0].toUpperCase()}${job.step.slice(1)}.` : "";
    const why = still ? "Still at work: the first picture of a kind takes longer than the next ones." : "";
    tell(byId("step"), `${step} ${why}`.trim());
    const tenth = job.state === "queued" ? "queued" : Math.floor(10 * (job.done ?? 0));
    if (tenth !== this.#spoken) {
      this.#spoken = tenth;
      this.say(typeof tenth === "number" && tenth ? `${10 * tenth} % done. ${left}` : left);
    }
  }

  done(verb, job) {
    const { result } = job;
    this.part("result");
    byId("result-title").textContent = `${verb.label}: done`;
    tell(byId("found"), found(result.figures ?? {}));
    const rows = words.figures(result);
    const terms = (text) => rows.map((row) => make("div", {}, make("dt", {}, row.label), make("dd", {}, text(row))));
    byId("figures").replaceChildren(...terms((row) => row.value));
    byId("meanings").replaceChildren(...terms((row) => row.meaning));
    this.job = job;
    byId("download").textContent = `Download (${words.bytes(result.bytes)})`;
    byId("download").setAttribute("download", result.name);
    this.#link();
    byId("go-on").textContent = result.mixture ? "Save it as a picture" : "Go on with this picture";
    const again = result.mixture ? " To open the downloaded file again, drop it on this page." : "";
    tell(byId("expiry"), words.expiry(job.expires) + again);
  }

  /** Read out by a screen reader, and by nothing else. */
  say(text) {
    byId("told").textContent = text;
  }

  #link() {
    if (this.job) byId("download").href = api.download(this.job.id, byId("keep").checked);
  }

  #bar(share) {
    const bar = byId("progress");
    if (share === null || share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  }
}

/** What was seen in the picture, in a sentence, where the server tells. */
function found({ found: seen, sigma, severity, shares }) {
  if (seen) return seen.startsWith("no ") ? `${seen[0].toUpperCase()}${seen.slice(1)}.` : `Found in the picture: ${seen}.`;
  if (typeof sigma === "number") return `Noise found: ${sigma.toFixed(1)} of 255 levels.`;
  if (typeof severity === "number") return `Damage found: ${Math.round(100 * severity)} of 100.`;
  if (!shares) return null;
  const parts = Object.entries(shares).sort(([, a], [, b]) => b - a).slice(0, 6);
  const told = parts.map(([name, share]) => `${name} ${Math.round(100 * share)} %`);
  return told.length ? `In the picture: ${told.join(", ")}.` : null;
}
