// Sends recordings that are chosen, dropped on the page or recorded, and shows their progress.

import { swap } from "./navigate.js";
import { keep } from "./recordings.js";
import { record } from "./recorder.js";
import { say, word } from "./words.js";

export function listen() {
  const form = document.getElementById("send");
  const input = document.getElementById("file");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) sendAll([...input.files]);
    else say(word("nothing"));
  });
  input.addEventListener("change", () => {
    sendAll([...input.files]);
    input.value = "";
  });
  record((file) => sendAll([file]));
}

async function sendAll(files) {
  for (const file of files) await send(file, files.length === 1);
}

// Send one file with the form's options, and show its job's page if it is the only one.
function send(file, alone) {
  const form = document.getElementById("send");
  const body = new FormData(form);
  body.delete("file");
  body.append("file", file, file.name);
  const item = document.createElement("li");
  const line = document.createElement("span");
  const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0, ariaLabel: word("sending") });
  line.textContent = `${word("sending")}: ${file.name}`;
  item.append(line, bar);
  document.getElementById("uploads").prepend(item);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch does not report an upload's progress
    request.upload.addEventListener("progress", (event) => event.lengthComputable && (bar.value = event.loaded / event.total));
    request.addEventListener("loadend", () => {
      bar.remove();
      const job = /^\/page\/jobs\/([^/]+)$/.exec(new URL(request.responseURL || location.href).pathname);
      if (request.status === 200 && job) {
        keep(job[1], file);
        if (alone) swap(request.responseText, request.responseURL);
        line.textContent = "";
        line.append(`${word("sent")}: `, link(file.name, request.responseURL));
      } else {
        line.className = "wrong";
        line.textContent = `${file.name} – ${word("refused", { reason: reason(request) })}`;
      }
      resolve();
    });
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "text/html");
    request.send(body);
  });
}

function link(text, address) {
  const anchor = Object.assign(document.createElement("a"), { href: address, textContent: text });
  anchor.dataset.soft = "";
  return anchor;
}

function reason(request) {
  const page = new DOMParser().parseFromString(request.responseText, "text/html");
  return page.querySelector("main h1")?.textContent || `HTTP ${request.status}`;
}

for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    const place = document.getElementById("drop");
    if (!place || ![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    place.classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") sendAll([...event.dataTransfer.files]);
  });
}
