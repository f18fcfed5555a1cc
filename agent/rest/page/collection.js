// Collection: the newest frames that were kept for training, for those who may see and delete them.

import { effect, html, signal } from "./vendor/preact.js";
import { ask } from "./api.js";
import { moment, score } from "./format.js";
import { connections, may } from "./live.js";
import { agreed, report } from "./notice.js";

const FEW = 8;
const MEGABYTE = 1_000_000;

const collection = signal(null);

effect(() => {
  if (connections.value && may("admin")) load();
});

async function load() {
  collection.value = await ask("api/collection").catch(() => null); // if it cannot be read, the agent warns
}

/** `path` is that of one frame; all without it. */
async function remove(path = "") {
  try {
    const { deleted } = await ask(`api/collection${path}`, { method: "DELETE" });
    report(`${deleted} ${deleted === 1 ? "frame was" : "frames were"} deleted.`);
  } catch (error) {
    report(error.message, { isBad: true });
  }
  await load();
}

async function removeAll() {
  const text = "The agent deletes every frame that it has kept for training. Download them first.";
  if (await agreed({ title: "Delete all frames?", text, action: "Delete all" })) await remove();
}

export function Collection() {
  const all = collection.value;
  if (!may("admin") || !all?.count) return null;
  return html`
    <section aria-labelledby="collection">
      <h2 id="collection">Frames for training</h2>
      <div class="card">
        <p class="quiet">
          <span class="number">${all.count}</span> kept, <span class="number">${(all.bytes / MEGABYTE).toFixed(1)}</span> MB.${" "}
          The model was not sure about them.
        </p>
        <ol class="events">${all.frames.slice(0, FEW).map((each) => html`<${Frame} key=${each.id} frame=${each} />`)}</ol>
        <div class="actions">
          <a href="api/collection.zip" download>Download all</a>
          <button class="plain" onClick=${load}>Refresh</button>
          <button class="plain" onClick=${removeAll}>Delete all</button>
        </div>
      </div>
    </section>
  `;
}

function Frame({ frame }) {
  const { id, best, camera, view, captured_at: at } = frame;
  const where = view ? `${camera}, ${view}` : camera;
  const label = best?.label ?? "Unknown label";
  const url = `api/collection/${id}.jpg`;
  return html`
    <li>
      <a class="frame" href=${url} target="_blank"><img src=${url} loading="lazy" alt=${`${label}, ${where}`} /></a>
      <div>
        <p><span class="what" title=${label}>${label}</span> <span class="number">${best ? score(best.score) : ""}</span></p>
        <p class="quiet">${where} ${at && html`<time dateTime=${at}>${moment(at)}</time>`}</p>
        <button class="plain" aria-label=${`Delete ${label}, ${where}`} onClick=${() => remove(`/${id}`)}>Delete</button>
      </div>
    </li>
  `;
}
