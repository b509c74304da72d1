// The pane of all sessions: which run, wait, are preempted or idle, since when and why, how full the memory is, and who
// was served. It shows /debug/state, which is for operators.

import { element, find, write } from "./elements.js";
import { ask } from "./server.js";
import { drawShares } from "./shares.js";

const PERIOD_MS = 1000;
const MOST_ROWS = 100;
const STATES = ["running", "waiting", "preempted", "swapped", "idle"];
const BECAUSE = {
  slot: "the batch is full",
  room: "no room for its KV",
  growth: "no room to grow",
  step: "comes with the next step",
  failure: "a step failed",
};

export class States {
  #pane = find("#sessions");
  #list = find("#live");
  #rows = new Map(); // key -> {item, seen}
  #timer = null;
  #asking = false;
  #refused = false;
  #switches = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  // A new key may see more.
  restart() {
    this.#refused = false;
    this.refresh();
  }

  // Asks now, and then every second while the pane is visible.
  async refresh() {
    clearTimeout(this.#timer);
    if (this.#asking || this.#refused || document.hidden || this.#pane.offsetParent === null) return;
    this.#asking = true;
    try {
      this.#show(await ask("/debug/state"));
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#asking = false;
    }
    this.#timer = setTimeout(() => this.refresh(), PERIOD_MS);
  }

  #fail(error) {
    this.#refused = error.status === 401 || error.status === 403;
    this.#notice(error.status === 403 ? `The live view is for operators: ${error.message}.` : error.message);
    if (!this.#refused) return;
    write(find("#totals"), "");
    this.#draw([]);
    drawShares([], 0);
    find("#pools").replaceChildren();
    write(find("#prefixes"), "");
  }

  #show({ core, tenants, service_window_s: windowS }) {
    this.#notice(core === null ? "The engine does not answer." : "");
    if (core === null) return;
    const sessions = [...core.requests.map(ofRequest), ...core.idle_sessions.map(ofIdle)];
    this.#draw(sessions);
    this.#total(sessions);
    drawShares(tenants, windowS);
    find("#pools").replaceChildren(...core.pools.filter((pool) => pool.blocks > 0).map(drawPool));
    write(find("#prefixes"), describePrefixes(core.prefixes));
  }

  #notice(text) {
    find("#sessions-notice").hidden = text === "";
    write(find("#sessions-notice"), text);
  }

  #total(sessions) {
    const count = (state) => sessions.filter((session) => session.state === state).length;
    const parts = STATES.filter((state) => count(state) > 0).map((state) => `${count(state)} ${state}`);
    if (sessions.length === 0) parts.push("no sessions");
    if (this.#switches > 0) parts.push(`preemptions seen: ${this.#switches}`);
    write(find("#totals"), parts.join(" · "));
  }

  #draw(sessions) {
    const shown = sessions.slice(0, MOST_ROWS);
    const keys = new Set(shown.map(({ key }) => key));
    for (const [key, { item }] of this.#rows) {
      if (keys.has(key)) continue;
      item.remove();
      this.#rows.delete(key);
    }
    find("#more")?.remove();
    shown.forEach((session, index) => this.#row(session, index));
    if (sessions.length > MOST_ROWS) this.#more(sessions.length - MOST_ROWS);
  }

  #row(session, index) {
    let row = this.#rows.get(session.key);
    if (row === undefined) {
      row = { item: newItem(), seen: null };
      this.#rows.set(session.key, row);
    }
    const { item, seen } = row;
    item.dataset.state = session.state;
    for (const part of ["state", "name", "since", "tokens", "blocks", "switches", "because"]) {
      write(item.querySelector(`.${part}`), session[part]);
    }
    item.querySelector(".name").title = session.title;
    if (seen !== null) this.#compare(item, seen, session);
    row.seen = session;
    const place = this.#list.children[index] ?? null;
    if (place !== item) this.#list.insertBefore(item, place);
  }

  // A switch may begin and end between two looks; its count still grows.
  #compare(item, before, { preemptions, state }) {
    const more = preemptions - before.preemptions;
    this.#switches += more;
    if (more > 0 || (isOut(before.state) && !isOut(state))) flash(item);
  }

  #more(count) {
    const item = element("li", "more", `and ${count} more`);
    item.id = "more";
    this.#list.append(item);
  }
}

const isOut = (state) => state === "preempted" || state === "swapped";

const seconds = (value) => (value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`);

function ofRequest(request) {
  const { preemptions } = request;
  return {
    key: request.request_id,
    // some of its KV is on the host alone
    state: request.state === "preempted" && request.resident < request.computed ? "swapped" : request.state,
    preemptions,
    name: `…${request.request_id.slice(-6)}`,
    title: `${request.request_id} of ${request.tenant}`,
    since: seconds(request.since_s),
    tokens: `prompt ${request.prompt}, answer ${request.answered} of ${request.max_tokens}`,
    blocks: blocks(request) + shared(request),
    switches: preemptions === 0 ? "" : `${preemptions}× preempted`,
    because: BECAUSE[request.because] ?? request.because ?? "",
  };
}

function ofIdle(session, index) {
  return {
    key: `idle ${index}`,
    state: "idle",
    preemptions: 0,
    name: "",
    title: session.tenant,
    since: seconds(session.idle_s),
    tokens: `${session.computed} of ${session.tokens} tokens kept`,
    blocks: blocks(session) + shared(session),
    switches: "",
    because: "",
  };
}

const blocks = ({ blocks: device, host_blocks: host }) =>
  `${device} ${device === 1 ? "block" : "blocks"}${host > 0 ? ` + ${host} on the host` : ""}`;

const shared = ({ shared: tokens }) => (tokens > 0 ? ` + ${tokens} tokens shared` : "");

function newItem() {
  const item = element("li");
  const parts = ["state", "name", "because", "since", "tokens", "blocks", "switches"];
  item.append(...parts.map((part) => element("span", part)));
  return item;
}

function flash(item) {
  item.animate({ backgroundColor: ["var(--flash)", "transparent"] }, { duration: 2000, easing: "ease-out" });
}

// Says what several sessions hold together, and how much longer they would be if each had its own.
function describePrefixes(prefixes) {
  const shared = prefixes.filter((prefix) => prefix.sessions > 1);
  const sum = (count) => shared.reduce((total, prefix) => total + count(prefix), 0);
  if (shared.length === 0) return "";
  const kept = `${sum(({ tokens }) => tokens)} tokens are kept once`;
  const instead = sum(({ tokens, sessions }) => tokens * sessions);
  return `Shared: ${shared.length === 1 ? "one prefix" : `${shared.length} prefixes`}; ${kept} instead of ${instead}.`;
}

function drawPool({ name, blocks: all, used, reserved }) {
  const figure = element("figure");
  const bar = element("div", "bar");
  for (const [kind, count] of Object.entries({ used, reserved })) {
    const part = element("span", kind);
    part.style.width = `${(100 * count) / all}%`;
    bar.append(part);
  }
  const text = `${name} KV: ${used} of ${all} blocks used, ${reserved} reserved`;
  figure.append(bar, element("figcaption", "", text));
  return figure;
}
