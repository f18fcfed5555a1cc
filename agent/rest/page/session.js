// Session: signing in with an access token, and out again.

import { html, useRef, useState } from "./vendor/preact.js";
import { ask } from "./api.js";
import { connect, session } from "./live.js";

export function SignIn() {
  const field = useRef(null);
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await ask("api/session", { method: "POST", json: { token: field.current.value.trim() } });
      await connectAgain();
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
      field.current.select();
    }
  };
  return html`
    <main class="sign-in">
      <form class="card" onSubmit=${submit}>
        <h1>Sign in</h1>
        <input type="text" autocomplete="username" value="edge-agent" hidden />
        <label for="token">Access token</label>
        <input id="token" ref=${field} type="password" autocomplete="current-password" required spellcheck="false"
          aria-invalid=${String(Boolean(problem))} aria-describedby="problem" />
        <p id="problem" role="alert" class=${problem ? "trouble" : ""}>${problem}</p>
        <button class="main" disabled=${isBusy}>Sign in</button>
        <p class="quiet">You have none? Make one on the device. With the scope <code>read</code> it may look,${" "}
          with <code>infer</code> also classify images, with <code>admin</code> also change what serves:</p>
        <pre>sudo edge-agent token create phone --scope admin</pre>
      </form>
    </main>
  `;
}

export function SignOut() {
  if (!session.value?.needs_token) return null;
  const signOut = async () => {
    await ask("api/session", { method: "DELETE" }).catch(() => {}); // without an answer, connecting says why
    await connectAgain();
  };
  return html`<button class="plain" onClick=${signOut}>Sign out</button>`;
}

async function connectAgain() {
  session.value = await ask("api/session");
  connect();
}
