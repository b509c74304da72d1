// The conversation of this tab, which survives reloads and broken connections together with its turn.
//
// `messages` is the history up to the turn under way. `live` is what reconnecting needs: the session, the last number
// that was read, and the turn with its text up to that number. It is saved with each frame, so that a page that was
// reloaded at any moment asks for exactly the rest.
//
// It connects when there is something to ask or to continue, and stays connected until the connection breaks.

import { Connection } from "./connection.js";
import { ServerError, ask } from "./server.js";
import { HISTORY, KEY, LIVE, load, save } from "./store.js";

const ACK_EVERY = 64; // numbers
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 8000;
const NO_SESSION = { session: null, last: 0, turns: 0 };
const TAKEN_OVER = 4409;
const NO_KEY = 4401;
const ENDED_EARLY = {
  cancelled: "stopped",
  length: "ended at the longest answer allowed",
  repetition: "ended because it repeated itself",
};
// A connection that ended with one of these codes would end with it again.
const HOPELESS = { 1002: "the frame is invalid", 1007: "the text is not UTF-8", 1009: "it is too long for this server" };

// Its events are: asked, opened {model, news}, queued {position, reason, estimate_s}, text, paused, resumed, ended {content, text, why}, notice,
// locked and taken.
export class Conversation extends EventTarget {
  messages = load(HISTORY, []);
  live = load(LIVE, { ...NO_SESSION, turn: null });
  #connection = null;
  #retry = null;
  #failures = 0;
  #news = ""; // shown when a session is open

  get turn() {
    return this.live.turn;
  }

  // Continues the turn, if there is one, after a reload, a new key or a pause.
  resume() {
    if (this.turn !== null && this.#connection === null) this.#connect();
  }

  ask(content, options) {
    this.live.turn = { number: null, content, options, text: "", acknowledged: this.live.last, cancelled: false };
    this.#keep();
    this.#emit("asked");
    if (this.#connection?.opened) this.#sendTurn();
    else this.resume();
  }

  // Ends the answer at what was read. Without a connection, or at a second call, the session is given up at once.
  stop() {
    if (this.turn === null) return;
    if (this.turn.number !== null && this.#connection?.opened && !this.turn.cancelled) {
      this.turn.cancelled = true;
      this.#keep();
      this.#connection.send("cancel", { last: this.live.last });
    } else {
      this.#disconnect();
      Object.assign(this.live, NO_SESSION);
      this.#end("stopped");
    }
  }

  // Forgets everything, here and on the server.
  renew() {
    if (this.#connection?.opened) this.#connection.send("close");
    this.#disconnect();
    this.messages = [];
    this.live = { ...NO_SESSION, turn: null };
    save(HISTORY, this.messages);
    this.#keep();
  }

  #connect() {
    this.#disconnect();
    try {
      this.#connection = new Connection(
        load(KEY, null),
        this.#opening(),
        (frame) => this.#take(frame),
        (code, established) => this.#broken(code, established),
      );
    } catch {
      this.#emit("locked", "The key has characters that a browser's WebSocket cannot send.");
    }
  }

  #disconnect() {
    clearTimeout(this.#retry);
    this.#connection?.drop();
    this.#connection = null;
  }

  #opening() {
    const { session, last } = this.live;
    if (session !== null) return { session, last };
    return { messages: this.messages.map(({ role, content }) => ({ role, content })) };
  }

  #take(frame) {
    const takers = { opened: this.#opened, token: this.#token, done: this.#done, error: this.#error };
    if (frame.type in takers) takers[frame.type].call(this, frame);
    else if (frame.type === "queued") this.#emit("queued", frame);
    else if (frame.type === "preempted") this.#emit("paused", frame.reason);
    else if (frame.type === "resumed") this.#emit("resumed", frame.stalled_s);
  }

