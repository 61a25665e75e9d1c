import hashlib
import json
import math
import re
import statistics
import subprocess
import sys
import tomllib
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm

from router.demo import (
    CONTEXT_TOKENS,
    DEMO_MARK,
    HOURS,
    KIND_GROWTH,
    OUTPUT_SIGMA,
    TOKENS_ARE_ASSUMED,
    TRAFFIC_IS_DRAWN,
    TREND,
    WEEKDAYS,
    Sample,
    draw_traffic,
    is_demo,
    load_samples,
    parse_samples,
    prepare_folder,
)
from router.errors import ConfigurationError
from router.log.lock import OwnerLock
from router.log.owner import take_turn
from router.log.spool import Spool

MONDAY = datetime(2026, 11, 23)  # 00:00, so that 14 days before it are two whole weeks from Monday to Sunday
SAMPLES = load_samples()
FOREIGN = (
    "¿cuántos wie wo bedeutet quel quelle traduza qual kiek kada escribe skript comment vergleiche analiza notre "
    "condições perché palygink schreib poema écris inventa scrivi sukurk"
)
GROUPS = {
    "simple": "lookup search support convert translate rewrite extract command",
    "coding": "code stacktrace sql regex bash review config",
    "reasoning": "maths proof tradeoff plan contract budget diagnosis reasoning",
    "creative": "copy poem toast roleplay brainstorm story creative",
    "between": "mixed brief",
}


@pytest.fixture(scope="module")
def many():
    return draw_traffic(SAMPLES, 60_000, end=MONDAY)


def normal(text):
    return " ".join(re.findall(r"\w+", text.casefold()))


# The packaged prompts


def test_there_are_three_to_five_hundred_prompts_and_no_two_are_alike():
    assert 300 <= len(SAMPLES) <= 500
    twice = [text for text, n in Counter(normal(x.prompt) for x in SAMPLES).items() if n > 1]
    assert twice == []


