"""The offline stage: from demonstrations to an ``OfflineBundle``."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from farl.algorithms.behaviour_cloning import BCConfig, clone
from farl.algorithms.calibration import (
    CalibrationConfig,
    calibrate,
    expected_calibration_error,
    fit_probabilities,
    score,
)
from farl.algorithms.encoder_training import EncoderConfig, fit_normalizer
from farl.algorithms.familiarity import familiarise
from farl.algorithms.imagined_evaluation import evaluation_from
from farl.algorithms.iql import IQLConfig, train_critics
from farl.algorithms.latent_model_training import LatentModelConfig, train_latent_model
from farl.algorithms.offline_ppo import OfflinePPOConfig, OfflinePPOResult, improve_offline
from farl.algorithms.q_risk import QRiskConfig, distil_cost_value, train_q_risk
from farl.algorithms.risk import ImaginedRisk, RiskConfig
from farl.algorithms.state_model_training import StateModelConfig, train_state_model
from farl.data.batches import Transitions, WindowSampler, imitated, transitions
from farl.data.episode_store import Split, read_episodes
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.files import write_bytes, write_json
from farl.networks.latent_model import LatentModel
from farl.networks.state_model import StateModel
from farl.offline.acceptance import AcceptanceConfig, Check, examine, table
from farl.offline.bundle import ModelKind, OfflineBundle, Shape
from farl.offline.critics import further_critics
from farl.offline.threshold_search import ThresholdSearchConfig, search_thresholds
from farl.outputs import check, claim
from farl.progress import Progress
from farl.types import Episode


@dataclass(frozen=True)
class OfflineConfig:
    """The offline stage: what to learn from which demonstrations."""

    task: TaskConfig = field(default_factory=TaskConfig)
    data: Path = Path("demos/bounded-push")
    """folder of the demonstrations, made by `farl demos`"""
    out: Path = Path("bundles/bounded-push")
    seed: int = 0
    device: str = "cpu"
    """cpu or cuda; the finished bundle runs on either"""
    exploration_std: float = 0.2
    """std of the task policy, the same offline and online and for every method"""
    reward_scale: float = 0.1
    """factor on rewards, the same for every value in the project"""
    model: ModelKind = "state"
    """state: residual model in observation space; latent: the paper's seven parts"""
    model_data: tuple[str, ...] = ("task", "failure", "recovery")
    """demonstration sets that the world models learn from"""
    weights: Path | None = None
    """bundle whose networks are taken over, so that only the calibration is made; None trains them"""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    bc: BCConfig = field(default_factory=BCConfig)
    recovery_bc: BCConfig = field(default_factory=lambda: BCConfig(updates=12000, lr=1e-3, decay=True))
    iql: IQLConfig = field(default_factory=IQLConfig)
    offline_ppo: OfflinePPOConfig = field(default_factory=OfflinePPOConfig)
    state_model: StateModelConfig = field(default_factory=StateModelConfig)
    latent_model: LatentModelConfig = field(default_factory=LatentModelConfig)
    paper_model: bool = False
    """also train the latent model, which farl-paper needs, beside a state-space one; every other part stays as it is"""
    q_risk: QRiskConfig = field(default_factory=QRiskConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    search: ThresholdSearchConfig = field(default_factory=ThresholdSearchConfig)
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)

    def __post_init__(self) -> None:
        if not self.model_data or not set(self.model_data) <= {"task", "failure", "recovery"}:
            raise ValueError(f"model_data is {self.model_data}; give one or more of task, failure, recovery")
        for kind in dict.fromkeys((self.model, *(("latent",) if self.paper_model else ()))):
            trained = self.state_model.horizon if kind == "state" else self.latent_model.horizon
            if self.risk.horizon + 1 > trained:
                raise ValueError(
                    f"risk.horizon is {self.risk.horizon}, so the gate takes {self.risk.horizon + 1} model steps, but "
                    f"{kind}_model.horizon trains only {trained}; raise that one or lower risk.horizon"
                )
        if self.risk.tail and not self.q_risk.updates:
            raise ValueError("risk.tail needs Q-risk, and q_risk.updates is 0; train it, or give --risk.no-tail")


