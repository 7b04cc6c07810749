"""``meta.json``: what a result was made with."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from farl.files import write_json
from farl.offline.bundle import OfflineBundle

PACKAGES = ("failure-aware-rl", "torch", "gymnasium", "mujoco", "metaworld", "numpy")


def describe_run(folder: Path, config: Any, bundle: OfflineBundle, threshold: float) -> None:
    """Write ``meta.json`` at the start of a run; a continued one keeps its first start."""
    path = folder / "meta.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    record = {
        "status": "running",
        "task": config.task.id,
        "options": dict(config.task.options),
        "method": config.method,
        "seed": config.seed,
        "bundle_seed": bundle.seed,
        "threshold": threshold if math.isfinite(threshold) else None,
        "command": f"farl online {folder / 'config.yaml'}",
        "started": earlier.get("started", _now()),
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": hardware(),
    }
    write_json(path, record)


def mark(folder: Path, **changes: Any) -> None:
    """Update ``meta.json``."""
    path = folder / "meta.json"
    write_json(path, {**json.loads(path.read_text()), **changes, "ended": _now()})


def is_finished(folder: Path, steps: int) -> bool:
    """Whether a run says of itself that it is finished, and not for a smaller budget than ``steps``."""
    path = folder / "meta.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    return record.get("status") == "finished" and int(record.get("steps", 0)) >= steps


def versions() -> dict[str, str]:
    """Installed versions of what results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "device": device, "threads": torch.get_num_threads()}


def git_commit() -> str | None:
    """Commit of the source tree, with a plus if it had changes; None outside a checkout."""
    root = Path(sys.modules["farl"].__path__[0]).parent
    try:
        run = {"cwd": root, "capture_output": True, "text": True, "check": True, "timeout": 10}
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+" if dirty else str(commit)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
