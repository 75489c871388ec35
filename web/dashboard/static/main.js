// The entry of the page's scripts. The dashboard works without them, too.

import "./navigate.js";
import { mount } from "./mount.js";
import { localize } from "./times.js";
import { word } from "./words.js";

document.documentElement.classList.add("scripted");
mount();
setInterval(localize, 5000);

// Change the colours without reloading the page: a recording may be playing.
document.querySelector("[data-theme-button]").addEventListener("click", async (event) => {
  event.preventDefault();
  const button = event.currentTarget;
  const theme = button.value === "auto" ? "" : button.value;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  button.value = { "": "dark", dark: "light", light: "auto" }[theme];
  button.ariaLabel = `${word("theme")}: ${word(theme ? `theme_${theme}` : "theme_auto")}`;
  const body = new URLSearchParams({ theme: theme || "auto" });
  await fetch("/page/preferences", { method: "POST", body, redirect: "manual" });
});
