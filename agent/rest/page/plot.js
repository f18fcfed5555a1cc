// Plot: a few lines over the last minutes,. SVG takes its colors from the style sheet.

import { html } from "./vendor/preact.js";

const WIDTH = 300;
const HEIGHT = 48;
const FEWEST = 30; // values across the width, one per second

/** `lines` are arrays of numbers, newest last; null leaves a gap. The axis begins at 0. */
export function Plot({ lines, title, unit }) {
  const known = lines.flat().filter((value) => value !== null);
  const highest = Math.max(...known, 0);
  const latest = lines.map((values) => unit(values.at(-1))).join(" and ");
  const spoken = `${title}: ${latest}, highest ${unit(highest)}`;
  return html`
    <svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${spoken}>
      <title>${spoken}</title>
      <line x1="0" x2=${WIDTH} y1=${HEIGHT - 1} y2=${HEIGHT - 1} />
      ${lines.map((values, index) => html`<path key=${index} d=${path(values, highest || 1)} />`)}
    </svg>
  `;
}

function path(values, highest) {
  const span = Math.max(values.length, FEWEST) - 1;
  let isDrawing = false;
  return values
    .map((value, index) => {
      if (value === null) {
        isDrawing = false;
        return "";
      }
      const x = WIDTH - ((values.length - 1 - index) * WIDTH) / span;
      const y = HEIGHT - 2 - (value / highest) * (HEIGHT - 5);
      const step = `${isDrawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      isDrawing = true;
      return step;
    })
    .join("");
}
