// Classify: an image that somebody drops, chooses or takes with the phone's camera.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { open } from "./api.js";
import { milliseconds } from "./format.js";
import { models } from "./live.js";
import { Scores } from "./scores.js";

const isTouched = navigator.maxTouchPoints > 0;

export function Classify() {
  const [image, setImage] = useState(null); // {url, name}
  const [answer, setAnswer] = useState(null); // {result} or {error}, null while waiting
  const [chosen, setChosen] = useState("");
  const [isOver, setOver] = useState(false);
  const latest = useRef(null);
  const served = models.value.filter((each) => each.serving).map((each) => each.name);
  const model = served.includes(chosen) ? chosen : "";

  useEffect(() => () => image && URL.revokeObjectURL(image.url), [image]);

  const classify = async (file, name) => {
    latest.current = file;
    setAnswer(null);
    try {
      const query = name ? `?model=${encodeURIComponent(name)}` : "";
      const headers = { "Content-Type": "application/octet-stream" };
      const received = await open(`predict${query}`, { method: "POST", body: file, headers });
      const result = await received.json();
      if (latest.current === file) setAnswer({ result });
    } catch (error) {
      if (latest.current === file) setAnswer({ error: error.message });
    }
  };
  const show = (file) => {
    if (!file) return;
    setImage({ url: URL.createObjectURL(file), name: file.name, file });
    classify(file, model);
  };
  const choose = (event) => {
    show(event.target.files[0]);
    event.target.value = ""; // the same file can be chosen again
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const [file] = event.dataTransfer.files;
    if (file) show(file);
    else setAnswer({ error: "Nothing that was dropped is a file. Save the image first, then drop the file." });
  };
  const over = (isInside) => (event) => {
    event.preventDefault();
    setOver(isInside);
  };
  const change = (event) => {
    setChosen(event.target.value);
    if (image) classify(image.file, event.target.value);
  };

  return html`
    <section aria-labelledby="classify" onDragOver=${over(true)} onDragLeave=${over(false)} onDrop=${drop}>
      <h2 id="classify">Classify an image</h2>
      <div class="card classify ${isOver ? "over" : ""}">
        ${served.length === 0 && html`<p class="quiet">No model serves yet; see Models below.</p>`}
        <div class="actions" hidden=${served.length === 0}>
          <label class="button main">Choose an image<input type="file" accept="image/*" onChange=${choose} /></label>
          ${isTouched && html`<label class="button">Take a photo<input type="file" accept="image/*" capture="environment" onChange=${choose} /></label>`}
          ${served.length > 1 && html`
            <label class="field">Model
              <select value=${model} onChange=${change}>
                ${served.map((name, index) => html`<option key=${name} value=${index ? name : ""}>${name}</option>`)}
              </select>
            </label>
          `}
        </div>
        ${!isTouched && served.length > 0 && html`<p class="quiet">Or drop an image here.</p>`}
        ${image && html`<img key=${image.url} src=${image.url} alt=${`The image ${image.name}`} onError=${(event) => (event.target.hidden = true)} />`}
        <div role="status">
          ${image && !answer && html`<p class="quiet">Classifying …</p>`}
          ${answer?.error && html`<p class="trouble">${answer.error}</p>`}
          ${answer?.result && html`<${Answer} result=${answer.result} />`}
        </div>
      </div>
    </section>
  `;
}

function Answer({ result }) {
  const [best] = result.categories;
  return html`
    <p class="label">${best ? html`<strong title=${best.label}>${best.label}</strong>` : "Nothing recognized"}</p>
    <${Scores} categories=${result.categories} />
    <p class="quiet">${result.model.name} ${result.model.version}, ${milliseconds(result.timing_ms.total)}</p>
  `;
}
