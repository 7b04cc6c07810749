"""Result files of evaluations: written whole or not at all, never over something else, and shown as a table."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from failurebench.policies import Refused

FORMAT = "failurebench-result-1"
IDENTITY = ("task", "options", "policy", "seeds")
"""what makes two results answers to the same question; newer versions may overwrite older answers"""


def require_free(path: Path, question: dict[str, Any]) -> None:
    """Refuse to overwrite anything but an older answer to the same question, and places that cannot be written.

    Args:
        path: where the result will go.
        question: the values of ``IDENTITY``.

    Raises:
        Refused: before hours of work, not after.
    """
    if path.is_dir():
        raise Refused(f"--out {path} is a folder; name a file in it")
    if path.exists():
        try:
            found = json.loads(path.read_text())
            theirs = {key: found[key] for key in ("format", *IDENTITY)}
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise Refused(f"--out {path} exists and is no evaluation result; choose another name") from error
        if theirs != {"format": FORMAT, **question}:
            different = ", ".join(f"{key} {theirs[key]!r}" for key in IDENTITY if theirs[key] != question.get(key))
            raise Refused(f"--out {path} holds another result ({different or theirs['format']}); choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Refused(f"--out {path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a temporary neighbour, then rename it: a crash or Ctrl-C leaves the old file or the new one, never half.

    Raises:
        Refused: the disk is full or the folder cannot be written.
    """
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # temporary files are private; results are meant to be shared
        temporary.replace(path)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    until, full, score = result["until_success"], result["full_length"], result["normalised_score"]
    seeds, step_s = result["seeds"], result["agent_step_s"]
    options = "".join(f", {key}={value}" for key, value in result["options"].items())
    lines = [f"{result['task']}{options}, policy {result['policy']}, {seeds['count']} episodes", ""]
    lines.append(f"{'':24}{'rate':>8}   95 % interval   episodes")
    for name, label in (("success", "success"), ("safe_success", "success, no failure"), ("failure", "failure")):
        rate = until[name]
        lines.append(f"{label:24}{rate['rate']:8.3f}   {rate['low']:.3f} .. {rate['high']:.3f}  {rate['count']:8d}")
    lines += ["", f"{'':24}{'mean':>8}{'median':>10}   episodes"]
    for name, label in (("steps_to_success", "steps to success"), ("steps_to_failure", "steps to failure")):
        lines.append(f"{label:24}{_numbers(until[name])}   ({step_s * 1000:g} ms each)")
    lines.append(f"{'return until success':24}{_numbers(until['episode_return'])}")
    if full is not None:
        lines.append(f"{'full-length return':24}{_numbers(full['episode_return'])}")
    if score is not None:
        error = "" if score["standard_error"] is None else f" +- {score['standard_error']:.1f} (standard error)"
        lines += ["", f"{'normalised score':24}{score['value']:8.1f}{error}"]
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _numbers(mean: dict[str, Any]) -> str:
    numbers = (f"{mean[key]:.1f}" if mean[key] is not None else "-" for key in ("mean", "median"))
    return "{:>8}{:>10}{:>11d}".format(*numbers, mean["count"])
