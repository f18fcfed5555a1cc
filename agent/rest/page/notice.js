// Notice: says what happened, and asks before something that changes what serves.

import { html, signal, useEffect, useRef } from "./vendor/preact.js";

const SHOWN_MS = 8_000;

const notice = signal(null);
const question = signal(null);

/** A good notice disappears after a while; a bad one stays until somebody closes it. */
export function report(text, { isBad = false } = {}) {
  notice.value = { text, isBad };
}

/** Whether the person agrees. */
export const agreed = ({ title, text, action }) =>
  new Promise((resolve) => (question.value = { title, text, action, resolve }));

export function Notice() {
  const current = notice.value;
  useEffect(() => {
    if (!current || current.isBad) return undefined;
    const timer = setTimeout(() => (notice.value = null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [current]);
  const close = html`<button class="plain" onClick=${() => (notice.value = null)}>Close</button>`;
  return html`
    <div class="notices">
      <div role="status">${current && !current.isBad && html`<div class="notice">${current.text} ${close}</div>`}</div>
      <div role="alert">${current?.isBad && html`<div class="notice bad">${current.text} ${close}</div>`}</div>
    </div>
  `;
}

export function Question() {
  const dialog = useRef(null);
  const current = question.value;
  useEffect(() => {
    if (current) dialog.current.showModal();
  }, [current]);
  if (!current) return null;
  const answer = (isYes) => {
    dialog.current.close();
    question.value = null;
    current.resolve(isYes);
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="question" onCancel=${() => answer(false)}>
      <h2 id="question">${current.title}</h2>
      <p>${current.text}</p>
      <div class="actions">
        <button onClick=${() => answer(false)}>Cancel</button>
        <button class="main" onClick=${() => answer(true)}>${current.action}</button>
      </div>
    </dialog>
  `;
}
