// A session's parameters and texts as controls: what they are called, how far they go, and what holds now.

import {h} from "./draw.js";

const SETTLE_SECONDS = 2; // after a change, in which what is told from before it is passed over

// `set(name, value)` and `tell(name, text)` make a change, and return a promise; `failed` is told of one that breaks.
export function steering({parameters, texts, set, tell, failed, fixed = ""}) {
  const controls = new Map();
  const element = h("fieldset", {className: "steering"}, h("legend", {textContent: "Parameters"}));
  if (fixed) element.append(h("p", {className: "quiet", textContent: fixed}));
  for (const parameter of parameters) {
    const made = parameter.labels?.length ? choice(parameter) : slider(parameter);
    add(parameter.name, made, parameter, (value) => set(parameter.name, value), !parameter.automatable);
  }
  for (const text of texts) add(text.name, line(text), text, (value) => tell(text.name, value), false);
  element.hidden = controls.size === 0;

  function add(name, control, {description, unit}, change, opensWith) {
    const id = `control-${Math.random().toString(36).slice(2)}`;
    control.input.id = id;
    control.input.disabled = Boolean(fixed) || opensWith;
    const label = h("label", {htmlFor: id}, words(name), unit ? h("span", {className: "unit", textContent: ` ${unit}`}) : "");
    const note = [description, opensWith ? "fixed when a session opens" : ""].filter(Boolean).join("; ");
    const item = {control, changedAt: -Infinity};
    element.append(h("div", {className: "control"}, label, control.element,
      h("small", {className: "quiet", textContent: note})));
    control.input.addEventListener(control.event, () => {
      item.changedAt = performance.now();
      Promise.resolve(change(control.value())).catch((error) => {
        item.changedAt = -Infinity;
        failed(error);
      });
    });
    controls.set(name, item);
  }

  return {
    element,
    show(values) {
      for (const [name, value] of Object.entries(values)) {
        const item = controls.get(name);
        if (item && performance.now() - item.changedAt > SETTLE_SECONDS * 1000) item.control.show(value);
      }
    },
    values() {
      return Object.fromEntries([...controls].map(([name, {control}]) => [name, control.value()]));
    },
  };
}

function words(name) {
  return name.replaceAll("_", " ");
}

function choice({labels, minimum, default_value: begin}) {
  const input = h("select", {}, ...labels.map((label, index) => h("option", {value: String(minimum + index), textContent: label})));
  const show = (value) => { input.value = String(value); };
  show(begin);
  return {element: input, input, event: "change", value: () => Number(input.value), show};
}

function slider({minimum, maximum, integer, default_value: begin}) {
  const step = integer ? 1 : stepOf(maximum - minimum);
  const input = h("input", {type: "range", min: minimum, max: maximum, step});
  const number = h("output");
  const decimals = integer ? 0 : Math.max(0, -Math.floor(Math.log10(step)));
  const tell = () => { number.textContent = Number(input.value).toFixed(decimals); };
  const show = (value) => {
    if (document.activeElement !== input || !input.matches(":active")) input.value = value;
    tell();
  };
  input.addEventListener("input", tell);
  show(begin);
  return {
    element: h("div", {className: "slider"}, input, number), input, event: "input",
    value: () => Number(input.value), show,
  };
}

function stepOf(reach) {
  return 10 ** Math.floor(Math.log10(reach / 100));
}

function line({default_value: begin, suggestions = []}) {
  const list = h("datalist", {id: `list-${Math.random().toString(36).slice(2)}`}, ...suggestions.map((each) => h("option", {value: each})));
  const input = h("input", {type: "text", maxLength: 512, value: begin, list: list.id});
  const show = (value) => { if (document.activeElement !== input) input.value = value; };
  return {element: h("div", {}, input, list), input, event: "change", value: () => input.value, show};
}
