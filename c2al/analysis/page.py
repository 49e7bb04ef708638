"""The report's page: one HTML file that needs nothing else, reads on a phone, in the dark and on paper."""

from collections.abc import Sequence
from html import escape

from c2al.analysis.plots import short
from c2al.printable import p_text

NUM_COLOURS = 6

STYLE = """
:root{--ink:#1c2127;--soft:#626c77;--line:#dfe3e8;--paper:#fff;--page:#f6f7f9;--band:#e6eaee;--better:#0072b2;
--worse:#c2500a;--head:#0072b2;--tail:#c2500a;
--arm0:#7a828c;--arm1:#0072b2;--arm2:#d98a00;--arm3:#009e73;--arm4:#c0609a;--arm5:#c2500a;--arm6:#3da5dc}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa4af;--line:#323a43;--paper:#1a1f25;
--page:#12161a;--band:#2b323a;--better:#55b1ea;--worse:#f08a4b;--head:#55b1ea;--tail:#f08a4b;
--arm0:#9aa4af;--arm1:#55b1ea;--arm2:#f0b23e;
--arm3:#35c497;--arm4:#e59cc6;--arm5:#f08a4b;--arm6:#9bd7f7}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",Arial,sans-serif}
main{max-width:1140px;margin:0 auto;padding:36px 20px 60px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 4px;letter-spacing:-.005em}
h3{font-size:15px;margin:22px 0 6px}
p{margin:6px 0 12px;max-width:76ch}
.soft,small,figcaption .soft{color:var(--soft)}
header .soft{margin:0 0 18px}
.lead{font-size:19px;line-height:1.5;max-width:80ch;margin:16px 0 8px}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:22px 24px;margin:18px 0}
section>p.soft{font-size:14px;max-width:112ch}
.findings{margin:0;padding-left:20px}.findings li{margin:2px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin:20px 0 0}
.tile{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:27px;line-height:1.25;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.tile small{display:block;font-size:13px;line-height:1.4}
.better{color:var(--better)}.worse{color:var(--worse)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:18px 22px;margin:12px 0 4px}
.charts.few{max-width:780px}
figure{margin:0;min-width:0;display:flex;flex-direction:column;justify-content:flex-end}
figcaption{font-size:14px;font-weight:600;line-height:1.35;margin:0 0 4px;overflow-wrap:anywhere}
figcaption .soft{font-weight:400}
svg.chart{width:100%;height:auto;display:block;overflow:visible}
svg.chart text{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg.chart .grid{stroke:var(--line)}svg.chart .base{stroke:var(--soft)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13.5px;color:var(--soft);margin:8px 0 6px}
.key i{display:inline-block;width:20px;border-top:3px solid var(--c);margin-right:7px;vertical-align:middle}
.key i.dot{width:11px;height:11px;border:2px solid var(--c);border-radius:50%}.key i.full{background:var(--c)}
.key i.band{height:12px;border:0;background:var(--band)}.key i.dash{border-top-style:dashed;border-top-width:2px}
.scroll{overflow-x:auto;margin:10px -24px 0;padding:0 24px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);font-size:12.5px;vertical-align:bottom;border-bottom-color:var(--soft)}
th:first-child,td:first-child,td.text,th.text{text-align:left}
td:first-child,th:first-child{padding-left:0}
tr.pair td{background:color-mix(in srgb,var(--better) 8%,transparent)}
tr.pair td:first-child{box-shadow:-8px 0 0 color-mix(in srgb,var(--better) 8%,transparent)}
tr.whole td{font-weight:600}
.forest{margin-top:14px;font-size:14px}
.forest .axis{font-weight:600;margin:16px 0 2px;font-size:14px}
.row{display:grid;grid-template-columns:minmax(150px,215px) 1fr 205px;gap:0 16px;align-items:center;
border-top:1px solid var(--line);padding:3px 0}
.row.pair{background:color-mix(in srgb,var(--better) 8%,transparent);margin:0 -10px;padding:3px 10px;border-radius:4px}
.row .name{line-height:1.25;overflow-wrap:anywhere}.row .name small{display:block;font-size:12px}
.tag{font-size:11px;font-weight:600;border:1px solid currentColor;border-radius:9px;padding:0 7px;margin-left:6px;
color:var(--head);white-space:nowrap}.tag.tail{color:var(--tail)}
.lane{position:relative;height:21px}
.lane>*{position:absolute;top:0;bottom:0}
.lane .zero{width:0;border-left:1px solid var(--soft)}
.lane .mde{background:var(--band);top:4px;bottom:4px;border-radius:2px}
.lane .ci{top:9.5px;bottom:auto;height:2px;background:var(--c)}
.lane .dot{top:5px;bottom:auto;width:11px;height:11px;margin-left:-5.5px;border:2px solid var(--c);border-radius:50%;
background:var(--paper)}
.lane .dot.full{background:var(--c)}
.lane .seed{top:16px;bottom:auto;width:4px;height:4px;margin-left:-2px;border-radius:50%;background:var(--c);
opacity:.5}
.lane .more{color:var(--c);font-size:12px;line-height:21px}
.values{font-variant-numeric:tabular-nums;font-size:13px}
.values div{height:21px;line-height:21px;white-space:nowrap;color:var(--soft)}.values div b{color:var(--ink)}
.values div b.better{color:var(--better)}.values div b.worse{color:var(--worse)}
.ticks{position:relative;height:20px;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
.ticks span{position:absolute;transform:translateX(-50%)}
pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;background:var(--page);
border:1px solid var(--line);border-radius:6px;padding:12px 14px;overflow-x:auto;margin:8px 0}
details{margin:8px 0}summary{cursor:pointer;font-weight:600;font-size:15px}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:6px 34px}
@media(max-width:640px){main{padding:20px 12px 40px}section{padding:16px 14px;border-radius:8px}h1{font-size:25px}
.lead{font-size:17px}.scroll{margin:10px -14px 0;padding:0 14px}
.row{grid-template-columns:1fr auto}.row .name{grid-row:1}.row .values{grid-row:1;grid-column:2;text-align:right}
.row.head .values,.row.head div:first-child{display:none}
.row.head .ticks{grid-column:1/3}.row .lanes{grid-row:2;grid-column:1/3}
.row .name small{display:inline;margin-left:6px}}
@media print{body{background:#fff;font-size:11pt}main{max-width:none;padding:0}section,.tile{border-color:#ccc}
section{break-inside:auto;padding:12px 0;border-width:1px 0 0;border-radius:0}figure,.row,tr{break-inside:avoid}
h2,h3,.axis{break-after:avoid}table{font-size:7pt}th,td{padding:2px 3px}
th{white-space:normal;font-size:7pt}td small{font-size:6pt}
.scroll{overflow:visible;margin:8px 0 0;padding:0}
.charts{grid-template-columns:repeat(3,1fr);gap:10px}}
"""


