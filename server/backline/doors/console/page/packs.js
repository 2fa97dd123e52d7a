// The view of packs: what each plays, whether it is in memory, and its card.

import {card, rpc} from "./calls.js";
import {bytes, count, h, seconds} from "./draw.js";

const STATES = {
  PACK_STATE_AVAILABLE: "on disk", PACK_STATE_RESIDENT: "loaded", PACK_STATE_DAMAGED: "damaged",
};
const shown = new Map(); // by name

export function showPacks(packs, {changed, failed}) {
  const list = document.querySelector("#pack-list");
  for (const pack of packs.values()) {
    if (!shown.has(pack.name)) {
      shown.set(pack.name, made(pack, {changed, failed}));
      list.append(shown.get(pack.name).element);
    }
    shown.get(pack.name).show(pack);
  }
  for (const [name, each] of shown) {
    if (!packs.has(name)) {
      each.element.remove();
      shown.delete(name);
    }
  }
}

function made({name}, {changed, failed}) {
  const state = h("span", {className: "badge"}), what = h("p"), facts = h("p", {className: "quiet"});
  const problem = h("p", {className: "warning", hidden: true});
  const action = h("button", {type: "button"}), offers = h("ul", {className: "offers"});
  const text = h("div", {className: "card-text"});
  const story = h("details", {}, h("summary", {textContent: "Card"}), text);
  let pack, busy = false;

  story.addEventListener("toggle", async () => {
    if (!story.open || text.hasChildNodes()) return;
    try {
      text.innerHTML = await card(name); // the server has written it, without HTML of the pack's own
      for (const table of text.querySelectorAll("table")) scrollable(table, name);
    } catch (error) {
      text.textContent = error.message;
    }
  });

  action.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    show(pack);
    try {
      if (pack.state !== "PACK_STATE_RESIDENT") await rpc("LoadPack", {name});
      else if (mayUnload(pack)) await rpc("UnloadPack", {name, close_sessions: pack.sessions > 0});
    } catch (error) {
      failed(error);
    } finally {
      busy = false;
      await changed();
    }
  });

  function show(now) {
    pack = now;
    const resident = pack.state === "PACK_STATE_RESIDENT";
    state.textContent = STATES[pack.state] ?? pack.state;
    state.classList.toggle("on", resident);
    what.textContent = pack.description;
    facts.textContent = [
      pack.version && `version ${pack.version}`, pack.family, pack.license,
      resident && bytes(Number(pack.resident_bytes)), resident && count(pack.sessions, "session"),
    ].filter(Boolean).join(" · ");
    problem.hidden = !pack.problem;
    problem.textContent = pack.problem;
    action.textContent = busy ? (resident ? "Unloading…" : "Loading…") : resident ? "Unload" : "Load";
    action.disabled = pack.state === "PACK_STATE_DAMAGED";
    action.setAttribute("aria-disabled", busy); // one that is disabled would lose the keyboard's focus
    action.setAttribute("aria-label", `${resident ? "Unload" : "Load"} ${name}`);
    const latency = pack.latency.reduce((sum, item) => sum + item.seconds, 0);
    const lines = [
      pack.ports.length && ["Plays", pack.ports.map((port) => port.name).join(", ")],
      pack.default_chunk_seconds && ["Chunk", `${seconds(pack.default_chunk_seconds)}, at most ${seconds(pack.maximum_chunk_seconds)}`],
      resident && ["Latency of the model", seconds(Math.max(0, latency))],
      pack.parameters.length && ["Parameters", pack.parameters.map((each) => each.name.replaceAll("_", " ")).join(", ")],
      pack.texts.length && ["Texts", pack.texts.map((each) => each.name).join(", ")],
      pack.metres.length && ["Metres", pack.metres.join(", ")],
    ].filter(Boolean);
    const written = JSON.stringify(lines);
    if (offers.dataset.written !== written) {
      offers.dataset.written = written;
      offers.replaceChildren(...lines.map(([term, value]) => h("li", {}, h("b", {textContent: term}), ` ${value}`)));
    }
  }

  const element = h("article", {className: "card"},
    h("header", {}, h("h3", {textContent: name}), state, action), problem, what, facts, offers, story);
  return {element, show};
}

function mayUnload(pack) {
  return pack.sessions === 0 ||
    confirm(`${count(pack.sessions, "session")} on ${pack.name} will end. Unload it nevertheless?`);
}

// A wide table scrolls by itself, with the keyboard as well.
function scrollable(table, name) {
  const frame = h("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": `A table of ${name}`});
  table.replaceWith(frame);
  frame.append(table);
}
