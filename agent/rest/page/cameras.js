// Cameras: the live picture of each camera, what the model says about it, and its switch.

import { computed, html, signal, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, open } from "./api.js";
import { moment, percent, rate } from "./format.js";
import { cameras, connections, history, isLooking, lost, may, profile, resultOf, viewsOf } from "./live.js";
import { report } from "./notice.js";
import { Plot } from "./plot.js";
import { Scores } from "./scores.js";

const MAX_SCORES = 5;
const MAX_STREAMS = 3; // a browser opens at most six connections to one host
const STILL_MS = 2_000;
const RETRY_MS = 3_000;

const onScreen = signal([]); // names of the cameras whose picture can be seen, in the order in which they appeared
const streamed = computed(() => (isLooking.value ? onScreen.value.slice(0, MAX_STREAMS) : []));
const stills = computed(() => (isLooking.value ? onScreen.value.slice(MAX_STREAMS) : []));

const STATES = {
  starting: ["Starting", "wait"],
  online: ["Live", "good"],
  lost: ["Lost", "bad"],
  frozen: ["Frozen", "bad"],
  disabled: ["Off", "off"],
  ended: ["Ended", "off"],
};
const WITHOUT_PICTURE = {
  starting: "Waiting for the first picture.",
  disabled: "This camera is switched off.",
  ended: "The recording has ended.",
};

export function Cameras() {
  const all = cameras.value;
  return html`
    <section aria-labelledby="cameras">
      <h2 id="cameras">Cameras</h2>
      ${profile.value && html`<${Profile} />`}
      ${all.length ? html`<div class="cards">${all.map((each) => html`<${Camera} key=${each.name} camera=${each} />`)}</div>` : NoCamera()}
      <${Announcer} />
    </section>
  `;
}

const NoCamera = () => html`
  <div class="card empty">
    <p><strong>No camera is configured.</strong> Add one to the agent's configuration, on an installed board${" "}
      <code>/etc/edge-agent/agent.yaml</code>:</p>
    <pre>${"cameras:\n  front:\n    source: /dev/video0"}</pre>
    <p>The source can also be the URL of a network camera, a video file or a folder of images. Then let the agent${" "}
      read its configuration:</p>
    <pre>sudo systemctl reload-or-restart edge-agent</pre>
  </div>
`;

const CHOICES = { auto: "By the clock", none: "None" };

function Profile() {
  const { active, chosen, profiles } = profile.value;
  const choose = async ({ target }) => {
    try {
      profile.value = await ask("api/profile", { method: "POST", json: { profile: target.value } });
      report(`Profile: ${profile.value.active ?? "none"}.`);
    } catch (error) {
      target.value = chosen;
      report(error.message, { isBad: true });
    }
  };
  const option = (name) => html`<option value=${name}>${CHOICES[name] ?? name}</option>`;
  return html`
    <p class="quiet profile">
      <label class="field">Profile
        <select value=${chosen} disabled=${!may("admin") || lost.value} onChange=${choose}>
          ${["auto", "none", ...profiles].map(option)}
        </select>
      </label>
      ${chosen === "auto" && html`${" "}<span>${active ? html`now <strong>${active}</strong>` : "none is active now"}</span>`}
    </p>
  `;
}

function Camera({ camera }) {
  const [word, mood] = lost.value ? ["No connection", "off"] : (STATES[camera.state] ?? [camera.state, "off"]);
  const isLive = camera.state === "online";
  return html`
    <article class="card camera" aria-labelledby=${`camera-${camera.name}`}>
      <header>
        <h3 id=${`camera-${camera.name}`}>${camera.name}</h3>
        <span class="state ${mood}">${word}</span>
        ${may("admin") && html`<${Switch} camera=${camera} />`}
      </header>
      <${Picture} camera=${camera} />
      ${camera.reason && html`<p class="trouble">${camera.reason}</p>`}
      ${isLive && html`
        <${Health} camera=${camera} />
        ${viewsOf(camera).map((view) => html`<${View} key=${view.name} camera=${camera.name} view=${view} />`)}
        <${Frames} camera=${camera} />
      `}
    </article>
  `;
}

/** A sentence about a camera that is covered, blurred or moved, and the way to say that it is meant to be so. */
function Health({ camera }) {
  const { state, reason } = camera.health ?? {};
  if (!reason) return null;
  const isCompared = state === "blurred" || state === "moved";
  const retake = async () => {
    try {
      await ask(`api/cameras/${encodeURIComponent(camera.name)}/reference`, { method: "POST", json: {} });
      report(`Camera ${camera.name} takes a new reference picture within the next minute.`);
    } catch (error) {
      report(error.message, { isBad: true });
    }
  };
  return html`
    <p class="trouble">${reason}</p>
    ${isCompared && may("admin") && html`<button onClick=${retake}>Take a new reference picture</button>`}
  `;
}

function View({ camera, view }) {
  const { label, since } = view.stable ?? {};
  return html`
    ${view.name && html`<h4>${view.name}</h4>`}
    <p class="label">${label ? html`<strong title=${label}>${label}</strong>` : view.stable ? "Nothing recognized" : "No steady label yet"}</p>
    <p class="quiet">${since ? html`since <time dateTime=${since}>${moment(since)}</time>` : html`A label counts once it has held for a few frames.`}</p>
    <${ViewScores} camera=${camera} view=${view.name} />
  `;
}

