"""What tells a run from the published protocol: every setting that differs from the paper configuration of its task."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from farl import configuration, methods
from farl.compare.records import Run, read_yaml
from farl.compare.study import StudyConfig

CONFIGS = Path(__file__).parent.parent / "configs" / "paper"

WHERE_AND_HOW_LONG = {
    "online": {"bundle", "out", "method", "seed", "steps", "evaluate_every", "evaluation_episodes", "checkpoint_every",
               "controls.random_like"},
    "offline": {"data", "out", "seed", "device", "paper_model", "weights"},
}  # fmt: skip
"""settings that name a run or its place, change nothing that is learned, or have a column of their own"""

OF_THE_GATE = ("gate.", "credit", "handover_price", "offline.risk.", "offline.calibration.", "offline.recovery_bc.")
"""settings that reach only methods with a gate"""


def variant_of(run: Run) -> str:
    """``gate.threshold=0.1 offline.risk.horizon=5``, sorted; empty for the paper configuration itself.

    Settings that the run's version of the program did not have yet count as not differing.
    """
    paper = paper_configuration(run.task)
    bundle = run.config.get("bundle")
    offline = read_yaml(Path(bundle) / "config.yaml") if bundle else {}
    found = {
        **_differing(run.config, paper["online"], "online"),
        **{f"offline.{name}": value for name, value in _differing(offline, paper["offline"], "offline").items()},
    }
    if run.method in methods.METHODS and methods.find(run.method).critic is None:
        found = {name: value for name, value in found.items() if not name.startswith(OF_THE_GATE)}
    return " ".join(f"{name}={_short(value)}" for name, value in sorted(found.items()))


@functools.cache
def paper_configuration(task: str) -> dict[str, Any]:
    """The configuration in configs/paper that belongs to ``task`` or its harder variant; the defaults where there is none."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        study = configuration.read(StudyConfig, path)
        if study.task.name.partition("-")[0] == task.partition("-")[0]:
            return dict(yaml.safe_load(configuration.dump(study)))
    return dict(yaml.safe_load(configuration.dump(StudyConfig())))


def _differing(ours: dict[str, Any], paper: dict[str, Any], part: str) -> dict[str, Any]:
    flat, reference = flattened(ours), flattened(paper)
    return {
        name: value
        for name, value in flat.items()
        if name in reference
        and value != reference[name]
        and name not in WHERE_AND_HOW_LONG[part]
        and not name.startswith("task.")
    }


def flattened(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as ``dotted.name -> value``."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flattened(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else {f"{prefix}{key}": inner}
    return flat


def _short(value: Any) -> str:
    return "x".join(str(item) for item in value) if isinstance(value, list) else str(value)