def page(title: str, body: str) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A titled card; ``note`` says how to read it."""
    said = f'<p class="soft">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{''.join(parts)}</section>"


def missing(title: str, why: str) -> str:
    """A section that could not be made, and why."""
    return section(title, note=f"Left out: {escape(why)}.")


def charts(*figures: tuple[str, str]) -> str:
    """Figures side by side as far as they fit: pairs of caption (HTML) and SVG."""
    few = " few" if len(figures) <= 2 else ""
    shown = "".join(f"<figure><figcaption>{caption}</figcaption>{svg}</figure>" for caption, svg in figures)
    return f'<div class="charts{few}">{shown}</div>'


def key(*entries: tuple[str, str, str]) -> str:
    """A legend: (text, colour, form), the form one of "", "dash", "dot", "dot full", "band"."""
    shown = (
        f'<span><i class="{form}" style="--c:{colour}"></i>{escape(text)}</span>' for text, colour, form in entries
    )
    return f'<div class="key">{"".join(shown)}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,), classes: Sequence[str] = ()
) -> str:
    """A table of HTML cells; ``text`` says which columns are words, ``classes`` names each row's class."""

    def line(cells: Sequence[str], kind: str, name: str) -> str:
        inner = "".join(f"<{kind}{' class=text' if i in text else ''}>{cell}</{kind}>" for i, cell in enumerate(cells))
        return f"<tr{f' class={name}' if name else ''}>{inner}</tr>"

    names = list(classes) or [""] * len(rows)
    body = "".join(line(cells, "td", name) for cells, name in zip(rows, names, strict=True))
    return f'<div class="scroll"><table><thead>{line(head, "th", "")}</thead><tbody>{body}</tbody></table></div>'


def colour(i: int) -> str:
    """The i-th arm's colour, 0 the reference's."""
    return "var(--arm0)" if i == 0 else f"var(--arm{(i - 1) % NUM_COLOURS + 1})"


def signed(value: float | None, digits: int = 2) -> str:
    """+0.12, −0.12; a dash where there is no value."""
    if value is None:
        return "–"
    shown = f"{value:+.{digits}f}"
    return shown.replace("-", "−") if float(shown) else f"{0:.{digits}f}"


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """[−0.20, −0.04]; nothing where there is no interval."""
    return "" if low is None or high is None else f"[{signed(low, digits)}, {signed(high, digits)}]"


def plain(value: float | None, digits: int = 4) -> str:
    """A number to so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p value as ``c2al.cohorts.resampling.p_text`` has it, for HTML."""
    return escape(p_text(value))


def count(value: float) -> str:
    """12,345, and from ten millions on 12.3M."""
    return short(value) if value >= 1e7 else f"{value:,.0f}"
