// Models: the versions of each model, why a file was rejected, and the actions that choose the serving version.

import { html, useState } from "./vendor/preact.js";
import { ask } from "./api.js";
import { moment } from "./format.js";
import { may, models } from "./live.js";
import { agreed, report } from "./notice.js";

export function Models() {
  const all = models.value;
  return html`
    <section aria-labelledby="models">
      <h2 id="models">Models</h2>
      ${all.length ? html`<div class="cards">${all.map((each) => html`<${Model} key=${each.name} model=${each} />`)}</div>` : NoModel()}
    </section>
  `;
}

const NoModel = () => html`
  <div class="card empty">
    <p><strong>No model yet.</strong> Copy a <code>.tflite</code> file into the agent's models folder, on an installed${" "}
      board <code>/var/lib/edge-agent/models</code>. It serves after a few seconds. If it cannot, the reason appears here.</p>
  </div>
`;

function Model({ model }) {
  const [isBusy, setBusy] = useState(false);
  const { name, serving, canary, candidate, rejection, pinned, versions } = model;

  /** `question`: without one, the action does not change the serving version. */
  const act = async (action, question, json = {}) => {
    if (question && !(await agreed(question))) return;
    setBusy(true);
    try {
      const now = await ask(`api/models/${encodeURIComponent(name)}/${action}`, { method: "POST", json });
      report(outcome(now));
    } catch (error) {
      report(`${name}: ${error.message}`, { isBad: true });
    }
    setBusy(false);
  };
  const pin = (version) =>
    act(
      "pin",
      version === serving?.version
        ? null
        : {
            title: `Serve version ${version} of ${name}?`,
            text: "It takes over at once and stays pinned: newer files do not replace it until you unpin it.",
            action: `Serve version ${version}`,
          },
      { version: Number(version) },
    );
  const rollback = () =>
    act("rollback", {
      title: `Roll back ${name}?`,
      text: canary
        ? `Version ${canary.version}, the canary, is withdrawn.`
        : `Version ${serving?.version} is withdrawn, and the last good version serves again.`,
      action: "Roll back",
    });
  const promote = () =>
    act("promote", {
      title: `Promote version ${canary.version} of ${name}?`,
      text: "The canary becomes the serving version.",
      action: "Promote",
    });
  const unpin = () =>
    act("unpin", {
      title: `Unpin ${name}?`,
      text: "The newest good version serves, and newer files take over again.",
      action: "Unpin",
    });
  const canGoBack = canary || (serving && versions.some((each) => each.state === "admitted"));
  const isOffered = may("admin");

  return html`
    <article class="card model" aria-labelledby=${`model-${name}`} aria-busy=${String(isBusy)}>
      <header>
        <h3 id=${`model-${name}`}>${name}</h3>
        ${serving ? html`<span class="state good">Version ${serving.version}</span>` : html`<span class="state ${rejection ? "bad" : "wait"}">Not serving</span>`}
      </header>
      <ul class="facts">
        ${model.since && html`<li>Serves since ${moment(model.since)}.</li>`}
        ${model.runtime && html`<li>Runs on ${model.runtime}.${model.accelerator_reason && ` ${model.accelerator_reason}`}</li>`}
        ${model.probation && html`<li><span class="state wait">On probation</span> It is withdrawn automatically if it fails.</li>`}
        ${pinned !== null && html`<li><span class="state off">Pinned</span> Newer files do not replace version ${pinned}.</li>`}
        ${canary && html`<li><span class="state wait">Canary</span> Version ${canary.version} gets a share of the uploads.</li>`}
        ${candidate && html`<li><span class="state wait">${model.trying ? "Being tried" : "Waiting"}</span> ${candidate}</li>`}
      </ul>
      ${rejection && html`
        <div class="trouble">
          <p><strong>${rejection.file} was rejected</strong>, ${moment(rejection.at)}.</p>
          <p>${rejection.reason}</p>
        </div>
      `}
      ${isOffered && (canGoBack || canary || pinned !== null) && html`
        <div class="actions">
          ${canary && html`<button disabled=${isBusy} onClick=${promote}>Promote ${canary.version}</button>`}
          ${canGoBack && html`<button disabled=${isBusy} onClick=${rollback}>Roll back</button>`}
          ${pinned !== null && html`<button disabled=${isBusy} onClick=${unpin}>Unpin</button>`}
        </div>
      `}
      ${versions.length > 0 && html`
        <details>
          <summary>${versions.length === 1 ? "1 version" : `${versions.length} versions`}</summary>
          <ul class="versions">
            ${versions.map((each) => html`<${Version} key=${each.version} version=${each} pinned=${pinned} onPin=${isOffered && !isBusy && (() => pin(each.version))} />`)}
          </ul>
        </details>
      `}
    </article>
  `;
}

const VERSION_STATES = {
  serving: ["Serving", "good"],
  canary: ["Canary", "wait"],
  admitted: ["Available", "off"],
  rejected: ["Withdrawn", "bad"],
};

function Version({ version, pinned, onPin }) {
  const [word, mood] = VERSION_STATES[version.state] ?? [version.state, "off"];
  const isPinned = pinned === version.version;
  return html`
    <li>
      <p><strong>${version.version}</strong> <span class="state ${mood}">${word}</span>${isPinned && html` <span class="state off">Pinned</span>`}</p>
      <p class="quiet">${version.file}, ${moment(version.admitted_at)}</p>
      ${version.reason && html`<p>${version.reason}</p>`}
      ${onPin && !isPinned && html`
        <button onClick=${onPin} aria-label=${`${version.state === "serving" ? "Pin" : "Serve and pin"} version ${version.version}`}>
          ${version.state === "serving" ? "Pin" : "Serve and pin"}
        </button>
      `}
    </li>
  `;
}

function outcome({ name, serving, pinned }) {
  if (!serving) return `No version of ${name} serves.`;
  return `Version ${serving.version} of ${name} serves${pinned === null ? "" : " and is pinned"}.`;
}
