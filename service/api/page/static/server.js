// HTTP requests with the tab's key, and the server's errors.

import { KEY, load } from "./store.js";

// status 0: there was no answer
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  // Whether the same request may well be answered later
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function ask(path, timeoutMs = 10_000) {
  const key = load(KEY, null);
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  let response, body;
  try {
    response = await fetch(path, { headers, signal: AbortSignal.timeout(timeoutMs) });
    body = await response.json();
  } catch {
    throw new ServerError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new ServerError(response.status, body.error?.message ?? response.statusText);
  return body;
}
