// Timeline: how the labels of the cameras changed.

import { html, useState } from "./vendor/preact.js";
import { moment, score } from "./format.js";
import { timeline } from "./live.js";

const FEW = 8;

export function Timeline() {
  const [isLong, setLong] = useState(false);
  const all = [...timeline.value].reverse();
  const shown = isLong ? all : all.slice(0, FEW);
  return html`
    <section aria-labelledby="timeline">
      <h2 id="timeline">Changes</h2>
      <div class="card">
        ${all.length === 0 && html`<p class="quiet">No label has changed since the agent started.</p>`}
        <ol class="timeline">
          ${shown.map(
            (each) => html`
              <li key=${`${each.camera} ${each.view} ${each.since}`}>
                <p class="quiet"><time dateTime=${each.since}>${moment(each.since)}</time><span>${each.view ? `${each.camera}, ${each.view}` : each.camera}</span></p>
                <p>
                  <span class=${each.label === null ? "quiet what" : "what"} title=${each.label}>${each.label ?? "Nothing recognized"}</span>
                  <span class="number">${each.score === null ? "" : score(each.score)}</span>
                </p>
              </li>
            `,
          )}
        </ol>
        ${all.length > FEW && html`<button class="plain" aria-expanded=${String(isLong)} onClick=${() => setLong(!isLong)}>${isLong ? "Show fewer" : `Show all ${all.length}`}</button>`}
      </div>
    </section>
  `;
}
