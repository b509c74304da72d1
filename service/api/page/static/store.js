// What outlives a reload. The key and the conversation are the tab's, the settings all tabs'.

export const KEY = "fastswitch.key";
export const HISTORY = "fastswitch.history";
export const LIVE = "fastswitch.live";
export const OPTIONS = "fastswitch.options";

const placeOf = (name) => (name === OPTIONS ? localStorage : sessionStorage);

export function load(name, fallback) {
  try {
    return JSON.parse(placeOf(name).getItem(name)) ?? fallback;
  } catch {
    return fallback; // no storage here, or somebody else's words in it
  }
}

// A full storage costs the next reload its memory, not this answer.
export function save(name, value) {
  try {
    placeOf(name).setItem(name, JSON.stringify(value));
  } catch (error) {
    console.warn(`${name} is not kept:`, error);
  }
}
