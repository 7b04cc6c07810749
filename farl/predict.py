"""``farl predict``: return and failure rate of policies, imagined in a bundle's world model instead of run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from farl.algorithms.imagined_evaluation import Estimate, ImaginedEvaluation, evaluation_from
from farl.data.episode_store import read_episodes
from farl.errors import UserError
from farl.files import write_json
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.online.trained import load_trained
from farl.types import Episode


@dataclass(frozen=True)
class PredictConfig:
    """Which policies, and how they are imagined."""

    bundle: Path = Path()
    """folder made by `farl offline`; the first argument of `farl predict` is the same"""

    runs: tuple[Path, ...] = ()
    """runs that began from it, at their newest checkpoints; the further arguments are the same"""

    data: Path | None = None
    """folder of the bundle's demonstrations, where they are not where the bundle says"""

    episodes: int = 512
    """imagined episodes of each policy, fewer where there are fewer to begin from"""

    horizon: int | None = None
    """agent steps of an imagined episode; None takes the longest demonstrated"""

    noise: bool = True
    """explore as in training; otherwise the mean action"""

    seed: int = 0
    """of starts and noise, the same for every policy"""

    json: Path | None = None
    """also write the predictions to this file"""

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise ValueError(f"episodes is {self.episodes}; imagine 2 or more, so that there is a standard error")
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}; give 1 or more agent steps")


@dataclass(frozen=True)
class Prediction:
    """What is expected of one policy, each a mean over imagined episodes and its standard error."""

    policy: str
    """``bundle`` or a run's folder"""
    steps: int
    """agent steps of online training behind it"""
    returned: Estimate
    """raw reward of an episode in which a success is held to the end"""
    failed: Estimate
    """share of episodes with a failure"""
    succeeded: Estimate


def predict(config: PredictConfig) -> list[Prediction]:
    """Imagine the bundle's policy and every run's; raises UserError where they do not belong together or data is missing."""
    bundle = OfflineBundle.load(config.bundle)
    runs = [(folder, *_policy_of(folder, bundle, config.bundle)) for folder in config.runs]
    evaluation = _evaluation(config, bundle)
    policies = [("bundle", 0, bundle.policy), *((str(folder), steps, policy) for folder, steps, policy in runs)]
    predictions = [_imagine(evaluation, *named) for named in policies]
    if config.json is not None:
        write_json(config.json, [_plain(prediction) for prediction in predictions])
    return predictions


def table(predictions: Sequence[Prediction]) -> str:
    """A line for each policy."""
    titles = ("policy", "agent steps", "return", "failure rate", "success rate")
    rows = [
        (p.policy, f"{p.steps:,}", _spell(p.returned, 0), _spell(p.failed, 3), _spell(p.succeeded, 3)) for p in predictions
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in (titles, *rows)
    )


def _spell(estimate: Estimate, digits: int) -> str:
    return f"{estimate.mean:.{digits}f} +- {estimate.error:.{digits}f}"


def _plain(prediction: Prediction) -> dict[str, Any]:
    record = asdict(prediction)
    return {key: value._asdict() if isinstance(value, Estimate) else value for key, value in record.items()}


def _imagine(evaluation: ImaginedEvaluation, name: str, steps: int, policy: GaussianPolicy) -> Prediction:
    played = evaluation.play(policy)
    parts = [Estimate.of(samples) for samples in (played.returned, played.failed, played.succeeded)]
    if not torch.tensor([part.mean for part in parts]).isfinite().all():
        raise UserError(f"{name}: the world model's prediction is not a number; policy or bundle hold broken weights")
    return Prediction(name, steps, *parts)


def _policy_of(folder: Path, bundle: OfflineBundle, bundle_folder: Path) -> tuple[int, GaussianPolicy]:
    trained = load_trained(folder)
    theirs, ours = trained.config.task, bundle.task
    if (theirs.id, dict(theirs.options)) != (ours.id, dict(ours.options)):
        raise UserError(
            f"{folder} is a run of {theirs.id} with options {dict(theirs.options)}, but {bundle_folder} was made for {ours.id} "
            f"with {dict(ours.options)}; give the bundle that the run began from, {trained.config.bundle}"
        )
    own, other = bundle.normalizer.state_dict(), trained.bundle.normalizer.state_dict()
    if not all(torch.equal(own[name], other[name]) for name in own):
        raise UserError(f"{folder} began from another bundle; use that one: farl predict {trained.config.bundle} {folder}")
    return trained.steps, trained.bundle.policy


def _evaluation(config: PredictConfig, bundle: OfflineBundle) -> ImaginedEvaluation:
    calibration = bundle.calibration
    scale, shift = (1.0, 0.0) if calibration is None else (calibration.scale, calibration.shift)
    return evaluation_from(
        _begun_at_a_reset(config, bundle),
        bundle.model,
        bundle.normalizer,
        bundle.reward_scale,
        starts=config.episodes,
        horizon=config.horizon,
        scale=scale,
        shift=shift,
        noise=config.noise,
        seed=config.seed,
    )


def _begun_at_a_reset(config: PredictConfig, bundle: OfflineBundle) -> list[Episode]:
    """Task and failure demonstrations: those of recovery begin where a failure is near."""
    folder = config.data or data_of(config.bundle)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder '{folder}' with the demonstrations of {config.bundle}, and predictions begin where they began; "
            "say where it is with --data"
        )
    task, size = bundle.task, bundle.shape.obs_dim
    return [
        episode
        for name in ("task", "failure")
        for episode in read_episodes(folder / f"{name}.hdf5", task=task.id, options=task.options, obs_size=size)
    ]


def data_of(bundle: Path) -> Path:
    """Where a bundle's demonstrations were; read as plain YAML, since other versions have other settings.

    Raises UserError where the bundle does not say it.
    """
    path = bundle / "config.yaml"
    try:
        return Path(yaml.safe_load(path.read_text())["data"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say where the demonstrations are; give their folder with --data") from error
