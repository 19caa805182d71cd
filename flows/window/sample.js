// One sample: its picture large, its texts with their edits marked, where they come from, neighbours, what runs scored.
import { make, picture, pieces, short, tag, text } from "./parts.js";

const SVG = "http://www.w3.org/2000/svg";

const line = (record, actions) => {
  const facts = [`${record.kind} ${record.what}`.trim()];
  if (record.difficulty !== null && record.difficulty !== undefined) facts.push(`difficulty ${record.difficulty.toFixed(2)}`);
  const node = make("li", { className: record.role === "negative" ? "wrong" : "alike" },
    pieces(record.pieces, record.role === "negative" ? "ins" : "mark"), " ", ...facts.filter(Boolean).map(tag));
  const why = [record.source, record.rule].filter(Boolean).join(": ");
  const scores = Object.entries(record.scores ?? {}).map(([name, value]) => `${name} ${short(value)}`).join(", ");
  node.append(make("span", { className: "why", dir: "auto" }, [why, scores].filter(Boolean).join(" · ")));
  node.append(...actions(record));
  return node;
};

const facts = (title, values) => {
  const rows = Object.entries(values).map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", { dir: "auto" }, value)));
  if (!rows.length) return "";
  const table = make("table", {}, make("tbody", {}, ...rows));
  return make("details", {}, make("summary", {}, title), make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": title }, table));
};

const curve = (row) => {
  const drawing = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "polyline");
  const values = [row.first_margin, row.mean_margin, row.last_margin].map((value) => Math.max(-1, Math.min(1, value ?? 0)));
  drawing.setAttribute("viewBox", "0 0 60 24");
  drawing.setAttribute("class", "margin");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `margin from ${short(row.first_margin)} over ${short(row.mean_margin)} to ${short(row.last_margin)}`);
  path.setAttribute("class", "curve");
  path.setAttribute("points", values.map((value, place) => `${4 + place * 26},${12 - 10 * value}`).join(" "));
  drawing.append(path);
  return drawing;
};

const scored = (run) => {
  const rows = run.rows.map((row) => make("tr", {}, make("td", { dir: "auto" }, row.text || "the picture's own captions"),
    ...[row.first_margin, row.mean_margin, row.last_margin, row.mean_loss].map((value) => make("td", { className: "number" }, short(value))),
    make("td", { className: "number" }, short(row.drawn)), make("td", {}, curve(row))));
  if (!rows.length) return make("p", { className: "soft" }, `${run.run} has seen nothing of this sample.`);
  const names = ["text", "first margin", "mean margin", "last margin", "mean loss", "times drawn", "course"];
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
  const label = `What ${run.run} scored over its training`;
  return make("details", {}, make("summary", {}, label), make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": label },
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
};

const neighbours = (sample, version, open) => {
  const parts = [];
  for (const kind of ["image", "text"]) {
    const near = sample.neighbours.filter((item) => item.of === kind);
    if (!near.length) continue;
    const cells = near.map((item) => {
      const words = `neighbour by ${kind}, similarity ${item.similarity.toFixed(2)}`;
      const button = make("button", { type: "button", className: "open", "aria-label": `Open ${words}` },
        picture(`small/${version}/${item.row}`, words, {}));
      button.addEventListener("click", () => open(item.row));
      return make("figure", {}, button, make("figcaption", {}, item.similarity.toFixed(2)));
    });
    parts.push(make("details", { open: true }, make("summary", {}, `Nearest by ${kind}`), make("div", { className: "sheet near" }, ...cells)));
  }
  return parts;
};

// `fixes` gives the controls of texts and of the sample: { caption(words), negative(record), sample() }
export const sampleBody = (sample, version, open, fixes) => {
  const captions = sample.captions.map((words, number) => {
    const mine = sample.texts.filter((record) => record.caption === number);
    const list = make("ul", {}, ...mine.map((record) => line(record, record.role === "negative" ? fixes.negative : () => [])));
    return make("li", {}, text(words), ...fixes.caption(words), list);
  });
  const edits = sample.edits.map((edit) => make("li", {}, `${edit.action} `, text(edit.caption ?? ""),
    make("span", { className: "why" }, [edit.author, edit.note].filter(Boolean).join(": "))));
  const body = make("div", {}, make("h2", { id: "sample-title" }, sample.name), make("p", { className: "soft" }, make("code", {}, sample.uid)),
    ...fixes.sample(sample), make("h3", {}, "Captions, what else is true (≈), and what is false (≠)"), make("ol", { start: 0 }, ...captions));
  if (sample.more) body.append(make("p", { className: "soft" }, `and ${sample.more} more texts`));
  if (edits.length) body.append(make("h3", {}, "Corrected by people"), make("ul", {}, ...edits));
  body.append(...neighbours(sample, version, open), ...sample.runs.map(scored), facts("Fields of stages", sample.fields), facts("What the source says", sample.attributes));
  const large = make("div", { className: "large" }, picture(`picture/${version}/${sample.row}`, sample.captions[0] || sample.name, {}));
  return [large, body];
};
