"""``demo`` and ``dashboard``: the two verbs that start the dashboard's server."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import Data, Json, NoBrowser, PolicyFile, Port
from router.cli.output import emit, progress, say
from router.errors import LogError

if TYPE_CHECKING:
    from router.classifiers.local import LocalClassifier
    from router.demo import Sample, Visit
    from router.policy import Policy
    from router.prices import PriceBook
    from router.types import Choice, Classification, Decision

SOURCE = "demo"
BATCH = 32


@dataclass(frozen=True, slots=True)
class Built:
    """What a demo folder holds, and how long each part took (seconds)."""

    data: Path
    samples: int
    decisions: int
    classify_s: float
    log_s: float


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder of the demo, rebuilt on each run. Default: demo in the data folder (data/demo).",
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option("--requests", min=0, max=1_000_000, help="Sample requests to draw.")
    ] = 2000,
    port: Port = 8501,
    no_browser: NoBrowser = False,
    json: Json = False,
) -> None:
    """Show a dashboard over sample traffic. Decisions are real, times drawn, tokens assumed.

    --json: printed once the dashboard answers.
    """
    from router.config import data_dir
    from router.demo import TOKENS_ARE_ASSUMED, TRAFFIC_IS_DRAWN

    folder = data if data is not None else data_dir() / "demo"
    built = build(folder, requests)
    say(
        f"{built.samples:,} prompts classified in {built.classify_s:.1f} s, {built.decisions:,} requests logged in "
        f"{built.log_s:.1f} s, in {folder}"
    )
    say(TRAFFIC_IS_DRAWN)
    say(TOKENS_ARE_ASSUMED)
    _serve(folder, None, port, no_browser, asdict(built) | {"tokens": "assumed"} if json else None)


def dashboard(
    data: Data = None,
    policy: PolicyFile = None,
    port: Port = 8501,
    no_browser: NoBrowser = False,
    json: Json = False,
) -> None:
    """Serve the dashboard on 127.0.0.1 until Ctrl+C. New decisions of any process show up within two seconds.

    --json: printed once it answers.
    """
    from router.config import data_dir
    from router.resolve import load_policy

    folder = data_dir(data)
    load_policy(policy, folder)  # a policy that is wrong is said here, before anything starts
    _serve(folder, policy, port, no_browser, {"data": folder} if json else None)


def _serve(
    data: Path, policy: Path | None, port: int, no_browser: bool, document: dict[str, Any] | None
) -> None:
    """Serve until Ctrl+C, which is how a server ends and no failure; ``document`` is printed with the address."""
    from dashboard.server import serve

    is_ready = False

    def announce(sentence: str) -> None:
        nonlocal is_ready
        is_ready = True
        say(sentence)
        if document is not None:
            address = re.search(r"http://[\d.]+:\d+", sentence)
            emit({"url": address and address.group()} | document)

    # An impatient second Ctrl+C cancels the shutdown, which the server would report with a traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "CancelledError" not in record.getMessage())
    try:
        serve(data, policy, port=port, open_browser=not no_browser, announce=announce)
    except KeyboardInterrupt:
        if not is_ready:
            raise
        say("stopped")


def build(
    folder: Path, requests: int, *, end: datetime | None = None, classifier: LocalClassifier | None = None
) -> Built:
    """Make a demo folder: every packaged sample classified once for real, drawn traffic logged and ingested.

    Parameters
    ----------
    end : last moment of the traffic, naive UTC; None: now.
    classifier : None builds the local one.

    Raises
    ------
    ConfigurationError
        The folder holds something that the demo did not make, or cannot be used.
    LogError
        Not every decision could be written.
    """
    from router.demo import draw_traffic, load_samples, prepare_folder
    from router.policy import Policy, preset_toml
    from router.policy_edit import save
    from router.prices import PriceBook

    data = prepare_folder(folder)
    policy = Policy.load(save(data, preset_toml("seed"), expected_old=None))
    samples = load_samples()
    started = time.monotonic()
    answers = _classify(samples, policy, classifier, data)
    classified = time.monotonic()
    visits = draw_traffic(samples, requests, end=end or datetime.now(UTC).replace(tzinfo=None))
    _log(data, _Maker(samples, answers, policy, PriceBook(policy.models)), visits, policy)
    return Built(data, len(samples), len(visits), classified - started, time.monotonic() - classified)


def _classify(
    samples: tuple[Sample, ...], policy: Policy, classifier: LocalClassifier | None, data: Path
) -> list[Classification]:
    from router.classifiers.local import LocalClassifier

    with progress("classifying sample prompts", len(samples), unit="prompts") as advance:
        used = classifier or LocalClassifier(cache_dir=data / "heads")
        if used.degraded:
            say(f"note: {used.degraded}")
        answers: list[Classification] = []
        for start in range(0, len(samples), BATCH):
            batch = [sample.prompt for sample in samples[start : start + BATCH]]
            answers += used.classify_many(batch, policy.labels)
            advance(len(batch))
    return answers


class _Maker:
    """Makes the decision of a drawn visit from what the classifier said about its sample."""

    def __init__(
        self, samples: tuple[Sample, ...], answers: list[Classification], policy: Policy, book: PriceBook
    ) -> None:
        from router.policy import decide

        self._samples = samples
        self._answers = answers
        self._choices: list[Choice] = [decide(answer.scores, policy) for answer in answers]
        self._hashes = [hashlib.sha256(sample.prompt.encode()).hexdigest() for sample in samples]
        self._policy = policy
        self._book = book

    def __call__(self, visit: Visit) -> Decision:
        from router.log.record import unix_ms, uuid7
        from router.types import Decision, Usage

        i, policy = visit.sample, self._policy
        choice, answer = self._choices[i], self._answers[i]
        usage = Usage(visit.input_tokens, visit.output_tokens, grade="assumed")
        cost = self._book.price(usage, choice.model_chosen, visit.decided_at.date())
        return Decision(
            id=uuid7(unix_ms(visit.decided_at)),
            decided_at=visit.decided_at,
            prompt=self._samples[i].prompt,
            prompt_sha256=self._hashes[i],
            prompt_chars=len(self._samples[i].prompt),
            top_label=choice.top_label,
            confidence=choice.confidence,
            scores=answer.scores,
            runner_up=choice.runner_up,
            margin=choice.margin,
            threshold=policy.threshold_for(choice.top_label),
            cause=choice.cause,
            is_fallback=choice.is_fallback,
            model_chosen=choice.model_chosen,
            model_used=choice.model_chosen,
            classifier=answer.classifier,
            calibrated=answer.calibrated,
            classify_ms=answer.latency_ms * visit.classify_ms_factor,
            classifier_cost_usd=answer.cost_usd,
            policy_fingerprint=policy.fingerprint,
            labels_fingerprint=policy.labels_fingerprint,
            input_tokens=visit.input_tokens,
            output_tokens=visit.output_tokens,
            usage_grade="assumed",
            cost_usd=cost,
            price_version=None if cost is None else self._book.version,
            source=SOURCE,
            extra={"sample": i},
        )


def _log(data: Path, make: _Maker, visits: list[Visit], policy: Policy) -> None:
    """Write the visits in the order of their times, then bring them into the database."""
    from router.log.ingest import spools
    from router.log.owner import ingest_now
    from router.log.writer import Writer

    writer = Writer(data, turns=False)
    with progress("logging sample traffic", len(visits), unit="requests") as advance:
        for visit in visits:
            writer.log(make(visit), policy)
            advance(1)
    if writer.dropped:
        raise LogError(
            f"{sum(writer.dropped.values()):,} of {len(visits):,} sample requests could not be written to "
            f"{data} ({', '.join(writer.dropped)})"
        )
    with progress(
        "bringing it into the database", sum(path.stat().st_size for path in spools(data))
    ) as advance:
        ingest_now(data, progress=advance)
    writer.close()
