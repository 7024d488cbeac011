// The column of choices: what to do with the picture, and how.

import { byId, icon, make, show } from "./dom.js";
import { control, isUpFront } from "./options.js";

export class Choices {
  #verb = null;
  #key = null;
  #controls = new Map(); // name of an option -> its control
  #pixels = 0; // of the largest picture

  /** `start(verb, options)` when the person asks for it, `wrong(sentence)` where an option is no good. */
  constructor(verbs, { start, wrong }) {
    this.verbs = verbs;
    this.list = byId("verbs");
    byId("choose").noValidate = true; // our sentences, not the browser's balloons
    byId("choose").addEventListener("submit", (event) => {
      event.preventDefault();
      let options;
      try {
        options = this.#read();
      } catch (cause) {
        byId("more").open ||= true;
        return wrong(cause.message);
      }
      start(this.#verb, options);
    });
  }

  /** The verbs that take this kind of picture; the one chosen last stays chosen where it can. */
  offer(kind, count, pixels = 0) {
    this.#pixels = pixels;
    const fitting = this.verbs.filter((verb) => verb.accepts.includes(kind));
    const chosen = fitting.find((verb) => verb.name === this.#verb?.name) ?? fitting[0];
    const lines = fitting.map((verb) => {
      const box = make("input", {
        type: "radio", name: "verb", value: verb.name, checked: verb === chosen, onchange: () => this.#choose(verb, count),
        "aria-describedby": `verb-${verb.name}-help`,
      });
      const words = make("span", { className: "words" }, make("span", { className: "label" }, verb.label),
        make("span", { className: "small", id: `verb-${verb.name}-help` }, verb.help));
      return make("label", { className: "verb" }, box, icon(verb.name), words);
    });
    this.list.replaceChildren(this.list.querySelector("legend"), ...lines);
    if (chosen) this.#choose(chosen, count);
    return fitting.length;
  }

  #choose(verb, count) {
    const small = verb.options.map((option) => smaller(option, verb, this.#pixels));
    const key = `${verb.name} ${small.map(({ default: usual }) => usual)}`;
    this.#verb = verb;
    byId("start").textContent = count > 1 ? `${verb.label}: all ${count} pictures` : verb.label;
    if (key === this.#key) return; // what was set stays set
    this.#key = key;
    byId("more").open = false;
    this.#controls = new Map(small.map((option) => [option.name, control(option, verb.name)]));
    const elements = (upFront) => small.filter((option) => isUpFront(option) === upFront)
      .map((option) => this.#controls.get(option.name).element);
    byId("main-options").replaceChildren(...elements(true));
    byId("more-options").replaceChildren(...elements(false));
    show(byId("more"), elements(false).length > 0);
  }

  #read() {
    const read = [...this.#controls].map(([name, { read }]) => [name, read()]);
    return Object.fromEntries(read.filter(([, value]) => value !== undefined && value !== null));
  }
}

/** A picture that is too large for a verb is made smaller first, and the person is told: nobody need count pixels. */
function smaller(option, verb, pixels) {
  if (option.name !== "shrink" || !verb.pixels || pixels <= verb.pixels) return option;
  const fitting = option.choices.find(({ value }) => Number(value) * 1e6 <= verb.pixels);
  if (!fitting) return option;
  const millions = (count) => `${Math.round(count / 1e5) / 10} megapixels`;
  const help = `It has ${millions(pixels)}, and ${millions(verb.pixels)} are the most for this. So a smaller copy is worked on.`;
  const choices = option.choices.filter(({ value }) => Number(value) * 1e6 <= verb.pixels);
  return { ...option, choices, default: fitting.value, help, upFront: true };
}
