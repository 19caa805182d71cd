// Parts of the page that all its scripts use. Texts of samples are untrusted: they only ever become text nodes.
export const at = (id) => document.getElementById(id);

export const make = (name, props = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  return node;
};

export const shown = (number) => number.toLocaleString("en");

export const short = (value) => {
  if (value === null || value === undefined) return "none";
  return Number.isInteger(value) ? shown(value) : Number(value.toPrecision(4)).toString();
};

export const problem = (text) => {
  at("problem").textContent = text;
  at("problem").hidden = text === "";
};

const answered = async (response) => {
  const kind = response.headers.get("content-type") ?? "";
  const answer = kind.startsWith("application/json") ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(answer.error);
  return answer;
};

export const ask = async (address) => answered(await fetch(address));

export const tell = async (address, what) => answered(await fetch(address, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(what),
}));

// pieces are [sign, words]: "=" stayed, "-" was removed, "+" was added
export const pieces = (list, added) => {
  const node = make("span", { className: "text", dir: "auto" });
  for (const [sign, words] of list) {
    const kept = words.trimEnd(), name = { "-": "del", "+": added }[sign];
    node.append(name ? make(name, {}, kept) : kept, words.slice(kept.length) || (name === "del" ? " " : ""));
  }
  return node;
};

export const text = (words) => make("span", { className: "text", dir: "auto" }, words);

export const picture = (address, words, size) => {
  const node = make("img", { src: address, alt: words, decoding: "async", ...size });
  node.addEventListener("error", () => node.replaceWith(make("span", { className: "lost" }, "picture cannot be shown")));
  return node;
};

export const tag = (words) => make("span", { className: "tag" }, words);
