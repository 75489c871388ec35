// Starts the scripts of the view that has just been shown.

import * as live from "./live.js";
import { follow } from "./player.js";
import { listen } from "./send.js";
import { localize, nameLanguages } from "./times.js";

export function mount() {
  localize();
  for (const select of document.querySelectorAll("select[data-languages]")) nameLanguages(select);
  if (document.getElementById("send")) listen();
  if (document.getElementById("player")) follow();
  live.start();
}
