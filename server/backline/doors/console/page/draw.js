// Elements, numbers in words, and the two pictures: a ledger as a stacked bar, and chunk latency over time.

const SVG = "http://www.w3.org/2000/svg";

// An element with properties, attributes (where it has no such property) and children.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && typeof element[name] !== "object") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function seconds(value) {
  if (Math.abs(value) < 0.0995) return `${(value * 1000).toFixed(Math.abs(value) < 0.00995 ? 1 : 0)} ms`;
  return Math.abs(value) < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`;
}

export function duration(value) {
  const whole = Math.floor(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function bytes(value) {
  return value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : `${(value / 1e6).toFixed(0)} MB`;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

export function decibels(amplitude) {
  return 20 * Math.log10(Math.max(amplitude, 1e-6));
}

// Terms and their values; changes nothing that stays, so that a screen reader is not interrupted.
export function figures(list, values) {
  const known = new Map([...list.children].map((pair) => [pair.dataset.name, pair]));
  for (const [name, value] of Object.entries(values)) {
    let pair = known.get(name);
    if (!pair) {
      pair = h("div", {}, h("dt", {textContent: name}), h("dd"));
      pair.dataset.name = name;
      list.append(pair);
    }
    known.delete(name);
    if (pair.lastChild.textContent !== value) pair.lastChild.textContent = value;
  }
  for (const pair of known.values()) pair.remove();
}

// A level as a bar from -60 to 0 dBFS.
export function meter(label) {
  const bar = h("span", {className: "level"}), value = h("span", {className: "quiet"});
  const element = h("div", {className: "meter"}, h("span", {textContent: label}), h("span", {className: "scale"}, bar), value);
  return {
    element,
    show(level) {
      bar.style.width = `${Math.max(0, Math.min(1, 1 + level / 60)) * 100}%`;
      bar.classList.toggle("hot", level > -1);
      value.textContent = level <= -100 ? "silent" : `${level.toFixed(0)} dB`;
    },
  };
}

const NAMES = {
  capture: "capture", network: "network", queue: "queue", front_end: "front end", visibility: "visibility",
  compute: "compute", codec: "codec", jitter_buffer: "playback buffer", kept: "kept", sound_card: "sound card",
};

// A ledger: one bar, and below it what its parts are. What costs nothing is left out.
export function ledgerBar() {
  const bar = h("div", {className: "ledger-bar", role: "img"}), parts = h("ul", {className: "ledger-parts"});
  let shown = "";
  return {
    element: h("div", {className: "ledger"}, bar, parts),
    show(ledger) {
      const text = JSON.stringify(ledger);
      if (text === shown) return;
      shown = text;
      const items = ledger.items.filter((item) => Math.abs(item.seconds) >= 5e-5);
      const sum = items.reduce((total, item) => total + Math.max(0, item.seconds), 0) || 1;
      bar.setAttribute("aria-label", `Latency ${seconds(ledger.total_seconds)}: ${items
        .map((item) => `${NAMES[item.name] ?? item.name} ${seconds(item.seconds)}`).join(", ")}`);
      bar.replaceChildren(...items.filter((item) => item.seconds > 0).map((item) => {
        const part = h("span", {className: `part ${item.name}`, title: `${NAMES[item.name] ?? item.name}: ${seconds(item.seconds)}`});
        part.style.flexGrow = item.seconds / sum;
        return part;
      }));
      parts.replaceChildren(...items.map((item) => h("li", {},
        h("span", {className: `swatch ${item.name}`, "aria-hidden": "true"}),
        h("span", {className: "name", textContent: NAMES[item.name] ?? item.name}),
        h("span", {className: "value", textContent: seconds(item.seconds)}),
        h("span", {className: "why quiet", textContent: (item.measured ? "measured: " : "") + item.explanation}))));
    },
  };
}

// Chunk latency over the last minute, below the line that it must keep to.
export function latencyChart(lastSeconds = 60) {
  const width = 600, height = 96;
  const area = s("path", {class: "area"}), line = s("path", {class: "line"}), dots = s("path", {class: "dots"});
  const limit = s("line", {class: "limit", x1: 0, x2: width});
  const picture = s("svg", {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img"}, area, line, dots, limit);
  const top = h("span", {className: "top"}), budget = h("span", {className: "budget"});
  const caption = h("figcaption", {textContent: "Chunk latency"});
  return {
    element: h("figure", {className: "chart"}, caption, h("div", {className: "plot"}, picture, top, budget),
      h("div", {className: "axis quiet"}, h("span", {textContent: `${lastSeconds} s ago`}), h("span", {textContent: "now"}))),
    show(points, ledgerSeconds) {
      const most = Math.max(ledgerSeconds, ...points.map(([, latency]) => latency), 1e-3) * 1.15;
      const y = (latency) => (height * (1 - Math.max(0, latency) / most)).toFixed(1);
      const places = points.map(([ago, latency]) => [(width * (1 - ago / lastSeconds)).toFixed(1), y(latency)]);
      const path = places.map(([x, at], index) => `${index ? "L" : "M"}${x} ${at}`).join("");
      line.setAttribute("d", path);
      dots.setAttribute("d", (places.length > 150 ? [] : places).map(([x, at]) => `M${x} ${at}h0`).join(""));
      area.setAttribute("d", places.length ? `${path}L${places.at(-1)[0]} ${height}L${places[0][0]} ${height}Z` : "");
      for (const end of ["y1", "y2"]) limit.setAttribute(end, y(ledgerSeconds));
      budget.style.top = `${(100 * y(ledgerSeconds)) / height}%`;
      budget.textContent = `heard after ${seconds(ledgerSeconds)}`;
      const newest = points.at(-1)?.[1];
      top.textContent = newest === undefined ? "no chunk yet" : `newest ${seconds(newest)}`;
      picture.setAttribute("aria-label", newest === undefined ? "No chunk yet"
        : `Chunk latency: newest ${seconds(newest)}, most ${seconds(Math.max(...points.map(([, latency]) => latency)))}, ` +
          `to be heard after ${seconds(ledgerSeconds)}`);
    },
  };
}
