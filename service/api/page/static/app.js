// Puts the page together, and shows problems with the server or the key on top.

import { Conversation } from "./conversation.js";
import { Dialogue } from "./dialogue.js";
import { find, write } from "./elements.js";
import { ask } from "./server.js";
import { States } from "./states.js";
import { KEY, load, save } from "./store.js";

const RETRY_MS = 2000;

const conversation = new Conversation();
const dialogue = new Dialogue(conversation);
const states = new States();
let greeting = null; // the next attempt

// Shows a text on top until the next call; if `act` is set, with a button that calls it.
function alertUser(text, label = "", act = null) {
  find("#alert").hidden = text === "";
  write(find("#alert p"), text);
  const button = find("#alert button");
  button.hidden = act === null;
  write(button, label);
  button.onclick = act;
}

function askForKey(message) {
  alertUser(load(KEY, null) === null ? "This server needs an API key." : `The server refuses: ${message}.`);
  find("#key").hidden = false;
  find("#key-input").focus();
}

// Asks whether the server is there and accepts the key; then everything may begin, or continue.
async function greet() {
  clearTimeout(greeting);
  try {
    const { data } = await ask("/v1/models");
    write(find("#model"), data[0].id);
  } catch (error) {
    if (error.status === 401) return askForKey(error.message);
    alertUser(error.message);
    if (error.passing) greeting = setTimeout(greet, RETRY_MS);
    return;
  }
  alertUser("");
  find("#key").hidden = true;
  conversation.resume();
  states.restart();
}

function show(pane) {
  document.body.dataset.pane = pane;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.ariaPressed = String(button.dataset.show === pane);
  }
  states.refresh();
}

conversation.addEventListener("opened", ({ detail }) => {
  write(find("#model"), detail.model);
  alertUser("");
});
conversation.addEventListener("locked", ({ detail }) => askForKey(detail));
conversation.addEventListener("taken", () =>
  alertUser("This conversation is open in another tab now.", "Go on here", () => {
    alertUser("");
    conversation.resume();
  }),
);
find("#key").addEventListener("submit", (event) => {
  event.preventDefault();
  save(KEY, find("#key-input").value.trim());
  find("#key-input").value = "";
  greet();
});
find("#new").addEventListener("click", () => {
  conversation.renew();
  dialogue.draw();
  show("chat");
  find("#input").focus();
});
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => show(button.dataset.show));
}
greet();
