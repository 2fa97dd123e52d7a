// The page: which view is seen, what it is told and how often, and where errors are shown.

import {live, Lost, rpc} from "./calls.js";
import {showPacks} from "./packs.js";
import {showSessions} from "./sessions.js";
import {setUpTry, showTry} from "./try.js";
import {duration} from "./draw.js";

const VIEWS = ["sessions", "packs", "try"];
const LOOK_SECONDS = 0.5, LOOK_AT_PACKS_SECONDS = 5;

let view = "";
let packs = new Map();
let lookedAtPacks = -Infinity;
let lost = false;

function failed(error) {
  const box = document.querySelector("#problem");
  box.querySelector("p").textContent = error.message;
  box.hidden = false;
}

function settled() {
  if (lost) document.querySelector("#problem").hidden = true;
  lost = false;
}

function choose() {
  const wanted = location.hash.slice(1);
  if (wanted === "main") return; // the link that skips the navigation
  view = VIEWS.includes(wanted) ? wanted : VIEWS[0];
  for (const each of VIEWS) {
    document.querySelector(`#view-${each}`).hidden = each !== view;
    const link = document.querySelector(`nav a[href="#${each}"]`);
    if (each === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector(`#title-${view}`).textContent}, Backline`;
  lookedAtPacks = -Infinity;
  look();
}

async function lookAtPacks() {
  const found = (await rpc("ListPacks")).packs;
  packs = new Map(found.map((pack) => [pack.name, pack]));
  lookedAtPacks = performance.now();
  showPacks(packs, {changed: lookAtPacks, failed});
  showTry(packs);
}

let looking = false;

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  try {
    if (performance.now() - lookedAtPacks > LOOK_AT_PACKS_SECONDS * 1000) await lookAtPacks();
    if (view === "sessions") {
      const now = await live();
      if (now.sessions.some(({pack}) => !packs.has(pack))) await lookAtPacks();
      document.querySelector("#server").textContent = `${now.device}, up ${duration(now.uptime_seconds)}`;
      showSessions(now, packs, failed);
    }
    settled();
  } catch (error) {
    lost = error instanceof Lost;
    failed(error);
  } finally {
    looking = false;
  }
}

document.querySelector("#problem button").addEventListener("click", () => {
  document.querySelector("#problem").hidden = true;
});
window.addEventListener("hashchange", choose);
document.addEventListener("visibilitychange", look);
setUpTry(failed);
choose();
setInterval(look, LOOK_SECONDS * 1000);
