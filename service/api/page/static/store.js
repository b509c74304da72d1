// What survives a reload. The key and the conversation belong to the tab, the settings to all tabs.

export const KEY = "fastswitch.key";
export const HISTORY = "fastswitch.history";
export const LIVE = "fastswitch.live";
export const OPTIONS = "fastswitch.options";

const placeOf = (name) => (name === OPTIONS ? localStorage : sessionStorage);

export function load(name, fallback) {
  try {
    return JSON.parse(placeOf(name).getItem(name)) ?? fallback;
  } catch {
    return fallback; // there is no storage, or it holds something else
  }
}

// If the storage is full, the next reload forgets, but this answer goes on.
export function save(name, value) {
  try {
    placeOf(name).setItem(name, JSON.stringify(value));
  } catch (error) {
    console.warn(`${name} is not saved:`, error);
  }
}