def test_a_sample_carries_no_label():
    lines = files("router.presets").joinpath("samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert {tuple(json.loads(line)) for line in lines} == {("prompt", "kind", "weight", "output_tokens")}


def test_kinds_are_known_and_the_mix_is_that_of_a_company():
    groups = {kind: group for group, kinds in GROUPS.items() for kind in kinds.split()}
    weight = Counter()
    for sample in SAMPLES:
        weight[groups[sample.kind]] += sample.weight
    share = {group: w / weight.total() for group, w in weight.items()}
    assert 0.36 <= share["simple"] <= 0.46
    assert 0.14 <= share["coding"] <= 0.22
    assert 0.12 <= share["reasoning"] <= 0.20
    assert 0.10 <= share["creative"] <= 0.18
    assert 0.10 <= share["between"] <= 0.20


def test_no_prompt_holds_an_address_or_a_telephone_number():
    private = re.compile(r"[\w.+-]+@[\w-]+\.\w{2,}|(?:\+|00)\d[\d ()/-]{7,}|https?://")
    assert [x.prompt for x in SAMPLES if private.search(x.prompt)] == []


def test_lengths_run_from_a_few_words_to_long_briefs_with_pasted_material():
    lengths = [len(x.prompt) for x in SAMPLES]
    assert min(lengths) < 20
    assert sum(1500 <= n <= 4000 for n in lengths) >= 7
    assert max(lengths) <= 4000
    assert sum("\n" in x.prompt for x in SAMPLES) >= 40


def test_about_a_tenth_is_in_other_languages():
    words = set(FOREIGN.split())
    foreign = 0
    for sample in SAMPLES:
        letters = [c for c in sample.prompt if c.isalpha()]
        latin = sum("LATIN" in unicodedata.name(c, "") for c in letters)
        spoken = set(re.findall(r"[¿\w]+", sample.prompt.casefold()))
        foreign += latin < len(letters) / 2 or bool(words & spoken)
    assert 0.07 <= foreign / len(SAMPLES) <= 0.13


def test_no_prompt_is_also_an_example_that_the_classifier_learns_from():
    examples = tomllib.loads(files("router.presets").joinpath("examples.toml").read_text(encoding="utf-8"))
    learned = {normal(text) for texts in examples.values() if isinstance(texts, list) for text in texts}
    assert learned
    learned_words = [set(text.split()) for text in learned]
    for sample in SAMPLES:
        words = set(normal(sample.prompt).split())
        assert max(len(words & other) / len(words | other) for other in learned_words) < 0.8, sample.prompt


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": " "}, {"prompt": 3}, {"kind": ""}, {"weight": 0}, {"weight": math.inf}, {"weight": math.nan},
        {"weight": "2"}, {"weight": True}, {"output_tokens": 0}, {"output_tokens": 1.5}, {"output_tokens": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_record_is_refused_by_its_line(change):
    good = {"prompt": "secret words", "kind": "lookup", "weight": 1, "output_tokens": 5}
    text = json.dumps(good) + "\n\n" + json.dumps(good | change)
    with pytest.raises(ConfigurationError, match="line 3") as caught:
        parse_samples(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", ['{"prompt": "secret words"', "[1]", '{"prompt": "secret words"}', "7"])
def test_a_line_that_is_no_record_is_refused_and_never_quoted(line):
    with pytest.raises(ConfigurationError, match="line 1") as caught:
        parse_samples(line)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_a_line_separator_inside_a_prompt_does_not_end_the_record():
    row = {"prompt": "one\u2028two\x0c", "kind": "lookup", "weight": 1.5, "output_tokens": 5}
    assert parse_samples(json.dumps(row, ensure_ascii=False)) == (
        Sample("one\u2028two\x0c", "lookup", 1.5, 5),
    )


def test_a_samples_repr_does_not_show_its_prompt():
    assert "secret" not in repr(Sample("secret words", "lookup", 1, 5))


# The traffic


@settings(deadline=None, max_examples=60)
@given(
    end=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    days=st.integers(1, 20),
    requests=st.integers(0, 60),
    seed=st.integers(0, 2**32),
)
def test_visits_are_ordered_and_lie_after_the_start_and_not_after_the_end(end, days, requests, seed):
    visits = draw_traffic(SAMPLES, requests, end=end, days=days, seed=seed)
    times = [x.decided_at for x in visits]
    assert len(visits) == requests
    assert times == sorted(times)
    assert all(end - timedelta(days=days) < t <= end and t.tzinfo is None for t in times)
    assert all(0 <= x.sample < len(SAMPLES) and x.input_tokens >= 1 and x.output_tokens >= 1 for x in visits)
    assert all(x.classify_ms_factor > 0 for x in visits)


def fit(observed, rates):
    """p-value that counts follow the rates."""
    total = sum(observed)
    return chisquare(observed, [total * r / sum(rates) for r in rates]).pvalue


def test_hours_of_weekdays_follow_the_office_and_no_other_clock(many):
    counts = Counter(x.decided_at.hour for x in many)
    observed = [counts[h] for h in range(24)]
    assert fit(observed, HOURS) > 0.001
    # The statistic can fail: a clock that is one hour off, and a flat day, are told apart with certainty.
    assert fit(observed, HOURS[1:] + HOURS[:1]) < 1e-30
    assert fit(observed, [1] * 24) < 1e-30


def test_days_follow_the_week_and_weekends_are_thin(many):
    counts = Counter(x.decided_at.weekday() for x in many)
    observed = [counts[d] for d in range(7)]
    # Each weekday comes twice, d and d + 7 days after the start, with the trend at its noon.
    rates = [r * (2 + TREND * (d + 0.5) / 14 + TREND * (d + 7.5) / 14) for d, r in enumerate(WEEKDAYS)]
    assert fit(observed, rates) > 0.001
    assert fit(observed, rates[1:] + rates[:1]) < 1e-30
    assert max(observed[5:]) < min(observed[:5]) / 3


def test_nights_are_thin_and_office_hours_hold_most_of_it(many):
    hours = Counter(x.decided_at.hour for x in many)
    assert sum(hours[h] for h in range(6)) < 0.04 * len(many)
    assert sum(hours[h] for h in range(8, 17)) > 0.65 * len(many)


def test_the_second_week_is_busier_by_the_trend(many):
    first = sum(x.decided_at <= MONDAY - timedelta(days=7) for x in many)
    ratio = (len(many) - first) / first
    # Weekdays carry the weeks; their middle days lie 2.5 and 9.5 days after the start.
    expected = (1 + TREND * 9.5 / 14) / (1 + TREND * 2.5 / 14)
    assert ratio == pytest.approx(expected, abs=4 * 2 / math.sqrt(len(many)))
    assert ratio > 1 + 4 * 2 / math.sqrt(len(many))


def test_samples_come_by_their_weight():
    samples = [Sample("a", "lookup", w, 5) for w in (1, 2, 3.5, 6)]
    counts = Counter(x.sample for x in draw_traffic(samples, 20_000, end=MONDAY))
    assert fit([counts[i] for i in range(4)], [1, 2, 3.5, 6]) > 0.001
    assert fit([counts[i] for i in range(4)], [1, 2, 3, 6]) < 1e-9


def test_the_mix_shifts_mildly_from_support_to_code(many):
    def share(visits, kind):
        return sum(SAMPLES[x.sample].kind == kind for x in visits) / len(visits)

    third = len(many) // 3
    for kind in ("support", "code"):
        before, after = share(many[:third], kind), share(many[-third:], kind)
        z = (after - before) / math.sqrt((before * (1 - before) + after * (1 - after)) / third)
        assert norm.sf(math.copysign(1, KIND_GROWTH[kind]) * z) < 1e-3, kind
        assert 0.75 < after / before < 1.33, kind


def test_input_is_a_quarter_of_the_characters_plus_a_context_and_output_lies_around_the_sample(many):
    context = [x.input_tokens - len(SAMPLES[x.sample].prompt) / 4 for x in many]
    assert statistics.median(context) == pytest.approx(CONTEXT_TOKENS, rel=0.03)
    assert min(context) > 0
    spread = [math.log(x.output_tokens / SAMPLES[x.sample].output_tokens) for x in many]
    assert statistics.median(spread) == pytest.approx(0, abs=0.01)
    assert statistics.stdev(spread) == pytest.approx(OUTPUT_SIGMA, rel=0.03)
    assert statistics.median(x.classify_ms_factor for x in many) == pytest.approx(1, abs=0.01)


def digest(visits):
    return hashlib.sha256(repr(visits).encode()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_another_seed_others():
    end = datetime(2026, 11, 25, 3, 41, 7, 123456)
    code = (
        "import hashlib, datetime as d; from router.demo import *; "
        "v = draw_traffic(load_samples(), 500, end=d.datetime(2026, 11, 25, 3, 41, 7, 123456), seed=3); "
        "import sys; sys.stdout.write(hashlib.sha256(repr(v).encode()).hexdigest())"
    )
    there = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": s},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for s in ("0", "1")
    }
    assert there == {digest(draw_traffic(SAMPLES, 500, end=end, seed=3))}
    assert digest(draw_traffic(SAMPLES, 500, end=end, seed=4)) not in there


@pytest.mark.parametrize(
    ("samples", "change", "says"),
    [
        ((), {}, "no sample prompts"),
        (SAMPLES, {"requests": -1}, "-1 requests"),
        (SAMPLES, {"days": 0}, "0 days"),
        (SAMPLES, {"end": MONDAY.replace(tzinfo=UTC)}, "time zone"),
    ],
    ids=["no samples", "negative requests", "no days", "aware end"],
)
def test_wrong_arguments_are_refused(samples, change, says):
    with pytest.raises(ConfigurationError, match=says):
        draw_traffic(samples, **({"requests": 5, "end": MONDAY} | change))


def test_the_sentences_say_what_is_assumed_and_what_is_drawn():
    assert "assumed" in TOKENS_ARE_ASSUMED and "No model was called" in TOKENS_ARE_ASSUMED
    assert "not observed" in TRAFFIC_IS_DRAWN


# The folder


def tree(folder):
    """Every path below a folder with its content, links as where they lead."""
    return {
        p.relative_to(folder).as_posix(): str(p.readlink())
        if p.is_symlink()
        else p.is_file() and p.read_bytes()
        for p in sorted(folder.rglob("*"))
    }


def leave_a_demo(folder):
    """What a demo leaves: a real database and spool, a policy, saved heads."""
    prepare_folder(folder)
    spool = Spool(folder)
    assert spool.append({"kind": "drop", "reason": "disk full", "n": 1, "dropped_at": datetime(2026, 11, 1)})
    assert take_turn(folder) is not None
    spool.close()
    (folder / "policy.toml").write_text("threshold = 0.6\n")
    (folder / "policy.toml.bak").write_text("threshold = 0.5\n")
    (folder / "decisions.duckdb.wal").write_bytes(b"left by a kill")
    (folder / "head-both-0f3a.npz").write_bytes(b"x")
    (folder / "archive/day=2026-11-01").mkdir(parents=True)
    (folder / "archive/day=2026-11-01/part.parquet").write_bytes(b"x")
    assert (folder / "decisions.duckdb").stat().st_size > 0


@pytest.mark.parametrize("exists", [False, True], ids=["missing, with its parents", "empty"])
def test_a_new_folder_gets_the_marker_and_nothing_else(tmp_path, exists):
    folder = tmp_path / "data" / "demo"
    if exists:
        folder.mkdir(parents=True)
    assert not is_demo(folder)
    assert prepare_folder(str(folder)) == folder
    assert list(tree(folder)) == [DEMO_MARK]
    assert "routescope demo" in (folder / DEMO_MARK).read_text()
    assert is_demo(folder)


def test_what_a_former_demo_left_is_removed_but_for_the_lock(tmp_path):
    leave_a_demo(tmp_path)
    inode = (tmp_path / "owner.lock").stat().st_ino
    prepare_folder(tmp_path)
    assert list(tree(tmp_path)) == [DEMO_MARK, "owner.lock"]
    assert (
        tmp_path / "owner.lock"
    ).stat().st_ino == inode  # the same file, so nobody holds a lock of its ghost
    lock = OwnerLock(tmp_path)
    assert lock.acquire("turn")  # and it was given back
    lock.release()
    prepare_folder(tmp_path)


def test_a_folder_with_a_log_of_its_own_is_refused_and_left_as_it_is(tmp_path):
    assert take_turn(tmp_path) is not None
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=r"holds a decision log that the demo did not make.*--data"):
        prepare_folder(tmp_path)
    assert tree(tmp_path) == before


def test_a_folder_with_other_files_is_refused_by_name_and_left_as_it_is(tmp_path):
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt"):
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=r"a\.txt, b\.txt, c\.txt and 2 more.*--data"):
        prepare_folder(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "spool/notes.txt",
        "spool/deep/x.jsonl",
        "mine/x.jsonl",
        "decisions.duckdb.copy",
        "policy.tom",
    ],
)
def test_a_demo_folder_with_a_file_of_someone_else_is_not_rebuilt(tmp_path, path):
    leave_a_demo(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match="Nothing was changed"):
        prepare_folder(tmp_path)
    assert tree(tmp_path) == before


