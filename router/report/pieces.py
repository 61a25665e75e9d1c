"""Pieces of the page: a section, a chart with its caption, a table, what stands where something is not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def section(title: str, lead: str, *parts: str) -> str:
    """A part of the report that opens with the sentence that answers its question; all is HTML."""
    return f'<section><h2>{title}</h2><p class="lead">{lead}</p>{"".join(parts)}</section>'


def figure(title: str, caption: str, drawing: str) -> str:
    """A chart in its frame."""
    return f"<figure><figcaption><b>{title}</b>{caption}</figcaption>{drawing}</figure>"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Sequence[int] = (0,),
    marks: Sequence[str] = (),
) -> str:
    """A table of HTML cells; ``text`` names the columns that are no numbers, ``marks`` a class for each row."""
    kinds = ["" if i in text else ' class="n"' for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, columns, strict=True))
    body = []
    for i, row in enumerate(rows):
        cells = "".join(
            f'<th scope="row"{kind}>{cell}</th>' if k == 0 else f"<td{kind}>{cell}</td>"
            for k, (kind, cell) in enumerate(zip(kinds, row, strict=True))
        )
        mark = f' class="{marks[i]}"' if marks and marks[i] else ""
        body.append(f"<tr{mark}>{cells}</tr>")
    return (
        f'<div class="table"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def behind(summary: str, inner: str) -> str:
    """What stands behind a chart: its rows, folded away on screen and left out in print."""
    return f'<details class="behind"><summary>{summary}</summary>{inner}</details>'


def note(text: str) -> str:
    """A remark below a chart or table."""
    return f'<p class="note">{text}</p>'


def gap(text: str) -> str:
    """What stands where something is not measured: that it is not, and what would change it."""
    return f'<div class="gap"><p>{text}</p></div>'


def swatch(color: str) -> str:
    """A square in a label's colour, beside its name."""
    return f'<span class="swatch" style="background:var(--{color})"></span>'


def absent(text: str) -> str:
    """A cell that holds no figure, and why."""
    return f'<span class="absent">{text}</span>'
