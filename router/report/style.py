"""The page's style sheet: the dashboard's colours and sizes, light and dark by the reader's system, ink on paper in print."""

from __future__ import annotations

_LIGHT = {
    "page": "#ffffff", "card": "#f6f7f9", "text": "#10151d", "muted": "#5b6472", "border": "#dfe3e9", "grid": "#eceff3",
    "control": "#868f9d", "candidate": "#3451d1", "fallback": "#c2740a", "fallback-text": "#8a4f00", "served": "#6f7f96",
    "worse": "#c0262d", "better": "#1d7a46", "other": "#868f9d",
}  # fmt: skip
_DARK = {
    "page": "#0f1217", "card": "#181c24", "text": "#e6e9ef", "muted": "#9aa4b5", "border": "#2b313c", "grid": "#20252e",
    "control": "#6d7686", "candidate": "#8ea2ff", "fallback": "#e5a13c", "fallback-text": "#f0b65e", "served": "#7d8aa0",
    "worse": "#ff8080", "better": "#6cc795", "other": "#6d7686",
}  # fmt: skip
_LIGHT_SLOTS = (
    "#2692e1", "#1a613f", "#5a3b9b", "#cd5870", "#ac8622", "#9f4d06", "#8f1006", "#174035", "#1e7a93", "#804066", "#5b7a41", "#2e3165",
)  # fmt: skip
_DARK_SLOTS = (
    "#65b8fe", "#589b76", "#8a7bd3", "#f48cab", "#b38c2a", "#f3debd", "#fdb78a", "#bfede1", "#75eefc", "#b36498", "#6c864a", "#a9afd1",
)  # fmt: skip

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:14px/1.5 "Source Sans 3","Source Sans Pro",system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:944px;margin:0 auto;padding:40px 32px 64px}
h1{font-size:24px;line-height:1.25;font-weight:600;margin:0 0 4px}
h2{font-size:17px;line-height:1.3;font-weight:600;margin:0 0 4px}
h3{font-size:13px;font-weight:600;margin:22px 0 6px}
p{margin:0 0 10px;max-width:76ch}
section{margin-top:36px;padding-top:26px;border-top:1px solid var(--border)}
.lead{font-size:15px;margin-bottom:16px}
.muted,.note{color:var(--muted)}
.note{font-size:13px;margin:8px 0 0}
.half{font-size:.72em;font-weight:400;color:var(--muted);white-space:nowrap}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:18px 0 0;font-size:13px}
.facts dt{color:var(--muted)}
.facts dd{margin:0;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(5,1fr);margin:24px 0 0;border:1px solid var(--border);border-radius:6px}
.figures div{padding:13px 14px;border-left:1px solid var(--border);min-width:0}
.figures div:first-child{border-left:0}
.figures div>span{display:block;font-size:12.5px;color:var(--muted)}
.figures b{display:block;white-space:nowrap;font-size:23px;line-height:1.35;font-weight:600}
.figures b .half{font-size:13px}
.figures .absent{font-size:15px;line-height:31px;font-weight:400}
.absent{color:var(--muted)}
figure{margin:0 0 4px;padding:14px;border:1px solid var(--border);border-radius:6px;overflow-x:auto;break-inside:avoid}
figcaption{font-size:12.5px;color:var(--muted);margin:-2px 0 10px}
figcaption b{display:block;font-size:14px;font-weight:600;color:var(--text)}
svg{display:block;max-width:100%;height:auto;overflow:visible}
svg.wide{min-width:600px}
svg.small{width:100%;max-width:240px}
.beside{display:flex;flex-wrap:wrap;gap:12px 36px;align-items:center}
.beside .facts{margin:0}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:18px 14px}
.panels h3{margin:0 0 2px;display:flex;gap:7px;align-items:baseline}
.panels p{font-size:12.5px;color:var(--muted);margin:0 0 6px}
.swatch{display:inline-block;width:9px;height:9px;border-radius:2px;flex:none;margin-right:7px}
.panels .swatch{margin:0}
.table{overflow-x:auto;margin:14px 0 0;border:1px solid var(--border);border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:13px}
kbd{font:inherit}
kbd,.whole{white-space:nowrap}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{padding:6px 11px;text-align:left;border-top:1px solid var(--grid);vertical-align:top}
thead th{background:var(--card);color:var(--muted);font-weight:400;border-top:0;vertical-align:bottom;line-height:1.3}
tbody th{font-weight:400;white-space:nowrap}
thead .n{white-space:normal}
.n{text-align:right;white-space:nowrap}
tr.here td,tr.here th{font-weight:600}
tr.candidate td,tr.candidate th{color:var(--candidate)}
details{margin-top:8px;font-size:13px}
summary{color:var(--muted);cursor:pointer;padding:3px 0;width:max-content}
summary:focus-visible{outline:2px solid var(--candidate);outline-offset:2px;border-radius:3px}
.gap{padding:14px;border:1px solid var(--border);border-radius:6px;background:repeating-linear-gradient(135deg,var(--card) 0 6px,var(--page) 6px 12px)}
.gap p{margin:0;background:var(--page);padding:4px 8px;border-radius:4px;max-width:none}
.chip{display:inline-block;padding:0 7px;border:1px solid var(--border);border-radius:9px;font-size:12px;line-height:18px;color:var(--muted)}
.alarm{color:var(--fallback-text);font-weight:600}
ul{margin:0;padding-left:18px;max-width:80ch}
li{margin-bottom:6px}
.prompts li{font:12.5px/1.5 ui-monospace,"Source Code Pro","DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.prompts .muted{font:12.5px/1.5 inherit}
footer{margin-top:40px;padding-top:16px;border-top:1px solid var(--border);font-size:12.5px;color:var(--muted)}
svg text{font-size:12.5px;fill:var(--text)}
svg .muted{fill:var(--muted);font-size:12px}
svg .strong,svg .panel{font-weight:600}
svg .said{font-weight:600}
svg .said,svg .over{paint-order:stroke;stroke:var(--page);stroke-width:3px;stroke-linejoin:round}
svg text.candidate{fill:var(--candidate);stroke-dasharray:none}
svg text.production{font-weight:400;stroke-dasharray:none}
svg .grid{stroke:var(--grid)}
svg .axis{stroke:var(--control)}
svg .join{stroke:var(--border)}
svg .limit{stroke:var(--control);stroke-dasharray:2 4}
svg line.production{stroke:var(--text);stroke-width:1.25;stroke-dasharray:3 3}
svg line.candidate{stroke:var(--candidate);stroke-width:2}
svg .curve{fill:none;stroke:var(--text);stroke-width:1.75;stroke-linejoin:round}
svg .band{fill:var(--text);fill-opacity:.11}
svg .plateau{fill:var(--candidate);fill-opacity:.13}
svg .zone{fill:var(--control);fill-opacity:.1}
svg .usual{fill:var(--text);fill-opacity:.07}
svg .whisker{stroke:var(--control);stroke-width:2}
svg .dot{fill:var(--page);stroke:var(--text);stroke-width:1.75}
svg .dot.candidate{fill:var(--candidate);stroke:var(--page)}
svg .dot.solid{fill:var(--text);stroke:var(--page)}
@media screen and (max-width:820px){main{padding:24px 16px 48px}.figures{grid-template-columns:1fr 1fr}.figures div{border-left:0;border-top:1px solid var(--grid)}.figures div:first-child{border-top:0}}
@media print{
@page{margin:16mm}
body{font-size:10pt}
.figures b{font-size:15pt}
.figures div{padding:9px 10px}
.panels{grid-template-columns:repeat(4,1fr)}
table{font-size:8.5pt}
th,td{padding:4px 6px}
svg.wide{min-width:0}
.beside{flex-wrap:nowrap}
.beside svg{flex:0 1 62%;min-width:0}
main{max-width:none;padding:0}
section{margin-top:20px;padding-top:16px}
h2,.lead,figcaption{break-after:avoid}
table,tr,.panels>div,.figures,.gap{break-inside:avoid}
details.behind{display:none}
figure,.table{overflow:visible}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""


def _properties(colors: dict[str, str], chart: tuple[str, ...]) -> str:
    return "".join(
        f"--{name}:{value};"
        for name, value in {**colors, **{f"s{i}": x for i, x in enumerate(chart, 1)}}.items()
    )


STYLE = (
    f":root{{color-scheme:light dark;{_properties(_LIGHT, _LIGHT_SLOTS)}}}\n"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_properties(_DARK, _DARK_SLOTS)}}}}}\n{_RULES}"
)