def test_an_empty_folder_that_the_demo_does_not_know_is_not_removed(tmp_path):
    prepare_folder(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigurationError, match="found mine"):
        prepare_folder(tmp_path)
    assert (tmp_path / "mine").is_dir()


def test_a_linked_folder_is_never_followed(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "demo"
    outside.mkdir()
    (outside / "x.jsonl").write_text("mine")
    prepare_folder(folder)
    (folder / "spool").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="found spool"):
        prepare_folder(folder)
    assert (outside / "x.jsonl").read_text() == "mine"


def test_of_a_linked_file_only_the_link_goes(tmp_path):
    target, folder = tmp_path / "policy.toml", tmp_path / "demo"
    target.write_text("mine")
    prepare_folder(folder)
    (folder / "policy.toml").symlink_to(target)
    prepare_folder(folder)
    assert not (folder / "policy.toml").is_symlink()
    assert target.read_text() == "mine"


def test_a_file_managers_own_file_is_neither_an_obstacle_nor_removed(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    prepare_folder(tmp_path)
    prepare_folder(tmp_path)
    assert (tmp_path / ".DS_Store").read_bytes() == b"x"


def test_a_running_demo_is_refused_with_its_process_until_it_ends(tmp_path):
    leave_a_demo(tmp_path)
    code = (
        "import sys; from pathlib import Path; from router.log.lock import OwnerLock; "
        "lock = OwnerLock(Path(sys.argv[1])); assert lock.acquire('dashboard'); "
        "sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        before = tree(tmp_path)
        with pytest.raises(
            ConfigurationError, match=rf"a demo is running in .*process {other.pid} .*stop it"
        ):
            prepare_folder(tmp_path)
        assert tree(tmp_path) == before
        other.stdin.close()
        assert other.wait(20) == 0
    prepare_folder(tmp_path)
    assert not (tmp_path / "decisions.duckdb").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    file = tmp_path / "demo"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="is a file, expected a folder"):
        prepare_folder(file)
    assert file.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"Not a directory.*--data"):
        prepare_folder(tmp_path / "file" / "demo")


def test_a_marker_that_is_a_folder_is_no_marker(tmp_path):
    (tmp_path / DEMO_MARK).mkdir()
    with pytest.raises(ConfigurationError, match="did not make"):
        prepare_folder(Path(tmp_path))
