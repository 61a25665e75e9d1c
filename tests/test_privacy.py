"""What of a prompt reaches the log: nothing more than was asked for, in no file, whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest
from log_samples import Fixed, decision

from router import AsyncRouter, ConfigurationError, Policy, Router, open_log
from router.log.export import export
from router.log.privacy import EDGE_CHARS, Privacy
from router.log.queries import Filter
from router.log.record import decision_payload
from router.log.writer import Writer
from router.log_settings import MAX_PROMPT_CHARS, LogSettings

SECRET = "hunter42x"
PROMPT = f"my password is {SECRET}, write to jo@example.org please"


def stored(prompt: str, **settings) -> dict:
    return decision_payload(decision(prompt=prompt), Privacy(**settings))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def files(data: Path) -> bytes:
    """Every byte of a data folder."""
    return b"".join(path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file())


def test_full_stores_the_prompt_its_hash_and_its_length():
    record = stored(PROMPT, prompts="full")
    assert (record["prompt"], record["prompt_sha256"], record["prompt_chars"]) == (
        PROMPT,
        sha(PROMPT),
        len(PROMPT),
    )
    assert "extra" not in record


def test_truncated_stores_the_beginning_and_says_so():
    record = stored("0123456789", prompts="truncated:4")
    assert (record["prompt"], record["prompt_chars"], record["extra"]) == ("0123", 10, {"prompt_cut": 4})
    assert record["prompt_sha256"] == sha("0123456789")
    assert "extra" not in stored("0123", prompts="truncated:4")


def test_hash_stores_hash_and_length_alone():
    record = stored(PROMPT, prompts="hash")
    assert "prompt" not in record
    assert (record["prompt_sha256"], record["prompt_chars"]) == (sha(PROMPT), len(PROMPT))


def test_none_stores_the_length_alone():
    record = stored(PROMPT, prompts="none")
    assert not {"prompt", "prompt_sha256"} & record.keys()
    assert record["prompt_chars"] == len(PROMPT)


@pytest.mark.parametrize("prompts", ["hash", "none"])
def test_a_long_prompt_that_is_not_stored_is_not_called_cut(prompts):
    assert "extra" not in stored("x" * 10 * MAX_PROMPT_CHARS, prompts=prompts)


def test_redacted_text_is_stored_with_a_hash_of_what_is_stored():
    record = stored(PROMPT, redact="packaged")
    text = "my password is [redacted:secret], write to [redacted:email] please"
    assert (record["prompt"], record["prompt_sha256"]) == (text, sha(text)), (
        "the whole's hash would let secrets be guessed"
    )
    assert (record["prompt_chars"], record["extra"]) == (len(PROMPT), {"redacted": True})


def test_a_clean_prompt_is_stored_as_it_is():
    record = stored("what is the capital of peru", redact="packaged")
    assert (record["prompt"], record["prompt_sha256"]) == (
        "what is the capital of peru",
        sha("what is the capital of peru"),
    )
    assert "extra" not in record


@pytest.mark.parametrize("lead", range(0, 60, 3))
def test_a_secret_across_the_cut_is_not_stored_by_half(lead):
    text = "x" * (40 - lead) + " " + PROMPT
    for n in (20, 45, 60):
        kept = stored(text, prompts=f"truncated:{n}", redact="packaged")["prompt"]
        assert len(kept) <= n
        assert SECRET[:5] not in kept


@pytest.mark.parametrize("before", range(0, 40, 2))
def test_a_secret_at_the_end_of_what_is_looked_at_is_not_stored_by_half(before):
    window = MAX_PROMPT_CHARS + EDGE_CHARS
    text = "y" * (window - 40 + before) + " password=" + SECRET + " " + "z" * EDGE_CHARS
    record = stored(text, redact="packaged")
    assert SECRET[:3] not in record["prompt"]
    assert len(record["prompt"]) <= MAX_PROMPT_CHARS
    assert record["extra"]["prompt_cut"] == len(record["prompt"])


def test_a_hook_of_ones_own_is_used():
    record = stored("the eagle has landed", redact=lambda text: text.replace("eagle", "bird"))
    assert record["prompt"] == "the bird has landed"
    assert record["prompt_sha256"] == sha("the bird has landed")


def raises(text: str) -> str:
    raise ValueError(f"cannot redact {text}")


@pytest.mark.parametrize(
    "hook", [raises, lambda text: None, lambda text: 7, len], ids=["raises", "none", "number", "len"]
)
def test_a_hook_that_fails_loses_no_decision_and_leaks_no_prompt(tmp_path, caplog, hook):
    with (
        Router(Policy.preset("seed"), classifier=Fixed(), data=tmp_path, redact=hook) as client,
        caplog.at_level(logging.DEBUG),
    ):
        for _ in range(3):
            assert client.route(PROMPT).prompt == PROMPT
        assert client.metrics()["redaction_failures"] == 3
        assert not client.dropped
    assert SECRET.encode() not in files(tmp_path)
    assert SECRET not in caplog.text
    assert len([x for x in caplog.records if x.name == "routescope"]) == 1
    with open_log(tmp_path) as log:
        rows = log.rows("SELECT prompt, prompt_sha256, CAST(extra AS VARCHAR) FROM decisions")
    assert rows == [(None, sha(PROMPT), '{"redaction_failed":true}')] * 3


@pytest.mark.parametrize("durability", ["process", "async", "power"])
@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({"prompts": "hash"}, PROMPT[:8]),
        ({"prompts": "none"}, sha(PROMPT)),
        ({"prompts": "none"}, PROMPT[:8]),
        ({"prompts": "truncated:11"}, SECRET),
        ({"redact": "packaged"}, SECRET),
        ({"redact": "packaged"}, "jo@example"),
        ({"redact": "packaged"}, sha(PROMPT)),
        ({"redact": lambda text: "all gone"}, "password"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_what_is_kept_away_is_in_no_byte_of_the_folder(tmp_path, durability, settings, gone):
    with Router(
        Policy.preset("seed"), classifier=Fixed(), data=tmp_path, durability=durability, **settings
    ) as client:
        made = client.route(PROMPT)
        assert (made.prompt, made.prompt_sha256) == (PROMPT, sha(PROMPT)), "the caller's decision is whole"
        client.flush()
        assert gone.encode() not in files(tmp_path)
    assert gone.encode() not in files(tmp_path)
    with open_log(tmp_path) as log:
        assert log.count() == 1


def test_the_policy_file_sets_it_and_an_argument_wins(tmp_path):
    (tmp_path / "policy.toml").write_text(
        Policy.preset("seed")
        .to_toml()
        .replace("[[labels]]", '[log]\nprompts = "none"\nredact = "packaged"\n\n[[labels]]', 1)
    )
    with Router(classifier=Fixed(), data=tmp_path) as client:
        client.route(PROMPT)
    with Router(classifier=Fixed(), data=tmp_path, prompts="full") as client:
        client.route(PROMPT)
    with Router(classifier=Fixed(), data=tmp_path, prompts="full", redact="off") as client:
        client.route(PROMPT)
    with open_log(tmp_path) as log:
        rows = log.rows("SELECT prompt FROM decisions ORDER BY rowid")
    assert [row[0] for row in rows] == [
        None,
        "my password is [redacted:secret], write to [redacted:email] please",
        PROMPT,
    ]


def test_an_async_router_keeps_away_what_it_is_told_to(tmp_path):
    import asyncio

    async def main() -> None:
        async with AsyncRouter(
            Policy.preset("seed"), classifier=Fixed(), data=tmp_path, prompts="hash", durability="async"
        ) as client:
            await asyncio.gather(*(client.route(f"{PROMPT} {n}") for n in range(20)))

    asyncio.run(main())
    assert SECRET.encode() not in files(tmp_path)
    with open_log(tmp_path) as log:
        assert log.rows("SELECT count(*), count(prompt), count(DISTINCT prompt_sha256) FROM decisions") == [
            (20, 0, 20)
        ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"prompts": "some"},
            'prompts: found \'some\', expected "full", "truncated:N" with N from 1 to 100,000',
        ),
        ({"prompts": "truncated:0"}, "prompts: found 'truncated:0'"),
        ({"prompts": "truncated:100001"}, "prompts: found 'truncated:100001'"),
        ({"prompts": "truncated:-3"}, "prompts: found 'truncated:-3'"),
        ({"prompts": 3}, "prompts: found a int"),
        ({"redact": "all"}, "redact: found 'all', expected one of off, packaged"),
        ({"redact": 3}, 'redact: found a int, expected "off", "packaged" or a callable from text to text'),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(tmp_path, arguments, says):
    with pytest.raises(ConfigurationError) as caught:
        Writer(tmp_path, **arguments)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("prompts", ["hash", "none"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_without_prompts_can_be_exported(tmp_path, prompts, form):
    writer = Writer(tmp_path / "data", turns=False, prompts=prompts)
    for number in range(5):
        writer.log(decision(number, prompt=PROMPT))
    writer.close()
    target = tmp_path / f"out.{form}"
    with open_log(tmp_path / "data") as log, open(target, "wb") as file:
        export(log, Filter(), file, form)
    text = target.read_bytes()
    assert text and SECRET.encode() not in text
    if form == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row.get("prompt_sha256") is None for row in rows] == [prompts == "none"] * 5


def test_the_settings_say_what_is_wrong_with_them_all_at_once():
    assert len(list(LogSettings("x", "y", "z").faults())) == 3
    assert list(LogSettings().faults()) == []
