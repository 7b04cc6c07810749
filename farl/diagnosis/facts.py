"""What the judgement of a run's failures rests on besides its episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from farl.algorithms.calibration import CalibrationConfig


def needed_lead(config: Mapping[str, Any]) -> int:
    """Agent steps that recovery needs, as the run's bundle was calibrated for, else the default of calibration."""
    path = Path(str(config.get("bundle", ""))) / "config.yaml"
    try:
        bundle = yaml.safe_load(path.read_text(encoding="utf-8"))
        return int(bundle["calibration"]["min_lead"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return CalibrationConfig.min_lead


def has_gate(meta: Mapping[str, Any], episodes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether recovery could act at all: a finite threshold is on record, or it has acted."""
    return meta.get("threshold") is not None or any(row["gated_steps"] for row in episodes)
