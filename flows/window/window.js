// The window: what is looked at stands in the address behind "#", so that a link, the back button and a reload show the same.
import { ask, at, make, picture, problem, short, shown, tag } from "./parts.js";
import { sampleBody } from "./sample.js";

const COUNT = 60;
const VIEWS = ["samples", "dropped", "lineage"];
let about = null, cells = [], total = 0, asked = 0, opened = null;

// the key is in a cookie now; it does not belong into the history or a copied address
if (location.search) history.replaceState(null, "", location.pathname + location.hash);

const state = () => new URLSearchParams(location.hash.slice(1));
const go = (change, replace = false) => {
  const next = state();
  change(next);
  const address = "#" + next.toString();
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  return show();
};
const version = () => state().get("v") ?? about?.version;
const filterKeys = (now) => [...now].filter(([key]) => /^(is|min|max)\./.test(key));
const query = (now) => {
  const wanted = new URLSearchParams(filterKeys(now));
  for (const key of ["sort", "desc"]) if (now.get(key)) wanted.set(key, now.get(key));
  return wanted;
};

const options = (select, pairs, chosen) => {
  select.replaceChildren(...pairs.map(([value, words]) => make("option", { value, selected: value === chosen }, words)));
};

const showAbout = () => {
  at("title").textContent = about.name;
  document.title = `${about.ref} · clipcurate`;
  const counts = Object.entries(about.counts).map(([name, value]) => `${shown(value)} ${name}`);
  at("lead").textContent = `${counts.join(", ")}; recipe ${about.recipe}`;
  options(at("version"), about.versions.map((item) => [item, item]), about.version);
  options(at("sort"), [["", "order of the shards"], ...about.sorts.map((name) => [name, name.replaceAll("_", " ")])], state().get("sort") ?? "");
  at("steps").replaceChildren(...about.steps.map((step) => make("li", {}, make("b", {}, step.name),
    step.dropped ? make("span", { className: "bad" }, ` -${shown(step.dropped)} samples`) : "",
    make("span", { className: "soft" }, ` ${step.about}`), step.inputs.length ? make("div", { className: "soft" }, `uses ${step.inputs.join(", ")}`) : "")));
};

const showCells = (now) => {
  const sort = now.get("sort"), first = Number(now.get("from") ?? 0);
  at("cells").replaceChildren(...cells.map((cell, place) => {
    const button = make("button", { type: "button", className: "open", "aria-label": `Open: ${cell.text || "a picture without words"}` },
      picture(`small/${version()}/${cell.row}`, cell.text, {}));
    button.dataset.place = place;
    const words = make("span", { className: "text", dir: "auto" }, cell.text);
    const value = sort ? tag(short(cell.value)) : "";
    return make("div", { className: "cell", role: "listitem" }, button, make("p", {}, value, words));
  }));
  const last = first + cells.length;
  at("count").textContent = `${shown(total)} of ${shown(about.counts.samples ?? total)} samples`;
  at("page-place").textContent = cells.length ? `${shown(first + 1)} to ${shown(last)} of ${shown(total)}` : "nothing fits";
  at("page-back").setAttribute("aria-disabled", first === 0);
  at("page-on").setAttribute("aria-disabled", last >= total);
};

const showChosen = (now) => {
  at("chosen").replaceChildren(...filterKeys(now).map(([key, value]) => {
    const [kind, ...name] = key.split("."), sign = { is: "is", min: "at least", max: "at most" }[kind];
    const words = `${name.join(".").replaceAll("_", " ")} ${sign} ${value || "empty"}`;
    const button = make("button", { type: "button", "aria-label": `Remove filter: ${words}` }, `${words} ✕`);
    button.addEventListener("click", () => go((next) => { next.delete(key, value); next.delete("from"); }));
    return button;
  }));
};

const toggle = (name, value, wanted) => go((next) => {
  if (wanted) next.append(`is.${name}`, value);
  else next.delete(`is.${name}`, value);
  next.delete("from");
});

const bars = (facet) => {
  const SVG = "http://www.w3.org/2000/svg", drawing = document.createElementNS(SVG, "svg"), most = Math.max(1, ...facet.bins);
  drawing.setAttribute("viewBox", `0 0 ${facet.bins.length * 10} 40`);
  drawing.setAttribute("role", "img");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-label", `${facet.name}: from ${short(facet.low)} to ${short(facet.high)}`);
  facet.bins.forEach((number, place) => {
    const bar = document.createElementNS(SVG, "rect"), height = number ? Math.max(1, 40 * number / most) : 0;
    for (const [key, value] of Object.entries({ x: place * 10, y: 40 - height, width: 9, height })) bar.setAttribute(key, value);
    drawing.append(bar);
  });
  return drawing;
};

