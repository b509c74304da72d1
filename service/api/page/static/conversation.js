// The conversation of this tab: what is kept of it, and its turn, through reloads and broken connections.
//
// `messages` is the history up to the turn under way. `live` is what coming back needs: the session, the last number
// that was read, and the turn with its text up to that number, kept together with each frame, so that a page that was
// reloaded anywhere asks for exactly the rest.
//
// It connects when there is something to ask or to come back to, and stays connected until the connection breaks.

import { Connection } from "./connection.js";
import { ServerError, ask } from "./server.js";
import { HISTORY, KEY, LIVE, load, save } from "./store.js";

const ACK_EVERY = 64; // numbers
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 8000;
const NO_SESSION = { session: null, last: 0, turns: 0 };
const TAKEN_OVER = 4409;
const NO_KEY = 4401;
const CUT = { cancelled: "stopped", length: "cut at the longest answer allowed" };
// A connection that ended so would end so again.
const HOPELESS = { 1002: "the frame is none", 1007: "it is no text", 1009: "it is too long for this server" };

// Tells of itself by events: asked, opened {model, news}, text, paused, resumed, ended {content, text, why}, notice,
// locked and taken.
export class Conversation extends EventTarget {
  messages = load(HISTORY, []);
  live = load(LIVE, { ...NO_SESSION, turn: null });
  #connection = null;
  #retry = null;
  #failures = 0;
  #news = ""; // to be told when a session is open

  get turn() {
    return this.live.turn;
  }

  // After a reload, a new key or a pause: goes on with the turn, if there is one.
  resume() {
    if (this.turn !== null && this.#connection === null) this.#connect();
  }

  ask(content, options) {
    this.live.turn = { number: null, content, options, text: "", acknowledged: this.live.last, cancelled: false };
    this.#keep();
    this.#tell("asked");
    if (this.#connection?.opened) this.#sendTurn();
    else this.resume();
  }

  // The answer ends at what was read. Without a connection, and when asked twice, the session is given up at once.
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

  // Forgets everything, here and there.
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
      this.#tell("locked", "The key has characters that a browser's WebSocket cannot send.");
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
    else if (frame.type === "preempted") this.#tell("paused", frame.reason);
    else if (frame.type === "resumed") this.#tell("resumed", frame.stalled_s);
  }

  #opened({ session, turns, model }) {
    if (turns > this.live.turns) return this.#startOver("this conversation went on in another tab");
    this.#failures = 0;
    this.live.session = session;
    this.#keep();
    this.#tell("opened", { model, news: this.#news });
    this.#news = "";
    this.#catchUp(turns);
  }

  // The server has taken in so many turns: maybe neither ours nor its cancel arrived before the connection broke.
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
    this.#tell("text", text);
  }

  #done(frame) {
    this.live.last = frame.number;
    this.#end(CUT[frame.finish_reason] ?? null, frame);
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
      this.#tell("notice", frame.message);
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

  // The session is not ours any more: a new one begins with the history. Half an answer is all there will be of it.
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
    if (code === TAKEN_OVER) this.#tell("taken");
    else if (code === NO_KEY) this.#tell("locked", "The key is not good any more.");
    else if (code in HOPELESS) this.#end(HOPELESS[code]);
    else {
      const why = established ? "The connection broke." : await this.#whyNot();
      if (why !== null && this.#connection === null) this.#connectLater(why);
    }
  }

  // A browser does not tell why a WebSocket was refused: ask in another way. Null: a new key is needed first.
  async #whyNot() {
    try {
      await ask("/v1/models");
      return "The connection was refused.";
    } catch (error) {
      if (error.status !== 401) return error.message;
      this.#tell("locked", error.message);
      return null;
    }
  }

  #connectLater(why, afterS = null) {
    this.#disconnect();
    if (this.turn === null) return;
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#tell("notice", `${why} Trying again…`);
    const delay = Math.max((afterS ?? 0) * 1000, longest * (0.5 + Math.random() / 2));
    this.#retry = setTimeout(() => this.#connect(), delay);
  }

  // The turn becomes history as the server keeps it: without any text it leaves no trace.
  #end(why, frame = null) {
    const { content, text } = this.turn;
    if (text !== "") {
      const { usage = null, timings = null } = frame ?? {};
      this.messages.push({ role: "user", content }, { role: "assistant", content: text, why, usage, timings });
      save(HISTORY, this.messages);
    }
    this.live.turn = null;
    this.#keep();
    this.#tell("ended", { content, text, why });
  }

  #keep() {
    save(LIVE, this.live);
  }

  #tell(kind, detail = null) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
