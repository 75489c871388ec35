// Marks the word that is played in the transcript, and plays from a word that is clicked.

import { recordingOf } from "./recordings.js";
import { word } from "./words.js";

const ASIDE = 4000; // milliseconds after the reader scrolled in which the page does not scroll by itself
const AGAIN = 3000; // milliseconds until the recording is requested again if the server could not send it

let audio = null;
let words = [];
let starts = [];
let now = null;
let scrolled = 0;

export function follow() {
  const player = document.getElementById("player");
  const own = recordingOf(document.querySelector("[data-job]").dataset.job);
  audio = document.getElementById("audio");
  if (own) {
    audio?.remove();
    audio = Object.assign(document.createElement("audio"), { id: "audio", controls: true, src: own });
    audio.ariaLabel = word("recording");
    player.prepend(audio);
    note("");
  }
  document.documentElement.classList.toggle("playable", Boolean(audio));
  read();
  if (!audio) return;
  const failed = async () => {
    const mine = audio;
    if (!own && (await away(mine))) return setTimeout(() => mine.isConnected && mine.load(), AGAIN);
    note(word("unplayable"));
    document.documentElement.classList.remove("playable");
  };
  audio.addEventListener("error", failed);
  if (audio.error) failed(); // before this script ran
  audio.addEventListener("play", () => requestAnimationFrame(tick));
  audio.addEventListener("timeupdate", mark);
  audio.addEventListener("seeked", mark);
}

// Whether a recording failed because the server is away or busy, and not because of its format.
async function away({ error, src }) {
  if (error?.code === MediaError.MEDIA_ERR_NETWORK) return true;
  try {
    return (await fetch(src, { headers: { Range: "bytes=0-0" } })).status === 503;
  } catch {
    return true;
  }
}

function read() {
  words = [...document.querySelectorAll("#transcript [data-start]")];
  starts = words.map((element) => Number(element.dataset.start));
  now = null;
  if (audio) mark();
}

function tick() {
  if (!audio || audio.paused || audio.ended) return;
  mark();
  requestAnimationFrame(tick);
}

// Mark the word at the current time, or the last one before a pause; none before the first and after the end.
function mark() {
  const at = audio.currentTime;
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= at) low = middle + 1;
    else high = middle;
  }
  const next = low && !audio.ended ? words[low - 1] : null;
  if (next === now) return;
  now?.classList.remove("now");
  next?.classList.add("now");
  now = next;
  if (now && !audio.paused && Date.now() - scrolled > ASIDE) reveal(now);
}

function reveal(element) {
  const { top, bottom } = element.getBoundingClientRect();
  const ceiling = document.getElementById("player").getBoundingClientRect().bottom;
  if (top > ceiling && bottom < innerHeight * 0.85) return;
  element.scrollIntoView({ block: "center", behavior: "smooth" });
}

function note(text) {
  const place = document.getElementById("note");
  place.textContent = text;
  place.hidden = !text;
}

function seek(seconds) {
  audio.currentTime = seconds;
  if (audio.paused) audio.play().catch(() => note(word("unplayable")));
}

document.addEventListener("click", (event) => {
  if (!audio?.isConnected) return;
  const at = event.target.closest?.("[data-seek]")?.dataset.seek ?? event.target.closest?.(".words [data-start]")?.dataset.start;
  if (at !== undefined && !String(getSelection())) seek(Number(at));
});
document.addEventListener("live", () => document.getElementById("player") && read());
for (const name of ["wheel", "touchmove"]) {
  addEventListener(name, () => (scrolled = Date.now()), { passive: true });
}
