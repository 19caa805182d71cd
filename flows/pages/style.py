"""The style of all pages: light and dark, from phones to wide screens, nothing fetched."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #5b616b; --line: #dcd9d2;
  --accent: #1f5fae; --bar: #5c8fd6; --in-back: #d6f2dc; --in-ink: #0d5a24; --out-back: #fbdcdc; --out-ink: #8f1620;
  --mark: #ffe9a8; --mark-ink: #4d3600; --bad: #b3261e; --s1: #b4530a; --s2: #2a7d4f; --s3: #8a3fa8; --s4: #8a6d00;
  --s5: #b02a5b; }
@media (prefers-color-scheme: dark) { :root { --back: #15171b; --card: #1e2127; --ink: #e7e6e3; --soft: #a3a8b1;
  --line: #363a42; --accent: #86b7f5; --bar: #4c7fc4; --in-back: #123d20; --in-ink: #a5ebb8; --out-back: #4b1b1f;
  --out-ink: #ffb9bc; --mark: #5a4510; --mark-ink: #ffe7a3; --bad: #ff8a80; --s1: #f0a35e; --s2: #6cc796; --s3: #cf9be6;
  --s4: #d9bd55; --s5: #f48fb1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(.8rem, 3vw, 2rem) 4rem; max-width: 76rem; background: var(--back);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: clamp(1.35rem, 4vw, 1.9rem); line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .7rem; padding-top: .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
p { margin: .4rem 0; max-width: 70ch; }
a { color: var(--accent); }
code { font-size: .85em; color: var(--soft); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
main:focus, section:focus { outline: none; }
.skip { position: absolute; left: -99rem; background: var(--card); padding: .5rem 1rem; z-index: 2; }
.skip:focus { left: .5rem; top: .5rem; }
.soft { color: var(--soft); }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: .3rem 1.1rem; overflow-x: auto; white-space: nowrap;
  margin: 1rem 0; padding: .55rem 0; background: var(--back); border-bottom: 1px solid var(--line); }
section { scroll-margin-top: 3rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tiles div { display: flex; flex-direction: column; padding: .6rem .8rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
.tiles dd { margin: 0; font-size: clamp(1.1rem, 4.2vw, 1.35rem); font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars { width: 100%; } .bars th { font-weight: 400; width: 38%; } .bars td { border: 0; } .bars th { border: 0; }
.bars td:nth-child(2) { width: 50%; vertical-align: middle; padding-right: .4rem; }
.bar { display: block; height: .8rem; background: var(--bar); border-radius: 2px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; } figcaption { font-weight: 600; font-size: .92rem; margin-bottom: .3rem; }
svg { display: block; overflow: visible; width: 100%; max-width: 32rem; height: auto; font-size: 11px;
  fill: var(--soft); }
svg rect { fill: var(--bar); } svg .curve { fill: none; stroke: var(--bar); stroke-width: 1.6; }
svg .s1 { stroke: var(--s1); } svg .s2 { stroke: var(--s2); } svg .s3 { stroke: var(--s3); } svg .s4 { stroke: var(--s4); }
svg .s5 { stroke: var(--s5); } svg .rule { stroke: var(--line); } svg .mark { stroke: var(--soft); stroke-dasharray: 4 3; }
svg circle { fill: var(--accent); } svg .whisker { stroke: var(--accent); stroke-width: 2.5; stroke-linecap: round; }
svg text.bad, svg circle.bad { fill: var(--bad); } svg .whisker.bad { stroke: var(--bad); } svg .name { fill: var(--ink); }
svg .box { fill: var(--card); stroke: var(--line); } svg .box.here { stroke: var(--accent); stroke-width: 2; }
svg .box.made { fill: var(--back); stroke-dasharray: 4 3; } svg .edge { fill: none; stroke: var(--soft); stroke-width: 1.2; }
svg.graph { max-width: 38rem; } svg.swatch { display: inline-block; width: 22px; vertical-align: middle; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: 0; margin: .2rem 0 0; font-size: .85rem; }
.bad { color: var(--bad); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: .8rem;
  align-items: start; }
.card { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: .9rem; align-items: start; padding: .8rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.card h3 { margin: 0 0 .3rem; } .card ul, .card ol { margin: .2rem 0; padding-left: 1.2rem; }
.card li { margin: .15rem 0; }
.alike { list-style: "\\2248\\00a0"; }
.card .wrong { list-style: "\\2260\\00a0"; color: var(--soft); font-size: .92rem; }
img { display: block; max-width: 100%; height: auto; border-radius: .3rem; background: var(--line); }
.lost { display: block; padding: 1.5rem .5rem; text-align: center; font-size: .8rem; color: var(--soft);
  border: 1px dashed var(--line); border-radius: .3rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .8rem; }
.grid figcaption { font-weight: 400; font-size: .85rem; margin: .3rem 0 0; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.4rem, 1fr)); gap: .4rem; align-items: start; }
.sheet.near { grid-template-columns: repeat(auto-fill, minmax(4.6rem, 1fr)); }
.sheet img, .sheet .lost { width: 100%; aspect-ratio: 1; object-fit: cover; } .sheet figcaption { font-weight: 400;
  font-size: .82rem; text-align: center; margin: .15rem 0 0; }
h3 .soft { font-weight: 400; }
[hidden] { display: none !important; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: .8rem 0; padding: .7rem .8rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; font-size: .92rem; }
.filters label { color: var(--soft); white-space: nowrap; }
.filters select, .filters input, .filters button { font: inherit; color: var(--ink); background: var(--back);
  border: 1px solid var(--line); border-radius: .35rem; padding: .3rem .5rem; min-height: 2.2rem; max-width: 100%; }
.filters input[type=number] { width: 5rem; } .filters button { cursor: pointer; }
.filters output { color: var(--soft); margin-left: auto; }
button { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: .35rem;
  padding: .3rem .8rem; min-height: 2.4rem; cursor: pointer; } button[aria-disabled=true] { color: var(--soft); cursor: default; opacity: .6; }
.more { display: block; margin: 1rem auto; } .live { cursor: pointer; } .live:hover { border-color: var(--accent); }
.open { display: block; width: 100%; padding: 0; border: 0; background: none; } .open img { width: 100%; }
.card p { margin: 0 0 .3rem; } .card h3 { font-size: .85rem; color: var(--soft); font-weight: 600; }
dialog { width: min(62rem, 100vw - 1rem); max-width: none; max-height: calc(100vh - 2rem); overflow: auto; padding: 0 1rem 1rem;
  color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
dialog::backdrop { background: rgb(0 0 0 / .6); }
.steps { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .6rem;
  padding: .7rem 0 .5rem; background: var(--card); border-bottom: 1px solid var(--line); }
.steps button:last-child { margin-left: auto; }
#sample-body { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr); gap: 1.2rem; margin-top: 1rem; }
#sample-body h3 { margin-top: 0; } #sample-body li { margin: .3rem 0; } #sample-body ol > li { margin-top: .8rem; }
#sample-body .wrong { list-style: "\\2260\\00a0"; } .large img { width: 100%; }
.hit > .text { border-bottom: 2px solid var(--accent); }
.why { display: block; font-size: .8rem; color: var(--soft); }
.text, h3, td, th, li, code, figcaption, summary { unicode-bidi: isolate; }
ins { background: var(--in-back); color: var(--in-ink); text-decoration: underline; text-underline-offset: 3px; }
del { background: var(--out-back); color: var(--out-ink); text-decoration: line-through; }
ins, del, mark { padding: 0 .15em; border-radius: 3px; } mark { background: var(--mark); color: var(--mark-ink); }
.tag { display: inline-block; font-size: .78rem; color: var(--soft); border: 1px solid var(--line);
  border-radius: 1rem; padding: 0 .5rem; margin: 0 .25rem .25rem 0; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
@media (min-width: 48rem) { nav { flex-wrap: wrap; } }
@media (max-width: 40rem) { #sample-body { grid-template-columns: minmax(0, 1fr); } .large img { max-width: 15rem; } }
@media (max-width: 30rem) { .card { grid-template-columns: 5.5rem minmax(0, 1fr); gap: .6rem; padding: .6rem; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(6.3rem, 1fr)); }
  .filters output { margin-left: 0; flex-basis: 100%; } }
@media print { nav, .skip, .filters, .more { display: none; } .card { break-inside: avoid; } }
"""
