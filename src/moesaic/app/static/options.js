// The options of a verb as labelled controls, made from what the server says of them.

import { make } from "./dom.js";

const UP_FRONT = new Set(["scale"]); // what nearly everyone wants to choose; all others are folded away
const FEW = 5; // choices that are shown side by side

export const isUpFront = (option) => option.upFront ?? UP_FRONT.has(option.name);

/** A control: {element, read()}; read() gives undefined for "as usual". Throws a sentence where the value is no good. */
export function control(option, prefix) {
  const id = `${prefix}-${option.name}`;
  const help = option.help ? make("p", { className: "small help", id: `${id}-help` }, option.help) : null;
  const described = help ? { "aria-describedby": help.id } : {};
  if (option.kind === "flag") return flag(option, id, help, described);
  if (option.kind === "choice") {
    return option.choices.length <= FEW ? few(option, id, help, described) : many(option, id, help, described);
  }
  return number(option, id, help, described);
}

function flag(option, id, help, described) {
  const box = make("input", { type: "checkbox", id, checked: Boolean(option.default), ...described });
  return {
    element: make("div", { className: "option" }, make("label", { className: "check" }, box, make("span", {}, option.label)), help),
    read: () => box.checked,
  };
}

function few(option, id, help, described) {
  const boxes = option.choices.map(({ value, label }, at) => {
    const box = make("input", { type: "radio", name: id, id: `${id}-${at}`, checked: value === option.default });
    return { box, value, line: make("label", { className: "pill" }, box, make("span", {}, label)) };
  });
  if (!boxes.some(({ box }) => box.checked) && boxes.length) boxes[0].box.checked = true;
  const legend = make("legend", {}, option.label);
  const set = make("fieldset", { className: "option", ...described }, legend,
    make("div", { className: "pills" }, ...boxes.map(({ line }) => line)), help);
  return { element: set, read: () => boxes.find(({ box }) => box.checked)?.value };
}

function many(option, id, help, described) {
  const list = make("select", { id, ...described });
  option.choices.forEach(({ value, label }, at) => {
    list.append(make("option", { value: String(at), selected: value === option.default }, label));
  });
  return {
    element: make("div", { className: "option" }, make("label", { for: id }, option.label), list, help),
    read: () => option.choices[Number(list.value)]?.value,
  };
}

function number(option, id, help, described) {
  const whole = option.kind === "integer";
  const box = make("input", {
    type: "number", id, inputMode: whole ? "numeric" : "decimal", placeholder: "as usual", ...described,
    min: option.least ?? "", max: option.most ?? "", step: option.step ?? (whole ? 1 : "any"),
    value: option.default ?? "",
  });
  return {
    element: make("div", { className: "option" }, make("label", { for: id }, option.label), box, help),
    read: () => {
      if (box.validity.badInput) throw new Error(`${option.label} needs a number.`);
      if (box.value === "") return undefined;
      const value = Number(box.value);
      const least = option.least ?? -Infinity;
      const most = option.most ?? Infinity;
      if (value < least || value > most || (whole && !Number.isInteger(value))) {
        const kind = whole ? "a whole number" : "a number";
        throw new Error(`${option.label} needs ${kind} from ${least} to ${most}.`);
      }
      return value;
    },
  };
}
