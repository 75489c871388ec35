// Gives life to the view that has just come up.

import * as live from "./live.js";
import { follow } from "./player.js";
import { listen } from "./send.js";
import { localize, nameLanguages } from "./times.js";

export function mount() {
  localize();
  const spoken = document.getElementById("spoken");
  if (spoken) nameLanguages(spoken);
  if (document.getElementById("send")) listen();
  if (document.getElementById("player")) follow();
  live.start();
}
