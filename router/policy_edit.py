"""Change a policy's text without losing its comments, show the difference, and save it safely."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from router.config import policy_path
from router.errors import ConfigurationError, PolicyError
from router.policy import EMPTY_PATCH, NOT_IN_PATCH, PRESETS, Policy, preset_toml

POLICY_FILE = "policy.toml"


def source_text(policy_file: str | os.PathLike[str] | None, data: Path) -> str:
    """The text that an edit starts from: the file, else ``<data>/policy.toml``, else preset "seed", comments included.

    Raises
    ------
    PolicyError
        The file cannot be read, is not UTF-8 or is not a valid policy.
    """
    path = policy_path(policy_file, data)
    if path is None:
        return preset_toml("seed")
    Policy.load(path)  # refuses what cannot be read, in the words of the loader
    text = _read(path)
    if text is None:
        raise PolicyError("was removed while it was read; try again", str(path))
    return text


def with_threshold_text(text: str, threshold: float, label: str | None = None) -> str:
    """The same text with another threshold, of the whole policy or of one label; all comments stay.

    Parameters
    ----------
    threshold : in [0, 1], on the 1e-4 grid.
    label : None changes the policy's threshold; labels that have their own keep it.

    Raises
    ------
    PolicyError
        The text, or what it would become, is not a valid policy; or it has no such label.
    """
    policy = Policy.from_toml(text)
    if label is not None and label not in policy.by_name:
        raise PolicyError(f"no label {label!r}; known: {', '.join(policy.label_names)}")
    changed = _edited(text, label, {"threshold": float(threshold)})
    Policy.from_toml(changed)
    return changed


def with_patch_text(text: str, patch: str) -> str:
    """The same text with the keys that a patch of ``routescope policy diff --toml`` sets; all other lines stay.

    Parameters
    ----------
    patch : TOML with keys of the policy at the top, and ``[[labels]]`` tables that name a label and what changes in it.

    Raises
    ------
    PolicyError
        The patch is no TOML, sets a key that a patch may not set or names a label that the policy has not; or the text, or what
        it would become, is not a valid policy.
    """
    policy = Policy.from_toml(text)
    changes = _parsed_patch(patch)
    changed = _edited(text, None, {key: value for key, value in changes.items() if key != "labels"})
    for change in changes.get("labels", []):
        name = change["name"]
        if name not in policy.by_name:
            raise PolicyError(f"patch: no label {str(name)[:40]!r}; known: {', '.join(policy.label_names)}")
        changed = _edited(changed, name, change)
    Policy.from_toml(changed)
    return changed


_PATCHED = ("threshold", "min_margin", "fallback_model", "baseline", "labels")
_PATCHED_LABEL = ("name", "model", "threshold")


def _parsed_patch(patch: str) -> dict[str, Any]:
    import tomllib

    try:
        found = tomllib.loads(patch)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"patch: not TOML: {error}") from None
    labels = found.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(x, dict) and "name" in x for x in labels):
        raise PolicyError("patch: labels: expected [[labels]] tables, each with the name of a label")
    unknown = [key for key in found if key not in _PATCHED]
    unknown += [f"labels.{key}" for x in labels for key in x if key not in _PATCHED_LABEL]
    if unknown:
        raise PolicyError(
            f"patch: {', '.join(dict.fromkeys(unknown))}: a patch sets {', '.join(_PATCHED[:-1])} and, in [[labels]], model and "
            "threshold; for anything else edit the policy"
        )
    if not found:
        why = re.search(rf"^# {EMPTY_PATCH}: (.*?)\r?$", patch, re.MULTILINE)
        left = left_out(patch)
        raise PolicyError(
            f"patch: it is empty: {why[1] if why else 'it sets no key'}"
            + (f"; edit the policy. {NOT_IN_PATCH.capitalize()}: {'; '.join(left)}" if left else "")
        )
    return found


def left_out(patch: str) -> list[str]:
    """What the comments of a patch say that it cannot set, in words."""
    return re.findall(rf"^# {NOT_IN_PATCH}: (.*?)\r?$", patch, re.MULTILINE)


def diff(old: str, new: str) -> str:
    """What would change, as a unified diff; "" when nothing does."""
    lines = difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        "policy.toml (now)",
        "policy.toml (after saving)",
        lineterm="",
        n=2,
    )
    return "".join(f"{line}\n" for line in lines)


def save(
    data: Path, new_text: str, *, expected_old: str | None, policy_file: str | os.PathLike[str] | None = None
) -> Path:
    """Write ``<data>/policy.toml`` (or the policy file in force) and return its path.

    The file is replaced in one step, so that a reader never meets half of it. The old one stays beside it, as
    ``policy.toml.bak``, ``policy.toml.bak.2``, and so on. Its mode is kept; a new file is for its owner alone (0600).

    Parameters
    ----------
    expected_old : the text that was shown before saving; None, or a preset's text, when there was no file yet.
    policy_file : the file that the policy was loaded from, where that is not ``<data>/policy.toml``.

    Raises
    ------
    PolicyError
        ``new_text`` is not a valid policy; nothing is written.
    ConfigurationError
        The file is not the one that was shown, or it cannot be written.
    """
    path = Path(policy_file) if policy_file is not None else Path(data) / POLICY_FILE
    Policy.from_toml(new_text, source=str(path))
    path = Path(os.path.realpath(path))  # a symbolic link stays one
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path.parent):
            _check_unchanged(path, expected_old)
            mode = _keep_old(path)
            _replace(path, new_text, mode)
    except PermissionError:
        raise ConfigurationError(
            f"{path} cannot be written: permission denied; allow it or save elsewhere"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}"
        ) from None
    return path


def _edited(text: str, label: str | None, changes: Mapping[str, Any]) -> str:
    """The text with keys of the policy (label None) or of one label set; every other line stays byte for byte.

    tomlkit writes tables that stand apart ([models.a], [[labels]], [models.b]) side by side, so it is given the lines of the one
    table alone; the whole text only where these cannot be cut out (labels in one line), and the meaning is the same by then.
    """
    import tomllib

    whole = _set_keys(text, label, changes, whole=True)
    for start, end in _tables(text):
        try:
            part = tomllib.loads(text[start:end])
            if label is None or [x["name"] for x in part["labels"]] == [label]:
                near = text[:start] + _set_keys(text[start:end], label, changes) + text[end:]
                if tomllib.loads(near) == tomllib.loads(whole):
                    return near
        except (ValueError, LookupError, TypeError):  # cut in the middle of a value, or another table
            pass
        if label is None:
            break  # the keys of the policy stand before the first table
    return whole


def _set_keys(text: str, label: str | None, changes: Mapping[str, Any], *, whole: bool = False) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    table = document
    if label is not None:
        table = next(x for x in document["labels"] if x["name"] == label)
    ends_open = not whole and bool(text) and not text.endswith("\n")
    for key, value in changes.items():
        _set(table, key, value)
    changed = tomlkit.dumps(document)
    if "\r\n" in text:
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    return changed.rstrip("\r\n") if ends_open else changed


def _tables(text: str) -> Iterator[tuple[int, int]]:
    """Where the lines of each table begin and end, those before the first table first; blanks and comments at its end left out."""
    starts = [0, *(x.start() for x in re.finditer(r"^[ \t]*\[", text, re.MULTILINE)), len(text)]
    for start, stop in pairwise(starts):
        end, at = start, start
        for line in text[start:stop].splitlines(keepends=True):
            at += len(line)
            if line.strip() and not line.lstrip().startswith("#"):
                end = at
        yield start, end


def _set(table: Any, key: str, value: Any) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        _set_number(table, key, float(value))
    elif table.get(key) != value:
        table[key] = value


def _set_number(table: Any, key: str, value: float) -> None:
    """Set a key; a comment that follows it stays in its column."""
    import tomlkit

    if key not in table:
        table[key] = value
        return
    before = table.item(key) if hasattr(table, "item") else None
    old = "" if before is None else before.as_string()
    table[key] = value
    after = table.item(key) if before is not None else None
    if after is not None and after.trivia.comment:
        shift = len(old) - len(tomlkit.item(value).as_string())
        after.trivia.comment_ws = " " * max(len(after.trivia.comment_ws) + shift, 1)


def _read(path: Path) -> str | None:
    """Text of a file as it stands (line endings untouched); None when there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8 at byte {error.start}; save it as UTF-8", str(path)) from None


def _check_unchanged(path: Path, expected: str | None) -> None:
    now = _read(path)
    if now == expected or (now is None and expected in [preset_toml(name) for name in PRESETS]):
        return
    if now is None:
        raise ConfigurationError(
            f"{path} was removed after it was shown; look at the difference again, then save"
        )
    raise ConfigurationError(
        f"{path} changed after it was shown; look at the new difference, then save again"
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, so that two savers cannot both find the file unchanged."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _keep_old(path: Path) -> int:
    """Copy the file to the next free backup name; returns its mode, 0600 when there is no file."""
    try:
        content, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o600
    number = 1
    while True:
        name = f"{path.name}.bak" if number == 1 else f"{path.name}.bak.{number}"
        try:
            _write_new(path.with_name(name), content, mode)
            return mode
        except FileExistsError:
            number += 1


def _replace(path: Path, text: str, mode: int) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _write_new(part, text.encode("utf-8"), mode)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # the new name, too, survives a power cut
    finally:
        os.close(fd)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)
