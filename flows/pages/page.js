// The only script of a page: it shows, searches, filters and opens samples; it fetches and stores nothing.
// Captions are untrusted, so they only ever become text nodes. The filters and the open sample are kept in the address
// behind "#samples:", so that a link shows the same.
"use strict";
(() => {
  const PAGE = 24, HITS = 4;
  const at = (id) => document.getElementById(id);
  const { labels, samples } = JSON.parse(at("samples-data").textContent);
  const bar = at("filters"), grid = at("grid"), count = at("filter-count"), more = at("more"), dialog = at("sample");
  const fields = [...bar.querySelectorAll("[name]")];
  const normalised = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  const plainText = (text) => text.slice(4).filter((piece) => piece[0] !== "-").map((piece) => piece.slice(1)).join("");
  const isCaption = (text) => labels[text[0]][0] === "caption";
  for (const sample of samples) sample.words = sample.t.map((text) => normalised(plainText(text)));

  const make = (name, props = {}, ...children) => {
    const node = Object.assign(document.createElement(name), props);
    node.append(...children);
    return node;
  };
  const text = (record) => {
    const node = make("span", { className: "text", dir: "auto" });
    const added = labels[record[0]][0] === "negative" ? "ins" : "mark";
    for (const piece of record.slice(4)) {
      const words = piece.slice(1), kept = words.trimEnd(), name = { "-": "del", "+": added }[piece[0]];
      node.append(name ? make(name, {}, kept) : kept, words.slice(kept.length) || (name === "del" ? " " : ""));
    }
    return node;
  };
  const item = (record, whole) => {
    const [kind, operation, words, type] = labels[record[0]];
    const facts = [...new Set([`${kind === "negative" ? "" : kind + " "}${operation} ${words}`.trim(), type === words ? "" : type])];
    if (record[2] !== null) facts.push(record[2].toFixed(2));
    const tags = make("div", {}, ...facts.filter(Boolean).map((fact) => make("span", { className: "tag" }, fact)));
    if (whole && record[3]) tags.append(make("span", { className: "why", dir: "auto" }, record[3]));
    return make("li", { className: kind === "negative" ? "wrong" : kind === "caption" ? "" : "alike" }, text(record), tags);
  };
  const picture = (sample) => {
    if (!sample.p) return make("span", { className: "lost" }, "no picture");
    const words = sample.t.length ? plainText(sample.t[0]) : "";
    return make("img", { src: sample.p, alt: words || sample.n || "picture", decoding: "async" });
  };
  const facts = (sample) => {
    const values = [sample.w, sample.s, sample.c === null ? "" : `cluster ${sample.c}`];
    if (sample.d !== null) values.push(`difficulty ${sample.d}`);
    return make("div", {}, ...values.filter(Boolean).map((fact) => make("span", { className: "tag" }, fact)));
  };

  let found = [], shown = 0, current = -1, restoring = false;
  const currentFilters = () => Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
  const hits = (sample, filter) => {
    if (filter.split && sample.s !== filter.split) return [];
    if (filter.cluster && String(sample.c) !== String(filter.cluster)) return [];
    const query = normalised(filter.q || "");
    const named = query !== "" && (normalised(sample.n).includes(query) || sample.u.startsWith(query));
    const negative = filter.operation || filter.type || filter.min || filter.max;
    return sample.t.map((record, place) => place).filter((place) => {
      const record = sample.t[place], [kind, operation, , type] = labels[record[0]];
      return (!filter.text || kind === filter.text) &&
        (!negative || kind === "negative") &&
        (!filter.operation || operation === filter.operation) &&
        (!filter.type || type === filter.type) &&
        (!filter.min || (record[2] !== null && record[2] >= Number(filter.min))) &&
        (!filter.max || (record[2] !== null && record[2] <= Number(filter.max))) &&
        (query === "" || named || sample.words[place].includes(query));
    });
  };
  const card = (place) => {
    const { sample, places } = found[place];
    const hit = places.map((index) => sample.t[index]), lead = hit.find((record) => !isCaption(record)) ?? hit[0];
    const first = sample.t.find((record) => isCaption(record) && record[1] === lead[1]) ?? null;
    const rest = hit.filter((record) => record !== first).sort((a, b) => isCaption(a) - isCaption(b));
    const list = make("ul", {}, ...rest.slice(0, HITS).map((record) => item(record, false)));
    if (rest.length > HITS) list.append(make("li", { className: "soft" }, `and ${rest.length - HITS} more`));
    const open = make("button", { type: "button", className: "open" }, picture(sample));
    open.setAttribute("aria-label", `Open ${sample.n}: ${first ? plainText(first) : ""}`);
    const caption = first ? make("p", {}, text(first)) : "";
    const node = make("article", { className: "card live" }, open, make("div", {}, make("h3", {}, sample.n), caption, list));
    node.dataset.place = place;
    return node;
  };
  const showMore = (minimum) => {
    const end = Math.min(found.length, Math.max(shown + PAGE, minimum));
    const nodes = [];
    for (let place = shown; place < end; place += 1) nodes.push(card(place));
    grid.append(...nodes);
    shown = end;
    more.hidden = shown >= found.length;
    more.textContent = `Show more (${found.length - shown} left)`;
  };
  const show = () => {
    const filter = currentFilters();
    found = samples.map((sample) => ({ sample, places: hits(sample, filter) })).filter((entry) => entry.places.length);
    shown = 0;
    grid.replaceChildren();
    showMore(0);
    const texts = found.reduce((sum, entry) => sum + entry.places.length, 0);
    const counts = [found.length, samples.length, texts].map((number) => number.toLocaleString("en"));
    count.textContent = `${counts[0]} of ${counts[1]} samples, ${counts[2]} texts`;
  };

  const saveToAddress = () => {
    if (restoring) return;
    const set = Object.entries(currentFilters()).filter(([, value]) => value !== "");
    if (current >= 0) set.push(["open", found[current].sample.u]);
    history.replaceState(null, "", "#samples" + (set.length ? ":" + new URLSearchParams(set) : ""));
  };
  const showSample = () => {
    const { sample, places } = found[current];
    const captions = sample.t.map((record, place) => ({ record, place })).filter(({ record }) => isCaption(record));
    const hit = new Set(places.length < sample.t.length ? places : []);
    const captionItems = captions.map(({ record, place }) => {
      const mine = sample.t.map((other, index) => ({ other, index }))
        .filter(({ other }) => !isCaption(other) && other[1] === record[1]);
      const list = make("ul", {}, ...mine.map(({ other, index }) => {
        const node = item(other, true);
        node.classList.toggle("hit", hit.has(index));
        return node;
      }));
      return make("li", { className: hit.has(place) ? "hit" : "" }, text(record), list);
    });
    const body = make("div", {}, facts(sample), make("ol", { start: 0 }, ...captionItems));
    if (sample.m) body.append(make("p", { className: "soft" }, `and ${sample.m} more texts`));
    body.append(make("details", {}, make("summary", {}, "Record"), make("code", {}, sample.u)));
    const title = make("h3", { id: "sample-title" }, sample.n);
    at("sample-body").replaceChildren(make("div", { className: "large" }, picture(sample)), make("div", {}, title, body));
    at("step-place").textContent = `${current + 1} of ${found.length}`;
    // not disabled: what is disabled while it has the focus takes no keys any more
    at("step-back").setAttribute("aria-disabled", current === 0);
    at("step-on").setAttribute("aria-disabled", current === found.length - 1);
    dialog.scrollTop = 0;
  };
  const open = (place) => {
    if (place < 0 || place >= found.length) return;
    current = place;
    showSample();
    if (!dialog.open) dialog.showModal();
    saveToAddress();
  };
  const buttons = () => [...grid.querySelectorAll(".open")];

  grid.addEventListener("click", (event) => {
    const node = event.target.closest(".card");
    if (node && !String(getSelection())) open(Number(node.dataset.place));
  });
  grid.addEventListener("keydown", (event) => {
    const all = buttons(), now = all.indexOf(document.activeElement);
    if (now < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const top = (node) => Math.round(node.closest(".card").getBoundingClientRect().left);
    const wide = new Set(all.slice(0, 12).map(top)).size || 1;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[event.key];
    if (!step) return;
    event.preventDefault();
    if (now + step >= all.length && shown < found.length) showMore(0);
    const next = buttons()[now + step];
    if (next) next.focus();
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    open(current + step);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (dialog.open) return;
    const place = current;
    current = -1;
    saveToAddress();
    if (place >= shown) showMore(place + 1);
    const button = buttons()[place];
    if (button) button.focus();
  });
  at("step-back").addEventListener("click", () => open(current - 1));
  at("step-on").addEventListener("click", () => open(current + 1));
  at("step-close").addEventListener("click", () => dialog.close());
  more.addEventListener("click", () => { const first = shown; showMore(0); buttons()[first]?.focus(); });
  bar.addEventListener("input", () => { show(); saveToAddress(); });
  at("filter-reset").addEventListener("click", () => {
    for (const field of fields) field.value = "";
    show();
    saveToAddress();
  });

  const readFromAddress = () => {
    const mark = "#samples:";
    if (!location.hash.startsWith(mark)) return false;
    const filter = new URLSearchParams(location.hash.slice(mark.length));
    restoring = true;
    if (dialog.open) dialog.close();
    current = -1;
    for (const field of fields) {
      field.value = filter.get(field.name) ?? "";
      if (field.selectedIndex === -1) field.value = "";
    }
    show();
    at("samples").scrollIntoView();
    open(found.findIndex((entry) => entry.sample.u === filter.get("open")));
    restoring = false;
    return true;
  };
  addEventListener("hashchange", readFromAddress);
  bar.hidden = false;
  document.querySelectorAll(".scripted").forEach((node) => { node.hidden = false; });
  if (!readFromAddress()) show();
})();
