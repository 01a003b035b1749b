"""Colours, type and layout, in light, dark, print and on a phone."""

# Colours of schemes, in the order of the config; 0 is for the plain model.
_LIGHT = (
  "#4b5563 #2563b8 #c2410c #0f766e #a21caf #4d7c0f #b4235a #0e7490 #92600a"
  " #6d4bc4 #8a3b12"
).split()
_DARK = (
  "#a9b2bf #6ea8f5 #f5925c #45c4b3 #e07be8 #9ccb4a #f47aa5 #4fc3dc #e0b04a"
  " #ab95f5 #d99a78"
).split()
NUM_COLORS = len(_LIGHT)


def _palette(colors: list[str]) -> str:
  return " ".join(f"--s{i}: {c};" for i, c in enumerate(colors))


_LIGHT_THEME = f"""
  --paper: #fbfaf6; --card: #ffffff; --ink: #1d2329; --soft: #5c6670;
  --rule: #e3e0d7; --grid: #ebe8e0; --alarm: #a8180f; --alarm-bg: #fdecea;
  {_palette(_LIGHT)}
"""
_DARK_THEME = f"""
  --paper: #14171b; --card: #1b1f25; --ink: #e8e6e1; --soft: #9ba3ad;
  --rule: #30363e; --grid: #2a2f37; --alarm: #ff9c92; --alarm-bg: #3f1d1c;
  {_palette(_DARK)}
"""

STYLE = (
  f":root {{ {_LIGHT_THEME} }}\n"
  f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK_THEME} }} }}\n"
  f"@media print {{ :root {{ {_LIGHT_THEME} --paper: #fff; }} }}\n"
  + "".join(f".s{i} {{ --c: var(--s{i}); }}\n" for i in range(NUM_COLORS))
  + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 28px 64px; }
h1, .lead, .tile b { font-family: Charter, "Bitstream Charter",
  "Iowan Old Style", Georgia, serif; }
h1 { font-size: clamp(30px, 5vw, 46px); line-height: 1.12; font-weight: 600;
  letter-spacing: -0.01em; margin: 4px 0 18px; text-wrap: balance; }
h2 { font-size: 22px; line-height: 1.25; margin: 0 0 6px; }
h3 { font-size: 15px; line-height: 1.3; margin: 0; color: var(--c, inherit); }
section > * + h3 { margin-top: 24px; }
p { margin: 0 0 10px; max-width: 70ch; }
section { margin-top: 52px; padding-top: 20px;
  border-top: 1px solid var(--rule); }
section + header { margin-top: 72px; }
.eyebrow, .soft, figcaption { color: var(--soft); font-size: 14px; }
.eyebrow { margin: 0; }
figcaption { line-height: 1.4; font-size: 13px; margin: 0; }
.lead { font-size: 20px; line-height: 1.5; max-width: 62ch; margin: 0; }
code { font: 0.88em/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere; }
pre { margin: 6px 0 0; padding: 10px 14px; background: var(--card);
  border: 1px solid var(--rule); border-radius: 8px; white-space: pre-wrap; }
.flag { display: inline-block; background: var(--alarm-bg);
  color: var(--alarm); font: 600 12px/1.35 system-ui, sans-serif;
  border-radius: 5px; padding: 2px 7px; white-space: normal; }

.tiles { display: grid; gap: 14px; margin: 28px 0 0;
  grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 27px; line-height: 1.2;
  font-weight: 600; white-space: nowrap; }
.tile span { display: block; font-size: 13px; line-height: 1.4;
  color: var(--soft); }

/* A shadow at the right edge until the last column is in view. */
.scroll { overflow-x: auto; margin: 18px 0 8px; border-radius: 10px;
  border: 1px solid var(--rule); background:
  linear-gradient(to left, var(--card) 30%, transparent) right / 56px 100%
    no-repeat local,
  linear-gradient(to left, color-mix(in srgb, var(--ink) 22%, transparent),
    transparent) right / 18px 100% no-repeat scroll,
  var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 9px 12px; vertical-align: top;
  border-top: 1px solid var(--rule); white-space: nowrap; }
thead th { border-top: 0; font-size: 13px; color: var(--soft); font-weight: 600;
  vertical-align: bottom; white-space: normal; }
tbody th { text-align: left; font-weight: 600; color: var(--c, inherit);
  position: sticky; left: 0; background: var(--card); white-space: normal;
  min-width: 124px; }
thead th:first-child { text-align: left; }
td b { display: block; font-size: 15px; font-weight: 600; }
th small, td small { display: block; color: var(--soft); font-size: 12px;
  font-weight: 400; }
.words th, .words td { text-align: left; white-space: normal; }
.sides td:nth-child(3n + 2), .sides .first {
  border-left: 1px solid var(--rule); }
