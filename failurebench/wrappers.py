"""Counting failures: wrappers for any environment that reports ``info["failure"]``, single or vectorised.

The trap they exist for: a vector environment that resets in the same step (``AutoresetMode.SAME_STEP``) keeps the last step's info
only in ``infos["final_info"]``. Who reads ``infos["failure"]`` there, and lets failures end episodes, counts none at all.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

STATS_KEY = "episode_failures"

Infos = dict[str, Any]


@dataclass(frozen=True)
class EpisodeFailures:
    """What one episode was like."""

    length: int
    """agent steps"""

    failing_steps: int
    """agent steps with ``info["failure"]``"""

    onset: int
    """the first failing step, counted from 1; 0 if there is none"""

    failure_type: str
    """``info["failure_type"]`` at the onset; empty without a failure"""

    success: bool
    """``info["success"]`` at any step"""

    timeout: bool
    """the episode was truncated and had not succeeded"""

    @property
    def failed(self) -> bool:
        """Whether any step failed."""
        return self.failing_steps > 0

    def as_info(self) -> Infos:
        """The fields and ``failed``."""
        return {**asdict(self), "failed": self.failed}


@dataclass
class Totals:
    """Sums over closed episodes. The running ones are left out, so that a quotient of two counts is a rate."""

    episodes: int = 0
    steps: int = 0
    failure_episodes: int = 0
    failing_steps: int = 0
    successes: int = 0
    safe_successes: int = 0
    """episodes that succeeded and never failed"""

    timeouts: int = 0
    abandoned: int = 0
    """episodes that ``reset`` or ``close`` cut short; they are among ``episodes``, since their failures have happened"""

    failure_types: Counter[str] = field(default_factory=Counter)
    """failure episodes by the type of their first failing step"""

    def add(self, episode: EpisodeFailures) -> None:
        """Take in a closed episode."""
        self.episodes += 1
        self.steps += episode.length
        self.failure_episodes += episode.failed
        self.failing_steps += episode.failing_steps
        self.successes += episode.success
        self.safe_successes += episode.success and not episode.failed
        self.timeouts += episode.timeout
        if episode.failed:
            self.failure_types[episode.failure_type] += 1


class _Running:
    """The episode under way in one environment."""

    def __init__(self) -> None:
        self.length = self.failing_steps = self.onset = 0
        self.failure_type, self.success = "", False

    def step(self, info: Infos) -> None:
        self.length += 1
        self.success = self.success or bool(info.get("success", False))
        if info["failure"]:
            self.failing_steps += 1
            if self.failing_steps == 1:
                self.onset, self.failure_type = self.length, str(info.get("failure_type", "failure"))

    def closed(self, truncated: bool) -> EpisodeFailures:
        timeout = truncated and not self.success
        return EpisodeFailures(self.length, self.failing_steps, self.onset, self.failure_type, self.success, timeout)


class RecordFailures(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Count the failures of a single environment.

    When an episode ends, its ``EpisodeFailures`` is in ``info["episode_failures"]`` as a dict, with ``failed``; ``totals`` has
    the sums and ``recent`` the last episodes.

    Args:
        env: any environment with ``info["failure"]`` at every step; ``success`` and ``failure_type`` are read if there.
        buffer_length: how many episodes ``recent`` holds.
        stats_key: another name for the key in ``info``.

    Raises:
        ValueError: at a step without ``info["failure"]``: counting on would report safety nobody has measured.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], buffer_length: int = 100, stats_key: str = STATS_KEY) -> None:
        if isinstance(env, VectorEnv):
            raise TypeError(f"{env} is a vector environment: use RecordVectorFailures")
        RecordConstructorArgs.__init__(self, buffer_length=buffer_length, stats_key=stats_key)
        gymnasium.Wrapper.__init__(self, env)
        self.totals, self.recent = Totals(), deque[EpisodeFailures](maxlen=buffer_length)
        self._stats_key, self._running, self._ended = stats_key, _Running(), False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Infos]:
        """Begin an episode; one that was under way counts as abandoned."""
        self._abandon()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Infos]:
        """One step, counted."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._ended:
            return obs, reward, terminated, truncated, info  # stepped on after its end: nobody's episode
        require_failure(info, "info")
        self._running.step(info)
        if terminated or truncated:
            episode = self._running.closed(truncated and not terminated)
            self.totals.add(episode)
            self.recent.append(episode)
            info = {**info, self._stats_key: episode.as_info()}
            self._running, self._ended = _Running(), True
        return obs, reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment; an episode under way counts as abandoned."""
        self._abandon()
        super().close()

    def _abandon(self) -> None:
        if self._running.length:
            self.totals.add(self._running.closed(truncated=False))
            self.totals.abandoned += 1
        self._running, self._ended = _Running(), False


class RecordVectorFailures(VectorWrapper[Any, Any, Any, Any, NDArray[Any]]):
    """Count the failures of a vector environment, in all three autoreset modes.

    When episodes end, ``infos["episode_failures"]`` holds an array for each field of ``EpisodeFailures`` and for ``failed``,
    and ``infos["_episode_failures"]`` marks whose episodes ended, as Gymnasium's ``RecordEpisodeStatistics`` does. ``totals``
    has the sums over all environments and ``recent`` the last episodes.

    Args:
        env: any vector environment with ``infos["failure"]`` at every step, and ``metadata["autoreset_mode"]``.
        buffer_length: how many episodes ``recent`` holds.
        stats_key: another name for the key in ``infos``.

    Raises:
        ValueError: the autoreset mode is not known, or at a step without a failure label.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], buffer_length: int = 100, stats_key: str = STATS_KEY) -> None:
        super().__init__(env)
        self.totals, self.recent = Totals(), deque[EpisodeFailures](maxlen=buffer_length)
        self._stats_key, self._mode = stats_key, autoreset_mode(env)
        self._running = [_Running() for _ in range(env.num_envs)]
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Infos]:
        """Begin episodes; those that were under way where ``reset_mask`` is True count as abandoned."""
        mask = np.array(
            (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        )  # some resets empty options
        results = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._abandon(mask)
        return results

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], Infos]:
        """One step of every environment, counted."""
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.logical_or(terminated, truncated)
        # NEXT_STEP: where an episode ended before, this step was its reset. DISABLED: it is still waiting for one.
        acted = ~self._ended
        for i in np.flatnonzero(acted):
            self._running[i].step(last_info(infos, int(i), ended=bool(ended[i]), mode=self._mode))
        closing = ended & acted
        if closing.any():
            infos = {**infos, **self._close_episodes(closing, np.logical_and(truncated, np.logical_not(terminated)))}
        if self._mode == AutoresetMode.NEXT_STEP:
            self._ended = closing
        elif self._mode == AutoresetMode.DISABLED:
            self._ended |= ended
        return obs, rewards, terminated, truncated, infos

    def close(self, **kwargs: Any) -> None:
        """Close the environments; episodes under way count as abandoned."""
        self._abandon(np.ones(self.num_envs, np.bool_))
        super().close(**kwargs)

    def _close_episodes(self, closing: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> Infos:
        """Count the episodes that ended and put them in the form of an info."""
        rows = [_Running().closed(truncated=False).as_info()] * self.num_envs
        for i in np.flatnonzero(closing):
            episode = self._running[i].closed(bool(truncated[i]))
            self.totals.add(episode)
            self.recent.append(episode)
            rows[i] = episode.as_info()
            self._running[i] = _Running()
        stats = {
            key: np.array([row[key] for row in rows], dtype=object if isinstance(value, str) else type(value))
            for key, value in rows[0].items()
        }
        return {self._stats_key: stats, f"_{self._stats_key}": closing}

    def _abandon(self, mask: NDArray[np.bool_]) -> None:
        for i in np.flatnonzero(mask):
            if self._running[i].length:
                self.totals.add(self._running[i].closed(truncated=False))
                self.totals.abandoned += 1
            self._running[i] = _Running()
        self._ended = self._ended & ~mask


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """How a vector environment begins the next episode.

    Raises:
        ValueError: it does not say.
    """
    if "autoreset_mode" not in env.metadata:
        raise ValueError(
            f'{env} does not say when it resets, and a guess would miscount failures: set env.metadata["autoreset_mode"] '
            "to the gymnasium.vector.AutoresetMode it has"
        )
    return AutoresetMode(env.metadata["autoreset_mode"])


def last_info(infos: Infos, i: int, *, ended: bool, mode: AutoresetMode) -> Infos:
    """The info of environment ``i``'s step, also where the environment has been reset since.

    Raises:
        ValueError: there is no failure label in it.
    """
    source, where = infos, f"infos of environment {i}"
    if ended and mode == AutoresetMode.SAME_STEP:
        source, where = infos.get("final_info", {}), f'infos["final_info"] of environment {i}'
    info: Infos = {
        key: source[key][i]
        for key in ("failure", "failure_type", "success", "cost")
        if key in source and (f"_{key}" not in source or source[f"_{key}"][i])
    }
    require_failure(info, where)
    return info


def require_failure(info: Infos, where: str) -> None:
    """Refuse to count what is not reported."""
    if "failure" not in info:
        raise ValueError(
            f'{where} has no "failure": the environment must report, at every step, whether this step failed '
            "(the environment contract of the docs); failures cannot be counted without"
        )
