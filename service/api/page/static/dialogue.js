// The conversation on the screen, and the input field below it.

import { element, find, write } from "./elements.js";
import { OPTIONS, load, save } from "./store.js";

const NEAR_END = 40; // pixels: a user who has scrolled further up is reading and stays there
const WAITING_FOR = { slot: "the batch is full", room: "no room for its KV yet" };
const PAUSED = {
  slot: "the batch is full",
  room: "its memory was needed",
  growth: "there was no memory to go on",
  failure: "a step failed",
};

export class Dialogue {
  #conversation;
  #messages = find("#messages");
  #input = find("#input");
  #fields = [...document.querySelectorAll("#options input")];
  #pending = null; // question and answer of the turn under way

  constructor(conversation) {
    this.#conversation = conversation;
    this.#restoreOptions();
    this.#listen();
    this.draw();
  }

  // Draws everything again from what is saved.
  draw() {
    this.#messages.replaceChildren();
    for (const message of this.#conversation.messages) this.#add(message);
    if (this.#conversation.turn !== null) this.#begin();
    this.notice("");
    this.#update();
  }

  notice(text) {
    write(find("#notice"), text);
  }

  #listen() {
    const on = (kind, act) => this.#conversation.addEventListener(kind, ({ detail }) => act(detail));
    on("asked", () => this.#begin());
    on("opened", ({ news }) => this.notice(news));
    on("text", (text) => this.#append(text));
    on("ended", (end) => this.#ended(end));
    on("notice", (text) => this.notice(text));
    on("queued", (place) => this.notice(waiting(place)));
    on("paused", (reason) => this.notice(`Paused: others are served first (${PAUSED[reason] ?? reason}).`));
    on("resumed", (seconds) => this.notice(`Resumed after ${seconds.toFixed(1)} s.`));
    find("#composer").addEventListener("submit", (event) => this.#submit(event));
    find("#stop").addEventListener("click", () => this.#conversation.stop());
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      find("#composer").requestSubmit();
    });
  }

  #submit(event) {
    event.preventDefault();
    const content = this.#input.value;
    if (content.trim() === "" || this.#conversation.turn !== null) return;
    this.#input.value = "";
    this.#conversation.ask(content, this.#readOptions());
  }

  #begin() {
    const { content, text } = this.#conversation.turn;
    const question = this.#add({ role: "user", content });
    const answer = this.#add({ role: "assistant", content: text });
    answer.ariaBusy = "true"; // read out when it is complete
    this.#pending = { question, answer };
    this.#update();
  }

  #append(text) {
    const { scrollTop, scrollHeight, clientHeight } = this.#messages;
    this.#pending.answer.querySelector(".text").append(text); // a string becomes a text node
    if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#scrollDown();
  }

  // Removes a turn without text, which left no trace, and offers its question again.
  #ended({ content, text, why }) {
    const { question, answer } = this.#pending;
    this.notice("");
    answer.ariaBusy = "false";
    if (text === "") {
      question.remove();
      answer.remove();
      if (this.#input.value === "") this.#input.value = content;
      this.notice(sentence(why ?? "the answer was empty"));
    } else {
      addEnd(answer, this.#conversation.messages.at(-1));
      this.#scrollDown();
    }
    this.#update();
  }

  #add(message) {
    const article = element("article", message.role);
    article.ariaLabel = message.role === "user" ? "You" : "Answer";
    article.append(element("div", "text", message.content));
    addEnd(article, message);
    this.#messages.append(article);
    this.#scrollDown();
    return article;
  }

  #scrollDown() {
    this.#messages.scrollTop = this.#messages.scrollHeight;
  }

  #update() {
    const busy = this.#conversation.turn !== null;
    find("#send").hidden = busy;
    find("#stop").hidden = !busy;
  }

  #restoreOptions() {
    const kept = load(OPTIONS, {});
    for (const field of this.#fields) field.value = kept[field.name] ?? field.defaultValue;
    const written = () => Object.fromEntries(this.#fields.map(({ name, value }) => [name, value]));
    find("#options").addEventListener("change", () => save(OPTIONS, written()));
  }

  #readOptions() {
    const filled = this.#fields.filter(({ value }) => value !== "");
    return Object.fromEntries(filled.map(({ name, valueAsNumber }) => [name, valueAsNumber]));
  }
}

function waiting({ position, reason, estimate_s }) {
  if (position === 0) return "";
  const about = estimate_s === null ? "" : `, about ${Math.max(1, Math.round(estimate_s))} s`;
  const why = reason in WAITING_FOR ? ` (${WAITING_FOR[reason]})` : "";
  return `Waiting, ${ordinal(position)} in the queue${about}${why}.`;
}

function ordinal(number) {
  const endings = { one: "st", two: "nd", few: "rd", other: "th" };
  return number + endings[new Intl.PluralRules("en", { type: "ordinal" }).select(number)];
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

function addEnd(article, { why = null, usage = null, timings = null }) {
  if (why !== null) article.append(element("p", "why", sentence(why)));
  if (usage !== null) article.append(element("p", "figures", figures(usage, timings)));
}

function figures(usage, { ttft_s, tbt_s, stall_s }) {
  const parts = [];
  if (ttft_s !== null) parts.push(`first token after ${Math.round(ttft_s * 1000)} ms`);
  if (tbt_s) parts.push(`${(1 / tbt_s).toFixed(1)} tokens/s`);
  parts.push(`${usage.completion_tokens} tokens`, `${usage.reused_tokens} reused`);
  if (usage.recomputed_tokens) parts.push(`${usage.recomputed_tokens} recomputed`);
  if (usage.preemptions) parts.push(`preempted ${times(usage.preemptions)}, ${stall_s.toFixed(1)} s in all`);
  return parts.join(" · ");
}

const times = (count) => (count === 1 ? "once" : `${count} times`);