const bound = (facet, kind, now) => {
  const key = `${kind}.${facet.name}`;
  const words = `${facet.name.replaceAll("_", " ")} ${kind === "min" ? "from" : "to"}`;
  const field = make("input", { type: "number", step: "any", value: now.get(key) ?? "", placeholder: short(kind === "min" ? facet.low : facet.high), "aria-label": words, "data-key": key });
  field.addEventListener("change", () => go((next) => {
    if (field.value === "") next.delete(key);
    else next.set(key, field.value);
    next.delete("from");
  }));
  return field;
};

const facet = (item, now) => {
  const title = make("legend", {}, item.name.replaceAll("_", " "));
  if (item.bins) {
    if (item.low === null) return "";
    const missing = item.missing ? make("span", { className: "soft" }, `${shown(item.missing)} without or outside`) : "";
    return make("fieldset", {}, title, bars(item), make("div", { className: "bounds" }, bound(item, "min", now), bound(item, "max", now)), missing);
  }
  const picked = now.getAll(`is.${item.name}`);
  const rows = item.values.map(([value, number]) => {
    const box = make("input", { type: "checkbox", checked: picked.includes(value), "data-key": `is.${item.name}=${value}` });
    box.addEventListener("change", () => toggle(item.name, value, box.checked));
    return make("label", {}, box, " ", make("span", { dir: "auto" }, value || "(empty)"), " ", make("span", { className: "soft" }, shown(number)));
  });
  const more = item.num > item.values.length ? make("span", { className: "soft" }, `the ${item.values.length} commonest that fit, of ${shown(item.num)}`) : "";
  return make("fieldset", {}, title, ...rows, more);
};

const showFacets = async (now, mine) => {
  const wanted = query(now);
  const parts = [];
  for (const several of ["0", "1"]) {
    wanted.set("several", several);
    const answer = await ask(`api/${version()}/facets?${wanted}`);
    if (mine !== asked) return;
    parts.push(...answer);
    const held = document.activeElement?.dataset?.key;
    const labels = parts.filter((item) => !item.bins), numbers = parts.filter((item) => item.bins);
    at("facets").replaceChildren(...[...labels, ...numbers].map((item) => facet(item, now)));
    if (held) [...at("facets").querySelectorAll("[data-key]")].find((node) => node.dataset.key === held)?.focus();
  }
};

const showDropped = async (now) => {
  const first = Number(now.get("left") ?? 0), reason = now.get("reason") ?? "";
  const answer = await ask(`api/${version()}/dropped?${new URLSearchParams({ from: first, count: 100, reason })}`);
  options(at("dropped-reason"), [["", "any"], ...answer.reasons.map(([name, number]) => [name, `${name} (${shown(number)})`])], reason);
  at("dropped-count").textContent = `${shown(answer.total)} samples`;
  at("dropped-rows").replaceChildren(...answer.rows.map((row) =>
    make("tr", {}, ...[row.name, row.stage, row.reason, row.detail].map((words) => make("td", { dir: "auto" }, words ?? "")))));
  at("dropped-back").setAttribute("aria-disabled", first === 0);
  at("dropped-on").setAttribute("aria-disabled", first + answer.rows.length >= answer.total);
};

const noFixes = { caption: () => [], negative: () => [], sample: () => [] };
const showSample = async (row) => {
  const sample = await ask(`api/${version()}/sample/${row}`);
  if (state().get("open") !== String(row)) return;
  opened = row;
  at("sample-body").replaceChildren(...sampleBody(sample, version(), (next) => openRow(next), noFixes));
  const place = cells.findIndex((cell) => cell.row === row), first = Number(state().get("from") ?? 0);
  at("step-place").textContent = place < 0 ? "" : `${shown(first + place + 1)} of ${shown(total)}`;
  at("step-back").setAttribute("aria-disabled", place < 0 || first + place === 0);
  at("step-on").setAttribute("aria-disabled", place < 0 || first + place + 1 >= total);
  if (!at("sample").open) at("sample").showModal();
  at("sample").scrollTop = 0;
};
const openRow = (row, replace = false) => go((next) => { next.set("open", row); }, replace);

const step = async (by) => {
  const place = cells.findIndex((cell) => cell.row === opened), first = Number(state().get("from") ?? 0), next = first + place + by;
  if (place < 0 || next < 0 || next >= total) return;
  if (!cells[place + by]) {
    history.replaceState(null, "", "#" + (() => { const now = state(); now.set("from", Math.floor(next / COUNT) * COUNT); return now; })());
    await showGrid(state());
  }
  await openRow(cells[next - Number(state().get("from") ?? 0)].row, true);
};

