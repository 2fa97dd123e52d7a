// What the page asks the server for. What goes wrong is an Error whose message a user can read.

export function rpc(method, request = {}) {
  return ask(`/backline.v1.Backline/${method}`, request);
}

export function control(session, parameter, value) {
  return ask(`/sessions/${session}/control`, {parameter, value});
}

export function setText(session, name, text) {
  return ask(`/sessions/${session}/text`, {name, text});
}

// What plays on the server's own sound card is asked for a scene or a controller: `what` is a path such as scene/2.
export async function askCard(name, what) {
  return (await ask(`/on-card/${encodeURIComponent(name)}/${what}`, {})).answer;
}

export async function live() {
  return (await answered(fetch("/live.json"))).json();
}

export async function schema() {
  return (await answered(fetch("/schema.json"))).json();
}

export async function card(pack) {
  return (await answered(fetch(`/packs/${encodeURIComponent(pack)}/card`))).text();
}

async function ask(path, body) {
  const headers = {"content-type": "application/json"};
  return (await answered(fetch(path, {method: "POST", headers, body: JSON.stringify(body)}))).json();
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Lost("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Error(told?.message ? sentence(told.message) : `The server answered ${response.status}.`);
}

// Nobody answers, which may pass.
export class Lost extends Error {}

export function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
