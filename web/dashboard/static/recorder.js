// Records a message from the microphone, and shows its level.

import { say, word } from "./words.js";

const KINDS = { "audio/webm;codecs=opus": "webm", "audio/ogg;codecs=opus": "ogg", "audio/mp4": "m4a" };

export function record(send) {
  const button = document.getElementById("record");
  if (!navigator.mediaDevices || !window.MediaRecorder) return; // such as over plain HTTP from elsewhere
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      begin(await navigator.mediaDevices.getUserMedia({ audio: true }), send);
    } catch (error) {
      const line = Object.assign(document.createElement("li"), { className: "wrong" });
      line.textContent = word("no_microphone", { reason: error.message });
      document.getElementById("uploads").prepend(line);
    }
  });
}

function begin(stream, send) {
  const kind = Object.keys(KINDS).find((name) => MediaRecorder.isTypeSupported(name));
  const recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
  const pieces = [];
  const began = Date.now();
  const panel = document.getElementById("recorder");
  const context = new AudioContext();
  const meter = context.createAnalyser();
  let wanted = false;

  context.createMediaStreamSource(stream).connect(meter);
  draw(document.getElementById("level"), meter, () => recorder.state === "recording" && panel.isConnected);
  const clock = setInterval(() => {
    const seconds = Math.floor((Date.now() - began) / 1000);
    document.getElementById("recorded").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (!panel.isConnected) recorder.stop(); // the reader went to another view
  }, 500);

  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  recorder.addEventListener("stop", () => {
    clearInterval(clock);
    context.close();
    for (const track of stream.getTracks()) track.stop();
    panel.hidden = true;
    document.getElementById("drop").hidden = false;
    if (!wanted) return;
    const type = recorder.mimeType.split(";")[0];
    const name = `${new Date(began).toISOString().slice(0, 19).replaceAll(":", "-")}.${KINDS[kind] ?? "webm"}`;
    send(new File(pieces, name, { type }));
  });

  panel.hidden = false;
  document.getElementById("drop").hidden = true;
  document.getElementById("recorded").textContent = "0:00";
  document.getElementById("stop").onclick = () => {
    wanted = true;
    recorder.stop();
  };
  document.getElementById("discard").onclick = () => recorder.stop();
  document.getElementById("stop").focus();
  say(word("recording_now"));
  recorder.start();
}

function draw(canvas, meter, goesOn) {
  const pen = canvas.getContext("2d");
  const samples = new Uint8Array(meter.fftSize);
  const levels = [];
  const bars = canvas.width / 7;
  const frame = () => {
    if (!goesOn()) return;
    meter.getByteTimeDomainData(samples);
    levels.push(Math.max(...samples.map((sample) => Math.abs(sample - 128))) / 128);
    if (levels.length > bars) levels.shift();
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = getComputedStyle(canvas).color;
    levels.forEach((level, place) => {
      const height = Math.max(4, level * canvas.height);
      pen.fillRect(place * 7, (canvas.height - height) / 2, 4, height);
    });
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
