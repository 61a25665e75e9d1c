"""``sample``: decisions to judge, drawn so that the judgements can be used."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, say
from router.cli.promising import Seed
from router.cli.reading import _enough, _rules
from router.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from router.analysis.sampling import Candidates, Item
    from router.log.queries import Filter
    from router.log.reader import Log

COLUMNS = (
    "decision_id",
    "verdict",
    "correct_label",
    "queue",
    "inclusion_probability",
    "note",
    "top_label",
    "confidence",
    "prompt",
)
"""Of the CSV: the first six are those of the feedback table, the rest is for whoever reads."""


def sample(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="audit|estimate|learn",
            help="audit: uniform, for promises; estimate: by strata, for estimates; learn: near the line, close or dear, to read.",
        ),
    ],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many decisions.")] = 200,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE|-", help="Where the CSV goes; - is standard output."),
    ] = "-",
    seed: Seed = 0,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Draw decisions to judge, as CSV. Write right or wrong under verdict, then 'routescope import' the file.

    The queue, the chance of being drawn and the reason are frozen on each row; leave them as they are. Decisions that were judged
    in this queue before are not drawn again. Delete rows that you did not judge before importing.
    """
    from router.analysis.judgements import QUEUES
    from router.log import evidence

    if queue not in QUEUES:
        raise InputError(f"found queue {queue[:40]!r}, expected one of {', '.join(QUEUES)}")
    picked = chosen(since, until)
    with reading(data) as log:
        pool = _pool(log, picked, queue, policy, data)
        _enough(len(pool), log, picked, f"with scores that were not judged in queue {queue}")
        items = _drawn(queue, _candidates(pool), n, seed)
        prompts = evidence.prompts(log, [x.decision_id for x in items])
    shown = {row.id: row for row in pool.itertuples(index=False)}
    if json:
        rows = [
            asdict(x)
            | {"top_label": shown[x.decision_id].label, "confidence": shown[x.decision_id].confidence}
            for x in items
        ]
        emit({"queue": queue, "seed": seed, "n_pool": len(pool), "items": rows})
    else:
        _write(items, shown, prompts, output)
    say(f"{len(items):,} of {len(pool):,} decisions drawn for queue {queue}, seed {seed}")
    if queue == "learn":
        say(
            "note: these are picked by doubt and cost; they say nothing about other decisions and feed no figure"
        )


def _pool(log: Log, picked: Filter, queue: str, policy: Path | None, data: Path | None) -> pd.DataFrame:
    """Decisions that may be drawn, newest first, with what each cost."""
    import numpy as np

    from router.log.evidence import MOST_ROWS, judgements, scored
    from router.log.sources import models

    _, book = _rules(policy, data)
    names = models(log, picked)
    table = scored(log, picked, (), names, book)
    if len(table) == MOST_ROWS:
        say(f"note: drawn from the newest {MOST_ROWS:,} decisions; choose others with --since and --until")
    costs = table[[f"cost:{x}" for x in names]].to_numpy(dtype=float, na_value=np.nan)
    place = {name: i for i, name in enumerate(names)}
    column = np.array([place.get(x, 0) for x in table["model"].tolist()], dtype=np.int64)
    table["cost"] = costs[np.arange(len(table)), column] if names else np.nan
    judged = judgements(log, picked)
    seen = set(judged["id"][judged["queue"] == queue])
    return table[~table["id"].isin(seen)].reset_index(drop=True)


def _candidates(pool: pd.DataFrame) -> Candidates:
    import numpy as np

    from router.analysis.sampling import Candidates

    numbers = {
        x: pool[x].to_numpy(dtype=float, na_value=np.nan)
        for x in ("confidence", "threshold", "margin", "cost")
    }
    return Candidates(id=pool["id"].tolist(), label=pool["label"].to_numpy(dtype=object), **numbers)


def _drawn(queue: str, candidates: Candidates, n: int, seed: int) -> tuple[Item, ...]:
    import numpy as np

    from router.analysis.sampling import draw_audit, draw_estimate, pick_learn

    rng = np.random.default_rng(seed)
    if queue == "audit":
        return draw_audit(candidates.id, n, rng=rng)
    if queue == "learn":
        return pick_learn(candidates, n)
    try:
        return draw_estimate(candidates, n, rng=rng)
    except ValueError as error:
        raise InputError(f"--number: {error}") from None


def _write(
    items: tuple[Item, ...], shown: dict[str, Any], prompts: dict[str, str | None], output: str
) -> None:
    from router.log.csv_text import cell

    lines = [",".join(COLUMNS)]
    for item in items:
        row = shown[item.decision_id]
        chance = "" if item.inclusion_probability is None else repr(item.inclusion_probability)
        prompt = prompts.get(item.decision_id)
        lines.append(
            ",".join(
                (
                    item.decision_id,
                    "",
                    "",
                    item.queue,
                    chance,
                    cell(item.reason),
                    cell(str(row.label)),
                    f"{row.confidence:.6g}",
                    "" if prompt is None else cell(prompt),
                )
            )
        )
    content = ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")
    if output == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    from router.log.export import new_file

    try:
        with new_file(Path(output)) as file:
            file.write(content)
    except OSError as error:
        raise ConfigurationError(
            f"{output} cannot be written: {error.strerror or type(error).__name__}"
        ) from None
