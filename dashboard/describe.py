"""One decision in words: why it went where it went, its facts, and how to make it again."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard import formats, loaders
from dashboard.untrusted import cell, name
from router.log.judged import Said
from router.log.queries import Filter
from router.types import REPLIES

_CAUSES = {
    "routed": "routed",
    "low_confidence": "low confidence",
    "low_margin": "low margin",
    "classifier_error": "classifier error",
    "classifier_timeout": "classifier timeout",
    "forced": "forced",
    "explored": "explored",
}


def cause(word: object) -> str:
    """A cause in words."""
    return _CAUSES.get(str(word), cell(str(word)) or "")


def missing(value: object) -> bool:
    """Whether a value from a table is NULL."""
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value) or value is pd.NA


def why(row: dict[str, Any]) -> str:
    """Why a decision went to its model, as markdown with data escaped."""
    model = f"**{name(row['model_used'] if not missing(row['model_used']) else row['model_chosen'])}**"
    word = row["cause"]
    if word == "forced":
        return f"{model} was asked for by the caller; the scores did not matter."
    if word in ("classifier_error", "classifier_timeout"):
        what = "did not answer in time" if word == "classifier_timeout" else "gave no usable scores"
        kind = "" if missing(row["error_type"]) else f" ({name(row['error_type'])})"
        return f"The classifier {what}{kind}, so the fallback model {model} was chosen."
    top, confidence = f"**{name(row['top_label'])}**", formats.score(row["confidence"])
    over = (
        ""
        if missing(row["runner_up"])
        else f", margin {formats.score(row['margin'])} over **{name(row['runner_up'])}**"
    )
    line = formats.threshold(row["threshold"])
    if word == "low_confidence":
        short = formats.score(row["threshold"] - row["confidence"])
        return f"{top} wins with {confidence}{over}. That misses {line} by {short}, so the decision fell back to {model}."
    if word == "low_margin":
        return f"{top} wins with {confidence}{over}. The margin is under the policy's least, so the decision fell back to {model}."
    if word == "explored":
        return (
            f"{top} wins with {confidence}{over}. {model} answered by chance: the policy explores, and the rule would have "
            "chosen the other side."
        )
    return f"{top} wins with {confidence}{over}. {model} was chosen. A threshold above {confidence} would let it fall back."


def facts(
    row: dict[str, Any], zone: tzinfo, zone_name: str, told: Sequence[Said] = ()
) -> list[tuple[str, str]]:
    """Facts of a decision as plain text: (name, value). ``told``: what people said of it."""
    found = [("Time", f"{formats.time(row['decided_at'].to_pydatetime(), zone)} {zone_name}")]
    speed = "" if missing(row["classify_ms"]) else f", {formats.duration(row['classify_ms'])}"
    honest = "" if missing(row["calibrated"]) else ", calibrated" if row["calibrated"] else ", not calibrated"
    found.append(("Classifier", f"{row['classifier']}{speed}{honest}"))
    found.append(("Tokens", _tokens(row)))
    found.append(("Cost", _cost(row)))
    if not missing(row.get("service_tier")):
        found.append(("Service tier", str(row["service_tier"])))
    found.append(("Outcome", _outcome(row)))
    failed = [] if missing(row.get("failed_attempts")) else json.loads(row["failed_attempts"])
    found += [(f"Failed {number}", attempt(one)) for number, one in enumerate(failed, 1)]
    if not missing(row["session_id"]):
        found.append(("Session", str(row["session_id"])))
    found += [
        ("Policy", formats.fingerprint(row["policy_fingerprint"])),
        ("Source", str(row["source"])),
        ("Id", str(row["id"])),
    ]
    found += [("Judged", _said(one)) for one in told]
    extra = {} if missing(row["extra"]) else json.loads(row["extra"])
    if "reported_top_label" in extra:
        found.append(("Reply said", f"{extra['reported_top_label']}; the rule takes the highest score"))
    if "prompt_cut" in extra:
        found.append(
            ("Prompt", f"first {extra['prompt_cut']:,} of {int(row['prompt_chars']):,} characters stored")
        )
    if "replaced_surrogates" in extra:
        found.append(("Prompt", f"{extra['replaced_surrogates']} broken characters replaced"))
    return [(key, cell(value) or "") for key, value in found]


def _said(one: Said) -> str:
    words = one.verdict if one.correct_label is None else f"{one.verdict}: {one.correct_label}"
    where = "feedback" if one.queue is None else one.queue
    by = "" if one.judged_by is None else f", by {one.judged_by}"
    return f"{words} ({where}{by})" + ("" if not one.note else f" {one.note}")


def attempt(failed: Mapping[str, Any]) -> str:
    """A request that failed before the one that answered, as plain text: model, how it ended, time, cost."""
    cost = failed.get("cost_usd")
    paid = "cost not measured" if cost is None else formats.usd(Decimal(str(cost)))
    took = failed.get("total_ms")
    spent = "" if took is None else f", {formats.duration(took)}"
    ended = str(failed.get("outcome")).replace("_", " ")
    return f"{failed.get('model')}: {ended}{spent}, {paid}"


def _tokens(row: dict[str, Any]) -> str:
    if missing(row["input_tokens"]) or missing(row["output_tokens"]):
        return formats.NOT_MEASURED
    parts = [
        f"{formats.count(int(row['input_tokens']))} in",
        f"{formats.count(int(row['output_tokens']))} out",
    ]
    if not missing(row["cache_read_tokens"]) and row["cache_read_tokens"]:
        parts.append(f"{formats.count(int(row['cache_read_tokens']))} from cache")
    if not missing(row.get("cache_write_tokens")) and row["cache_write_tokens"]:
        parts.append(f"{formats.count(int(row['cache_write_tokens']))} to cache")
    if not missing(row.get("cache_write_1h_tokens")) and row["cache_write_1h_tokens"]:
        parts[-1] += f" ({formats.count(int(row['cache_write_1h_tokens']))} for an hour)"
    grade = "" if row["usage_grade"] in (None, "measured") else f" ({row['usage_grade']})"
    return ", ".join(parts) + grade


def _cost(row: dict[str, Any]) -> str:
    if missing(row["cost_now"]):
        return formats.NOT_MEASURED
    book = loaders.prices()
    tier = None if missing(row.get("service_tier")) else str(row["service_tier"])
    rate = book.rate(str(row["model_used"]), row["decided_at"].date(), tier=tier)
    of = (
        f", {rate.source}" + (f" of {formats.day(rate.as_of, year=True)}" if rate.as_of else "")
        if rate
        else ""
    )
    return f"{formats.milli_usd(row['cost_now'])} m${of}"


def ended(row_cause: str, outcome: Any) -> str:
    """Why the rule chose, in words; where the call gave no usable reply, how it ended stands first."""
    words = cause(row_cause)
    return words if missing(outcome) or outcome in REPLIES else f"{str(outcome).replace('_', ' ')} ({words})"


def _outcome(row: dict[str, Any]) -> str:
    if missing(row["outcome"]):
        return "decided only, no call was made"
    words = str(row["outcome"]).replace("_", " ")
    total = "" if missing(row["total_ms"]) else f", {formats.duration(row['total_ms'])}"
    first = (
        ""
        if missing(row["first_token_ms"])
        else f", first token after {formats.duration(row['first_token_ms'])}"
    )
    kind = "" if missing(row["error_type"]) else f" ({row['error_type']})"
    return words + kind + total + first


def as_python(prompt: str) -> str:
    """Lines that route the same prompt again."""
    return f"from router import Router\n\nwith Router() as client:\n    print(client.route({prompt!r}))"


def as_command(prompt: str) -> str:
    """A command line that classifies the same prompt again, without logging it."""
    return f"routescope classify {shlex.quote(prompt)}"


def exported(chosen: Filter, kind: str) -> bytes:
    """Every decision of a filter as a file's bytes: csv, jsonl or parquet."""
    from router.log.export import export

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"decisions.{kind}"
        export(loaders.get_log(), chosen, path, kind)
        return path.read_bytes()


def local_column(times: pd.Series, zone: tzinfo) -> pd.Series:
    """Naive UTC times as naive times of a zone, for an axis."""
    return times.dt.tz_localize("UTC").dt.tz_convert(zone).dt.tz_localize(None)
