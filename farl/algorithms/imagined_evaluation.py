"""Evaluation inside the world model: a policy's return and failure rate, predicted without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from farl.algorithms.risk import pessimistic
from farl.algorithms.success_head import SuccessHead, train_success_head
from farl.data.batches import transitions
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.world_model import WorldModel
from farl.types import Episode


class Estimate(NamedTuple):
    """A mean over imagined episodes, and its standard error; what the model gets wrong is not in the error."""

    mean: float
    error: float

    @classmethod
    def of(cls, samples: Float[Tensor, " b"]) -> Estimate:
        return cls(float(samples.mean()), float(samples.std() / len(samples) ** 0.5))


@dataclass(frozen=True)
class ImaginedEpisodes:
    """What is expected of each imagined episode; two policies' can be subtracted start by start."""

    returned: Float[Tensor, " b"]
    """raw reward, a success held to the end"""
    failed: Float[Tensor, " b"]
    """probability of a failing step before the episode ends"""
    succeeded: Float[Tensor, " b"]
    """probability of success"""


@dataclass(frozen=True)
class Starts:
    """Where imagined episodes begin, and what ends them."""

    obs: Float[Tensor, "b obs"]
    """raw first observations"""
    horizon: int
    """agent steps of an episode that nothing ends before"""
    failure_ends: bool = False
    """whether the task ends an episode on failure"""


class ImaginedEvaluation:
    """Plays whole episodes of a policy in a world model, the same starts and the same noise for every policy.

    Episodes begin where the data's began: from states along the way a good policy, which brings itself to where things can go
    wrong, looks more dangerous than a hopeless one (docs/predict.md has the figures). Nothing is sampled but the exploration
    noise: every step counts with the probability that the episode still runs, so one that has failed is neither dropped nor
    cut short unless the task ends it. ``scale`` and ``shift`` are the failure heads' calibration.
    """

    def __init__(
        self,
        model: WorldModel,
        success: SuccessHead,
        starts: Starts,
        reward_scale: float,
        scale: float = 1.0,
        shift: float = 0.0,
        noise: bool = True,
        seed: int = 0,
    ) -> None:
        self.model, self.success, self.starts, self.reward_scale = model, success, starts, reward_scale
        self.scale, self.shift, self.noise, self.seed = scale, shift, noise, seed

    @torch.no_grad()
    def play(self, policy: GaussianPolicy) -> ImaginedEpisodes:
        """Expected return, failure and success of each episode."""
        starts, generator = self.starts, torch.Generator().manual_seed(self.seed)
        z = self.model.encode(policy.normalizer(starts.obs))
        returned, failed = torch.zeros(len(z)), torch.zeros(len(z))
        unfailed, unsolved = torch.ones(len(z)), torch.ones(len(z))   # probabilities, before each step
        for step in range(starts.horizon):
            action: Tensor = policy(self.model.decode(z))
            action = (policy.sample(action, generator) if self.noise else action).clamp(-1, 1)
            reward = self.model.reward(z, action)
            z, logits = self.model.step(z, action)
            fails = pessimistic(logits[None] * self.scale + self.shift, 0.0)[0]
            succeeds = self.success(self.model.decode(z))
            running = unsolved * unfailed if starts.failure_ends else unsolved
            held = (starts.horizon - step) * self.success.reward
            returned += running * torch.lerp(reward, held, succeeds)
            failed += unsolved * unfailed * fails
            unfailed, unsolved = unfailed * (1 - fails), unsolved * (1 - succeeds)
        return ImaginedEpisodes(returned / self.reward_scale, failed, 1 - unsolved)


def evaluation_from(
    episodes: Sequence[Episode],
    model: WorldModel,
    normalizer: Normalizer,
    reward_scale: float,
    *,
    starts: int,
    horizon: int | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
    noise: bool = True,
    seed: int = 0,
) -> ImaginedEvaluation:
    """An evaluation that begins, succeeds and ends as ``episodes`` do; all of them must start at a reset.

    ``starts`` episodes are imagined, fewer where there are fewer to begin from; ``horizon`` None takes the longest's length.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(episodes), generator=generator)[:starts]
    obs = torch.stack([torch.from_numpy(episodes[i].obs[0]) for i in chosen.tolist()]).float()
    success = train_success_head(normalizer, transitions(episodes, reward_scale), generator)
    ends = any(bool(episode.terminated.any()) for episode in episodes)
    length = horizon or max(len(episode) for episode in episodes)
    return ImaginedEvaluation(model, success, Starts(obs, length, ends), reward_scale, scale, shift, noise, seed)
