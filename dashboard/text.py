"""Every sentence the pages share: states, next steps, captions. All of it is markdown with data already escaped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from dashboard import formats
from dashboard.untrusted import cell, name
from router.analysis.auditing import Sample
from router.analysis.calibration import Calibration
from router.analysis.progress import Progress, half_width
from router.types import Queue

APP = "Routescope"
PAGE_TITLES = {
    "overview": "Overview",
    "decisions": "Decisions",
    "labels": "Labels",
    "threshold": "Threshold",
    "savings": "Savings",
    "playground": "Playground",
    "review": "Review",
}

ALL_LABELS = "All labels"
ALL_MODELS = "All models"
ALL_POLICIES = "All policies"
IN_FORCE = "Policy in force"
SEARCH = "Search prompts"
SETTINGS = "Settings"
VIEWS = "Saved views"
VIEW_LABEL = "This page as"
SAVE_VIEW = "Save"
REMOVE_VIEW = "Take this view away"
NO_VIEWS = "A view is a page with its filters and candidate, under a name. It is kept in the log, for everybody who reads it."
VIEW_NAME = "A view needs a name of 1 to {} characters, without hidden ones."
VIEW_TOO_LONG = (
    "This page's address is too long to be kept; choose fewer labels or models, or a shorter search."
)
VIEW_NOT_WRITTEN = "The view could not be written to the data folder; save it again."
SAMPLE = ":gray-badge[Sample traffic]"
ZONE = "Times in the browser's zone"
CANDIDATE = "Candidate"
CLEAR_FILTERS = "Clear filters"
LOAD_SAMPLE = "To look around with sample data: `routescope demo`"
TRY_AGAIN = "Try again"

DRAW_TITLES: dict[Queue, str] = {
    "audit": "Nothing is drawn for the audit yet.",
    "estimate": "Nothing is drawn for an estimate yet.",
    "learn": "Nothing is picked to learn from yet.",
}
DRAW_WORDS: dict[Queue, str] = {
    "audit": "Drawn uniformly: the only queue that a promise about all traffic may rest on.",
    "estimate": "Drawn by label and confidence, most where judgements will differ: fewer reviews for the same interval, no promise.",
    "learn": "A third each nearest the line, with the smallest margin, and the dearest. To read; it proves nothing about the rest.",
}

REVIEW_KEYS = "Keys: 1 to 9 name a label, 0 none of them, U unsure, S skips, Z goes back. The classifier's own label shows afterwards."
_PROVIDERS = {"openai": "OpenAI", "anthropic": "Anthropic"}

ENOUGH_REVIEWS = 40
"""Judged decisions from which a reliability chart is drawn: two points of 20."""

LOG_ONE = """from router import Policy, Router
with Router(Policy.preset("seed"), data={data!r}) as client:
    client.route("What is the capital of Japan?")"""


@dataclass(frozen=True, slots=True)
class State:
    """A page's answer when there is nothing to draw: what is the case and what to do next.

    ``title`` and ``detail`` are markdown; ``code`` is shown as it is.
    """

    title: str
    detail: str = ""
    code: str | None = None


def empty_log(data: str) -> State:
    """The log holds no decision."""
    return State(
        "No decisions yet.",
        f"These three lines log one into this dashboard's folder; it shows here within two seconds. {LOAD_SAMPLE} (in a folder of its own).",
        LOG_ONE.format(data=data),
    )


def empty_filter(total: int, closest: tuple[str, int] | None = None) -> State:
    """No decision matches. ``closest``: a condition to drop (its words) and how many match without it."""
    detail = f"The log has {formats.plural(total, 'decision')}."
    if closest is not None:
        dropped, number = closest
        detail = f"The closest filter that does: without {name(dropped)} ({formats.count(number)})."
    return State("No decision matches.", detail)


def empty_period(total: int, newest: str | None) -> State:
    """The period holds no decision but the log does."""
    tail = f"; the newest is of {newest}" if newest else ""
    return State(
        "No decision in this period.", f"The log has {formats.plural(total, 'decision')}{tail}. Choose All."
    )


def too_few(found: int, needed: int, noun: str = "reviewed decision") -> str:
    """A curve that a few rows cannot carry."""
    return f"{formats.plural(found, noun)}: too few for a curve. At {needed} in a bin it appears."


def not_measured_quality(found: int, needed: int = 20) -> str:
    """Quality without reviews."""
    return f"This needs reviewed decisions: at least {needed} in a bin. You have {formats.count(found)}."


def not_measured_cost(rows: int) -> str:
    """Decisions whose cost is unknown."""
    verb = "has" if rows == 1 else "have"
    return f"{formats.plural(rows, 'decision')} {verb} no cost: no token counts were logged, or no price is known."


def note(sentence: str) -> str:
    """What the log says about itself: "Another process owns the log (PID 4121, since 14:02) ..."."""
    return name(sentence, 300)


def reviewed(found: Sample, *, part: bool = False) -> str:
    """What an audit says of all decisions, whatever the line, and what of it does not count; ``part``: it was drawn from a part."""
    n = len(found.audit)
    gone = sum(count for count, _ in found.left_out)
    apart = (
        f" {formats.plural(gone, 'audited decision')} of other labels or another classifier left out."
        if gone
        else ""
    )
    waits = (
        f" {formats.count(found.n_open)} of {formats.count(found.n_drawn)} drawn wait for a judgement."
        if found.n_open
        else ""
    )
    if n == 0:
        none = (
            "no audited decision is judged"
            if found.n_judged == 0
            else "every judged one falls back for its margin"
        )
        return f"Whether labels are right is not measured: {none}.{waits}{apart}"
    right = float(1 - found.audit.loss.mean())
    below = found.n_judged - n
    unsure = (
        f" {formats.count(found.n_unsure)} unsure count as wrong." if found.n_unsure and not below else ""
    )
    if below:
        unsure = f" {formats.count(below)} below the policy's least margin left out: they fall back anyway."
    where = "in the part of this traffic that they were drawn from" if part else "whatever the line"
    verb = "is" if n == 1 else "are"
    return f"{formats.share(right)} of {formats.plural(n, 'audited label')} {verb} right, {where}.{unsure}{waits}{apart}"


def honesty(found: Calibration, audit: Sample | None = None) -> str:
    """What the reliability chart counts, and what it shows; ``audit``: the draw behind it, whose unused rows are named."""
    unused = ""
    if audit is not None and audit.n_unsure:
        unused += f" {formats.count(audit.n_unsure)} unsure left out."
    if audit is not None and (gone := sum(n for n, _ in audit.left_out)):
        unused += f" {formats.count(gone)} of other labels or another classifier left out."
    if found.n < ENOUGH_REVIEWS or found.accuracy is None:
        return (
            f"Share of right labels against confidence.{unused}"
            if unused
            else "Share of right labels against confidence"
        )
    return (
        f"{formats.share(found.accuracy)} of {formats.count(found.n)} audited labels are right, at a mean confidence of "
        f"{formats.share(found.mean_confidence)}. Bars are 95 %.{unused}"
    )


def within(half: float) -> str:
    """Half an interval of a share, in points."""
    return f"± {half * 100:.1f} pts"


def review_sentence(queue: Queue, found: Progress, *, unreadable: bool = False) -> str:
    """What the Review page answers: how far one is, what that says, what the rest would buy; ``unreadable``: nothing, without prompts."""
    if found.n == 0:
        buys = {
            "audit": f"240 uniform reviews place the share of right labels within {within(half_width(240))}.",
            "estimate": "It estimates the share of right labels by label and confidence, with fewer reviews than an audit.",
            "learn": "It shows what the classifier finds hard, and proves nothing about the rest.",
        }
        return f"0 decisions are drawn in this queue. {buys[queue]}"
    if found.n_open == 0:
        done = f"All {formats.count(found.n)} drawn decisions are judged"
    else:
        done = f"{formats.count(found.n_judged)} of {formats.plural(found.n, 'drawn decision')} {'is' if found.n_judged == 1 else 'are'} judged"
    if unreadable and found.n_open:
        return f"{done}. Without their prompts nobody can judge the others."
    if queue == "learn":
        return f"{done}. They were picked by doubt, so they say nothing about the others."
    says = "" if found.right is None else f": **{formats.share(found.right)}** have the right label"
    if found.low is not None and found.high is not None:
        says += f", {formats.share(found.low)} to {formats.share(found.high)}"
    rest = (
        ""
        if found.n_open == 0 or found.half_when_done is None
        else f" All of them place that share within {within(found.half_when_done)}."
    )
    if not says:
        rest = rest.replace("that share", "the share of right labels")
    return f"{done}{says}.{rest}"


def judged(verdict: str | None, said: str | None, top_label: str) -> str:
    """What somebody said of a decision beside what the classifier had said."""
    top = f"**{name(top_label)}**"
    if verdict == "unsure":
        return f"Judged unsure. The classifier said {top}."
    if verdict == "right":
        return f"Judged {top}, as the classifier said."
    mine = "wrong, no label named" if said is None else f"**{name(said)}**"
    return f"Judged {mine}. The classifier said {top}."


def said(verdict: str | None, label: str | None, skipped: bool) -> str:
    """A judgement in a table cell, as plain text."""
    if verdict is None:
        return "skipped" if skipped else "waits"
    if verdict == "unsure":
        return "unsure"
    return "wrong, none named" if label is None else cell(label, 30) or ""


def drawn_from(queue: Queue, matching: int, n: int, *, narrowed: bool) -> str:
    """What a draw is made from, and what it buys."""
    said = f"From {formats.plural(matching, 'decision')} of the period above."
    if queue != "audit":
        return said
    if narrowed:
        said += " Labels, models and search do not narrow an audit."
    return f"{said} {formats.count(n)} would place the share of right labels within {within(half_width(n))}."


def without_prompts(drawn: int) -> State:
    """Nobody can judge a prompt that was not stored."""
    where_ = f"None of the {formats.count(drawn)} drawn decisions" if drawn else "No decision of this choice"
    return State(
        "Review needs prompts.",
        f"{where_} has one: the policy's `[log]` table keeps a hash or the length alone. Decisions made after this change "
        "can be reviewed:",
        '[log]\nprompts = "full"\nredact = "packaged"',
    )


def queue_done(queue: Queue, found: Progress) -> State:
    """Everything that was drawn is judged."""
    if queue == "learn" or found.right is None:
        return State(
            "Every item is judged.", "The queue is kept; choose a row to read it again or to change it."
        )
    more = (
        " `routescope certify` says which threshold they promise; `routescope calibration` whether confidence matches."
        if queue == "audit"
        else ""
    )
    return State("Every item is judged.", f"**{formats.share(found.right)}** of the labels are right.{more}")


def missing_key(provider: str, variable: str) -> str:
    """A model cannot be called."""
    return f"No {_PROVIDERS.get(provider, name(provider))} key: the decision is shown, the reply is not. Set {name(variable)} and restart."


def failed_call(model: str, ended: str) -> str:
    """A model call that gave no reply. ``ended``: the outcome's words, such as "provider timeout"."""
    return f"{name(model)} gave no reply. The decision was logged as classifier ok, {name(ended)}."


