"""``review next`` and ``review open``: decisions drawn for people to judge, and those that still wait for a word."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from router.cli.errors import NotEnoughData
from router.cli.export import Causes, Confidence, Contains, Labels, MadeBy, Models, Session, Source, reading
from router.cli.export import chosen as filter_of
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, say, utc, visible
from router.errors import ConfigurationError, InputError
from router.types import QUEUES, VERDICTS, Queue

if TYPE_CHECKING:
    from router.log.drawn import Drawn
    from router.log.reader import Log

SHOWN_CHARS = 2_000
"""What is printed of a prompt; a file and --json have all that the log holds."""

SHOWN_OPEN = 20
"""How many waiting decisions are printed unless more are asked for."""

app = typer.Typer(no_args_is_help=True, help="Draw decisions to judge.", rich_markup_mode=None)

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        show_default=False,
        help="Write them to a new JSON Lines file to fill in, for 'routescope feedback --from FILE'.",
    ),
]


@app.callback()
def review() -> None:
    """Draw decisions to judge."""


@app.command("next")
def next_items(
    queue: Annotated[
        str,
        typer.Option(
            "--queue",
            metavar="|".join(QUEUES),
            show_default=False,
            help="audit: uniform, what a promise needs. estimate: by label and confidence. learn: near the line, ties, dearest.",
        ),
    ],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many.")] = 20,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, show_default=False, help="Draw the same again from the same log."),
    ] = None,
    output: Output = None,
    since: Since = None,
    until: Until = None,
    label: Labels = None,
    model: Models = None,
    cause: Causes = None,
    text: Contains = None,
    confidence: Confidence = None,
    source: Source = None,
    session: Session = None,
    made_by: MadeBy = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Draw decisions for people to judge. Each queue draws a decision once.

    Why a decision was drawn, and with which chance, is noted in review.jsonl of the data folder and goes with every judgement of
    it. An audit takes --since, --until, --source and --made-by alone: it must be uniform.
    """
    from router.prices import PriceBook
    from router.resolve import load_policy
    from router.review import draw

    which = _queue(queue)
    chance = secrets.randbits(32) if seed is None else seed
    picked = filter_of(
        since, until, label, model, cause, text, confidence, source=source, session_id=session, policy=made_by
    )
    target = _new_file(output)
    with reading(data) as log:
        book = PriceBook(load_policy(policy, log.data).models)
        drawn = draw(log, which, n, book, seed=chance, now=_now, chosen=picked)
        if not drawn.items:
            raise NotEnoughData(_nothing_left(which, drawn.n_scored))
        facts = {"queue": which, "seed": chance, "n": len(drawn.items), "n_left": drawn.n_left}
        _show(log, drawn.items, target, json, facts)
    say(f"{len(drawn.items):,} of {drawn.n_left:,} decisions drawn for queue {which}, seed {chance}")
    _say_how(output, which)


@app.command("open")
def open_items(
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="|".join(QUEUES), show_default=False, help="Only this queue."),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            min=1,
            show_default=False,
            help="How many. Default: 20 on the screen, all of them in a file.",
        ),
    ] = None,
    output: Output = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show drawn decisions that nobody has judged yet. In the order they were drawn."""
    from router.log.judged import waiting

    which = None if queue is None else _queue(queue)
    target = _new_file(output)
    with reading(data) as log:
        items = waiting(log, which)
        most = n if n is not None else SHOWN_OPEN if target is None and not json else len(items)
        shown = items[:most]
        _show(log, shown, target, json, {"queue": which, "n": len(shown), "n_open": len(items)})
    say(
        f"{len(items):,} {'decision waits' if len(items) == 1 else 'decisions wait'} for a judgement"
        + (f", the first {len(shown):,} are given; --n N gives more" if len(shown) < len(items) else "")
    )
    if items:
        _say_how(output, which)


def _show(log: Log, items: Sequence[Drawn], target: Path | None, json: bool, facts: dict[str, Any]) -> None:
    from router.log.judged import to_judge

    known = to_judge(log, items)
    rows = [_row(item, known.loc[item.decision_id]) for item in items]
    if target is not None:
        _write(target, rows)
    if json:
        emit(facts | {"items": rows, "output": None if target is None else target.absolute()})
    elif target is None:
        for row in rows:
            typer.echo(_block(row))
    n_without = sum(row["prompt"] is None for row in rows)
    if n_without:
        say(f"note: the log holds no prompt of {n_without:,} of them, as the policy's [log] table says")


def _row(item: Drawn, known: Any) -> dict[str, Any]:
    """An item as a line to fill in: the three last keys are the person's."""
    return {
        "decision_id": item.decision_id,
        "queue": item.queue,
        "inclusion_probability": item.inclusion_probability,
        "reason": item.reason,
        "decided_at": utc(known["decided_at"]),
        "label": known["label"],
        "confidence": float(known["confidence"]),
        "model": known["model"],
        "prompt": known["prompt"] if isinstance(known["prompt"], str) else None,
        "verdict": None,
        "correct_label": None,
        "note": None,
    }


def _block(row: dict[str, Any]) -> str:
    prompt = row["prompt"]
    if prompt is None:
        shown = "(not in the log)"
    else:
        shown = visible(prompt[:SHOWN_CHARS]).replace("\n", "\\n").replace("\t", "\\t")
        shown += "…" if len(prompt) > SHOWN_CHARS else ""
    first = f"{row['decision_id']}  {row['label']} {row['confidence']:.4g}, {row['model']}"
    return f"{visible(first)}\n  {visible(row['reason'])}\n  {shown}"


def _write(target: Path, rows: list[dict[str, Any]]) -> None:
    from router.log.files import write_whole

    try:
        write_whole(target, b"".join(orjson.dumps(row) + b"\n" for row in rows), durable=False)
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or type(error).__name__}; the draw stands, 'routescope review open "
            "--output FILE' writes it"
        ) from None


def _new_file(output: str | None) -> Path | None:
    if output is None:
        return None
    target = Path(output)
    if os.path.lexists(target):
        raise InputError(
            f"{target} is there already; expected a new file, so that no judgement is overwritten"
        )
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target.parent} is no folder; expected one to write {target.name} into")
    return target


def _queue(word: str) -> Queue:
    for queue in QUEUES:
        if word == queue:
            return queue
    raise InputError(f"--queue: found {word[:40]!r}, expected one of {', '.join(QUEUES)}")


def _nothing_left(queue: Queue, n_scored: int) -> str:
    if not n_scored:
        return "no decision with scores matches; leave a condition out"
    return (
        f"all {n_scored:,} decisions with scores were drawn already, or judged, as far as queue {queue} goes; "
        "'routescope review open' shows those that wait"
    )


def _say_how(output: str | None, queue: Queue | None) -> None:
    words = "|".join(VERDICTS)
    if output is None:
        say(f"judge one with: routescope feedback ID {words} --queue {queue or 'QUEUE'}")
    else:
        say(f'fill in "verdict" ({words}), then: routescope feedback --from {output}')


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