function ViewScores({ camera, view }) {
  const categories = resultOf(camera, view).value?.categories.slice(0, MAX_SCORES) ?? [];
  const most = useRef(1);
  most.current = Math.max(most.current, categories.length); // what is below must not jump with each frame
  return html`<${Scores} categories=${categories} lines=${most.current} />`;
}

function Frames({ camera }) {
  const figures = history.value.map((stats) => stats.frames_per_s[camera.name] ?? 0);
  const skipped = history.value.at(-1)?.skipped?.[camera.name];
  const models = viewsOf(camera).map((view) => resultOf(camera.name, view.name).value?.model);
  const names = [...new Set(models.filter(Boolean).map((model) => `${model.name} ${model.version}`))];
  return html`
    <footer>
      <${Plot} lines=${[figures]} title="Frames per second" unit=${rate} />
      <p class="quiet">
        <span class="number">${rate(figures.at(-1))}</span> frames/s${skipped > 0 && `, ${percent(skipped)} skipped without motion`}${names.map((name) => `, ${name}`)}
      </p>
    </footer>
  `;
}

function Switch({ camera }) {
  const [isBusy, setBusy] = useState(false);
  const flip = async () => {
    setBusy(true);
    try {
      const action = camera.enabled ? "disable" : "enable";
      await ask(`api/cameras/${encodeURIComponent(camera.name)}/${action}`, { method: "POST", json: {} });
      report(`Camera ${camera.name} is switched ${camera.enabled ? "off" : "on"}.`);
    } catch (error) {
      report(error.message, { isBad: true });
    }
    setBusy(false);
  };
  return html`
    <button class="switch" role="switch" aria-checked=${String(camera.enabled)} aria-label=${`Camera ${camera.name}`}
      disabled=${isBusy} onClick=${flip}><span aria-hidden="true"></span></button>
  `;
}

function Picture({ camera }) {
  const frame = useRef(null);
  const { name } = camera;
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => {
      const others = onScreen.value.filter((each) => each !== name);
      if (!entry.isIntersecting) onScreen.value = others;
      else if (others.length === onScreen.value.length) onScreen.value = [...others, name];
    });
    watcher.observe(frame.current);
    return () => {
      watcher.disconnect();
      onScreen.value = onScreen.value.filter((each) => each !== name);
    };
  }, [name]);
  const isShown = !lost.value && !["disabled", "ended"].includes(camera.state); // a stream waits for the first picture
  const hasStill = isShown && (camera.has_picture || camera.state === "online");
  // A stream ends when the camera is opened again and with the connection; some browsers do not report that.
  const key = `${connections.value} ${camera.state === "starting"}`;
  return html`
    <div class="picture" ref=${frame}>
      ${isShown && streamed.value.includes(name) && html`<${Stream} key=${key} name=${name} />`}
      ${hasStill && stills.value.includes(name) && html`<${Still} key=${key} name=${name} />`}
      <p>${lost.value ? "No connection." : (WITHOUT_PICTURE[camera.state] ?? "Waiting for the picture.")}</p>
    </div>
  `;
}

const pathOf = (name, file) => `api/cameras/${encodeURIComponent(name)}/${file}`;
const described = (name) => `Live picture of the camera ${name}`;

let streams = 0;

function Stream({ name }) {
  const image = useRef(null);
  const [number, setNumber] = useState(() => (streams += 1));
  const timer = useRef(0);
  useEffect(() => {
    const { current } = image;
    return () => {
      clearTimeout(timer.current);
      current.src = "data:,"; // some browsers go on reading the stream of an image that was removed
    };
  }, [number]);
  const retry = ({ target }) => {
    if (target.isConnected) timer.current = setTimeout(() => setNumber((streams += 1)), RETRY_MS);
  };
  // The number makes each URL new: a browser lets a request wait for an earlier one of the same URL.
  return html`<img key=${number} ref=${image} src=${`${pathOf(name, "stream.mjpg")}?${number}`} alt=${described(name)} onError=${retry} />`;
}

function Still({ name }) {
  const [url, setUrl] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    let shown = null;
    const next = async () => {
      try {
        const picture = await (await open(pathOf(name, "snapshot.jpg"), { signal: stop.signal })).blob();
        if (shown) URL.revokeObjectURL(shown);
        setUrl((shown = URL.createObjectURL(picture)));
      } catch {
        // The camera's state says why; the next attempt follows.
      }
      if (!stop.signal.aborted) timer = setTimeout(next, STILL_MS);
    };
    next();
    return () => {
      stop.abort();
      clearTimeout(timer);
      if (shown) URL.revokeObjectURL(shown);
    };
  }, [name]);
  return url && html`<img src=${url} alt=${described(name)} />`;
}

const ANNOUNCE_MS = 5_000;

/** Says new labels to screen readers, but not more often than someone can listen to. */
function Announcer() {
  const [sentence, setSentence] = useState("");
  const latest = useRef("");
  latest.current = cameras.value
    .filter((each) => each.state === "online")
    .flatMap((each) => viewsOf(each).map(({ name, stable }) => [name ? `${each.name}, ${name}` : each.name, stable]))
    .filter(([, stable]) => stable)
    .map(([name, stable]) => `${name}: ${stable.label ?? "nothing recognized"}`)
    .slice(0, 3)
    .join(". ");
  useEffect(() => {
    const timer = setInterval(() => setSentence(latest.current), ANNOUNCE_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<p class="spoken" aria-live="polite">${sentence}</p>`;
}
