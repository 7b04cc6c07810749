"""Which versions a number was measured with, and what another MuJoCo may change."""

from __future__ import annotations

import hashlib
import warnings
from importlib.metadata import version
from typing import Any

MUJOCO = "3.3.0"
"""the MuJoCo that MetaWorld pins and all published numbers were measured with"""


class OtherMujocoWarning(UserWarning):
    """The physics is not the one the published numbers were measured with."""


def warn_of_other_mujoco(installed: str) -> None:
    """Say once per process what may differ, if ``installed`` is not the pinned MuJoCo."""
    if installed != MUJOCO:
        warnings.warn(
            f"MuJoCo {installed} is installed; FailureBench was measured with {MUJOCO}, the version MetaWorld pins. Contacts, "
            "the arm's rest pose (measured: up to 0.007 rad), compiled models and with them trajectories, failure rates and "
            "scores may differ, and states saved with another version are refused. "
            f'For comparable numbers: pip install "mujoco=={MUJOCO}"',
            OtherMujocoWarning,
            stacklevel=2,
        )


def installed_versions(models: str = "metaworld") -> dict[str, str]:
    """What decides a number, by distribution; ``models`` is the one that a task's models come with."""
    names = {"failurebench": "failure-aware-rl", "mujoco": "mujoco", models: models}
    names |= {"gymnasium": "gymnasium", "numpy": "numpy"}
    return {name: version(distribution) for name, distribution in names.items()}


def model_hash(model: Any) -> str:
    """SHA-256 over every number of a compiled ``mjModel``: geometry, masses, contacts, solver, meshes, textures.

    Equal hashes mean the same physics. Other versions of MuJoCo compile other models, and other processors may round a mesh's
    inertia differently.
    """
    import mujoco  # by whoever has a model it is loaded already
    import numpy as np

    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return "sha256:" + hashlib.sha256(content.tobytes()).hexdigest()
