// The view "Try it": a microphone or a file through a session, and what comes back in time.
//
//   microphone or file -> timeline.js (the audio thread) <-> stream.js (a worker) <-> the server

import {rpc, schema, sentence} from "./calls.js";
import {decibels, figures, h, ledgerBar, meter, seconds} from "./draw.js";
import {steering} from "./steering.js";

const BLOCK = 512; // samples that are sent at once
const UNPROCESSED = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
const $ = (selector) => document.querySelector(selector);

let playing = null;
let packs = new Map();
let file = null;

export function setUpTry(failed) {
  const form = $("#try");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (playing) playing.stop();
    else start(failed);
  });
  for (const radio of form.elements.source) radio.addEventListener("change", chooseSource);
  $("#file").addEventListener("change", () => take($("#file").files[0]));
  const drop = $("#drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  window.addEventListener("drop", (event) => event.preventDefault()); // beside it: the browser would leave the page
  window.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  $("#try-pack").addEventListener("change", choosePack);
  $("#dry").addEventListener("change", () => playing?.setDry($("#dry").checked));
}

export function showTry(known) {
  packs = known;
  const select = $("#try-pack"), names = [...packs.values()].filter((pack) => pack.state !== "PACK_STATE_DAMAGED");
  const wanted = names.map(({name, state}) => [name, state === "PACK_STATE_RESIDENT" ? name : `${name} (loads first)`]);
  const written = JSON.stringify(wanted);
  if (select.dataset.written === written) return;
  select.dataset.written = written;
  const chosen = select.value || names.find(({state}) => state === "PACK_STATE_RESIDENT")?.name;
  select.replaceChildren(...wanted.map(([value, textContent]) => h("option", {value, textContent})));
  if (chosen) select.value = chosen;
  choosePack();
}

function choosePack() {
  const pack = packs.get($("#try-pack").value);
  if (!pack) return;
  $("#visibility").min = pack.minimum_visibility_seconds;
  $("#visibility").placeholder = Number(pack.default_visibility_seconds.toFixed(3));
  $("#chunk").max = pack.maximum_chunk_seconds;
  $("#chunk").placeholder = Number(pack.default_chunk_seconds.toFixed(3));
}

function chooseSource() {
  const fromFile = $("#try").elements.source.value === "file";
  $("#drop").hidden = !fromFile;
  $("#dry").checked = fromFile;
  playing?.setDry(fromFile);
}

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  $("#drop-text").textContent = chosen.name;
}

async function start(failed) {
  const go = $("#go");
  if (go.ariaDisabled === "true") return;
  go.ariaDisabled = "true"; // one that is disabled would lose the keyboard's focus
  say("Asking for the sound…");
  try {
    playing = await Playing.begin(failed);
    go.textContent = "Stop";
    say("Playing");
  } catch (error) {
    say("Not playing");
    failed(error);
  } finally {
    go.ariaDisabled = "false";
  }
}

function say(text) {
  $("#try-state").textContent = text;
}

class Playing {
  static async begin(failed) {
    const pack = packs.get($("#try-pack").value);
    if (!pack) throw new Error("Choose a pack first.");
    const context = new AudioContext({latencyHint: "interactive"});
    const worker = new Worker("stream.js", {type: "module"});
    const self = new Playing(context, worker, failed);
    try {
      const source = await (document.forms.try.elements.source.value === "file" ? self.fromFile() : self.fromMicrophone());
      await context.resume();
      if (pack.state !== "PACK_STATE_RESIDENT") {
        say(`Loading ${pack.name}…`);
        await rpc("LoadPack", {name: pack.name});
      }
      say("Opening a session…");
      await self.open(pack, source);
      return self;
    } catch (error) {
      self.leave();
      throw error;
    }
  }

  constructor(context, worker, failed) {
    Object.assign(this, {context, worker, failed, tracks: [], inputSeconds: 0, warning: ""});
  }

  async fromMicrophone() {
    if (!navigator.mediaDevices) {
      throw new Error("The browser gives the microphone only to pages of this machine: open the console as localhost.");
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({audio: UNPROCESSED});
    } catch (error) {
      throw new Error(error.name === "NotAllowedError" ? "The microphone was not allowed: allow it beside the page's address."
        : "There is no microphone to be had: is it plugged in, and free? A file does as well.");
    }
    this.tracks = stream.getTracks();
    this.inputSeconds = this.tracks[0].getSettings().latency ?? 0;
    this.tracks[0].addEventListener("ended", () => this.stop("The microphone has gone."));
    return this.context.createMediaStreamSource(stream);
  }

  async fromFile() {
    if (!file) throw new Error("Choose a file first, or drop one.");
    const source = this.context.createBufferSource();
    try {
      source.buffer = await this.context.decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error(`${file.name} holds no sound that this browser can read.`);
    }
    source.onended = () => setTimeout(() => this.stop(), 1000 * (this.latency / this.context.sampleRate));
    this.begins = () => source.start();
    return source;
  }

