"""The style of all pages: light and dark, from phones to wide screens, nothing fetched."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #5b616b; --line: #dcd9d2;
  --accent: #1f5fae; --bar: #5c8fd6; --in-back: #d6f2dc; --in-ink: #0d5a24; --out-back: #fbdcdc; --out-ink: #8f1620;
  --mark: #ffe9a8; --mark-ink: #4d3600; }
@media (prefers-color-scheme: dark) { :root { --back: #15171b; --card: #1e2127; --ink: #e7e6e3; --soft: #a3a8b1;
  --line: #363a42; --accent: #86b7f5; --bar: #4c7fc4; --in-back: #123d20; --in-ink: #a5ebb8; --out-back: #4b1b1f;
  --out-ink: #ffb9bc; --mark: #5a4510; --mark-ink: #ffe7a3; } }
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
.tiles dd { margin: 0; font-size: clamp(1.1rem, 4.2vw, 1.35rem); font-weight: 650; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
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
svg rect { fill: var(--bar); } svg .curve { fill: none; stroke: var(--bar); stroke-width: 1.5; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: .8rem;
  align-items: start; }
.card { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: .9rem; align-items: start; padding: .8rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.card h3 { margin: 0 0 .3rem; } .card ul, .card ol { margin: .2rem 0; padding-left: 1.2rem; }
.card li { margin: .15rem 0; }
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
.said:not([hidden]) ~ .said { border-top: 1px solid var(--line); margin-top: .5rem; padding-top: .3rem; }
.why { display: block; font-size: .8rem; color: var(--soft); }
.text, h3, td, th, li, code, figcaption, summary { unicode-bidi: isolate; }
ins { background: var(--in-back); color: var(--in-ink); text-decoration: underline; text-underline-offset: 3px; }
del { background: var(--out-back); color: var(--out-ink); text-decoration: line-through; }
ins, del, mark { padding: 0 .15em; border-radius: 3px; } mark { background: var(--mark); color: var(--mark-ink); }
.tag { display: inline-block; font-size: .78rem; color: var(--soft); border: 1px solid var(--line);
  border-radius: 1rem; padding: 0 .5rem; margin: 0 .25rem .25rem 0; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
@media (min-width: 48rem) { nav { flex-wrap: wrap; } }
@media (max-width: 30rem) { .card { grid-template-columns: 5.5rem minmax(0, 1fr); gap: .6rem; padding: .6rem; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(6.3rem, 1fr)); }
  .filters output { margin-left: 0; flex-basis: 100%; } }
@media print { nav, .skip, .filters { display: none; } .card { break-inside: avoid; } }
"""
