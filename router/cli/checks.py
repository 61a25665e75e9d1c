"""What ``doctor`` looks at: each check yields findings, and says the next step where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.doctor import Finding, State
from router.cli.output import money
from router.config import KEY_VARIABLES, endpoint, present_keys
from router.errors import ClassifierError, ConfigurationError, MissingKeyError
from router.log.drops import unreported
from router.log.health import remarks
from router.log.reader import Log, open_log
from router.log.schema import DATABASE

if TYPE_CHECKING:
    from router.policy import Policy
    from router.prices import PriceBook
    from router.types import Classifier

LOW_SPACE_BYTES = 100_000_000
RECENT = timedelta(days=7)
"""Losses older than this are history: told, but no reason to fail."""


def folder(data: Path) -> Iterator[Finding]:
    """Whether the data folder can hold a log."""
    about, place = "data folder", data.absolute()
    if not data.exists():
        parent = next(path for path in place.parents if path.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            yield Finding(
                about, "fail", f"{place} is not there and cannot be made: {parent} cannot be written"
            )
        else:
            yield Finding(about, "note", f"{place} is not there yet; the first decision makes it")
        return
    if not data.is_dir():
        yield Finding(about, "fail", f"{place} is a file, expected a folder: no decision can be logged")
        return
    if not os.access(data, os.W_OK | os.X_OK):
        yield Finding(
            about, "fail", f"{place} cannot be written: decisions are dropped; allow it or use --data"
        )
        return
    spool = data / "spool"
    if spool.exists() and not (spool.is_dir() and os.access(spool, os.W_OK | os.X_OK)):
        yield Finding(
            about, "fail", f"{spool.absolute()} is not a folder that can be written: decisions are dropped"
        )
        return
    yield Finding(about, "ok", f"decisions go to {place / 'spool'}, then into {place / DATABASE}")
    free = shutil.disk_usage(data).free
    if free < LOW_SPACE_BYTES:
        yield Finding(about, "fail" if free == 0 else "warn", f"{free / 1e6:,.0f} MB are free on this disk")


def log(data: Path) -> Iterator[Finding]:
    """Who owns the log, what it holds, what waits, what was lost."""
    if not data.is_dir():
        return
    # Before the log is opened: then its owner would be this process.
    kept = [Finding(*remark) for remark in remarks(data)]
    yield from kept
    with open_log(data) as opened:
        if opened.note and opened.mode == "spool":
            busy = "another program" in opened.note  # nothing is lost, and closing it there mends it
            yield Finding("log", "note" if opened.holder or busy else "fail", opened.note)
        elif opened.note and all(opened.note != finding.text for finding in kept):
            yield Finding("log", "warn", opened.note)
        yield from _rows(opened)
        yield from _losses(opened)


def _rows(opened: Log) -> Iterator[Finding]:
    n, first, last = opened.rows("SELECT count(*), min(decided_at), max(decided_at) FROM decisions")[0]
    period = f", {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC" if n else ""
    yield Finding("log", "ok", f"{n:,} {'decision' if n == 1 else 'decisions'}{period}")
    waiting = opened.backlog_bytes()
    if waiting:
        yield Finding("log", "warn", f"{waiting:,} bytes wait to be ingested; run 'routescope ingest'")
    else:
        yield Finding("log", "ok", "no backlog: every whole line of the spools is read")


def _losses(opened: Log) -> Iterator[Finding]:
    recent = datetime.now(UTC).replace(tzinfo=None) - RECENT
    for name, what, count, when in (
        ("drops", "decisions could not be written", "sum(n)", "dropped_at"),
        ("rejects", "damaged lines were left out", "count(*)", "ingested_at"),
    ):
        rows = opened.rows(
            f"SELECT reason, CAST({count} AS BIGINT), max({when}) FROM {name} GROUP BY 1 ORDER BY 2 DESC"
        )
        if name == "drops":
            rows += [(f"{x.reason}; not in the spool yet", x.n, x.last_at) for x in unreported(opened.data)]
        if not rows:
            yield Finding(name, "ok", "none")
        for reason, n, last in rows:
            state: State = "fail" if last is not None and last >= recent else "note"
            at = "" if last is None else f", last on {last:%Y-%m-%d %H:%M} UTC"
            yield Finding(name, state, f"{n:,} {what} ({reason}){at}")


def settings(rules: Policy, data: Path) -> Iterator[Finding]:
    """What the log keeps of a prompt and how safely, as the policy says; a router's own arguments win over it."""
    from router.log_settings import prompt_chars

    own = rules.log
    kept = {"full": "in full", "hash": "as length and SHA-256", "none": "as length alone"}.get(
        own.prompts, f"up to {prompt_chars(own.prompts):,} characters"
    )
    cleaned = "keys and common personal data taken out first" if own.redact == "packaged" else "not redacted"
    yield Finding(
        "privacy", "ok", f"prompts are stored {kept}" + (f", {cleaned}" if prompt_chars(own.prompts) else "")
    )
    safe = {
        "process": "a decision is written when the call returns; only a power cut can take it",
        "async": "a decision is written within 20 ms of the call; a killed process loses those",
        "power": "a decision is written when the call returns, and on the disk within 100 ms",
    }
    yield Finding("durability", "ok", f"{own.durability}: {safe[own.durability]}")
    if not data.is_dir():
        return
    since = datetime.now(UTC).replace(tzinfo=None) - RECENT
    with open_log(data) as opened:
        [(n,)] = opened.rows(
            "SELECT count(*) FROM decisions WHERE decided_at >= $since AND contains(CAST(extra AS VARCHAR), $flag)",
            {"since": since, "flag": '"redaction_failed":true'},
        )
    if n:
        yield Finding(
            "privacy",
            "warn",
            f"{n:,} prompts of the last {RECENT.days} days were left out: the redaction hook failed on them",
        )


