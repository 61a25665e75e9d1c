"""Sample prompts, the sample traffic drawn from them, and the folder that a demo lives in.

The prompts are packaged and classified for real on the reader's machine. How often and when each comes, and how
many tokens it takes, is drawn here from a seeded generator: assumed, never observed, and said so in the sentences below.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from random import Random

from router.errors import ConfigurationError

DEMO_MARK = ".routescope-demo"
"""Name of the file that says a folder was made by the demo and may be made again."""

TRAFFIC_IS_DRAWN = (
    "Sample traffic: each packaged prompt was classified once by the real classifier on this machine; when it came "
    "and how often is drawn from a seeded generator, not observed."
)
TOKENS_ARE_ASSUMED = (
    "Token counts are assumed: input is a quarter of the prompt's characters plus a drawn context, output is drawn "
    "around a typical reply length. No model was called, so every cost and saving computed from them is assumed too."
)
CLASSIFY_TIME_IS_SPREAD = (
    "Classifier times are spread: the time measured once for each prompt, times a drawn factor of median 1."
)

CHARS_PER_TOKEN = 4
CONTEXT_TOKENS, CONTEXT_SIGMA = 160, 0.8
"""Median and log-sigma of what a pipeline adds to a prompt: system text, earlier turns, passages looked up."""
OUTPUT_SIGMA = 0.35
CLASSIFY_SIGMA = 0.2

HOURS = (
    0.05,
    0.04,
    0.03,
    0.03,
    0.05,
    0.10,
    0.28,
    0.62,
    0.95,
    1.00,
    0.98,
    0.88,
    0.70,
    0.90,
    0.97,
    0.92,
    0.74,
    0.50,
    0.34,
    0.26,
    0.22,
    0.17,
    0.11,
    0.07,
)
"""Relative rate of each hour of the day, UTC."""
WEEKDAYS = (0.98, 1.05, 1.04, 1.00, 0.84, 0.20, 0.16)
"""Relative rate of each day, Monday first."""
TREND = 0.15
"""By how much the rate at the end exceeds the rate at the start."""
KIND_GROWTH = {
    "code": 0.30,
    "review": 0.30,
    "stacktrace": 0.20,
    "sql": 0.20,
    "plan": 0.15,
    "tradeoff": 0.15,
    "support": -0.20,
    "search": -0.15,
    "translate": -0.10,
}
"""By how much a kind's weight changes from start to end, so that the mix shifts mildly."""

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Sample:
    """A packaged prompt. ``weight`` is its relative frequency, ``output_tokens`` the reply length one would expect.

    ``kind`` is a category for the mix, never a label: what the prompt is routed as, the classifier decides.
    """

    prompt: str = field(repr=False)
    kind: str
    weight: float
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Visit:
    """One drawn request: the sample's position, when (naive UTC), its assumed tokens, a factor on ``classify_ms``."""

    sample: int
    decided_at: datetime
    input_tokens: int
    output_tokens: int
    classify_ms_factor: float


def load_samples() -> tuple[Sample, ...]:
    """The packaged sample prompts, in the order of their file."""
    return parse_samples(files("router.presets").joinpath("samples.jsonl").read_text(encoding="utf-8"))


def parse_samples(text: str) -> tuple[Sample, ...]:
    """Samples from JSON lines with ``prompt``, ``kind``, ``weight`` and ``output_tokens``; empty lines are skipped.

    Raises
    ------
    ConfigurationError
        A line that is no such record; names the line's number, never its prompt.
    """
    # Not splitlines(): a prompt may hold U+2028 or a form feed, which JSON leaves as they are.
    lines = enumerate(text.split("\n"), 1)
    return tuple(_sample(line, number) for number, line in lines if line.strip())


