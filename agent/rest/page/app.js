// App: the whole page. What the agent says is inserted as text by preact, never as HTML.

import { effect, html, render } from "./vendor/preact.js";
import { Cameras } from "./cameras.js";
import { Classify } from "./classify.js";
import { Collection } from "./collection.js";
import { Header, Offline, Performance, Troubles } from "./device.js";
import { Events } from "./events.js";
import { connect, device, lost, may, recordsEvents, session } from "./live.js";
import { Models } from "./models.js";
import { Notice, Question } from "./notice.js";
import { SignIn } from "./session.js";
import { Timeline } from "./timeline.js";

function App() {
  return html`
    <${Offline} />
    ${session.value?.scope === null ? html`<${SignIn} />` : device.value ? html`<${Overview} />` : html`<main><h1 class="loading">${lost.value ? "edge-agent" : "Loading …"}</h1></main>`}
    <${Notice} />
    <${Question} />
  `;
}

function Overview() {
  return html`
    <div class=${lost.value ? "page old" : "page"}>
      <${Header} />
      <main>
        <${Troubles} />
        <div class="areas">
          <${Cameras} />
          <div class="rail">
            ${may("infer") && html`<${Classify} />`}
            ${recordsEvents.value ? html`<${Events} />` : html`<${Timeline} />`}
            <${Performance} />
            <${Collection} />
          </div>
          <${Models} />
        </div>
      </main>
      <footer><a href="docs">HTTP API</a></footer>
    </div>
  `;
}

effect(() => {
  document.title = device.value ? `${device.value.id} – edge-agent` : "edge-agent";
});
render(html`<${App} />`, document.body);
connect();
