// Keeps the page up to date: every part with data-live is fetched again, and what has changed is replaced.

import { morph } from "./morph.js";
import { localize } from "./times.js";

const EVERY = { overview: 2000, dead: 5000 }; // milliseconds between updates; a job's page listens for events instead
const AGAIN = 3000; // milliseconds until the next attempt if the server did not answer

let timer = null;
let events = null;
let running = null;

export function start() {
  stop();
  const job = document.querySelector("[data-job]");
  if (job?.dataset.events) listen(job.dataset.events);
  else if (document.getElementById("main").dataset.view in EVERY) later();
}

export function stop() {
  clearTimeout(timer);
  timer = null;
  events?.close();
  events = null;
}

export async function refresh() {
  if (running) return (running.again = true);
  const mine = (running = { again: false });
  const address = location.href;
  let good = false;
  try {
    const response = await fetch(address, { headers: { Accept: "text/html" } });
    const here = location.href === address; // the reader has not moved to another view
    if (here && (response.redirected || response.status === 404)) return location.assign(response.url);
    good = response.ok;
    if (good && here) take(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    good = false; // the server is away: shown below, and retried
  } finally {
    running = null;
    document.getElementById("lost").hidden = good;
  }
  if (mine.again) return refresh();
  return good;
}

export function take(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (next) {
      localize(next);
      morph(part, next);
    }
  }
  const [job, next] = [document, fresh].map((page) => page.querySelector("[data-job]"));
  if (job && next?.dataset.events) job.dataset.events = next.dataset.events;
  else if (job) delete job.dataset.events;
  if (ended()) events?.close();
  document.title = fresh.title;
  document.dispatchEvent(new Event("live"));
}

function later() {
  const mine = (timer = setTimeout(async () => {
    if (!document.hidden) await refresh();
    if (timer === mine) later();
  }, EVERY[document.getElementById("main").dataset.view]));
}

function listen(address) {
  const source = (events = new EventSource(address));
  let status = null;
  const heard = async (message) => {
    const event = JSON.parse(message.data);
    const progress = event.detail?.progress;
    if (progress) show(event.status, progress);
    if (event.status !== status || !progress) {
      status = event.status;
      await refresh();
    }
  };
  source.addEventListener("message", heard);
  source.addEventListener("open", () => (document.getElementById("lost").hidden = true));
  source.addEventListener("error", () => {
    if (events !== source) return;
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(() => events === source && again(), AGAIN);
    else refresh(); // the browser reconnects by itself; this checks whether the server is there
  });
}

async function again() {
  if ((await refresh()) && !ended()) start();
  else if (document.getElementById("lost").hidden === false) timer = setTimeout(again, AGAIN);
}

function ended() {
  return Boolean(document.querySelector("#head .state:is(.done, .failed, .cancelled)"));
}

function show(status, { done, total }) {
  const stage = { decoding: "decode", transcribing: "transcribe", enriching: "enrich" }[status];
  const bar = document.querySelector(`[data-progress="${stage}"]`);
  if (!bar) return;
  bar.hidden = false;
  bar.max = total;
  bar.value = done;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.getElementById("main").dataset.view in EVERY) refresh();
});
