#include "app/report_parts.h"

namespace cover::app {

// Colours are variables: light, dark and paper differ in them alone. Text and lines keep a contrast of at least 4.5 to
// 1 on their background.
const char* const report_style = R"css(
:root { color-scheme: light dark; --back: #fff; --text: #1b1e23; --soft: #545c67; --line: #d3d8de; --card: #f5f6f8;
  --c1: #1a67a8; --c2: #b84a0a; --c3: #26733a; --warn: #fdf3e1; --warn-line: #d99a2b; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --text: #e7eaee; --soft: #a7b0bb; --line: #39414b;
  --card: #1c2025; --c1: #6db3f2; --c2: #f59a5c; --c3: #7ccf8f; --warn: #2c2415; --warn-line: #b98325; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.6rem 1.2rem 3rem; max-width: 68rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
h4 { font-size: .9rem; font-weight: 500; color: var(--soft); margin: .8rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 48rem; }
.lead { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; margin: .8rem 0; }
a { color: var(--c1); }
.notes { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .5rem .8rem; margin: 1rem 0;
  overflow-wrap: anywhere; }
.notes ul { margin: 0; padding-left: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .55rem .75rem; }
.tiles dt { font-size: .82rem; color: var(--soft); line-height: 1.3; }
.tiles dd { margin: .1rem 0 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); }
.facts th { width: 34%; }
.named th { overflow-wrap: normal; white-space: nowrap; }
.tables { columns: 2 26rem; column-gap: 2.2rem; }
.tables table { break-inside: avoid; }
td.n, th.n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.narrow { width: auto; min-width: min(100%, 30rem); }
.narrow th, .narrow td { overflow-wrap: normal; } .narrow th.n { white-space: normal; }
.settings { columns: 3 17rem; column-gap: 2rem; font-size: .85rem; }
.settings table { break-inside: avoid; }
.settings th { width: 52%; }
figure { margin: 0; }
figcaption, .note { font-size: .86rem; line-height: 1.4; color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.4rem 1.8rem; }
.chart-box h3 { margin: 0 0 .1rem; }
.keys { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .82rem; color: var(--soft); margin: 0; }
.key svg { margin-right: .35rem; vertical-align: baseline; }
.chart { display: block; width: 100%; height: auto; margin: .2rem 0; }
.chart text { fill: var(--soft); font-size: 13px; font-family: inherit; }
.chart .grid line { stroke: var(--line); stroke-width: 1; }
.chart .mark { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.chart path, .key path { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
path.faint { stroke-width: 1.2; opacity: .5; }
@media (prefers-color-scheme: dark) { path.faint { opacity: .7; } }
path.dashed { stroke-dasharray: 2 5; }
path.c1 { stroke: var(--c1); } path.c2 { stroke: var(--c2); } path.c3 { stroke: var(--c3); }
rect.c1, circle.c1 { fill: var(--c1); } rect.c2, circle.c2 { fill: var(--c2); } rect.c3, circle.c3 { fill: var(--c3); }
.row { display: grid; gap: .9rem .8rem; align-items: start; margin: 0 0 .9rem; }
.of3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.of4 { grid-template-columns: repeat(4, minmax(0, 1fr)); }
.of6 { grid-template-columns: repeat(6, minmax(0, 1fr)); }
.of4 figcaption, .of6 figcaption { font-size: .78rem; }
.stack { position: relative; line-height: 0; }
.stack img { display: block; width: 100%; height: auto; image-rendering: pixelated; outline: 1px solid var(--line); }
.arrows { position: absolute; inset: 0; width: 100%; height: 100%; }
.arrows { fill: none; stroke-linecap: round; }
.arrows .halo { stroke: #fff; opacity: .6; }
.arrows .ink { stroke: #0c0c0c; }
.legend { display: grid; grid-template-columns: 6.5rem 1fr; gap: 1rem; align-items: center; margin: .2rem 0 1.2rem;
  max-width: 48rem; }
.legend img { display: block; }
.legend .wheel { width: 6.5rem; height: 6.5rem; border-radius: 50%; }
.legend .ramp { width: 100%; max-width: 16rem; height: .8rem; margin: .4rem 0 .1rem; }
footer { margin-top: 2.5rem; padding-top: .6rem; border-top: 1px solid var(--line); font-size: .86rem;
  color: var(--soft); }
@media (max-width: 40rem) { body { padding: 1rem .8rem 2rem; } h1 { font-size: 1.35rem; }
  .chart text { font-size: 19px; } .of6 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .of4 { grid-template-columns: repeat(2, minmax(0, 1fr)); } .of3.large { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts th { width: 36%; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .legend { grid-template-columns: 5rem 1fr; } .legend .wheel { width: 5rem; height: 5rem; }
  td, th { padding-right: .5rem; font-size: .92rem; }
  .named thead { display: none; } .named tr { display: grid; grid-template-columns: 1fr auto;
    border-bottom: 1px solid var(--line); } .named th, .named td { border: 0; padding-bottom: 0; }
  .named td:last-child { grid-column: 1 / -1; padding: 0 0 .35rem; color: var(--soft); } }
@media print { :root { color-scheme: light; --back: #fff; --text: #000; --soft: #3c3c3c; --line: #bbb; --card: #fff;
    --c1: #1a67a8; --c2: #b84a0a; --c3: #26733a; --warn: #fff; --warn-line: #888; }
  @page { margin: 15mm; }
  body { max-width: none; font-size: 10pt; padding: 0; } nav { display: none; }
  h2, h3, h4, .pair p, h2 + p, h2 + p + .legend { break-after: avoid; }
  figure, .row, .stack, .stack img, .legend, .pair, .narrow, p, tr { break-inside: avoid; } .stack img { outline: 0; }
  .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .settings { columns: 3; font-size: 7.5pt; column-gap: 1rem; } .tables { columns: 2; font-size: 8.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)css";

}  // namespace cover::app
