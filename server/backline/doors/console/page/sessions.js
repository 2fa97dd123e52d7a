// The view of sessions: what the server does, and every session with its ledger, its latency and its controls.

import {control, rpc, setText} from "./calls.js";
import {count, duration, figures, h, latencyChart, ledgerBar, meter, seconds} from "./draw.js";
import {showOnCard} from "./on-card.js";
import {steering} from "./steering.js";

const shown = new Map(); // by id

export function showSessions(live, packs, failed) {
  figures(document.querySelector("#figures"), {
    Load: `${(100 * live.load).toFixed(0)} % of a core`,
    Sessions: String(live.sessions.length),
    Chunks: String(live.chunks),
    Late: `${live.late_chunks}`,
    "Model call, median": seconds(live.call_seconds[0]),
    "99 of 100 calls": seconds(live.call_seconds[1]),
    Refused: String(live.refused),
    Up: duration(live.uptime_seconds),
  });
  document.querySelector("#no-sessions").hidden = live.sessions.length > 0;
  showOnCard(live.on_card, packs, failed);
  const list = document.querySelector("#session-list");
  for (const session of live.sessions) {
    if (!shown.has(session.id)) {
      shown.set(session.id, made(session, packs.get(session.pack), failed));
      list.append(shown.get(session.id).element);
    }
    shown.get(session.id).show(session);
  }
  for (const [id, card] of shown) {
    if (!live.sessions.some((session) => session.id === id)) {
      card.element.remove();
      shown.delete(id);
    }
  }
}

function made(session, pack, failed) {
  const numbers = h("dl", {className: "figures"});
  const ledger = ledgerBar(), chart = latencyChart();
  const meters = new Map(Object.keys(session.levels).map((name) => [name, meter(name)]));
  const warning = h("p", {className: "warning", hidden: true});
  const task = pack?.tasks.find((each) => each.name === session.task) ?? pack?.tasks[0];
  const has = (list, names) => (list ?? []).filter((each) => !names?.length || names.includes(each.name));
  const controls = steering({
    parameters: has(pack?.parameters, task?.parameters),
    texts: has(pack?.texts, task?.texts),
    set: (name, value) => control(session.id, name, value),
    tell: (name, value) => setText(session.id, name, value),
    failed,
    fixed: session.steerable ? "" : "A render depends on nothing but what its client sends.",
  });
  const close = h("button", {type: "button", textContent: "Close", "aria-label": `Close ${titleOf(session)}`});
  close.addEventListener("click", () => {
    close.disabled = true;
    rpc("CloseSession", {id: session.id}).catch((error) => {
      close.disabled = false;
      failed(error);
    });
  });
  const element = h("article", {className: "card"},
    h("header", {}, h("h3", {textContent: titleOf(session)}), h("span", {className: "badge", textContent: session.pack}), close),
    warning, numbers, h("div", {className: "meters"}, ...[...meters.values()].map((each) => each.element)),
    chart.element, h("h4", {textContent: "Where the latency goes"}), ledger.element, controls.element);
  return {
    element,
    show(now) {
      const limit = now.ledger.total_seconds;
      figures(numbers, {
        State: now.state,
        "Late chunks": `${now.late_chunks} of ${now.chunks}`,
        Latency: seconds(limit),
        Chunk: seconds(now.chunk_seconds),
        "Real-time factor": Number(now.realtime_factor).toFixed(2),
        Sound: `${(now.sample_rate / 1000).toFixed(1)} kHz, ${count(now.channels, "channel")}`,
        Since: duration(now.age_seconds),
        ...(now.chord && {Chord: now.chord}),
        ...(now.beat && {Beat: String(now.beat)}),
      });
      warning.hidden = !now.warning;
      warning.textContent = now.warning ?? "";
      for (const [name, level] of Object.entries(now.levels)) meters.get(name)?.show(level);
      chart.show(now.chunk_latencies, limit);
      ledger.show(now.ledger);
      controls.show({...now.parameters, ...now.texts});
    },
  };
}

function titleOf(session) {
  return session.client_name || `Session ${session.id.slice(0, 6)}`;
}