let gridShown = "";
const showGrid = async (now) => {
  const wanted = query(now);
  wanted.set("from", now.get("from") ?? "0");
  wanted.set("count", String(COUNT));
  const address = `api/${version()}/grid?${wanted}`;
  if (address === gridShown) return;
  asked += 1;
  const mine = asked, answer = await ask(address);
  if (mine !== asked) return;
  gridShown = address;
  ({ cells, total } = answer);
  showCells(now);
  showChosen(now);
  showFacets(now, mine).catch((error) => problem(error.message));
};

const show = async () => {
  try {
    const now = state(), view = VIEWS.includes(now.get("view")) ? now.get("view") : "samples";
    problem("");
    if (about?.version !== (now.get("v") ?? about?.version) || !about) {
      const start = about ?? await ask("api/start");
      about = await ask(`api/${encodeURIComponent(now.get("v") ?? start.version)}/about`);
      gridShown = "";
      showAbout();
    }
    for (const name of VIEWS) at(`view-${name}`).hidden = name !== view;
    document.querySelectorAll("#views button").forEach((node) => node.setAttribute("aria-pressed", node.dataset.view === view));
    at("sort").value = now.get("sort") ?? "";
    at("descending").checked = now.get("desc") === "1";
    if (view === "samples") await showGrid(now);
    if (view === "dropped") await showDropped(now);
    if (now.get("open") !== null) await showSample(Number(now.get("open")));
    else if (at("sample").open) at("sample").close();
  } catch (error) {
    problem(error.message);
  }
};

const page = (by) => {
  const first = Number(state().get("from") ?? 0) + by * COUNT;
  if (first < 0 || first >= total) return Promise.resolve();
  return go((next) => { next.set("from", first); });
};
const buttons = () => [...at("cells").querySelectorAll("button")];

at("cells").addEventListener("click", (event) => {
  const button = event.target.closest(".cell")?.querySelector("button");
  if (button && !String(getSelection())) openRow(cells[Number(button.dataset.place)].row);
});
at("cells").addEventListener("keydown", async (event) => {
  const all = buttons(), now = all.indexOf(document.activeElement);
  if (now < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const wide = new Set(all.map((node) => Math.round(node.getBoundingClientRect().left))).size || 1;
  const moved = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[event.key], leaf = { PageDown: 1, PageUp: -1 }[event.key];
  if (!moved && !leaf) return;
  event.preventDefault();
  if (moved && all[now + moved]) { all[now + moved].focus(); return; }
  const by = leaf ?? Math.sign(moved);
  await page(by);
  if (buttons()[0] !== all[0]) (by > 0 || leaf ? buttons()[0] : buttons().at(-1))?.focus();
});
at("sample").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, .wide")) return;
  event.preventDefault();
  step(by);
});
at("sample").addEventListener("click", (event) => { if (event.target === at("sample")) at("sample").close(); });
at("sample").addEventListener("close", () => {
  if (state().get("open") === null) return;
  const place = cells.findIndex((cell) => cell.row === opened);
  go((next) => { next.delete("open"); }, true);
  buttons()[place]?.focus();
});
at("step-back").addEventListener("click", () => step(-1));
at("step-on").addEventListener("click", () => step(1));
at("step-close").addEventListener("click", () => at("sample").close());
at("page-back").addEventListener("click", () => page(-1));
at("page-on").addEventListener("click", () => page(1));
at("sort").addEventListener("change", () => go((next) => { next.set("sort", at("sort").value); next.delete("from"); }));
at("descending").addEventListener("change", () => go((next) => { next.set("desc", at("descending").checked ? "1" : ""); next.delete("from"); }));
at("reset").addEventListener("click", () => go((next) => { [...next.keys()].filter((key) => key !== "v").forEach((key) => next.delete(key)); }));
at("version").addEventListener("change", () => go((next) => { next.set("v", at("version").value); next.delete("open"); next.delete("from"); }));
at("views").addEventListener("click", (event) => {
  const name = event.target.dataset.view;
  if (name) go((next) => { next.set("view", name); next.delete("open"); });
});
at("dropped-reason").addEventListener("change", () => go((next) => { next.set("reason", at("dropped-reason").value); next.delete("left"); }));
for (const [id, by] of [["dropped-back", -100], ["dropped-on", 100]]) {
  at(id).addEventListener("click", () => {
    if (at(id).getAttribute("aria-disabled") === "true") return;
    go((next) => { next.set("left", Math.max(0, Number(next.get("left") ?? 0) + by)); });
  });
}
addEventListener("popstate", show);
addEventListener("hashchange", show);
at("filters-box").open = matchMedia("(min-width: 48rem)").matches;
show();
