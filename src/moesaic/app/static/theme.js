// Dark or light, before anything is drawn: as the person chose here before, else as the system says. No module, as
// modules run too late and the page would flash.
"use strict";

{
  const KEY = "moesaic.theme";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return window.localStorage.getItem(KEY);
    } catch {
      return null; // storage is forbidden: the system decides
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  const label = () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
    button.querySelector("use").setAttribute("href", isDark() ? "#icon-sun" : "#icon-moon");
  };

  const choice = stored();
  if (choice === "dark" || choice === "light") root.dataset.theme = choice;
  document.addEventListener("DOMContentLoaded", () => {
    label();
    system.addEventListener("change", label);
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        window.localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // it lasts until the page is left
      }
      label();
    });
  });
}