.sides thead .first[colspan] { text-align: left; }
td .flag { max-width: 150px; margin-top: 3px; text-align: left; }
td.bad small { color: var(--alarm); }
td.bad b { color: var(--soft); font-weight: 400;
  text-decoration: line-through; text-decoration-thickness: 1px; }

.heat td { background: color-mix(in srgb, var(--alarm) calc(var(--heat, 0) *
  62%), transparent); }
.heat td.none { color: var(--soft); }
.heat td small { color: inherit; opacity: 0.8; }
.legend .name { color: var(--c); }
.whisker { stroke: var(--c); stroke-opacity: 0.45; }

dl { margin: 16px 0 0; display: grid; gap: 8px 20px;
  grid-template-columns: max-content 1fr; font-size: 15px; }
dt { font-weight: 600; }
.commands { grid-template-columns: 1fr; gap: 0; }
.commands dd { margin-bottom: 14px; max-width: none; }
dd { margin: 0; max-width: 70ch; overflow-wrap: anywhere; }

figure { margin: 0; min-width: 0; break-inside: avoid; }
.grid { display: grid; gap: 26px 30px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(280px, 100%), 1fr)); }
.grid > figure { max-width: 560px; background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; padding: 14px 18px;
  display: flex; flex-direction: column; }
figure + .soft { margin-top: 10px; }
.grid > figure > :last-child { margin-top: auto; }
.plot { padding: 8px 16px 20px 34px; }
.named { padding-bottom: 36px; }
.wide { max-width: 720px; background: var(--card); margin-top: 20px;
  border: 1px solid var(--rule); border-radius: 10px; padding: 14px 18px; }

.keys { margin-top: 18px; background: var(--card); padding: 10px 18px 30px;
  border: 1px solid var(--rule); border-radius: 10px; }
.key { display: grid; grid-template-columns: 190px 1fr; column-gap: 28px;
  align-items: center; }
.key > svg { width: calc(100% - 18px); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 14px 0 0;
  padding: 0; list-style: none; font-size: 13px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 7px; }
.legend svg { width: 26px; flex: none; }

svg { display: block; width: 100%; overflow: visible; }
svg svg { width: 1px; height: 1px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
svg .alarm { fill: var(--alarm); font-weight: 600; }
.gridline { stroke: var(--grid); }
.baseline { stroke: var(--soft); stroke-opacity: 0.6; }
.plain { stroke: var(--s0); stroke-width: 1.5; }
.band { fill: var(--s0); fill-opacity: 0.16; }
.chance { stroke: var(--soft); stroke-dasharray: 2 4; }
.right { stroke: var(--c); stroke-dasharray: 6 3; }
.line { stroke: var(--c); stroke-width: 2; stroke-linecap: round; }
.dot { fill: var(--c); }
.pale { fill: var(--c); fill-opacity: 0.42; }
.hollow { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.cross { stroke: var(--soft); stroke-width: 1.5; fill: none; }
.bar { fill: var(--c); fill-opacity: 0.8; }
.ink { fill: var(--ink); }
.before { fill: var(--s0); fill-opacity: 0.45; }

.pixels { display: grid; grid-template-columns: 110px 1fr; gap: 10px 16px;
  align-items: center; }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr;
  gap: 8px; }
.strip img { width: 100%; display: block; image-rendering: pixelated;
  border-radius: 3px; }

@media (max-width: 640px) {
  main { padding: 28px 16px 48px; }
  section { margin-top: 38px; }
  .lead { font-size: 18px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 10px; }
  .tile { padding: 11px 12px; }
  .tile b { font-size: 21px; }
  .key { grid-template-columns: 1fr; margin-top: 10px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  .pixels { grid-template-columns: 1fr; gap: 4px; }
  .pixels h3 { margin-top: 8px; }
  .strip { gap: 5px; }
  dd { margin-bottom: 10px; }
  th, td { padding: 8px 9px; }
  tbody th { min-width: 98px; max-width: 110px; }
}
@media print {
  body { font-size: 11pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  main { padding: 0; max-width: none; }
  section { margin-top: 24px; }
  h1 { font-size: 28px; margin-bottom: 8px; }
  .lead { font-size: 12pt; max-width: none; }
  .tiles { margin-top: 14px; }
  .keys { padding-bottom: 24px; }
  h2, h3, dt, section > p { break-after: avoid; }
  .tiles { grid-template-columns: repeat(4, auto); }
  .tile b { font-size: 20px; }
  svg text { font-size: 9px; }
  tr, .key, .tile, pre { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: 4px 5px; }
  td b { font-size: 9.5pt; }
  th small, td small { font-size: 7.5pt; }
  .sides td:nth-child(3n + 2), .sides .first {
  border-left: 1px solid var(--rule); }
.sides thead .first[colspan] { text-align: left; }
td .flag { max-width: 110px; }
  tbody th { min-width: 80px; }
  .grid { gap: 12px;
    grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); }
}
"""
)
