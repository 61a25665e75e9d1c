"""``ask``: decide, call the chosen model, print its reply."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import Data, Json, PolicyFile, Text, read_prompt
from router.cli.output import emit, money, say, visible
from router.cli.routing import decision_document, say_where, warm_up
from router.errors import ProviderError

if TYPE_CHECKING:
    from router.core import Router
    from router.types import Attempt, Reply

_ODD_ENDS = {
    "length": "the reply was cut at the token limit; raise --max-tokens",
    "refusal": "the model refused",
    "content_filter": "the provider's filter stopped the reply",
    "tool_call": "the model asked for a tool; its call is not run here",
    "cancelled": "the reply was cut short",
}


def ask(
    text: Text,
    stream: Annotated[bool, typer.Option("--stream", help="Print the reply as it arrives.")] = False,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", show_default=False, help="System instruction.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=1, show_default=False, help="Longest reply. Default: the policy's, by model."
        ),
    ] = None,
    max_usd: Annotated[
        str | None,
        typer.Option(
            "--max-usd",
            metavar="USD",
            show_default=False,
            help="Do not call when the reply could cost more than this. Default: the policy's [spend] caps.",
        ),
    ] = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Decide, call the chosen model and print its reply. Tokens, cost and time are logged."""
    from router.core import Router
    from router.spend_caps import usd

    if stream and json:
        raise typer.BadParameter(
            "--stream prints text as it arrives, --json one document at the end; give one of them"
        )
    prompt = read_prompt(text)
    cap = None if max_usd is None else usd(max_usd, "--max-usd")
    with Router(policy, data=data, source="cli", max_usd=cap) as router:
        warm_up(router.classifier, router.policy)
        try:
            if stream:
                reply = _streamed(router, prompt, system, max_tokens)
            else:
                reply = router.ask(prompt, system=system, max_tokens=max_tokens)
        except ProviderError as error:
            if error.decision is not None:
                _say_failed(error.decision.failed_attempts)
            raise
    if json:
        emit(
            {
                "text": reply.text,
                "outcome": reply.outcome,
                "usage": None if reply.usage is None else asdict(reply.usage),
                "cost_usd": reply.cost_usd,
                "tool_calls": [asdict(call) for call in reply.tool_calls],
                "decision": decision_document(reply.decision),
            }
        )
    elif not stream:
        typer.echo(_safe(reply.text))
    _say_failed(reply.decision.failed_attempts)
    _say_reply(reply)
    say_where(router, 1)


def _streamed(router: Router, prompt: str, system: str | None, max_tokens: int | None) -> Reply:
    with router.stream(prompt, system=system, max_tokens=max_tokens) as stream:
        for piece in stream:
            typer.echo(_safe(piece), nl=False)
            sys.stdout.flush()
    typer.echo()
    assert stream.reply is not None  # set when the last piece was taken; anything else has raised
    return stream.reply


def _safe(text: str) -> str:
    """A model's words: as they are into a file or pipe, without control characters on a terminal."""
    return visible(text) if sys.stdout.isatty() else text


def _say_failed(attempts: Sequence[Attempt]) -> None:
    """A line for each request that failed before the last one."""
    for failed in attempts:
        took = "" if failed.total_ms is None else f" after {failed.total_ms / 1000:.1f} s"
        cost = "cost not known" if failed.cost_usd is None else money(failed.cost_usd)
        say(f"failed first: {failed.model} ({failed.outcome}){took}; {cost}")


def _say_reply(reply: Reply) -> None:
    decision, usage = reply.decision, reply.usage
    label = "no label" if decision.top_label is None else f"{decision.top_label} {decision.confidence:.4f}"
    tokens = "tokens not known"
    if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
        tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    took = "" if decision.total_ms is None else f", {decision.total_ms / 1000:.1f} s"
    say(f"{label} -> {decision.model_used} ({decision.cause}); {tokens}, {money(reply.cost_usd)}{took}")
    if reply.outcome in _ODD_ENDS:
        say(f"note: {_ODD_ENDS[reply.outcome]}")
