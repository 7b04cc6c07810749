"""The offline bundle: everything the offline stage produces, in one directory with one manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from farl.algorithms.calibration import Calibration
from farl.algorithms.familiarity import Familiarity
from farl.algorithms.risk import RiskConfig
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.files import write_bytes, write_json
from farl.networks.encoders import normalizer_for
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.state_model import StateModel
from farl.networks.value import DoubleQ, ValueFunction
from farl.observations import Layout

FORMAT = 1
ModelKind = Literal["state", "latent"]
OPTIONAL = ("q_risk", "cost_value", "latent")
"""networks that only some methods need; a bundle without them is complete"""


@dataclass(frozen=True)
class Shape:
    """What the networks of a bundle look like; enough to build them empty."""

    obs_dim: int
    act_dim: int
    exploration_std: float = 0.2
    model: ModelKind = "state"
    model_options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    """which of ``OPTIONAL`` it holds"""
    latent_options: dict[str, Any] = field(default_factory=dict)
    """of the latent model that comes beside a state-space one"""
    layout: Layout | None = None
    """which of the ``obs_dim`` numbers are what; None for a plain vector"""
    code: int = 0
    """numbers that stand for each cloud of points"""


@dataclass
class OfflineBundle:
    """Task policy, value function, critics, recovery policy, world model, normaliser and calibration.

    Optional parts are None where the bundle was made without them, or before there were any.
    """

    task: TaskConfig
    shape: Shape
    normalizer: Normalizer
    policy: GaussianPolicy
    value: ValueFunction
    q: DoubleQ
    recovery: GaussianPolicy
    model: StateModel | LatentModel
    risk: RiskConfig = field(default_factory=RiskConfig)
    reward_scale: float = 0.1
    """one factor on rewards for every value in the project, offline and online"""
    calibration: Calibration | None = None
    seed: int = 0
    q_risk: DoubleQ | None = None
    """Recovery RL's critic, as logits"""
    cost_value: ValueFunction | None = None
    """chance of failing ahead of the task policy, discounted as ``q_risk`` is"""
    q_risk_gamma: float = 0.95
    latent: LatentModel | None = None
    """the paper's world model, beside a state-space ``model``"""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """of further critics, each on its own scores: ``q_risk``, ``paper``"""
    familiarity: Familiarity | None = None
    """how surprising held-out steps were to ``model``"""

    @classmethod
    def empty(cls, task: TaskConfig, shape: Shape) -> OfflineBundle:
        """Freshly initialised networks of ``shape`` on one shared normaliser."""
        normalizer = normalizer_for(shape.obs_dim, shape.layout, shape.code)
        policy = GaussianPolicy(normalizer, shape.act_dim, shape.exploration_std)
        recovery = GaussianPolicy(normalizer, shape.act_dim, shape.exploration_std)
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.model_options.items()}
        model: StateModel | LatentModel = (
            StateModel(normalizer, shape.act_dim, **options)
            if shape.model == "state"
            else LatentModel(normalizer, shape.act_dim, **options)
        )
        value, q = ValueFunction(normalizer), DoubleQ(normalizer, shape.act_dim)
        bundle = cls(task, shape, normalizer, policy, value, q, recovery, model)
        # After all others, so that the weights those start from do not depend on which optional parts there are.
        if "q_risk" in shape.parts:
            bundle.q_risk = DoubleQ(normalizer, shape.act_dim)
        if "cost_value" in shape.parts:
            bundle.cost_value = ValueFunction(normalizer)
        if "latent" in shape.parts:
            bundle.latent = LatentModel(normalizer, shape.act_dim, **shape.latent_options)
        return bundle

    @property
    def later(self) -> DoubleQ | None:
        """What values the time after the gate's look-ahead: Q-risk, if the risk has a tail."""
        return self.q_risk if self.risk.tail else None

    def networks(self) -> dict[str, nn.Module]:
        """Every network by the name its weights are stored under."""
        names = ("normalizer", "policy", "value", "q", "recovery", "model", *self.shape.parts)
        return {name: getattr(self, name) for name in names}

    def weights(self) -> dict[str, torch.Tensor]:
        """All tensors as ``network.parameter``."""
        return {
            f"{name}.{key}": tensor.detach().cpu().contiguous().clone()
            for name, network in self.networks().items()
            for key, tensor in network.state_dict().items()
        }

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Set all tensors; a missing or superfluous one is an error."""
        for name, network in self.networks().items():
            own = {key.removeprefix(f"{name}."): t for key, t in weights.items() if key.startswith(f"{name}.")}
            network.load_state_dict(own)

    def save(self, folder: Path) -> None:
        """Write the weights, then the manifest: a folder with a manifest is complete."""
        path = folder / "weights.safetensors"
        write_bytes(path, save(self.weights()))
        manifest = {
            "format": FORMAT,
            "task": asdict(self.task),
            "shape": _record(self.shape),
            "risk": asdict(self.risk),
            "reward_scale": self.reward_scale,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "seed": self.seed,
            "q_risk_gamma": self.q_risk_gamma,
            "calibrations": {name: c.to_dict() for name, c in self.calibrations.items()},
            "familiarity": None if self.familiarity is None else asdict(self.familiarity),
            "weights_sha256": _digest(path),
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: Path, task: TaskConfig | None = None) -> OfflineBundle:
        """Read a bundle; raises UserError if it is missing, damaged, foreign, or of another task than ``task``."""
        manifest = _manifest(folder)
        try:
            bundle = cls.empty(TaskConfig(**manifest["task"]), _shape(manifest["shape"]))
            bundle.load_weights(_verified_weights(folder, manifest["weights_sha256"]))
            calibration = manifest["calibration"] and Calibration.from_dict(manifest["calibration"])
            bundle = replace(
                bundle,
                risk=RiskConfig(**{"tail": False, **manifest["risk"]}),
                reward_scale=float(manifest["reward_scale"]),
                calibration=calibration,
                seed=int(manifest["seed"]),
                # Bundles made before there were optional parts do not mention them.
                q_risk_gamma=float(manifest.get("q_risk_gamma", cls.q_risk_gamma)),
                calibrations={k: Calibration.from_dict(c) for k, c in manifest.get("calibrations", {}).items()},
                familiarity=Familiarity(**f) if (f := manifest.get("familiarity")) else None,
            )
        except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{folder} is not a bundle this version can read ({reason}); make it again with `farl offline`"
            ) from error
        if task is not None and (task.id, dict(task.options)) != (bundle.task.id, dict(bundle.task.options)):
            raise UserError(
                f"{folder} was made for {bundle.task.id} with options {dict(bundle.task.options)}, not for {task.id} with "
                f"{dict(task.options)}; make a bundle for this task with `farl offline`"
            )
        return bundle


def _shape(record: dict[str, Any]) -> Shape:
    parts = tuple(record.get("parts", ()))
    if unknown := set(parts) - set(OPTIONAL):
        raise ValueError(f"unknown parts {', '.join(sorted(unknown))}")
    layout = Layout.from_record(record["layout"]) if record.get("layout") else None
    return Shape(**{**record, "parts": parts, "layout": layout})


def _record(shape: Shape) -> dict[str, Any]:
    """As JSON. Of a plain vector it says no more than before there was anything else."""
    record = asdict(shape)
    if shape.layout is None:
        del record["layout"], record["code"]
    return record


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"no bundle in {folder} (no manifest.json); make one with `farl offline --out {folder}`")
    try:
        manifest = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); make the bundle again with `farl offline`") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a bundle of format {FORMAT}; make it again with `farl offline`")
    return manifest


def _verified_weights(folder: Path, digest: str) -> dict[str, torch.Tensor]:
    path = folder / "weights.safetensors"
    if not path.exists():
        raise UserError(f"{path} is missing; make the bundle again with `farl offline`")
    if _digest(path) != digest:
        raise UserError(
            f"{path} is damaged: its checksum is not the manifest's; make the bundle again with `farl offline`"
        )
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); make the bundle again with `farl offline`") from error
    return weights


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