def train(config: OfflineConfig) -> Path:
    """Run every stage, save the bundle in ``config.out`` and print the acceptance table.

    Stages already finished by an interrupted run of the same configuration are not repeated.
    """
    check(config.out, config)
    if (config.out / "manifest.json").exists():
        print(f"{config.out} is complete; delete it to train again.")
        return config.out
    data = _read(config)
    with claim(config.out, config):
        _train(config, data)
    return config.out


def _train(config: OfflineConfig, data: dict[str, dict[str, list[Episode]]]) -> None:
    stage = _Stage(config, data)
    if config.weights is None:
        stage.learn()
    else:
        stage.take_over(config.weights)
    stage.calibrate()
    checks = stage.examine()
    write_json(config.out / "acceptance.json", [dataclasses.asdict(check) for check in checks])
    stage.bundle.save(config.out)
    (config.out / "partial.pt").unlink(missing_ok=True)
    stage.progress.say(table(checks))


def _read(config: OfflineConfig) -> dict[str, dict[str, list[Episode]]]:
    """The four sets by name and split; raises UserError where they cannot be learned from."""
    fits: dict[str, Any] = {"task": config.task.id, "options": config.task.options}
    data = {
        name: {split: read_episodes(config.data / f"{name}.hdf5", split, **fits) for split in get_args(Split)}
        for name in ("task", "failure", "recovery", "calibration")
    }
    refuse_shared(data)
    return data


