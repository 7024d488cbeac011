// Elements made from code: text always goes in as text, so that no name of a file is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Make an element; properties that start with "on" are listeners, those with a dash are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the drawings in index.html, only for the eye. */
export function icon(name) {
  const known = document.getElementById(`icon-${name}`) ? name : "other";
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${known}`);
  drawing.append(use);
  return drawing;
}

export function show(element, visible = true) {
  element.hidden = !visible;
}

/** Text in an element that is hidden when there is none. */
export function tell(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}
