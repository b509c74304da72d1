// Makes elements from text, never from HTML: nothing that a user or a model wrote can become a tag.

export const find = (selector) => document.querySelector(selector);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// Writes only what has changed, so that a selection survives and screen readers stay quiet.
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
