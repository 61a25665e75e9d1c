"""The document as one HTML file: no script, nothing fetched, every name from the log escaped. Only the document is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.report import evidence_sections, label_sections, sections, words
from router.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The file's own content security policy: nothing runs and nothing is asked for, whatever a name or prompt holds."""


def render(document: Mapping[str, Any]) -> str:
    """HTML of a document of :func:`router.report.gather.gather`; the same document gives the same text."""
    title = f"Routing report, {words.period(document['log']['first_at'], document['log']['last_at'])}"
    body = _empty(document) if not document["log"]["n"] else _full(document)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title><style>{STYLE}</style>'
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'
    )


def _full(document: Mapping[str, Any]) -> str:
    parts = [
        _header(document),
        sections.money(document),
        label_sections.labels(document),
        sections.threshold(document),
        label_sections.overlap(document),
        label_sections.confidence(document),
        evidence_sections.quality(document),
        evidence_sections.drift(document),
        evidence_sections.models(document),
        evidence_sections.unknown(document),
        _footer(document),
    ]
    return "\n".join(parts)


def _empty(document: Mapping[str, Any]) -> str:
    total = document["log"]["n_total"]
    said = "No decision matches." if total else "No decisions yet. Log one with <kbd>routescope route</kbd>."
    return "\n".join((_header(document, said=said), _footer(document)))


def _header(document: Mapping[str, Any], *, said: str | None = None) -> str:
    log, policy, prices = document["log"], document["policy"], document["prices"]
    facts = [
        ("Decisions", _range(log)),
        ("Filter", words.condition(document["report"]["filter"])),
        ("Policy", f"{words.name(policy['name'])}, fingerprint {words.name(policy['fingerprint'])}"),
        ("Threshold", _threshold(policy)),
        ("Read", _read(log)),
        ("Prices", _prices(prices)),
        (
            "Made",
            f"{words.minute(document['report']['made_at'])} by Routescope {words.name(document['report']['version'])}",
        ),
    ]
    rows = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts)
    lead = sections.summary(document) if said is None else said
    figures = sections.figures(document) if said is None else ""
    return f'<header><h1>Routing report</h1><p class="lead">{lead}</p>{figures}<dl class="facts">{rows}</dl></header>'


def _range(log: Mapping[str, Any]) -> str:
    n = words.count(log["n"])
    of = "" if log["n"] == log["n_total"] else f" of {words.count(log['n_total'])}"
    if log["first_at"] is None:
        return f"{n}{of}"
    return f"{n}{of}, from {words.minute(log['first_at'])} to {words.minute(log['last_at'])}"


def _threshold(policy: Mapping[str, Any]) -> str:
    own = [
        f"{words.name(x['label'])} {words.threshold(x['threshold'])}"
        for x in policy["labels"]
        if x["threshold"] is not None
    ]
    margin = "" if policy["min_margin"] is None else f"; least margin {words.threshold(policy['min_margin'])}"
    below = f"below it {words.name(policy['fallback_model'])} answers"
    return (
        f"{words.threshold(policy['threshold'])}, {below}"
        + (f"; own: {', '.join(own)}" if own else "")
        + margin
    )


def _read(log: Mapping[str, Any]) -> str:
    how = {
        "owner": "from the database, by the process that owns it",
        "file": "from the database, everything logged taken in",
        "spool": "from archive and spools beside the process that owns the database",
    }[log["mode"]]
    age = "" if log["newest_age_s"] is None else f"; newest decision {words.age(log['newest_age_s'])} old"
    note = f"; {words.safe(log['note'], 200)}" if log["note"] else ""
    return f"{words.minute(log['read_at'])}, {how}{age}{note}"


def _prices(prices: Mapping[str, Any]) -> str:
    dated = "" if prices["as_of"] is None else f" of {words.day(prices['as_of'])}"
    own = [words.name(x["model"]) for x in prices["rates"] if x["source"] not in (None, "genai-prices")]
    missing = [words.name(x["model"]) for x in prices["rates"] if x["source"] is None]
    stale = [words.name(x["model"]) for x in prices["rates"] if x["is_stale"]]
    parts = [f"{words.name(prices['source'])}{dated}"]
    parts += [f"the policy's own for {words.listed(own)}"] if own else []
    parts += [f'<span class="alarm">none known for {words.listed(missing)}</span>'] if missing else []
    parts += [f"over 90 days old for {words.listed(stale)}"] if stale else []
    return "; ".join(parts)


def _footer(document: Mapping[str, Any]) -> str:
    report = document["report"]
    prompts = (
        "No prompt is in this file."
        if not report["examples"]
        else f"Up to {words.plural(report['examples'], 'prompt')} of each close pair are in this file."
    )
    return (
        f"<footer>Routescope {words.name(report['version'])}. Intervals are 95 %. Random draws use seed {report['seed']}. "
        f"{prompts} The same figures as JSON: <kbd>routescope report --json</kbd>.</footer>"
    )
