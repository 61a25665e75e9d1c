from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from router.errors import ConfigurationError, PolicyError
from router.policy import Policy, preset_toml
from router.policy_edit import diff, save, source_text, with_patch_text, with_threshold_text

SEED = preset_toml("seed")


def test_a_new_threshold_changes_one_line_and_keeps_its_comment_in_its_column() -> None:
    changed = with_threshold_text(SEED, 0.6)
    pairs = [(a, b) for a, b in zip(SEED.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert len(pairs) == 1
    old, new = pairs[0]
    assert new.startswith("threshold = 0.6 ")
    assert old.index("#") == new.index("#")
    assert old[old.index("#") :] == new[new.index("#") :]


def test_a_label_gets_a_threshold_of_its_own_inside_its_table() -> None:
    changed = with_threshold_text(SEED, 0.7, "coding")
    policy = Policy.from_toml(changed)
    assert policy.threshold_for("coding") == 0.7
    assert policy.threshold == policy.threshold_for("simple") == 0.55
    assert diff(SEED, changed).count("\n+") == 2  # the header and one line


def test_a_label_threshold_that_is_there_is_replaced() -> None:
    once = with_threshold_text(SEED, 0.7, "coding")
    twice = with_threshold_text(once, 0.65, "coding")
    assert twice == once.replace("threshold = 0.7\n", "threshold = 0.65\n")


def test_the_same_threshold_gives_the_same_text_and_no_diff() -> None:
    assert with_threshold_text(SEED, 0.55) == SEED
    assert diff(SEED, SEED) == ""


def test_labels_written_as_one_list_are_edited_too() -> None:
    text = (
        'threshold = 0.5  # all\nfallback_model = "gpt-4o"\n'
        'labels = [{name = "a", rubric = "r", model = "gpt-4o"}, {name = "b", rubric = "s", model = "gpt-4o"}]\n'
    )
    policy = Policy.from_toml(with_threshold_text(text, 0.25, "b"))
    assert [policy.threshold_for(name) for name in ("a", "b")] == [0.5, 0.25]


def test_windows_line_endings_stay() -> None:
    changed = with_threshold_text(SEED.replace("\n", "\r\n"), 0.6)
    assert changed.replace("\r\n", "").count("\n") == 0


@pytest.mark.parametrize(
    ("threshold", "label", "words"),
    [
        (1.5, None, "expected a number in [0, 1]"),
        (0.12345, None, "0.1234 and 0.1235"),
        (float("nan"), None, "expected a number in [0, 1]"),
        (0.5, "cooking", "no label 'cooking'; known: simple, coding, reasoning, creative"),
    ],
    ids=["outside", "off the grid", "not a number", "no such label"],
)
def test_an_edit_that_makes_no_policy_is_refused(threshold: float, label: str | None, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        with_threshold_text(SEED, threshold, label)
    assert words in str(caught.value)


def test_the_diff_shows_the_line_before_and_after() -> None:
    lines = diff(SEED, with_threshold_text(SEED, 0.6)).splitlines()
    assert [x[:17] for x in lines if x.startswith(("-t", "+t"))] == ["-threshold = 0.55", "+threshold = 0.6 "]


def test_source_text_is_the_file_then_the_folder_then_the_preset(tmp_path: Path) -> None:
    assert source_text(None, tmp_path) == SEED
    (tmp_path / "policy.toml").write_text("# mine\n" + SEED)
    assert source_text(None, tmp_path) == "# mine\n" + SEED
    other = tmp_path / "other.toml"
    other.write_text("# other\n" + SEED)
    assert source_text(other, tmp_path) == "# other\n" + SEED


def test_source_text_of_a_broken_file_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(SEED.replace("threshold = 0.55", "threshold = 7"))
    with pytest.raises(PolicyError) as caught:
        source_text(None, tmp_path)
    assert f"{tmp_path / 'policy.toml'}: threshold: found 7" in str(caught.value)


def test_the_first_save_makes_a_private_file_with_the_comments_of_the_preset(tmp_path: Path) -> None:
    path = save(tmp_path / "new", with_threshold_text(SEED, 0.6), expected_old=SEED)
    assert path == (tmp_path / "new" / "policy.toml").resolve()
    assert Policy.load(path).threshold == 0.6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "# weakest first" in path.read_text()
    assert os.listdir(path.parent) == ["policy.toml"]


def test_every_save_keeps_the_text_before_it_and_the_mode(tmp_path: Path) -> None:
    path = save(tmp_path, SEED, expected_old=None)
    path.chmod(0o640)
    second = with_threshold_text(SEED, 0.6)
    save(tmp_path, second, expected_old=SEED)
    save(tmp_path, with_threshold_text(SEED, 0.7), expected_old=second)
    assert (tmp_path / "policy.toml.bak").read_text() == SEED
    assert (tmp_path / "policy.toml.bak.2").read_text() == second
    assert Policy.load(path).threshold == 0.7
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["policy.toml", "policy.toml.bak", "policy.toml.bak.2"]


def test_a_file_that_changed_since_it_was_shown_is_left_alone(tmp_path: Path) -> None:
    path = save(tmp_path, SEED, expected_old=None)
    path.write_text("# a colleague\n" + SEED)
    with pytest.raises(ConfigurationError, match="changed after it was shown"):
        save(tmp_path, with_threshold_text(SEED, 0.6), expected_old=SEED)
    assert path.read_text() == "# a colleague\n" + SEED
    assert os.listdir(tmp_path) == ["policy.toml"]


def test_a_file_that_appeared_or_vanished_since_it_was_shown_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, "# mine\n" + SEED, expected_old=None)
    with pytest.raises(ConfigurationError, match="changed"):
        save(tmp_path, SEED, expected_old=None)
    path.unlink()
    with pytest.raises(ConfigurationError, match="removed"):
        save(tmp_path, SEED, expected_old="# mine\n" + SEED)
    assert not path.exists()


def test_text_that_is_no_policy_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"policy\.toml: threshold: found 2"):
        save(tmp_path / "new", SEED.replace("0.55", "2"), expected_old=None)
    assert not (tmp_path / "new").exists()


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text(SEED)
    (tmp_path / "policy.toml").symlink_to(real)
    save(tmp_path, with_threshold_text(SEED, 0.6), expected_old=SEED)
    assert (tmp_path / "policy.toml").is_symlink()
    assert Policy.load(real).threshold == 0.6


def test_the_policy_file_in_force_is_saved_where_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(SEED)
    save(tmp_path / "data", with_threshold_text(SEED, 0.6), expected_old=SEED, policy_file=mine)
    assert Policy.load(mine).threshold == 0.6
    assert not (tmp_path / "data").exists()


def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save(tmp_path / "data", SEED, expected_old=None)


def test_a_patch_changes_its_keys_alone_and_every_comment_stays() -> None:
    patch = """
        # evidence: 10 decisions
        threshold = 0.8  # was 0.55
        fallback_model = "gpt-4.1"
        [[labels]]
        name = "coding"
        model = "gpt-4o"  # was "claude-sonnet-4-5"
        threshold = 0.7
    """
    changed = with_patch_text(SEED, patch)
    rules, seed = Policy.from_toml(changed), Policy.from_toml(SEED)
    assert (rules.threshold, rules.fallback_model, rules.threshold_for("coding")) == (0.8, "gpt-4.1", 0.7)
    assert rules.by_name["coding"].model == "gpt-4o"
    assert rules.by_name["simple"] == seed.by_name["simple"]
    assert [x.split("#")[1] for x in SEED.splitlines() if "#" in x] == [
        x.split("#")[1] for x in changed.splitlines() if "#" in x
    ]


PRICE = '\n[models."my-own"]\nprovider = "openai"\n price={   input = "0.10",output  =  "1.00" , source="x" }   # mine\n'


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    "text",
    [
        SEED + PRICE,
        SEED.replace("[[labels]]", PRICE + "\n[[labels]]", 1),
        SEED.split("[models")[0].rstrip() + "  # end",
    ],
    ids=["price at the end", "price between tables", "no end of line"],
)
@pytest.mark.parametrize(
    ("patch", "lines"),
    [
        ("threshold = 0.8", ["threshold = 0.8 "]),
        ("min_margin = 0.1", ["min_margin = 0.1"]),
        ("[[labels]]\nname = 'coding'\nthreshold = 0.4", ["threshold = 0.4"]),
        ("baseline = 'gpt-4o'\n[[labels]]\nname = 'creative'\nmodel = 'gpt-4.1'\nthreshold = 0.4",
         ["baseline = ", 'model = "gpt-4.1"', "threshold = 0.4"]),
    ],
    ids=["threshold", "new key", "label", "three"],
)  # fmt: skip
def test_a_patch_leaves_every_other_byte(text: str, newline: str, patch: str, lines: list[str]) -> None:
    text = text.replace("\n", newline)
    old = text.encode().split(newline.encode())
    new = with_patch_text(text, patch).encode().split(newline.encode())
    changed = [x for x in new if x not in old]
    for line, start in zip(changed, lines, strict=True):
        assert line.decode().startswith(start)
    kept = [x for x in new if x in old]
    assert [x for x in old if x in kept] == kept  # in their order, none twice
    replaced = [x for x in old if x not in kept]
    assert len(replaced) + (len(new) - len(old)) == len(lines)


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("threshold = ", "not TOML"),
        ("# nothing", "it is empty: it sets no key$"),
        ("# this patch is empty: of a reason\r\n", "it is empty: of a reason$"),
        (
            "# not in the patch: a: 1 -> 2\n# not in the patch: b",
            "edit the policy. Not in the patch: a: 1 -> 2; b$",
        ),
        ("treshold = 0.5", "treshold: a patch sets threshold"),
        ("[[labels]]\nname = 'coding'\nrubric = 'x'", "labels.rubric"),
        ("[[labels]]\nmodel = 'gpt-4o'", "each with the name of a label"),
        ("[[labels]]\nname = 'poems'\nmodel = 'gpt-4o'", "no label 'poems'; known: simple"),
        ("threshold = 1.5", "threshold"),
    ],
    ids=["no TOML", "nothing", "reason", "left out", "typo", "rubric", "no name", "no label", "no number"],
)
def test_a_patch_that_cannot_be_applied_says_why(patch: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        with_patch_text(SEED, patch)