def draw_traffic(
    samples: Sequence[Sample], requests: int = 2000, *, end: datetime, days: int = 14, seed: int = 7
) -> list[Visit]:
    """Requests as an office sends them, ordered by time; the same arguments give the same list, byte for byte.

    Parameters
    ----------
    samples : what is asked; each is drawn by its weight, which moves by its kind's KIND_GROWTH over the period.
    requests : how many; 0 gives an empty list.
    end : the last possible moment, naive UTC. Every visit lies in (end - days, end].
    days : length of the period.
    seed : of the generator.

    Raises
    ------
    ConfigurationError
        No samples, fewer than 0 requests, less than one day, or an ``end`` with a time zone.

    Notes
    -----
    The rate of an hour is HOURS x WEEKDAYS x (1 + TREND x elapsed share). Input tokens are characters / 4 plus a
    log-normal context; output tokens and the classifier's factor are log-normal with the sample's value and 1 as medians.
    All of this is assumed.
    """
    _check_arguments(samples, requests, end, days)
    rng = Random(seed)
    start = end - timedelta(days=days)
    period = days * _DAY
    early = list(accumulate(x.weight for x in samples))
    late = list(accumulate(x.weight * (1 + KIND_GROWTH.get(x.kind, 0.0)) for x in samples))
    fixed = [(len(x.prompt) / CHARS_PER_TOKEN, x.output_tokens) for x in samples]
    last, uniform, spread = len(samples) - 1, rng.random, rng.lognormvariate
    visits = []
    for elapsed in _draw_times(rng, requests, start, end):
        # A mixture of the first and the last day's mix, so the shift is a straight line without new weights per visit.
        table = late if uniform() * period < elapsed else early
        # The product may round up to the total itself, one past the last sample.
        chosen = min(bisect_right(table, uniform() * table[-1]), last)
        own_input, typical_output = fixed[chosen]
        input_tokens = max(1, round(own_input + CONTEXT_TOKENS * spread(0.0, CONTEXT_SIGMA)))
        output_tokens = max(1, round(typical_output * spread(0.0, OUTPUT_SIGMA)))
        decided_at = start + timedelta(microseconds=elapsed)
        visits.append(Visit(chosen, decided_at, input_tokens, output_tokens, spread(0.0, CLASSIFY_SIGMA)))
    return visits


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """Make ``path`` an empty demo folder with its marker, and return it.

    What a former demo left is removed, by name; ``owner.lock`` stays, because a lock file that is removed lets two
    processes hold "the" lock. A folder of anything else is left exactly as it is.

    Raises
    ------
    ConfigurationError
        ``path`` is no folder, holds files that the demo did not make, cannot be written, or a demo is running there.
    """
    folder = Path(path)
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError(
                f"{folder} is a file, expected a folder for the demo; choose another with --data"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / DEMO_MARK).is_file():
            _clear(folder)
        else:
            _check_unused(folder)
        (folder / DEMO_MARK).write_text(_MARK_TEXT, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be used for the demo ({error.strerror or type(error).__name__}); expected a folder that "
            "can be written; correct its permissions or choose another with --data"
        ) from error
    return folder


def is_demo(path: str | os.PathLike[str]) -> bool:
    """Whether a folder was made by the demo, so that its traffic and tokens are drawn."""
    return (Path(path) / DEMO_MARK).is_file()


_MARK_TEXT = (
    "This folder was made by 'routescope demo'. Each run deletes the log, the policy and the saved heads in it and makes\n"
    "them again. Keep nothing of your own here; without this file the demo refuses the folder.\n"
)

# Everything a demo and the dashboard on it write, relative to the folder. Anything else stops a rebuild.
_MADE = (
    DEMO_MARK,
    "owner.lock",
    "decisions.duckdb",
    "decisions.duckdb.wal",
    "decisions.duckdb.tmp/*",
    "decisions.duckdb.damaged-*",
    "decisions.duckdb.new*",
    "decisions.duckdb.stage*",
    "owner.json",
    "owner.next",
    "generation",
    "review.jsonl",
    "*.tmp",
    "spool/*.jsonl",
    "archive/*/*.parquet",
    "archive/*.parquet",
    "archive/*.json",
    "archive/*/*.tmp",
    "archive/*.tmp",
    "archive/busy",
    "tasks/*",
    "damaged/*",
    "policy.toml",
    "policy.toml.bak",
    "policy.toml.bak.*",
    ".policy.toml.*.part",
    "head-*.npz",
    "head-*.tmp",
)
_MADE_FOLDERS = tuple(
    parent.as_posix() for made in _MADE for parent in Path(made).parents if parent != Path()
)
_KEPT = (DEMO_MARK, "owner.lock")
_IGNORED = (".DS_Store",)  # a file manager drops it unasked; neither an obstacle nor ours to delete
_LOG_NAMES = ("decisions.duckdb", "spool", "archive")


def _sample(line: str, number: int) -> Sample:
    wrong = None
    try:
        row = json.loads(line)
        sample = Sample(row["prompt"], row["kind"], row["weight"], row["output_tokens"])
    except (ValueError, KeyError, TypeError) as error:
        wrong = type(error).__name__
    # Outside the except block: a JSON error carries the line, so it must not be chained.
    if wrong is not None or not _is_valid(sample):
        raise ConfigurationError(
            f"samples, line {number}: {wrong or 'a value out of range'}; expected an object with prompt and kind (text), "
            "weight (above 0) and output_tokens (1 or more); correct the line or install the package again"
        )
    return sample