  #opened({ session, turns, model }) {
    if (turns > this.live.turns) return this.#startOver("this conversation went on in another tab");
    this.#failures = 0;
    this.live.session = session;
    this.#keep();
    this.#emit("opened", { model, news: this.#news });
    this.#news = "";
    this.#catchUp(turns);
  }

  // `turns`: how many the server has accepted. Maybe neither ours nor its cancel arrived before the connection broke.
  #catchUp(turns) {
    const arrived = this.turn.number !== null && turns >= this.turn.number;
    if (arrived && this.turn.cancelled) this.#connection.send("cancel", { last: this.live.last });
    else if (!arrived && this.turn.cancelled) {
      this.live.turns = turns;
      this.#end("stopped");
    } else if (!arrived) this.#sendTurn();
  }

  #sendTurn() {
    if (this.turn.number === null) this.turn.number = this.live.turns += 1;
    this.#keep(); // first: a page that is reloaded now asks whether the turn arrived
    this.#connection.send("turn", { content: this.turn.content, ...this.turn.options });
  }

  #token({ text, number }) {
    if (this.turn === null || this.turn.cancelled) return; // what crossed the cancel is not part of the answer
    this.turn.text += text;
    this.live.last = number;
    if (number - this.turn.acknowledged >= ACK_EVERY) {
      this.turn.acknowledged = number;
      this.#connection.send("ack", { last: number });
    }
    this.#keep();
    this.#emit("text", text);
  }

  #done(frame) {
    this.live.last = frame.number;
    this.#end(ENDED_EARLY[frame.finish_reason] ?? null, frame);
  }

  #error(frame) {
    if (!this.#connection.opened || frame.code === "session_lost") {
      this.#refused(frame);
    } else if (frame.number !== null) {
      this.live.last = frame.number;
      this.#end(frame.message);
    } else if (this.turn !== null && this.turn.text === "") {
      this.live.turns -= 1; // the turn was refused, and nothing has changed
      this.#end(frame.message);
    } else {
      this.#emit("notice", frame.message);
    }
  }

  // The session was not opened.
  #refused(frame) {
    const error = new ServerError(frame.status, frame.message);
    if (frame.code === "session_lost") this.#startOver("the server has lost this conversation");
    else if (error.passing) this.#connectLater(error.message, frame.retry_after_s);
    else {
      this.#disconnect();
      this.#end(error.message);
    }
  }

  // Begins a new session with the history, because ours is lost. If part of the answer was read, it stays so.
  #startOver(why) {
    Object.assign(this.live, NO_SESSION);
    if (this.turn.text !== "" || this.turn.cancelled) {
      this.#disconnect();
      this.#end(`${why}, and the rest of this answer`);
      return;
    }
    Object.assign(this.turn, { number: null, acknowledged: 0 });
    this.#news = `The history was sent again: ${why}.`;
    this.#connect();
  }

  async #broken(code, established) {
    this.#connection = null;
    if (this.turn === null) return;
    if (code === TAKEN_OVER) this.#emit("taken");
    else if (code === NO_KEY) this.#emit("locked", "The key is not good any more.");
    else if (code in HOPELESS) this.#end(HOPELESS[code]);
    else {
      const why = established ? "The connection broke." : await this.#whyNot();
      if (why !== null && this.#connection === null) this.#connectLater(why);
    }
  }

  // Asks by HTTP why a WebSocket was refused, since browsers do not say. Null: a new key is needed first.
  async #whyNot() {
    try {
      await ask("/v1/models");
      return "The connection was refused.";
    } catch (error) {
      if (error.status !== 401) return error.message;
      this.#emit("locked", error.message);
      return null;
    }
  }

  #connectLater(why, afterS = null) {
    this.#disconnect();
    if (this.turn === null) return;
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#emit("notice", `${why} Trying again…`);
    const delay = Math.max((afterS ?? 0) * 1000, longest * (0.5 + Math.random() / 2));
    this.#retry = setTimeout(() => this.#connect(), delay);
  }

  // Adds the turn to the history as the server does: without any text it leaves no trace.
  #end(why, frame = null) {
    const { content, text } = this.turn;
    if (text !== "") {
      const { usage = null, timings = null } = frame ?? {};
      this.messages.push({ role: "user", content }, { role: "assistant", content: text, why, usage, timings });
      save(HISTORY, this.messages);
    }
    this.live.turn = null;
    this.#keep();
    this.#emit("ended", { content, text, why });
  }

  #keep() {
    save(LIVE, this.live);
  }

  #emit(kind, detail = null) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
