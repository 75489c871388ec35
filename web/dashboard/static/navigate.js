// Changes views without leaving the page, so that a recording that was dropped here can still be played.

import * as live from "./live.js";
import { mount } from "./mount.js";

let shown = location.href;

export async function go(url) {
  try {
    show(await fetch(url, { headers: { Accept: "text/html" } }));
  } catch {
    location.assign(url);
  }
}

// Show a page that was fetched; `back`: the reader went back or forward, so the history stays as it is.
export async function show(response, back = false) {
  if (!(response.headers.get("content-type") ?? "").startsWith("text/html")) return location.assign(response.url);
  swap(await response.text(), response.url, back);
}

export function swap(html, url, back = false) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const main = fresh.getElementById("main");
  if (!main) return location.assign(url);
  live.stop();
  if (url === shown) { // such as a retried job: its recording keeps playing
    live.take(fresh);
    return live.start();
  }
  shown = url;
  if (!back) history.pushState(null, "", url);
  document.getElementById("main").replaceWith(document.importNode(main, true));
  document.title = fresh.title;
  for (const input of document.querySelectorAll(".preferences input[name=back]")) input.value = new URL(url).pathname;
  live.take(fresh);
  mount();
  document.getElementById("main").focus({ preventScroll: true });
  if (!back) scrollTo(0, 0);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-soft]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.href);
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-soft]")) return;
  event.preventDefault();
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  live.stop(); // or a job that is deleted here would be reported as unknown
  try {
    show(await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }));
  } catch {
    for (const button of form.querySelectorAll("button")) button.disabled = false;
    document.getElementById("lost").hidden = false;
    live.start();
  }
});

addEventListener("popstate", async () => {
  try {
    show(await fetch(location.href, { headers: { Accept: "text/html" } }), true);
  } catch {
    location.reload();
  }
});
