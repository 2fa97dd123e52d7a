// A worker: one session over a WebSocket. Its samples go straight to and from the audio thread, so that whatever the
// page is drawing, none of them waits for it.
//
// From the page: {begin: {url, schema, opening, timeline}}, {send: a ClientMessage}, {close: true}.
// To the page: {ready}, {told: a ServerMessage that is no audio}, {ended: {error} or {}}.

import {Wire} from "./wire.js";

const UNSENT_SECONDS = 4; // of what was captured, that may wait for the network

let wire, socket, timeline;
let sequence = 0, unsentBytes = 0, error = null, ended = false;

self.onmessage = ({data}) => {
  if (data.begin) begin(data.begin);
  else if (data.close) send({close: {}});
  else if (data.send) send(data.send);
};

function begin({url, schema, opening, timeline: port}) {
  wire = new Wire(schema);
  timeline = port;
  unsentBytes = UNSENT_SECONDS * opening.sample_rate * opening.channels * 4;
  socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => send({open: opening});
  socket.onmessage = ({data}) => receive(wire.decode("ServerMessage", new Uint8Array(data)));
  socket.onclose = ({code}) => end(code);
  timeline.onmessage = ({data: {position, samples}}) => {
    if (socket.bufferedAmount > unsentBytes) {
      error = {message: "The server takes no more sound: the network, or the server, is too slow."};
      socket.close();
    } else {
      send({audio: {sequence: sequence++, position, pcm: new Uint8Array(samples.buffer)}});
    }
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(wire.encode("ClientMessage", message));
}

function receive(message) {
  if (message.audio) {
    const {port, position, pcm} = message.audio;
    const samples = new Float32Array(pcm.slice().buffer);
    timeline.postMessage({port, position, samples}, [samples.buffer]);
  } else if (message.ready) {
    self.postMessage({ready: message.ready});
  } else {
    if (message.error) error = message.error;
    self.postMessage({told: message});
  }
}

function end(code) {
  if (ended) return;
  ended = true;
  const lost = code === 1012 ? "The server is shutting down." : "The connection to the server was lost. Is it still running?";
  self.postMessage({ended: {error: error ?? (code === 1000 ? null : {message: lost})}});
}
