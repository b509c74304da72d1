// The tenants' shares of the service of the last minutes, as bars. Their sum is all that was served.

import { element, find, write } from "./elements.js";

const MOST_BARS = 6;
const STATES = ["running", "waiting", "preempted"];

// The tenants come with the most served first; bars are in the order of names, so that they keep their places.
export function drawShares(tenants, windowS) {
  const active = tenants.filter((tenant) => tenant.share > 0 || STATES.some((state) => tenant[state] > 0));
  const shown = active.slice(0, MOST_BARS).sort((one, other) => one.tenant.localeCompare(other.tenant));
  const bars = shown.map(drawShare);
  if (active.length > shown.length) bars.push(element("li", "rest", `and ${active.length - shown.length} more`));
  find("#shares").hidden = shown.length === 0;
  write(find("#shares h3"), `Shares of the last ${Math.round(windowS / 60)} minutes, by tenant`);
  find("#shares ul").replaceChildren(...bars);
}

function drawShare({ tenant, weight, share, ...counts }) {
  const percent = `${Math.round(100 * share)} %`;
  const name = element("span", "name", tenant);
  name.title = tenant;
  const bar = element("span", "bar");
  const part = element("span", "used");
  part.style.width = `${100 * share}%`;
  bar.append(part);
  const requests = STATES.filter((state) => counts[state] > 0).map((state) => `${counts[state]} ${state}`);
  const item = element("li");
  item.append(name, bar, element("span", "share", percent));
  item.append(element("span", "requests", [`weight ${weight}`, ...requests].join(" · ")));
  return item;
}
