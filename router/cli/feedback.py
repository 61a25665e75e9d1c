"""``feedback``: what people say of decisions, one by one or from a filled-in review file."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from router.cli.export import reading
from router.cli.options import Data, Json
from router.cli.output import emit, say, waiting
from router.errors import InputError, LogError, LogLocked
from router.types import QUEUES, VERDICTS

if TYPE_CHECKING:
    from router.log.judging import Judgement
    from router.log.judging_files import Filled
    from router.log.reader import Log

SHOWN_BAD = 20


def feedback(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", show_default=False, help="The decision's id.")
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Argument(metavar="|".join(VERDICTS), show_default=False, help="Was it right?"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", show_default=False, help="What the top label should have been."),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", show_default=False, help="Anything worth keeping.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", show_default=False, help="Who judged.")
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue",
            metavar="|".join(QUEUES),
            show_default=False,
            help="Answer to what this queue drew. Default: said beside any draw, for reading alone.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE|-",
            show_default=False,
            help="Take many from a filled-in file of 'routescope review next --output'; - is standard input.",
        ),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Say whether decisions were right. The last word counts, for each queue by itself.

    A filled-in file of 'review next' answers the queue that drew it, with the probability noted then; so does --queue. All else is
    for reading and feeds no promise. Lines without a verdict wait; a file may be given again and again.
    """
    from router.log.judging import Judgement
    from router.log.judging_files import Filled

    if source is not None:
        if any(x is not None for x in (id, label, note, queue)):
            raise typer.BadParameter(
                "--from takes ids, labels, notes and queues from the file; leave them out"
            )
        filled = _read(source, by)
    else:
        if id is None or verdict is None:
            raise typer.BadParameter(f"give an ID and one of {', '.join(VERDICTS)}, or --from FILE")
        one = Judgement(id, verdict, correct_label=label, note=note, queue=queue, judged_by=by)
        filled = Filled(said=[(1, one)])
    with reading(data) as log:
        records, present = _to_write(log, filled, once=source is not None)
        folder = log.data
    if source is None and filled.bad:
        raise InputError(filled.bad[0][1])
    _write(folder, records)
    _report(filled, records, present, json)


def _to_write(log: Log, filled: Filled, *, once: bool) -> tuple[list[dict[str, Any]], int]:
    """Records that the log does not hold yet, and how many it does; what is wrong with a line goes to ``filled``.

    ``once``: a judgement that was ever given alike is there already, else only one that is still the last for its queue.
    """
    from router.log.drawn import read_drawn
    from router.log.judged import labels_of

    ids = [one.decision_id for _, one in filled.said]
    labels, drawn, said = labels_of(log, ids), read_drawn(log.data), _said(log, ids)
    now = datetime.now(UTC).replace(tzinfo=None)
    by_id: dict[str, list[Any]] = {}
    for item in drawn:
        by_id.setdefault(item.decision_id, []).append(item)
    records, present = [], 0
    for number, one in filled.said:
        try:
            _check(one, labels)
            record = one.record(by_id.get(one.decision_id, ()), now)
        except InputError as error:
            filled.bad.append((number, str(error)))
            continue
        # What was said for another queue, or for none, is no answer to this one.
        earlier = [row for row in said.get(one.decision_id, []) if row[0] == record["queue"]]
        if any(_same(record, row) for row in (earlier if once else earlier[:1])):
            present += 1
        else:
            records.append(record)
    filled.bad.sort()
    return records, present


def _check(one: Judgement, labels: dict[str, tuple[str, ...]]) -> None:
    known = labels.get(one.decision_id)
    if known is None:
        raise InputError("decision_id: the log holds no such decision")
    if one.correct_label is not None and known and one.correct_label not in known:
        raise InputError(
            f"correct_label: found {one.correct_label[:40]!r}, expected one of the labels that were scored: {', '.join(known)}"
        )


def _said(log: Log, ids: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """(queue, verdict, correct_label, note, judged_by) of every judgement so far, by decision, the last one first."""
    rows = log.rows(
        "SELECT CAST(decision_id AS VARCHAR), queue, verdict, correct_label, note, judged_by FROM feedback "
        "WHERE decision_id IN (SELECT CAST(unnest($ids::VARCHAR[]) AS UUID)) ORDER BY judged_at DESC NULLS LAST",
        {"ids": ids},
    )
    found: dict[str, list[tuple[Any, ...]]] = {}
    for id, *row in rows:
        found.setdefault(str(id), []).append(tuple(row))
    return found


def _same(record: dict[str, Any], row: tuple[Any, ...]) -> bool:
    return tuple(record[x] for x in ("verdict", "correct_label", "note", "judged_by")) == row[1:]


def _write(folder: Path, records: list[dict[str, Any]]) -> None:
    from router.log.owner import ingest_now
    from router.log.record import line_of
    from router.log.spool import Spool

    if not records:
        return
    spool = Spool(folder)
    try:
        written, why = spool.put(b"".join(line_of(record) for record in records), len(records))
    finally:
        spool.close()
    if written < len(records):
        raise LogError(f"{folder} cannot be written ({why}); give the same again, what is in stays")
    with suppress(LogLocked), waiting("bringing them into the database"):
        ingest_now(folder)  # else whoever owns the log does it, or the next command


def _read(source: str, by: str | None) -> Filled:
    from router.log.judging_files import read_filled

    def read(file: BinaryIO) -> Filled:
        return read_filled(file, by)

    if source == "-":
        return read(sys.stdin.buffer)
    try:
        with open(source, "rb") as file:
            return read(file)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}; expected a review file") from None


def _report(filled: Filled, records: list[dict[str, Any]], present: int, json: bool) -> None:
    added = len({record["decision_id"] for record in records})
    if json:
        emit(
            {
                "added": added,
                "present": present,
                "open": filled.n_open,
                "queues": sorted({record["queue"] for record in records if record["queue"]}),
                "bad": [{"line": number, "reason": why} for number, why in filled.bad],
            }
        )
    else:
        words = f"{added:,} {'judgement' if added == 1 else 'judgements'} added"
        words += f", {present:,} there already" if present else ""
        typer.echo(words + (f", {filled.n_open:,} lines without a verdict" if filled.n_open else ""))
    for number, why in filled.bad[:SHOWN_BAD]:
        say(f"line {number}: {why}")
    if len(filled.bad) > SHOWN_BAD:
        say(f"... and {len(filled.bad) - SHOWN_BAD:,} more; --json lists them")
    if filled.bad:
        lines = "1 line" if len(filled.bad) == 1 else f"{len(filled.bad):,} lines"
        say(f"error: {lines} could not be taken; the others are in")
        raise typer.Exit(1)