  // Opens the session, and connects everything once the server is ready.
  async open(pack, source) {
    await this.context.audioWorklet.addModule("timeline.js");
    const timeline = new MessageChannel(), rate = this.context.sampleRate;
    const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
    const opening = {
      pack: pack.name, sample_rate: rate, channels: 2, block_size: BLOCK, mode: 1, client_name: "browser",
      visibility_seconds: number("#visibility"), chunk_seconds: number("#chunk"),
      jitter_buffer_seconds: Number($("#buffer").value) / 1000,
    };
    const url = new URL("/backline.v1.Backline/Stream", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const ready = new Promise((resolve, reject) => {
      this.worker.onerror = () => reject(new Error("The browser could not start the stream."));
      this.worker.onmessage = ({data}) => {
        if (data.ready) resolve(data.ready);
        else if (data.told) this.told(data.told);
        else if (data.ended && this.node) this.stop(data.ended.error && sentence(data.ended.error.message));
        else if (data.ended) reject(new Error(data.ended.error ? sentence(data.ended.error.message) : "The session has ended."));
      };
    });
    this.worker.postMessage({begin: {url: url.href, schema: await schema(), opening, timeline: timeline.port1}}, [timeline.port1]);
    this.connect(await ready, source, timeline.port2, pack);
  }

  connect(ready, source, port, pack) {
    this.latency = ready.ledger.latency_samples;
    this.node = new AudioWorkletNode(this.context, "backline-timeline", {
      numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [2], channelCount: 2, channelCountMode: "explicit",
      processorOptions: {
        block: BLOCK, ports: ready.ports.map(({channels}) => channels), latency: this.latency, dry: $("#dry").checked,
      },
    });
    this.node.port.postMessage({stream: port}, [port]);
    this.node.port.onmessage = ({data}) => this.report(data);
    this.node.onprocessorerror = () => this.stop("The browser could not play the sound.");
    this.source = source;
    source.connect(this.node).connect(this.context.destination);
    this.begins?.();
    this.show(ready, pack);
  }

  show(ready, pack) {
    this.ledger = ready.ledger;
    this.bar = ledgerBar();
    this.meters = {input: meter("input"), output: meter("output")};
    const task = pack.tasks.find(({name}) => name === ready.task);
    const has = (list, names) => list.filter(({name}) => !names?.length || names.includes(name));
    const controls = steering({
      parameters: has(pack.parameters, task?.parameters), texts: has(pack.texts, task?.texts),
      set: (parameter, value) => this.worker.postMessage({send: {control: {parameter, value}}}),
      tell: (name, text) => this.worker.postMessage({send: {text: {name, text}}}),
      failed: this.failed,
    });
    controls.show({...ready.parameters, ...ready.texts});
    $("#try-ledger").replaceChildren(this.bar.element);
    $("#try-meters").replaceChildren(this.meters.input.element, this.meters.output.element);
    $("#try-steering").replaceChildren(controls.element);
    const boxes = ready.ports.map(({name}) => h("input", {type: "checkbox", checked: true, name}));
    const ports = $("#try-ports");
    ports.hidden = boxes.length < 2;
    ports.replaceChildren(ports.firstElementChild, ...boxes.map((box) => h("label", {}, box, ` ${box.name}`)));
    for (const box of boxes) {
      box.addEventListener("change", () => this.node.port.postMessage({heard: boxes.map(({checked}) => Number(checked))}));
    }
    figures($("#try-figures"), {});
    this.report({dropouts: 0, missing: 0, ahead: 0, input: 0, output: 0, seconds: 0});
    $("#playing").hidden = false;
  }

  // What the server tells beside sound.
  told({ledger, warning, closed}) {
    if (ledger) {
      this.ledger = ledger;
      if (ledger.latency_samples > this.latency) { // a lower one is not worth a jump
        this.latency = ledger.latency_samples;
        this.node?.port.postMessage({latency: this.latency});
      }
    }
    if (warning?.code === "late_output") this.lateSamples = warning.count;
    else if (warning) this.warning = sentence(warning.message);
    if (closed) this.closed = closed;
  }

  report({dropouts, missing, ahead, input, output, seconds: played}) {
    const rate = this.context.sampleRate;
    const card = this.inputSeconds + (this.context.baseLatency ?? 0) + (this.context.outputLatency ?? 0);
    const total = this.latency / rate + card;
    const more = [
      {name: "kept", seconds: this.latency / rate - this.ledger.total_seconds, explanation: "of a latency that was needed before"},
      {name: "sound_card", seconds: card, measured: true, explanation: "the browser's, in and out"},
    ];
    this.bar.show({items: [...this.ledger.items, ...more], total_seconds: total});
    this.meters.input.show(decibels(input));
    this.meters.output.show(decibels(output));
    figures($("#try-figures"), {
      Latency: seconds(total),
      "Without sound card": `${((1000 * this.latency) / rate).toFixed(1)} ms`,
      Dropouts: String(dropouts),
      "Silent instead": missing ? seconds(missing / rate) : "0 ms",
      "Late at the server": seconds((this.lateSamples ?? 0) / rate),
      "Waiting to be played": played ? seconds(ahead) : "",
      Played: `${played.toFixed(0)} s`,
    });
    if (this.warning) say(`Playing. ${this.warning}`);
    else if (dropouts > 2) say("Playing, with dropouts: a longer playback buffer, under Timing, may help");
  }

  setDry(dry) {
    this.node?.port.postMessage({dry});
  }

  stop(problem) {
    if (playing !== this) return;
    playing = null;
    this.leave();
    $("#go").textContent = "Play";
    say("Not playing");
    if (problem) this.failed(new Error(problem));
  }

  leave() {
    this.worker.postMessage({close: true});
    const {worker} = this;
    setTimeout(() => worker.terminate(), 2000); // what is due may still come, so that the session ends in order
    this.node?.port.postMessage({stop: true});
    this.source?.disconnect();
    for (const track of this.tracks) track.stop();
    this.context.close();
    this.ended = true;
  }
}
