// Every way in for files: the button, a drop anywhere on the page, and the clipboard.

import { show } from "./dom.js";

/** `taken(files)` is called with at least one File, `nothing(sentence)` where there was none in what came. */
export function picking({ picker, veil, taken, nothing }) {
  picker.addEventListener("change", () => {
    const files = [...picker.files];
    picker.value = ""; // so that the same file can be picked again
    if (files.length) taken(files);
  });

  // Children fire enter and leave, too, so leaving the page is seen only by counting.
  let depth = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  window.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth += 1;
    show(veil);
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    if (!depth) show(veil, false);
  });
  window.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    depth = 0;
    show(veil, false);
    if (!event.dataTransfer) return;
    event.preventDefault(); // else the browser leaves the page to show the file
    const files = [...event.dataTransfer.files];
    if (files.length) taken(files);
    else nothing("That was no file. Save the picture first, then drop the file here.");
  });

  window.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      taken(files);
    } else if (!event.target.closest?.("input, textarea, select")) {
      nothing("There is no picture in the clipboard. Copy one, then paste again.");
    }
  });

  return () => picker.click();
}