class _Stage:
    """The bundle in the making, the data, and one generator that all stages draw from in order."""

    def __init__(self, config: OfflineConfig, data: dict[str, dict[str, list[Episode]]]) -> None:
        self.config, self.data = config, data
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.progress = Progress(config.out, f"offline stage of {config.task.name}, seed {config.seed}")
        first = self.data["task"]["train"][0]
        shape = Shape(
            first.obs.shape[1],
            first.actions.shape[1],
            config.exploration_std,
            config.model,
            self._model_options(config.model),
            _optional_parts(config),
            self._model_options("latent"),
            first.layout,
            config.encoder.code if first.layout else 0,
        )
        self.bundle = OfflineBundle.empty(config.task, shape)
        self.bundle = dataclasses.replace(
            self.bundle,
            risk=config.risk,
            reward_scale=config.reward_scale,
            seed=config.seed,
            q_risk_gamma=config.q_risk.gamma,
        )
        self.notes: dict[str, Any] = {}
        self.done: list[str] = []
        self._partial = config.out / "partial.pt"
        if self._partial.exists():
            saved = _read_partial(self._partial)
            self.bundle.load_weights(saved["weights"])
            self.generator.set_state(saved["generator"])
            self.done, self.notes = saved["done"], saved["notes"]

    def learn(self) -> None:
        """Every network, one after the other."""
        self.run("normalizer", self.fit_normalizer)
        self.run("policy", self.clone_task)
        self.run("critics", self.train_critics)
        self.run("model", self.train_model)
        self.run("offline PPO", self.improve)
        self.run("recovery", self.clone_recovery)
        self.run("Q-risk", self.train_q_risk)
        self.run("paper model", self.train_paper_model)

    def take_over(self, source: Path) -> None:
        """Every network of another bundle; raises UserError where they do not fit this configuration."""
        other = OfflineBundle.load(source, self.config.task)
        if other.shape != self.bundle.shape:
            raise UserError(f"the networks of {source} are {other.shape}, this configuration asks for {self.bundle.shape}")
        self.bundle.load_weights(other.weights())

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do one stage and keep its result, unless an earlier start already did."""
        if name in self.done:
            return
        work()
        self.done.append(name)
        saved = {
            "weights": self.bundle.weights(),
            "generator": self.generator.get_state(),
            "done": self.done,
            "notes": self.notes,
        }
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        write_bytes(self._partial, buffer.getvalue())

    def _model_options(self, kind: ModelKind) -> dict[str, Any]:
        cfg = self.config
        if kind == "state":
            return {"hidden": list(cfg.state_model.hidden), "heads": cfg.state_model.heads}
        return {"latent": cfg.latent_model.latent, "width": cfg.latent_model.width, "heads": cfg.latent_model.heads}

    def _episodes(self, *names: str, split: str = "train") -> list[Episode]:
        return [episode for name in names for episode in self.data[name][split]]

    def _transitions(self, *names: str, split: str = "train") -> Transitions:
        return transitions(self._episodes(*names, split=split), self.config.reward_scale)

    def _own_generator(self, part: int) -> torch.Generator:
        """For an optional part: whether it is trained changes no random number of any other."""
        return torch.Generator().manual_seed(self.config.seed * 1000 + part)

    def fit_normalizer(self) -> None:
        episodes = self._episodes("task", "failure", "recovery")
        fit_normalizer(self.bundle.normalizer, episodes, self.config.encoder, self.generator, self.progress)

    def clone_task(self) -> None:
        train, held_out = self._transitions("task"), self._transitions("task", split="valid")
        self.notes["task NLL"] = clone(
            self.bundle.policy, train, held_out, self.config.bc, self.generator, self.progress, "task policy: cloning"
        )

    def clone_recovery(self) -> None:
        train, held_out = (imitated(self.data["recovery"][split]) for split in ("train", "valid"))
        self.notes["recovery NLL"] = clone(
            self.bundle.recovery,
            train,
            held_out,
            self.config.recovery_bc,
            self.generator,
            self.progress,
            "recovery policy: cloning",
        )

    def train_critics(self) -> None:
        b = self.bundle
        data = self._transitions("task", "failure")
        train_critics(b.q, b.value, b.normalizer, data, self.config.iql, self.generator, self.progress)

    def train_model(self) -> None:
        cfg, b = self.config, self.bundle
        if isinstance(b.model, StateModel):
            episodes = self._episodes(*cfg.model_data)
            windows = cfg.state_model.horizon, cfg.reward_scale, cfg.state_model.onset_fraction
            sampler = WindowSampler(episodes, *windows, encode=b.normalizer.encode)
            data = self._transitions(*cfg.model_data)
            train_state_model(b.model, b.normalizer, sampler, data, cfg.state_model, self.generator, self.progress)
        elif isinstance(b.model, LatentModel):
            self._train_latent(b.model, self.generator)

    def train_paper_model(self) -> None:
        if self.bundle.latent is not None:
            self._train_latent(self.bundle.latent, self._own_generator(2))

    def _train_latent(self, model: LatentModel, generator: torch.Generator) -> None:
        cfg = self.config.latent_model
        episodes = self._episodes(*self.config.model_data)
        normalizer = self.bundle.normalizer
        windows = cfg.horizon, self.config.reward_scale, cfg.onset_fraction
        sampler = WindowSampler(episodes, *windows, encode=normalizer.encode)
        train_latent_model(model, normalizer, sampler, cfg, generator, self.progress)

    def train_q_risk(self) -> None:
        b, episodes, generator = self.bundle, self._episodes("task", "failure"), self._own_generator(1)
        if b.q_risk is not None and b.cost_value is not None:
            train_q_risk(b.q_risk, b.policy, episodes, self.config.q_risk, generator, self.progress)
            distil_cost_value(b.cost_value, b.q_risk, b.policy, episodes, self.config.q_risk, generator, self.progress)

    def improve(self) -> None:
        b, cfg, episodes = self.bundle, self.config.offline_ppo, self._episodes("task", "failure")
        evaluation = evaluation_from(
            episodes, b.model, b.normalizer, b.reward_scale, starts=cfg.starts, horizon=cfg.rollout, seed=self.config.seed
        )
        data = self._transitions("task", "failure")
        result = improve_offline(b.policy, evaluation, b.q, b.value, data, cfg, self.generator, self.progress)
        self.notes["offline PPO"] = {"scores": list(result.scores), "accepted": result.accepted}

    def calibrate(self) -> None:
        self.progress.stage("calibration", 1)
        held_out = self.data["calibration"]["train"] + self.data["calibration"]["valid"]
        calibrate_bundle(self.bundle, held_out, self.config.calibration)
        search_thresholds(self.bundle, self.config.search, self.progress)

    def examine(self) -> list[Check]:
        ppo = self.notes.get("offline PPO")   # none where the networks were taken over
        held_out = [e for name in ("task", "failure") for e in self.data[name]["valid"]]
        result = None if ppo is None else OfflinePPOResult(tuple(ppo["scores"]), ppo["accepted"])
        return examine(self.bundle, held_out, result, self.config.acceptance, self.progress)


def calibrate_bundle(bundle: OfflineBundle, episodes: list[Episode], config: CalibrationConfig) -> None:
    """Calibrate every critic of a bundle, in place, on episodes that none of its networks was trained on.

    Probabilities are fitted on one half of the episodes and measured on the other; the threshold is chosen on all.
    """
    raw = ImaginedRisk(bundle.model, bundle.policy, bundle.risk)
    logit, label = _first_step(raw, episodes[::2])
    scale, shift = fit_probabilities(logit, label)
    held_logit, held_label = _first_step(raw, episodes[1::2])
    error = expected_calibration_error(
        1 / (1 + torch.exp(-torch.tensor(scale * held_logit + shift))).numpy(), held_label
    )
    critic = ImaginedRisk(bundle.model, bundle.policy, bundle.risk, scale, shift, later=bundle.later)
    fitted = {"scale": scale, "shift": shift, "calibration_error": error}
    bundle.calibration = calibrate(score(critic, episodes), config, **fitted)
    for name, other in further_critics(bundle).items():
        bundle.calibrations[name] = calibrate(score(other, episodes), config)
    bundle.familiarity = familiarise(bundle.model, bundle.normalizer, episodes, config.max_lead)


def refuse_shared(data: dict[str, dict[str, list[Episode]]]) -> None:
    """Raise UserError if an episode of the calibration set, or a cut of it, is in a set that networks learn from.

    Episodes are the same if their observations and actions are, up to the end of the shorter one: seeds and file names say
    nothing about recordings made elsewhere.
    """
    trained: dict[bytes, list[tuple[str, Episode]]] = {}
    for name, splits in data.items():
        for episode in (e for episodes in splits.values() for e in episodes if name != "calibration"):
            trained.setdefault(_beginning(episode), []).append((name, episode))
    for episode in (e for episodes in data["calibration"].values() for e in episodes):
        for name, other in trained.get(_beginning(episode), []):
            n = min(len(episode), len(other))
            if (episode.obs[:n] == other.obs[:n]).all() and (episode.actions[:n] == other.actions[:n]).all():
                raise UserError(
                    f"calibration.hdf5: its episode of seed {episode.seed} ({len(episode)} steps) is also in {name}.hdf5. A gate "
                    "calibrated on what it learned from promises nothing: take it out of one of them, or make the sets with "
                    "`farl demos`, which keeps them apart"
                )


def _beginning(episode: Episode) -> bytes:
    return bytes(episode.obs[0].tobytes() + episode.actions[0].tobytes())


def _optional_parts(config: OfflineConfig) -> tuple[str, ...]:
    q_risk = ("q_risk", "cost_value") if config.q_risk.updates else ()
    return (*q_risk, *(("latent",) if config.paper_model and config.model != "latent" else ()))


def _read_partial(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged; delete it to start this offline stage over") from error
    return saved


def _first_step(critic: ImaginedRisk, episodes: list[Episode]) -> tuple[Any, Any]:
    """Mean head logit of each executed action, and whether it violated; up to the first violation of an episode."""
    kept = [(e, len(e) if e.onset is None else e.onset + 1) for e in episodes]
    obs = torch.cat([torch.from_numpy(e.obs[:n]) for e, n in kept])
    action = torch.cat([torch.from_numpy(e.actions[:n]) for e, n in kept]).clamp(-1, 1)
    label = torch.cat([torch.from_numpy(e.failure[:n]) for e, n in kept])
    with torch.no_grad():
        _, logits = critic.model.step(critic.model.encode(critic.policy.normalizer(obs)), action)
    return logits.mean(0).double().numpy(), label.numpy()
