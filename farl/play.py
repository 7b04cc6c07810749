"""``farl play``: watch a scripted, random or trained agent for a few episodes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from farl.configuration import Options
from farl.environments import TaskConfig, expert_view, make
from farl.errors import UserError

Act = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_BORDER = 12   # pixels
_RED = (220, 30, 30)


@dataclass(frozen=True)
class PlayConfig:
    """What to play, and who plays."""

    env: str = "failurebench:FailureBench/BoundedPush-v0"
    """Gymnasium id; the first argument of `farl play` is the same"""

    agent: str = "scripted"
    """zero, random, scripted (the task's own expert), another kind of expert the task offers, or a run's folder"""

    episodes: int = 3
    seed: int = 0
    """seed of the first episode; the next ones count up"""

    video: Path | None = None
    """write an .mp4 with a red border on failing steps"""

    options: Options = field(default_factory=dict)
    """keyword arguments of the environment, such as max_episode_steps=100"""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes is {self.episodes}; play at least 1")
        if self.video is not None and self.video.suffix != ".mp4":
            raise ValueError(f"video is '{self.video}'; its name must end in .mp4")


@dataclass
class _Tally:
    """What one episode came to."""

    length: int = 0
    total: float = 0.0
    success: bool = False
    failing_steps: int = 0
    least_margin: float = math.nan

    def add(self, reward: float, info: dict[str, Any]) -> None:
        self.length += 1
        self.total += reward
        self.success = self.success or bool(info.get("success", False))
        self.failing_steps += bool(info.get("failure", False))
        self.least_margin = float(np.fmin(self.least_margin, float(info.get("margin", math.nan))))

    def line(self, seed: int) -> str:
        failed = f"failed ({self.failing_steps} steps)" if self.failing_steps else "no failure"
        margin = "" if math.isnan(self.least_margin) else f"  min margin {self.least_margin:+.3f} m"
        outcome = "success   " if self.success else "no success"
        return f"seed {seed:<4} length {self.length:<4} return {self.total:9.1f}  {outcome}  {failed}{margin}"


def play(config: PlayConfig) -> Path | None:
    """Print a line per episode and return the video's path, if one was asked for."""
    extra = {} if config.video is None else {"render_mode": "rgb_array"}
    env = make(TaskConfig(config.env, config.options), **extra)
    try:
        agent = _agent(config, env)
        with _film(config.video, env) as film:
            for seed in range(config.seed, config.seed + config.episodes):
                print(_episode(env, agent(seed), seed, film).line(seed), flush=True)
    finally:
        env.close()
    return config.video


def _episode(env: gym.Env[Any, Any], act: Act, seed: int, film: Callable[[bool], None]) -> _Tally:
    obs, info = env.reset(seed=seed)
    film(bool(info.get("failure", False)))
    tally, over = _Tally(), False
    while not over:
        obs, reward, terminated, truncated, info = env.step(act(obs))
        tally.add(float(reward), info)
        film(bool(info.get("failure", False)))
        over = terminated or truncated
    return tally


def _agent(config: PlayConfig, env: gym.Env[Any, Any]) -> Callable[[int], Act]:
    """What acts in the episode of a seed."""
    shape = env.action_space.shape or ()
    kinds = tuple(getattr(env.unwrapped, "expert_kinds", ()))
    if config.agent == "zero":
        return lambda seed: lambda obs: np.zeros(shape, np.float32)
    if config.agent == "random":
        return lambda seed: _random(np.random.default_rng(seed), shape)
    if config.agent == "scripted" and kinds:
        return lambda seed: _expert(env, kinds[0], seed)
    if config.agent in kinds:
        return lambda seed: _expert(env, config.agent, seed)
    if Path(config.agent).is_dir():
        from farl.online.trained import load_agent

        policy = load_agent(Path(config.agent))
        return lambda seed: policy
    known = ["zero", "random", *(["scripted"] if kinds else []), *kinds]
    near = difflib.get_close_matches(config.agent, known, n=1)
    hint = f"perhaps you meant {near[0]}" if near else f"the choices are {', '.join(known)}, or a run's folder"
    raise UserError(f"unknown agent '{config.agent}'; {hint}")


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Act:
    return lambda obs: rng.uniform(-1, 1, shape).astype(np.float32)


def _expert(env: gym.Env[Any, Any], kind: str, seed: int) -> Act:
    expert = env.unwrapped.expert(kind)   # type: ignore[attr-defined]
    expert.reset(np.random.default_rng(seed))
    return lambda obs: expert.act(expert_view(env, obs))


# ---------------------------------------------------------------- video


@contextmanager
def _film(path: Path | None, env: gym.Env[Any, Any]) -> Iterator[Callable[[bool], None]]:
    """A function that films the present moment; the video appears under its name when all of it is written."""
    if path is None:
        yield lambda failing: None
        return
    with _Video(path, int(env.metadata.get("render_fps", 30))) as video:
        yield lambda failing: video.add(_picture(env), failing)


def _picture(env: gym.Env[Any, Any]) -> NDArray[np.uint8]:
    try:
        return np.asarray(env.render(), dtype=np.uint8)
    except Exception as error:   # OpenGL backends fail in many ways
        raise UserError(f"cannot make the video: {error}; `farl doctor` shows what is missing") from error


class _Video:
    """An .mp4 that is either complete or not there."""

    def __init__(self, path: Path, fps: int) -> None:
        self.path, self._part = path, path.with_name(f".{path.stem}.part.mp4")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer: Any = imageio.get_writer(self._part, fps=fps, macro_block_size=1)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def add(self, picture: NDArray[np.uint8], failing: bool) -> None:
        try:
            self._writer.append_data(_bordered(picture) if failing else picture)
        except OSError as error:
            reason = str(error).strip().splitlines()
            raise UserError(f"cannot write {self.path}: {reason[0] if reason else 'disk full?'}") from error

    def __enter__(self) -> _Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            self._part.replace(self.path)
        self._part.unlink(missing_ok=True)


def _bordered(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    framed = picture.copy()
    framed[:_BORDER] = framed[-_BORDER:] = _RED
    framed[:, :_BORDER] = framed[:, -_BORDER:] = _RED
    return framed
