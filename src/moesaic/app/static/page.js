// The page: it joins the picture, what is done with it, and what comes of that.

import * as api from "./api.js";
import { Choices } from "./choices.js";
import { byId, icon, make, show, tell } from "./dom.js";
import { Jobs } from "./jobs.js";
import { Panel } from "./panel.js";
import { picking } from "./picking.js";
import { fromFile, fromJob, refusal } from "./pictures.js";
import { Recent } from "./recent.js";
import { Stage, viewsOf } from "./stage.js";
import { persist } from "./waiting.js";
import { bytes, duration } from "./words.js";

const SHOWN = "moesaic.shown"; // in the session: the job that a reload takes up again

class Page {
  #pictures = []; // what would be worked on
  #job = null; // id of the job that is shown
  #sending = null; // an AbortController
  #gone = 0;
  #finished = null; // id of a job whose result is shown

  constructor(about) {
    this.about = about;
    this.verbs = new Map(about.verbs.map((verb) => [verb.name, verb]));
    this.stage = new Stage();
    this.panel = new Panel({
      cancel: () => this.cancel(),
      goOn: () => this.take([fromJob(this.jobs.state(this.#job), "result")]),
      again: () => this.again(),
    });
    this.choices = new Choices(about.verbs, {
      start: (verb, options) => this.start(verb, options),
      wrong: (sentence) => this.panel.trouble(sentence),
    });
    this.recent = new Recent({
      labels: Object.fromEntries(about.verbs.map((verb) => [verb.name, verb.label])),
      open: (id) => this.open(id),
      remove: (id) => this.remove(id),
    });
    this.jobs = new Jobs({
      changed: (job) => this.changed(job),
      left: (id, why) => this.left(id, why),
      lost: (seconds) => offline(seconds),
    });
    this.choose = picking({
      picker: byId("picker"),
      veil: byId("veil"),
      taken: (files) => this.taken(files),
      nothing: (sentence) => this.panel.trouble(sentence),
    });
    for (const button of document.querySelectorAll("[data-act=choose]")) button.addEventListener("click", this.choose);
    for (const button of document.querySelectorAll("[data-act=new]")) button.addEventListener("click", () => this.clear());
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // no entry of the history for it: Back leads from picture to picture
      byId("main").focus();
    });
    window.addEventListener("popstate", ({ state }) => this.#moved(state));
    if (!history.state) history.replaceState({ shown: false }, "");
    this.#words();
    this.stage.empty();
    this.#job = session();
    this.#enter();
    this.jobs.begin();
    this.jobs.look(this.#job);
    this.draw();
  }

  #words() {
    const { limits, version, sample, verbs } = this.about;
    const shown = verbs.filter((verb) => verb.accepts.includes("picture"));
    byId("abilities").replaceChildren(...shown.map((verb) => make("li", {}, icon(verb.name), verb.label)));
    const here = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
    const kept = limits.keep_seconds ? `and deleted after ${duration(limits.keep_seconds)}` : "and deleted after a while";
    byId("promise").textContent = here
      ? `Your pictures stay on this computer: they are worked on here ${kept}.`
      : `Your pictures are worked on by ${location.hostname} ${kept}. Other visitors do not see them.`;
    const most = [limits.body_bytes && bytes(limits.body_bytes), limits.pixels && `${Math.round(limits.pixels / 1e6)} megapixels`];
    byId("about").textContent = `moesaic ${version}. Pictures of up to ${most.filter(Boolean).join(" and ")}.`;
    if (!sample) return;
    show(byId("sample"));
    byId("sample").addEventListener("click", async () => {
      try {
        await this.taken([await api.fetched(sample.url, sample.name)]);
      } catch (cause) {
        this.panel.trouble(cause.message);
      }
    });
  }

  /** Files that came in: mixtures are opened at once, pictures wait for a choice. */
  async taken(files) {
    if (this.#sending) return this.panel.trouble("A picture is being sent just now. Wait for it, or cancel it first.");
    this.panel.trouble(null);
    const came = await Promise.all(files.map(fromFile));
    const refused = came.map((picture) => refusal(picture, this.about.limits));
    const sentence = refused.filter(Boolean).join(" ");
    const good = came.filter((_, at) => !refused[at]);
    const mixtures = good.filter((picture) => picture.kind === "moe");
    const pictures = good.filter((picture) => picture.kind !== "moe");
    if (pictures.length) this.take(pictures);
    else if (mixtures.length && this.verbs.has("decode")) {
      this.take(mixtures);
      await this.start(this.verbs.get("decode"), {});
    }
    if (sentence) this.panel.trouble(sentence);
  }

  /** Offer what can be done with these. */
  take(pictures) {
    for (const old of this.#pictures) if (!pictures.includes(old)) old.dispose();
    this.#pictures = pictures;
    this.#see(null);
    this.panel.trouble(null);
    this.panel.part("choose");
    this.stage.picture(pictures[0]);
    const count = pictures.length;
    byId("question").textContent = count > 1 ? `What shall we do with these ${count} pictures?` : "What shall we do?";
    if (count > 1) tell(byId("caption"), pictures.map(({ name }) => name).join(", "));
    if (!this.choices.offer(pictures[0].kind, count, Math.max(...pictures.map(({ width, height }) => width * height)))) {
      this.panel.trouble("There is nothing to be done with this kind of file here. Choose a picture.");
    }
    this.draw();
    byId("verbs").querySelector("input:checked")?.focus({ preventScroll: true });
  }

  /** The empty page again, by the button or by the browser's Back. */
  clear() {
    if (history.state?.shown) history.back(); // which empties it
    else this.#empty();
  }

  #empty() {
    this.#sending?.abort();
    for (const old of this.#pictures) old.dispose();
    this.#pictures = [];
    this.#see(null);
    this.panel.trouble(null);
    this.panel.part(null);
    this.stage.empty();
    this.draw();
    byId("empty").querySelector("button").focus({ preventScroll: true });
  }

  /** A picture comes after the empty page, so that Back leads there and does not leave moesaic. */
  #enter() {
    if (!this.#job && !this.#pictures.length) return;
    const state = { shown: true, job: this.#job };
    if (history.state?.shown) history.replaceState(state, "");
    else history.pushState(state, "");
  }

  /** The browser went back or forward; or to a place of the page, which has no state. */
  #moved(state) {
    if (!state) return;
    if (!state.shown) this.#empty();
    else if (state.job && this.jobs.state(state.job)) this.open(state.job);
    else history.back(); // what was there is gone
  }

  /** Send all pictures, one after another; the first one is watched. */
  async start(verb, options) {
    const pictures = [...this.#pictures];
    this.panel.trouble(null);
    this.#sending = new AbortController();
    const { signal } = this.#sending;
    const troubles = [];
    let unread = false;
    let first = null;
    for (const picture of pictures) {
      if (!first) this.stage.picture(picture, { busy: true });
      try {
        const job = await this.#send(verb, options, picture, signal, !first);
        if (signal.aborted) return void this.jobs.remove(job.id).catch(() => {}); // it came while being cancelled
        picture.from = { job: job.id, which: "input" };
        first ??= job;
        this.jobs.add(job, picture.thumb);
        if (first === job) {
          this.#see(job.id);
          this.changed(this.jobs.state(job.id) ?? job); // it may have ended before the answer came
        }
        this.draw();
      } catch (cause) {
        if (cause.name === "AbortError") break;
        unread ||= cause.status === 415;
        troubles.push(pictures.length > 1 ? `${picture.name}: ${cause.message}` : cause.message);
      }
    }
    this.#sending = null;
    if (!first && this.#pictures[0] === pictures[0] && this.#pictures.length) this.take(pictures);
    const another = unread ? { label: "Choose another picture", act: this.choose } : null;
    if (troubles.length) this.panel.trouble(troubles.join(" "), another);
  }

  async #send(verb, options, picture, signal, watched) {
    const sent = (share) => watched && this.panel.sending(verb, share);
    const waits = (wait) => watched && wait && this.panel.waiting(wait);
    const once = (source) => persist(() => {
      sent(source instanceof Blob ? 0 : null);
      return api.begin(verb.name, options, source, { sent, signal });
    }, { signal, waits });
    try {
      return await once(picture.source);
    } catch (cause) {
      if (!cause.gone || !picture.from || !picture.file) throw cause;
      picture.from = null; // the server has let go of it, and the file is still here
      return once(picture.file);
    }
  }

  async cancel() {
    if (this.#sending) this.#sending.abort();
    const id = this.#job;
    if (!id) return this.take(this.#pictures);
    const job = this.jobs.state(id);
    if (job && !this.#known(job)) this.#pictures = [this.#input(job)];
    try {
      await this.jobs.remove(id);
      this.panel.say("Cancelled.");
    } catch (cause) {
      this.panel.trouble(cause.message);
    }
  }

  /** Another go with what this job began from. */
  again() {
    const job = this.jobs.state(this.#job);
    this.take(this.#known(job) ? this.#pictures : [this.#input(job)]);
  }

  open(id) {
    this.panel.trouble(null);
    this.#see(id);
    const job = this.jobs.state(id);
    if (job) this.changed(job);
    byId("stage").scrollIntoView({ block: "start" });
  }

  async remove(id) {
    try {
      await this.jobs.remove(id);
    } catch (cause) {
      this.panel.trouble(cause.message);
    }
  }

  /** The server said something of a job. */
  changed(job) {
    this.draw();
    if (job.id !== this.#job) return;
    const verb = this.verbs.get(job.verb) ?? { name: job.verb, label: job.verb };
    if (job.state === "done") {
      if (this.#finished === job.id) return;
      this.#finished = job.id;
      this.panel.done(verb, job);
      this.stage.result(job, viewsOf(job)[0]);
      byId("stage").scrollIntoView({ block: "nearest" });
      this.panel.say(`${verb.label}: done.`);
      return;
    }
    const busy = job.state === "queued" || job.state === "running";
    if (busy) {
      this.stage.picture(this.#input(job), { busy });
      return this.panel.working(verb, job);
    }
    if (this.#finished === job.id) return;
    this.take(this.#known(job) ? this.#pictures : [this.#input(job)]); // another try, or something else
    this.#finished = job.id;
    this.panel.trouble(job.error ?? (job.state === "cancelled" ? "This was cancelled." : "That did not work. Try another picture."));
  }

  /** A job is no more. */
  left(id, why) {
    if (why === "gone") {
      this.#gone += 1;
      const { keep_seconds: kept } = this.about.limits;
      this.recent.gone(this.#gone, kept ? duration(kept) : "a while");
    }
    if (id === this.#job) {
      const kept = this.#pictures.filter(({ file, from }) => file || (why === "cancelled" && from?.job === id));
      if (kept.length) this.take(kept);
      else this.clear();
    }
    this.draw();
  }

  /** Whether the pictures at hand are those of this job. */
  #known(job) {
    return this.#pictures.some(({ from }) => from?.job === job.id && from.which === "input");
  }

  /** What a job began from, as it is at hand. */
  #input(job) {
    const mine = this.#pictures.find(({ from }) => from?.job === job.id && from.which === "input");
    if (mine) return mine;
    const entry = this.jobs.entries.find(({ id }) => id === job.id);
    return Object.assign(fromJob(job, "input"), { thumb: entry?.thumb ?? null });
  }

  draw() {
    this.recent.draw(this.jobs.entries, (id) => this.jobs.state(id), this.#job);
  }

  #see(id) {
    this.#job = id;
    this.#finished = null;
    session(id);
    this.jobs.look(id);
    this.#enter();
  }
}

/** The job that this tab shows: told, or asked for. */
function session(id) {
  try {
    if (id) sessionStorage.setItem(SHOWN, id);
    else if (id === null) sessionStorage.removeItem(SHOWN);
    else return sessionStorage.getItem(SHOWN);
  } catch {
    // storage is forbidden: a reload begins anew
  }
  return id ?? null;
}

function offline(seconds) {
  const sentence = "The server does not answer. If you started it yourself, see that it still runs.";
  tell(byId("offline"), seconds === null ? "" : `${sentence} Trying again in ${Math.ceil(seconds)} s.`);
}

const about = await persist(api.about, { waits: (wait) => offline(wait?.seconds ?? null) });
new Page(about);