def _is_valid(sample: Sample) -> bool:
    texts = all(isinstance(x, str) and x.strip() for x in (sample.prompt, sample.kind))
    numbers = type(sample.weight) in (int, float) and type(sample.output_tokens) is int
    return texts and numbers and 0 < sample.weight < math.inf and sample.output_tokens >= 1


def _check_arguments(samples: Sequence[Sample], requests: int, end: datetime, days: int) -> None:
    if not samples:
        raise ConfigurationError("no sample prompts, expected at least one; pass load_samples()")
    if requests < 0:
        raise ConfigurationError(f"{requests} requests, expected 0 or more")
    if days < 1:
        raise ConfigurationError(f"{days} days, expected 1 or more")
    if end.tzinfo is not None:
        raise ConfigurationError(
            "end has a time zone, expected naive UTC; use end.astimezone(UTC).replace(tzinfo=None)"
        )


def _draw_times(rng: Random, requests: int, start: datetime, end: datetime) -> list[int]:
    """Microseconds after ``start`` at which requests come, ordered; above 0, the period's length included."""
    slots = list(_slots(start, end))
    drawn = rng.choices(slots, weights=[rate for _, _, rate in slots], k=requests) if requests else []
    # Backwards from the slot's end by less than its width: the start stays outside, the end inside.
    return sorted(until - int(rng.random() * width) for until, width, _ in drawn)


def _slots(start: datetime, end: datetime) -> Iterator[tuple[int, int, float]]:
    """Clock hours of the period, the first and last cut: (end after ``start``, width, relative rate); microseconds."""
    since = start
    while since < end:
        until = min(since.replace(minute=0, second=0, microsecond=0) + _HOUR, end)
        trend = 1 + TREND * ((since - start) / (end - start))
        rate = HOURS[since.hour] * WEEKDAYS[since.weekday()] * trend * ((until - since) / _HOUR)
        yield (until - start) // _MICROSECOND, (until - since) // _MICROSECOND, rate
        since = until


def _check_unused(folder: Path) -> None:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name not in _IGNORED)
    if any(name in _LOG_NAMES for name in names):
        raise ConfigurationError(
            f"{folder} holds a decision log that the demo did not make (found {_some(names)}); expected a new or empty "
            "folder; choose another with --data. Nothing was changed"
        )
    if names:
        raise ConfigurationError(
            f"{folder} holds files that the demo did not make (found {_some(names)}); expected a new or empty folder; "
            "choose another with --data. Nothing was changed"
        )


def _clear(folder: Path) -> None:
    # Here, not above: the lock needs fcntl, which a machine without it lacks, and drawing traffic does not.
    from router.log.lock import OwnerLock, holder

    lock = OwnerLock(folder)
    if not lock.acquire("demo"):
        who = holder(folder)
        process = f"process {who.pid}" if who is not None and who.pid else "another process"
        raise ConfigurationError(
            f"a demo is running in {folder} ({process} holds owner.lock); expected no other process there; stop it, or "
            "choose another folder with --data"
        )
    try:
        made, folders, unknown = _inventory(folder)
        if unknown:
            raise ConfigurationError(
                f"{folder} is a demo folder, but holds files that the demo did not make (found {_some(unknown)}); move "
                "them elsewhere or choose another folder with --data. Nothing was changed"
            )
        for file in made:
            (folder / file).unlink(missing_ok=True)
        for inner in folders:
            (folder / inner).rmdir()
    finally:
        lock.release()


def _inventory(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Files to remove, folders to remove (innermost first), and what is not known; paths relative to the folder."""
    made, folders, unknown = [], [], []
    for place, inner, names in os.walk(folder, onerror=_raise):
        here = Path(place).relative_to(folder)
        for name in names:
            relative = (here / name).as_posix()
            if _matches(relative, _MADE):
                made.append(relative)
            elif name not in _IGNORED or here != Path():
                unknown.append(relative)
        for name in list(inner):
            relative = (here / name).as_posix()
            # A link to a folder is never followed: what it leads to is not the demo's.
            if (folder / relative).is_symlink() or not _matches(relative, _MADE_FOLDERS):
                unknown.append(relative)
                inner.remove(name)
            else:
                folders.append(relative)
    removable = [file for file in made if file not in _KEPT]
    return removable, folders[::-1], sorted(unknown)


def _matches(relative: str, patterns: Iterable[str]) -> bool:
    # Part by part: fnmatch alone lets * run over a slash, and would know more names than were listed.
    parts = relative.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def _raise(error: OSError) -> None:
    raise error


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
