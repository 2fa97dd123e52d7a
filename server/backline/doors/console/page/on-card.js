// What plays on the server's own sound card, opened by OSC: its set list with the scene now and next, and its MIDI.

import {askCard} from "./calls.js";
import {figures, h} from "./draw.js";

const shown = new Map(); // by name

export function showOnCard(playing, packs, failed) {
  const list = document.querySelector("#card-list");
  for (const each of playing) {
    if (!shown.has(each.name)) {
      shown.set(each.name, made(each.name, failed));
      list.append(shown.get(each.name).element);
    }
    shown.get(each.name).show(each, packs.get(each.pack));
  }
  for (const [name, card] of shown) {
    if (!playing.some((each) => each.name === name)) {
      card.element.remove();
      shown.delete(name);
    }
  }
}

function made(name, failed) {
  const badge = h("span", {className: "badge"}), state = h("p", {role: "status"});
  const set = setList(asking()), midi = midiIn(asking());

  // Of several scenes that are asked for one after the other only the last one comes, so only that may fail; and so of
  // controllers. What was not the last is undefined.
  function asking() {
    let newest = 0;
    return async (what) => {
      const number = ++newest;
      try {
        return await askCard(name, what);
      } catch (error) {
        if (number !== newest) return undefined;
        failed(error);
        return null;
      }
    };
  }

  const element = h("article", {className: "card"},
    h("header", {}, h("h3", {textContent: `On the sound card: ${name}`}), badge, set.next), state, set.element, midi.element);
  return {
    element,
    show(now, pack) {
      badge.textContent = now.pack;
      const said = set.show(now);
      if (state.textContent !== said) state.textContent = said;
      state.hidden = !said;
      midi.show(now.midi, pack);
    },
  };
}

// The scenes as buttons, each of which brings its own on the next bar; what is to be said of them.
function setList(ask) {
  const element = h("ol", {className: "scenes"});
  const next = h("button", {type: "button", className: "primary", textContent: "Next scene"});
  next.addEventListener("click", () => ask("next"));
  let names = "", buttons = [];
  return {
    element, next,
    show({scenes, now, coming}) {
      element.hidden = next.hidden = !scenes.length;
      if (JSON.stringify(scenes) !== names) {
        names = JSON.stringify(scenes);
        buttons = scenes.map((scene, index) => {
          const button = h("button", {type: "button", textContent: scene});
          button.addEventListener("click", () => ask(`scene/${index + 1}`));
          return button;
        });
        element.replaceChildren(...buttons.map((button) => h("li", {}, button)));
      }
      buttons.forEach((button, index) => {
        if (index === now) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
        button.classList.toggle("coming", index === coming);
      });
      const last = (coming ?? now) + 1 >= scenes.length;
      next.setAttribute("aria-disabled", String(last));
      if (!scenes.length) return "";
      if (coming !== null) return `Now ${scenes[now]}; ${scenes[coming]} comes on the bar`;
      return `Now ${scenes[now]}` + (last ? ", the last one" : `, next ${scenes[now + 1]}`);
    },
  };
}

// MIDI: its ports, the newest message, what is mapped, and a way to map more.
function midiIn(ask) {
  const numbers = h("dl", {className: "figures midi"}), select = h("select");
  const learn = h("button", {type: "button", textContent: "Learn"}), said = h("p", {role: "status", className: "quiet"});
  const form = h("div", {className: "actions"}, h("label", {}, "Lead by a controller ", select), learn, said);
  const element = h("div", {className: "midi-in"}, h("h4", {textContent: "MIDI"}), numbers, form);
  learn.addEventListener("click", async () => {
    said.textContent = `Move a knob or fader: the first that moves leads ${select.value}`;
    const mapped = await ask(`learn/${encodeURIComponent(select.value)}`);
    if (mapped !== undefined) said.textContent = mapped ? `Learned: next time, --map ${mapped}` : "";
  });
  let offered = "";
  return {
    element,
    show(midi, pack) {
      element.hidden = !midi.ports?.length;
      if (element.hidden) return;
      figures(numbers, {
        Ports: midi.ports.map((port) => port.name + (port.open ? "" : " (unplugged)")).join(", "),
        Newest: midi.newest || "nothing yet",
        Leads: midi.map.join(", ") || "nothing yet",
      });
      const parameters = (pack?.parameters ?? []).filter((each) => each.automatable).map((each) => each.name);
      if (parameters.join() !== offered) {
        offered = parameters.join();
        select.replaceChildren(...parameters.map((each) => h("option", {value: each, textContent: each.replaceAll("_", " ")})));
      }
      form.hidden = !parameters.length;
    },
  };
}
