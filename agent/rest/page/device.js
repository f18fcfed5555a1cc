// Device: its name, whether it is ready, its broker, its temperature; what is wrong, and what to do.

import { html } from "./vendor/preact.js";
import { celsius, count, duration, megabytes, milliseconds, rate } from "./format.js";
import { device, health, history, lost, models, mqtt } from "./live.js";
import { Plot } from "./plot.js";
import { SignOut } from "./session.js";

const BROKER = {
  connected: ["Broker connected", "good"],
  connecting: ["Connecting to the broker", "wait"],
  refused: ["Broker refuses", "bad"],
  unreachable: ["Broker unreachable", "bad"],
};

export function Header() {
  const { id, hardware, version } = device.value;
  const { ready } = health.value;
  const stats = history.value.at(-1);
  const facts = [hardware, `edge-agent ${version}`].filter(Boolean);
  return html`
    <header class="top">
      <div>
        <h1>${id}</h1>
        <p class="quiet facts-line">${facts.map((each, index) => html`${index > 0 && " · "}<span>${each}</span>`)}</p>
      </div>
      <${SignOut} />
      <div role="status"><ul class="chips">
        <li class="state ${lost.value ? "off" : ready ? "good" : "bad"}">${lost.value ? "No connection" : ready ? "Ready" : "Not ready"}</li>
        <${Broker} />
        ${stats?.temperature_celsius != null && html`<li class="state ${stats.throttled ? "bad" : "off"}">${celsius(stats.temperature_celsius)}${stats.throttled && ", throttled"}</li>`}
      </ul></div>
    </header>
  `;
}

function Broker() {
  if (!mqtt.value) return html`<li class="state off">MQTT is off</li>`;
  const { state, queued } = mqtt.value;
  const [words, mood] = BROKER[state] ?? [state, "off"];
  return html`<li class="state ${mood}">${words}${queued > 0 && `, ${count(queued)} ${queued === 1 ? "result waits" : "results wait"}`}</li>`;
}

export function Troubles() {
  const { ready, reasons, warnings } = health.value;
  const { reason, dropped = 0, outbox_trouble: outbox } = mqtt.value ?? {};
  const stats = history.value.at(-1);
  const hints = [
    reason,
    outbox,
    dropped > 0 && `${count(dropped)} results were dropped because the outbox was full (mqtt.outbox).`,
    stats?.throttled && "The processor is throttled: it is too hot, or its power supply is too weak. Cool the board, or use its own power supply.",
  ].filter(Boolean);
  const rejections = models.value.map((each) => `Model ${each.name}: ${each.rejection?.reason}`); // shown with the models
  const others = warnings.filter((each) => !reasons.includes(each) && !rejections.includes(each));
  return html`
    <div class="troubles" role="status">
      ${!ready && html`
        <div class="card trouble">
          <h2>Why it is not ready</h2>
          <ul>${reasons.map((each) => html`<li key=${each}>${each}</li>`)}</ul>
        </div>
      `}
      ${hints.length + others.length > 0 && html`
        <div class="card warning">
          <h2>To fix</h2>
          <ul>${[...hints, ...others].map((each) => html`<li key=${each}>${each}</li>`)}</ul>
        </div>
      `}
    </div>
  `;
}

export function Offline() {
  const current = lost.value;
  return html`
    <div role="alert">
      ${current && html`
        <div class="offline">
          <strong>${current.reason}</strong> ${current.unreachable && "Check that the device has power, and that you are in its network."}
          ${" "}${device.value ? "What you see is old. The page reconnects automatically." : "The page tries again automatically."}
        </div>
      `}
    </div>
  `;
}

export function Performance() {
  const all = history.value;
  const stats = all.at(-1);
  const latencies = ["p50", "p95"].map((key) => all.map((each) => each.latency_ms[key]));
  const frames = all.map((each) => Object.values(each.frames_per_s).reduce((sum, value) => sum + value, 0));
  return html`
    <section aria-labelledby="performance">
      <h2 id="performance">Performance</h2>
      <div class="card performance">
        ${!stats
          ? html`<p class="quiet">Waiting for the first figures.</p>`
          : html`
              <figure>
                <figcaption>Latency <span class="number">${milliseconds(stats.latency_ms.p50)}</span></figcaption>
                <${Plot} lines=${latencies} title="Latency, median and 95th percentile" unit=${milliseconds} />
                <p class="quiet">
                  ${stats.latency_ms.p95 === null ? "Nothing was classified in the last second." : `95 % within ${milliseconds(stats.latency_ms.p95)}, 99 % within ${milliseconds(stats.latency_ms.p99)}`}
                </p>
              </figure>
              <figure>
                <figcaption>Frames/s <span class="number">${rate(frames.at(-1))}</span></figcaption>
                <${Plot} lines=${[frames]} title="Frames per second of all cameras" unit=${rate} />
                <p class="quiet">of all cameras, and ${rate(stats.uploads_per_s)} uploads/s</p>
              </figure>
              <p class="quiet">Runs for ${duration(stats.uptime_s)} with ${megabytes(stats.rss_bytes)} of memory. The plots begin when this page was opened, and go back 5 minutes.</p>
            `}
      </div>
    </section>
  `;
}