def policy(rules: Policy) -> Iterator[Finding]:
    """Where the policy comes from and what it says in short."""
    names = ", ".join(rules.label_names)
    yield Finding("policy", "ok", f"{rules.source}, fingerprint {rules.fingerprint}")
    yield Finding(
        "policy", "ok", f"threshold {rules.threshold:g}, labels {names}, fallback {rules.fallback_model}"
    )


def classifier(rules: Policy, data: Path) -> Iterator[Finding]:
    """Which classifier is active, what it lacks, and how well the labels are covered."""
    from router.resolve import build_classifier, close_classifier

    about = "classifier"
    try:
        active = build_classifier(rules, data)
    except (ClassifierError, ConfigurationError) as error:
        yield Finding(about, "fail", f"{rules.classifier}: {error}")
        return
    try:
        yield from _active(active, rules)
    finally:
        close_classifier(active)


def _active(active: Classifier, rules: Policy) -> Iterator[Finding]:
    about = "classifier"
    yield Finding(about, "ok", f"{active.name} is active")
    if rules.classifier != "local":
        yield _classifier_price(rules)
    degraded = getattr(active, "degraded", None)
    if degraded:
        yield Finding(about, "warn", degraded)
    if not hasattr(active, "readiness"):
        return
    try:
        answer = active.classify("what is the capital of japan", rules.labels)
    except ClassifierError as error:
        yield Finding(about, "fail", f"cannot classify: {error}")
        return
    sure = (
        "scores are calibrated"
        if answer.calibrated
        else "scores are not calibrated: too few examples for a fitted head"
    )
    yield Finding(about, "ok" if answer.calibrated else "warn", sure)
    for name, found in active.readiness(rules.labels).items():
        ready = found.state == "ready"
        hint = "" if ready else "; 20 make it ready"
        yield Finding(
            "labels", "ok" if ready else "warn", f"{name}: {found.examples} examples, {found.state}{hint}"
        )


def _classifier_price(rules: Policy) -> Finding:
    from router.prices import STALE_DAYS

    price = rules.classifier_price
    if price is None:
        return Finding(
            "classifier",
            "note",
            "what a call costs is not known, so that costs are lower bounds and savings upper ones; state it in the policy: "
            '[classifier_price] per_call = "0.0002"',
        )
    told = f"a call costs {money(price.per_call)} ({price.source})"
    if price.date is None:
        return Finding("classifier", "ok", told)
    age = (datetime.now(UTC).date() - price.date).days
    old = f", more than {STALE_DAYS} days old" if age > STALE_DAYS else ""
    return Finding("classifier", "warn" if old else "ok", f"{told}, as of {price.date}{old}")


