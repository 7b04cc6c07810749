"""From episodes to tensors: flat transitions for the critics, windows for the world models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farl.types import SHOWN, Episode


@dataclass(frozen=True)
class Transitions:
    """Flat transitions of many episodes, ``n`` rows; observations raw, rewards scaled, actions clipped as executed."""

    obs: Float[Tensor, "n obs"]
    action: Float[Tensor, "n act"]
    reward: Float[Tensor, " n"]
    next_obs: Float[Tensor, "n obs"]
    terminated: Bool[Tensor, " n"]
    """true ends only: success and time-out are truncations and bootstrap"""
    failure: Bool[Tensor, " n"]
    success: Bool[Tensor, " n"]
    """the step that ended its episode by success"""

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, index: Tensor) -> Transitions:
        return Transitions(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """Uniform rows, with replacement."""
        return self.rows(torch.randint(len(self), (size,), generator=generator))


def transitions(episodes: Sequence[Episode], reward_scale: float) -> Transitions:
    """Stack episodes into flat transitions."""

    def stack(arrays: list[np.ndarray]) -> Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(np.concatenate(arrays))

    return Transitions(
        obs=stack([e.obs[:-1] for e in episodes]).float(),
        action=stack([e.actions for e in episodes]).float().clamp(-1, 1),
        reward=stack([e.rewards for e in episodes]).float() * reward_scale,
        next_obs=stack([e.obs[1:] for e in episodes]).float(),
        terminated=stack([e.terminated for e in episodes]).bool(),
        failure=stack([e.failure for e in episodes]).bool(),
        success=stack([_final(e, e.outcome == "success") for e in episodes]),
    )


def imitated(episodes: Sequence[Episode]) -> Transitions:
    """Transitions with the actions to imitate: the demonstrator's, also where another policy acted while it was asked.

    Only observations and actions of such rows belong together, so they are for cloning and nothing else.
    """
    shown = np.concatenate([e.extra.get(SHOWN, e.actions) for e in episodes])
    return replace(transitions(episodes, 1.0), action=torch.from_numpy(shown).float().clamp(-1, 1))


def _final(episode: Episode, value: bool) -> np.ndarray:  # type: ignore[type-arg]
    """``value`` at the last step, False before."""
    flags = np.zeros(len(episode), dtype=bool)
    flags[-1] = value
    return flags


@dataclass(frozen=True)
class Windows:
    """Subsequences of ``t`` steps, time first; ``valid`` is false past the end of an episode."""

    obs: Float[Tensor, "t1 b obs"]
    """as the sampler was told to encode them; not standardised"""
    action: Float[Tensor, "t b act"]
    reward: Float[Tensor, "t b"]
    failure: Bool[Tensor, "t b"]
    success: Bool[Tensor, "t b"]
    failure_weight: Float[Tensor, "t b"]
    valid: Bool[Tensor, "t b"]


class WindowSampler:
    """Draws windows that never cross an episode's end; a share of them contains a failure's onset.

    Failures are rare and persist once they happened: uniform windows would teach "already failed". So ``onset_fraction``
    of the windows hold an onset, the onset weighs ``onset_weight``, and violating steps later than ``kept`` after the
    onset have weight zero. ``encode`` is a normaliser's.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        length: int,
        reward_scale: float,
        onset_fraction: float = 0.3,
        onset_weight: float = 3.0,
        kept: int = 5,
        encode: Callable[[Tensor], Tensor] = lambda obs: obs,
    ) -> None:
        lengths = np.array([len(e) for e in episodes])
        self.length, self.onset_fraction = length, onset_fraction
        # Every episode is padded with ``length`` invalid rows, so a window may start at any real step.
        starts = np.concatenate([[0], np.cumsum(lengths + length)])
        total = int(starts[-1])
        seen = [encode(torch.from_numpy(e.obs)) for e in episodes]   # once: a cloud of points would cost that in every window
        obs_dim, act_dim = seen[0].shape[1], episodes[0].actions.shape[1]
        self._obs = torch.zeros(total, obs_dim)
        self._action = torch.zeros(total, act_dim)
        self._reward, self._weight = torch.zeros(total), torch.ones(total)
        self._failure, self._success, self._valid = (torch.zeros(total, dtype=torch.bool) for _ in range(3))
        self._steps = torch.cat([torch.arange(s, s + n) for s, n in zip(starts[:-1], lengths, strict=True)])
        onsets = []
        for start, episode, obs in zip(starts[:-1], episodes, seen, strict=True):
            rows = slice(int(start), int(start) + len(episode))
            self._obs[rows.start : rows.stop + 1] = obs
            self._action[rows] = torch.from_numpy(episode.actions).clamp(-1, 1)
            self._reward[rows] = torch.from_numpy(episode.rewards) * reward_scale
            self._failure[rows] = torch.from_numpy(episode.failure)
            self._success[rows] = torch.from_numpy(_final(episode, episode.outcome == "success"))
            self._valid[rows] = True
            self._weight[rows] = torch.from_numpy(_failure_weights(episode, onset_weight, kept))
            if episode.onset is not None:
                first = max(int(start), int(start) + episode.onset - length + 1)
                onsets.append((first, int(start) + episode.onset))
        self._onsets = torch.tensor(onsets, dtype=torch.long).reshape(-1, 2)

    def sample(self, size: int, generator: torch.Generator) -> Windows:
        """A batch of windows."""
        begin = self._steps[torch.randint(len(self._steps), (size,), generator=generator)]
        if len(self._onsets):
            count = int(size * self.onset_fraction)
            first, last = self._onsets[torch.randint(len(self._onsets), (count,), generator=generator)].unbind(1)
            position = torch.rand(count, generator=generator)
            begin[:count] = first + (position * (last - first + 1)).long()
        index = begin + torch.arange(self.length + 1)[:, None]
        # The padding behind every episode is as long as a window: none reaches into the next episode.
        inner = index[:-1]
        valid = self._valid[inner]
        return Windows(
            self._obs[index],
            self._action[inner],
            self._reward[inner],
            self._failure[inner],
            self._success[inner],
            self._weight[inner],
            valid,
        )


def _failure_weights(episode: Episode, onset_weight: float, kept: int) -> np.ndarray:  # type: ignore[type-arg]
    weights = np.ones(len(episode), dtype=np.float32)
    if episode.onset is not None:
        weights[episode.onset] = onset_weight
        late = np.arange(len(episode)) >= episode.onset + kept
        weights[late & episode.failure] = 0.0
    return weights
