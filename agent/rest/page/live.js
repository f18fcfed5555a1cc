// Live: the state of the agent as signals, which follow its events, and the connection that brings them.

import { batch, signal } from "./vendor/preact.js";
import { Refusal, UNREACHABLE, ask, open } from "./api.js";

const SILENT_MS = 20_000; // the agent sends at least a comment every 15 s
const RETRY_MS = [500, 2_000, 5_000, 10_000];
const MAX_TIMELINE = 200;
const MAX_HEARD = 200;
const MAX_HISTORY = 300; // seconds

/** What the agent says about this browser: `needs_token`, and `scope`, null if it must sign in. */
export const session = signal(null);
/** null while all is well, else why nothing new arrives, and since when (in the browser's time). */
export const lost = signal(null);
export const device = signal(null);
export const health = signal(null);
export const mqtt = signal(null);
export const cameras = signal([]);
/** The active profile and the one that was chosen; null if none is configured. */
export const profile = signal(null);
export const models = signal([]);
export const timeline = signal([]);
export const recordsEvents = signal(false);
/** The events that came with this connection, each as it is now. */
export const heard = signal([]);
/** The statistics of the last minutes, oldest first. */
export const history = signal([]);
/** Counts the connections: what has to begin again with each of them depends on it. */
export const connections = signal(0);
export const isLooking = signal(!document.hidden);

const results = new Map();
let clockOffset = 0;
let connection = null;
let failures = 0;

/** The views of a camera; one without a name if it has no named ones. */
export const viewsOf = (camera) => camera.views ?? [{ ...camera, name: undefined }];

/** The last Result of a view, as a signal. */
export function resultOf(camera, view) {
  const key = view === undefined ? camera : `${camera}/${view}`;
  if (!results.has(key)) results.set(key, signal(null));
  return results.get(key);
}

/** The time by the agent's clock, in milliseconds: its times must not look wrong if a clock is. */
export const agentNow = () => Date.now() + clockOffset;

function withState(camera, state) {
  if (state.view === undefined) return { ...camera, stable: state };
  return { ...camera, views: camera.views?.map((each) => (each.name === state.view ? { ...each, stable: state } : each)) };
}

const RANK = { read: 1, infer: 2, admin: 3 };

export const may = (scope) => RANK[session.value?.scope] >= RANK[scope];

const receive = {
  status(document) {
    if (device.value && device.value.version !== document.device.version) location.reload(); // the page changed too
    clockOffset = Date.parse(document.device.at) - Date.now();
    device.value = document.device;
    health.value = document;
    mqtt.value = document.mqtt;
    cameras.value = document.cameras;
    profile.value = document.profile;
    for (const camera of document.cameras)
      for (const view of viewsOf(camera)) resultOf(camera.name, view.name).value = view.result ?? null;
    models.value = document.models;
    timeline.value = document.timeline;
    recordsEvents.value = document.records_events;
    heard.value = [];
    if (document.stats) receive.stats(document.stats);
    connections.value += 1;
  },
  result(result) {
    resultOf(result.source, result.view).value = result;
  },
  state(state) {
    timeline.value = [...timeline.value.slice(1 - MAX_TIMELINE), state];
    cameras.value = cameras.value.map((each) => (each.name === state.camera ? withState(each, state) : each));
  },
  event(event) {
    heard.value = [...heard.value.filter((each) => each.id !== event.id).slice(1 - MAX_HEARD), event];
  },
  camera(camera) {
    const isKnown = cameras.value.some((each) => each.name === camera.name);
    cameras.value = isKnown
      ? cameras.value.map((each) => (each.name === camera.name ? { ...each, ...camera } : each))
      : [...cameras.value, camera];
    if (camera.state !== "online") for (const view of viewsOf(camera)) resultOf(camera.name, view.name).value = null;
  },
  model(model) {
    const others = models.value.filter((each) => each.name !== model.name);
    const isForgotten = !(model.serving || model.candidate || model.rejection || model.versions?.length);
    const all = isForgotten ? others : [...others, model];
    models.value = all.sort((a, b) => (a.name < b.name ? -1 : 1));
  },
  profile(document) {
    profile.value = document;
  },
  mqtt(document) {
    mqtt.value = document;
  },
  stats(stats) {
    history.value = [...history.value.slice(1 - MAX_HISTORY), stats];
    const isThere = (camera) => camera.name in stats.frames_per_s; // a reload may remove cameras
    if (!cameras.value.every(isThere)) cameras.value = cameras.value.filter(isThere);
  },
  health(document) {
    health.value = document;
  },
};

/** Connects, and again whenever the connection is lost, while somebody looks at the page. */
export async function connect() {
  connection?.abort();
  const own = (connection = new AbortController());
  while (!own.signal.aborted) {
    let reason = "The connection to the agent was lost.";
    try {
      session.value = await ask("api/session");
      if (session.value.scope === null) return; // SignIn connects again
      await follow(own);
    } catch (error) {
      if (own.signal.aborted) return;
      if (!(error instanceof Refusal)) console.error(error);
      reason = error instanceof Refusal ? error.message : "The page cannot show what the agent sent. Reload it.";
    }
    if (own.signal.aborted) return;
    lost.value = { reason, since: lost.value?.since ?? Date.now(), unreachable: reason === UNREACHABLE };
    await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)], own.signal);
    failures += 1;
  }
}

/** Reads server-sent events until the connection ends. EventSource would hide why the agent refuses. */
async function follow(own) {
  const answer = await open("api/live", { signal: own.signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const silence = setTimeout(() => reader.cancel(), SILENT_MS);
    const { done, value } = await reader.read().catch(() => ({ done: true })); // the connection broke
    clearTimeout(silence);
    if (done || own.signal.aborted) return;
    const blocks = (waiting + value).split("\n\n");
    waiting = blocks.pop();
    batch(() => blocks.forEach(take));
  }
}

function take(block) {
  const lines = block.split("\n");
  const of = (field) => lines.filter((line) => line.startsWith(`${field}: `)).map((line) => line.slice(field.length + 2));
  const [kind] = of("event");
  if (!(kind in receive)) return; // a comment, or an event of a later version
  receive[kind](JSON.parse(of("data").join("\n")));
  if (kind === "status") {
    lost.value = null;
    failures = 0;
  }
}

const pause = (milliseconds, stop) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    stop.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

document.addEventListener("visibilitychange", () => {
  isLooking.value = !document.hidden;
  if (document.hidden) connection?.abort();
  else connect();
});
addEventListener("online", () => lost.value && connect());