def keys(rules: Policy) -> Iterator[Finding]:
    """Which keys and base URLs are set, never their values, and which models could not be called."""
    from router.prices import PriceBook

    for name, there in present_keys().items():
        key, url = KEY_VARIABLES[name]
        states = [
            f"{variable} {'is set' if there[what] else 'is not set'}"
            for variable, what in ((key, "key"), (url, "base_url"))
        ]
        yield Finding("keys", "ok" if any(there.values()) else "note", f"{name}: {', '.join(states)}")
    book = PriceBook(rules.models)
    for model in rules.model_names:
        yield from _reachable(model, rules, book)


def _reachable(model: str, rules: Policy, book: PriceBook) -> Iterator[Finding]:
    settings = rules.model(model)
    provider = settings.provider or book.provider(model)
    if provider is None:
        yield Finding(
            "models",
            "fail",
            f'{model}: no provider is known; add [models."{model}"] with provider = "openai" '
            'or "anthropic" to the policy',
        )
        return
    try:
        endpoint(provider, settings.base_url, settings.key_env)
    except MissingKeyError:
        yield Finding("models", "note", f"{model}: 'ask' cannot call it without a key; 'route' needs none")
    except ConfigurationError as error:
        yield Finding("models", "fail", f"{model}: {error}")


def models(rules: Policy) -> Iterator[Finding]:
    """Unknown and old prices, and models about to be retired."""
    from router.prices import STALE_DAYS, PriceBook, per_million

    book, today = PriceBook(rules.models), datetime.now(UTC).date()
    for model in rules.model_names:
        rate, end = book.rate(model, today), book.end_of_life(model, today)
        if rate is None:
            yield Finding(
                "prices",
                "warn",
                f"{model}: no price is known, its costs count as unknown; add "
                f'[models."{model}"] price = {{ input = ..., output = ... }} to the policy',
            )
        elif rate.is_stale(today):
            yield Finding(
                "prices",
                "warn",
                f"{model}: its price is of {rate.as_of}, more than {STALE_DAYS} days ago; check it",
            )
        if end is None:
            continue
        successor = f"no successor is known ({end.source})"
        if end.successor:
            new, old = per_million(book.rate(end.successor, today)), per_million(rate)
            now = f" (now {old.removesuffix(' per million tokens')})"
            successor = f"move to {end.successor}, {new}{now} ({end.source})"
        days = f"{end.days_left} day{'' if end.days_left == 1 else 's'}"
        if end.days_left < 0:
            yield Finding("models", "fail", f"{model} is no longer served since {end.date}; {successor}")
        else:
            yield Finding(
                "models",
                "warn",
                f"{model} is served until {end.date}, {days} from now; {successor}",
            )
    if book.as_of is None:
        yield Finding(
            "prices",
            "warn",
            f"prices are of {book.version}, whose date this version does not know, so none of them is ever called old: check them",
        )
    else:
        yield Finding("prices", "ok", f"from {book.version}, of {book.as_of}")


def spend(rules: Policy, data: Path) -> Iterator[Finding]:
    """The policy's caps and how much of today's is used."""
    from router.spend import DayLedger

    caps = rules.spend
    if caps.per_run_usd is not None:
        yield Finding("spend", "ok", f"at most {money(caps.per_run_usd)} for the model calls of one run")
    if caps.per_day_usd is None:
        return
    day = DayLedger(data).read()
    taken = day.spent_usd + day.held_usd
    words = (
        f"{money(taken)} of today's {money(caps.per_day_usd)} is spent or under way ({day.day} UTC, "
        f"{day.n:,} calls ended)"
    )
    if day.assumed_usd:
        words += (
            f"; {money(day.assumed_usd)} of it is calls of unknown cost, counted as the most they could be"
        )
    if day.n_lost:
        words += (
            f"; {day.n_lost:,} ended with their process and are not in it (at most {money(day.lost_usd)})"
        )
    yield Finding("spend", "ok" if taken < caps.per_day_usd else "warn", words)
