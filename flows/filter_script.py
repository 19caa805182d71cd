"""The page's only script: it hides the negatives that a reader does not want to see; it fetches and stores nothing.

What is chosen also stands behind the address's ``#negatives:``, so that a link shows the same.
"""

from __future__ import annotations

SCRIPT = """
"use strict";
(() => {
  const bar = document.getElementById("filters");
  const fields = [...bar.querySelectorAll("[name]")];
  const count = document.getElementById("filter-count");
  const plain = (node) => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll("del").forEach((gone) => gone.remove());
    return copy.textContent;
  };
  const squeezed = (text) => text.toLowerCase().replace(/\\s+/g, " ").trim();
  const items = [...document.querySelectorAll("#negatives .wrong")].map((node) => ({
    node,
    type: node.dataset.type,
    operation: node.dataset.operation,
    difficulty: node.dataset.difficulty === "" ? NaN : Number(node.dataset.difficulty),
    text: squeezed(node.closest(".said").querySelector(".text").textContent) + "\\n" + squeezed(plain(node)),
  }));
  const groups = [...document.querySelectorAll("#negatives .said, #negatives .card")];

  const chosen = () => Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
  const fits = (item, want) =>
    (want.type === "" || item.type === want.type) &&
    (want.operation === "" || item.operation === want.operation) &&
    (want.min === "" || item.difficulty >= Number(want.min)) &&
    (want.max === "" || item.difficulty <= Number(want.max)) &&
    (want.q === "" || item.text.includes(squeezed(want.q)));

  const show = () => {
    const want = chosen();
    let shown = 0;
    for (const item of items) {
      item.node.hidden = !fits(item, want);
      shown += item.node.hidden ? 0 : 1;
    }
    for (const group of groups) group.hidden = !group.querySelector(".wrong:not([hidden])");
    const cards = document.querySelectorAll("#negatives .card:not([hidden])").length;
    count.textContent = `${shown} of ${items.length} negatives, ${cards} pictures`;
  };
  const remember = () => {
    const set = Object.entries(chosen()).filter(([, value]) => value !== "");
    history.replaceState(null, "", "#negatives" + (set.length ? ":" + new URLSearchParams(set) : ""));
  };
  const recall = () => {
    const mark = "#negatives:";
    if (!location.hash.startsWith(mark)) return false;
    const want = new URLSearchParams(location.hash.slice(mark.length));
    for (const field of fields) {
      field.value = want.get(field.name) ?? "";
      if (field.selectedIndex === -1) field.value = "";
    }
    document.getElementById("negatives").scrollIntoView();
    return true;
  };

  bar.addEventListener("input", () => { show(); remember(); });
  document.getElementById("filter-reset").addEventListener("click", () => {
    for (const field of fields) field.value = "";
    show();
    remember();
  });
  addEventListener("hashchange", () => { if (recall()) show(); });
  bar.hidden = false;
  recall();
  show();
})();
"""