def unreadable_policy(source: str, faults: list[str]) -> State:
    """The policy file has faults; the log is untouched and routing code that loads it fails the same way."""
    return State(
        f"The policy cannot be read: {name(source, 200)}",
        f"{formats.plural(len(faults), 'fault')} to correct; then reload this page. `routescope policy show` checks "
        "it as well.",
        "\n".join(faults),
    )


def router_error(kind: str, message: str) -> State:
    """An error that says itself what to do."""
    passing = kind in ("LogLocked", "LogDamaged")  # nothing to correct: it mends itself, or another lets go
    step = "Reload the page in a moment." if passing else "Correct this and reload the page."
    return State(f"{name(_words(kind))}", step, message)


def unknown_error(kind: str) -> State:
    """An error nobody foresaw. Its message is never shown: it may quote a prompt."""
    return State(
        "This page could not be drawn.",
        f"An error of the kind {_code(kind)}. Nothing was lost: the log is written by another part. Reload the page; "
        "if it comes again, the terminal that runs the dashboard names the place.",
    )


def period(start: datetime | None, end: datetime | None, zone: tzinfo, zone_name: str, now: datetime) -> str:
    """The time range as shown in the bar. ``start`` and ``end`` are naive UTC, half-open."""
    if start is None and end is None:
        return f"all time, {name(zone_name)}"
    if start is None:
        assert end is not None
        return f"before {formats.day(formats.local(end, zone), year=True)}, {name(zone_name)}"
    first = formats.local(start, zone)
    last = formats.local(end if end is not None else now, zone)
    if end is None and (last - first).total_seconds() < 2 * 86_400:
        return f"since {formats.day(first)} {first:%H:%M}, {name(zone_name)}"
    last_day: date = last.date()
    if end is not None and last.hour == last.minute == last.second == 0:
        last_day = date.fromordinal(last_day.toordinal() - 1)  # the end is outside
    return f"{formats.period(first.date(), last_day)}, {name(zone_name)}"


def rows(number: int) -> str:
    """How many decisions the filter holds."""
    return formats.plural(number, "decision")


def policy_option(fingerprint: str, policy_name: str | None) -> str:
    """A policy in the bar's list. Plain text: list entries are no markdown."""
    return formats.fingerprint(fingerprint, policy_name)


def policy_in_force(shown: str) -> str:
    """Help of the policy list."""
    return f"In force: {name(shown)}. Decisions are listed under the policy that made them."


def _code(text: str) -> str:
    """Data in a code span; a backtick would end it."""
    return "`" + " ".join(text.replace("`", "'").split())[:200] + "`"


def _words(kind: str) -> str:
    """A class name as words: "LogTooNew" is "Log too new"."""
    out = "".join(f" {c.lower()}" if c.isupper() else c for c in kind).strip()
    return out[:1].upper() + out[1:] + "."
