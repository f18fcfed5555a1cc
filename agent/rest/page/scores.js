// Scores: the categories of one image as labels with bars.

import { html } from "./vendor/preact.js";
import { score } from "./format.js";

/** Room for at least `lines` stays free, so that what follows does not jump. */
export function Scores({ categories, lines = 0 }) {
  const missing = Math.max(0, lines - categories.length);
  return html`
    <ol class="scores">
      ${categories.map(
        (each, rank) => html`
          <li key=${rank}>
            <span title=${each.label}>${each.label}</span>
            <span class="number">${score(each.score)}</span>
            <i class="bar" aria-hidden="true"><b style=${{ transform: `scaleX(${each.score})` }}></b></i>
          </li>
        `,
      )}
      ${Array.from({ length: missing }, (_, index) => html`<li key=${`free ${index}`} class="free" aria-hidden="true"></li>`)}
    </ol>
  `;
}
