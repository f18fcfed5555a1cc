// Requests to the agent. All URLs are relative, so that the page works below every path of a reverse proxy.

/** `message` is a sentence for the person who reads the page; `status` is 0 if the agent did not answer. */
export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const UNREACHABLE = "The agent does not answer.";

/** The answer as it comes in. Throws a Refusal. */
export async function open(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal(UNREACHABLE, 0);
  }
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new Refusal(document.error ?? `The agent answered ${answer.status}.`, answer.status);
}

/** The answer's JSON document. `json` is sent as the body. */
export async function ask(path, { method = "GET", json } = {}) {
  const body = json === undefined ? {} : { body: JSON.stringify(json), headers: { "Content-Type": "application/json" } };
  return (await open(path, { method, ...body })).json();
}
