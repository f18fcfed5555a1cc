// Events: what the views have shown, from begin to end, each with its best frame; older ones on demand.

import { computed, effect, html, signal, useState } from "./vendor/preact.js";
import { ask } from "./api.js";
import { duration, moment, score } from "./format.js";
import { cameras, connections, heard, recordsEvents, viewsOf } from "./live.js";
import { report } from "./notice.js";

const FEW = 8;
const PAGE = 50;
const LABELS_OF_DAYS = 7;
const DAY_MS = 86_400_000;

const EVERYTHING = JSON.stringify({});
/** Query parameters: camera and view as the text of an object, and the label, "" for all. */
const place = signal(EVERYTHING);
const label = signal("");
const loaded = signal([]);
const hasOlder = signal(false);
const labels = signal([]);
let latestLoad = 0;

const wanted = computed(() => ({ ...JSON.parse(place.value), ...(label.value && { label: label.value }) }));

/** Those that were heard since the page connected are newer than what it loaded. */
const shown = computed(() => {
  const all = new Map([...loaded.value, ...heard.value].map((each) => [each.id, each]));
  const isWanted = (event) => Object.entries(wanted.value).every(([name, value]) => event[name] === value);
  return [...all.values()].filter(isWanted).sort((a, b) => (a.id < b.id ? 1 : -1));
});

effect(() => {
  if (recordsEvents.value && connections.value) load(wanted.value);
});
effect(() => {
  if (recordsEvents.value && connections.value) loadLabels();
});

async function load(filter, before = null) {
  const own = (latestLoad += 1);
  const query = new URLSearchParams({ ...filter, limit: PAGE, ...(before && { before }) });
  try {
    const { events } = await ask(`api/events?${query}`);
    if (own !== latestLoad) return; // another filter was chosen meanwhile
    loaded.value = before ? [...loaded.peek(), ...events] : events;
    hasOlder.value = events.length === PAGE;
  } catch (error) {
    report(error.message, { isBad: true });
  }
}

async function loadLabels() {
  const from = new Date(Date.now() - LABELS_OF_DAYS * DAY_MS).toISOString();
  const answer = await ask(`api/events/counts?from=${from}`).catch(() => ({ counts: [] })); // load() says why
  labels.value = answer.counts.map((each) => each.label);
}

export function Events() {
  const [most, setMost] = useState(FEW);
  const [isBusy, setBusy] = useState(false);
  const all = shown.value;
  const older = async () => {
    if (hasOlder.value && all.length < most + PAGE) {
      setBusy(true);
      await load(wanted.value, loaded.value.at(-1)?.id);
      setBusy(false);
    }
    setMost(most + PAGE);
  };
  return html`
    <section aria-labelledby="events">
      <h2 id="events">Events</h2>
      <div class="card">
        <${Filter} onChange=${() => setMost(FEW)} />
        ${all.length === 0 && html`<p class="quiet">${Object.keys(wanted.value).length ? "No such event." : "No event yet."}</p>`}
        <ol class="events">${all.slice(0, most).map((each) => html`<${Event} key=${each.id} event=${each} />`)}</ol>
        <div class="actions">
          ${(hasOlder.value || all.length > most) && html`<button class="plain" disabled=${isBusy} onClick=${older}>Show older</button>`}
          ${all.length > 0 && html`<a href=${`api/events.csv?${new URLSearchParams(wanted.value)}`} download>Download as CSV</a>`}
        </div>
      </div>
    </section>
  `;
}

function Filter({ onChange }) {
  const choose = (chosen) => (event) => {
    chosen.value = event.target.value;
    onChange();
  };
  const names = [...new Set([...labels.value, ...shown.value.map((each) => each.label), ...(label.value ? [label.value] : [])])];
  const places = cameras.value.flatMap((camera) => [
    [JSON.stringify({ camera: camera.name }), camera.name],
    ...viewsOf(camera)
      .filter((view) => view.name)
      .map((view) => [JSON.stringify({ camera: camera.name, view: view.name }), `${camera.name}, ${view.name}`]),
  ]);
  return html`
    <div class="filter">
      ${places.length > 1 && html`
        <label class="field">Camera
          <select value=${place.value} onChange=${choose(place)}>
            <option value=${EVERYTHING}>All</option>
            ${places.map(([value, name]) => html`<option key=${value} value=${value}>${name}</option>`)}
          </select>
        </label>
      `}
      <label class="field">Label
        <select value=${label.value} onChange=${choose(label)}>
          <option value="">All</option>
          ${names.sort().map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
        </select>
      </label>
    </div>
  `;
}

function Event({ event }) {
  const { camera, view, best, ended_at: ended, started_at: started } = event;
  const where = view ? `${camera}, ${view}` : camera;
  const found = best.categories.find((each) => each.label === event.label);
  return html`
    <li>
      <${Frame} event=${event} where=${where} />
      <div>
        <p>
          <span class="what" title=${event.label}>${event.label}</span>
          <span class="number">${found ? score(found.score) : ""}</span>
        </p>
        <p class="quiet">${where}</p>
        <p class="quiet">
          <time dateTime=${started}>${moment(started)}</time>
          ${ended ? html`<span>${duration(Math.max(1, Math.round(event.duration_s)))}</span>` : html`<span class="state good">Now</span>`}
        </p>
      </div>
    </li>
  `;
}

function Frame({ event, where }) {
  const { id, frame, best } = event;
  const [missing, setMissing] = useState(null); // newer events took its place
  if (!frame || missing === best.id) return html`<span class="frame quiet">No picture</span>`;
  const url = `api/events/${id}/frame.jpg?${best.id}`; // another best frame has another URL
  return html`
    <a class="frame" href=${url} target="_blank">
      <img src=${url} loading="lazy" alt=${`${event.label}, ${where}, ${moment(event.started_at)}`} onError=${() => setMissing(best.id)} />
    </a>
  `;
}
