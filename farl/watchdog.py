"""Environments that raise or do not return: the episode is lost, the environment is made anew, and the run goes on."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from farl.errors import UserError

TICKS = 4
"""looks at a call before it has lasted too long: it is interrupted after one to one and a quarter of its time"""
EXIT_STATUS = 75
"""of a process that ended itself: trying again may help (EX_TEMPFAIL of sysexits.h)"""
T = TypeVar("T")


@dataclass(frozen=True)
class WatchdogConfig:
    """What becomes of an environment that raises or does not return."""

    call_s: float = 60.0
    """seconds that making, resetting or stepping an environment may take before it is given up; 0 waits for ever"""
    retries: int = 3
    """times in a row that an environment is made anew and begins another episode before the run stops"""

    def __post_init__(self) -> None:
        if not self.call_s >= 0:
            raise ValueError(f"watchdog.call_s is {self.call_s}; give seconds, or 0 to wait for ever")
        if self.retries < 0:
            raise ValueError(f"watchdog.retries is {self.retries}; give 0 or more")


class DidNotReturn(BaseException):
    """A call took too long. No ``Exception``: what an environment catches to go on must not swallow this."""


class Watchdog:
    """Interrupts calls that take too long.

    A thread looks on and costs the calls nothing. It counts its own looks instead of reading a clock, so a process that was
    suspended is not blamed for the time it slept. At first it interrupts the main thread with a signal, which ends anything
    that gets back to Python; a call that does not, or that is made in another thread, ends the process with a message.
    """

    def __init__(self, config: WatchdogConfig, give_up: Callable[[str], None] = lambda reason: None) -> None:
        self.config, self._give_up = config, give_up
        self._calls, self._calling = 0, False
        self._closed = threading.Event()
        self._interrupts, self._before = False, cast(Any, None)

    def start(self) -> None:
        """Look on from now on. Calls that this thread makes can be interrupted if it is the main one."""
        if not self.config.call_s:
            return
        self._interrupts = threading.current_thread() is threading.main_thread()
        if self._interrupts:
            self._before = signal.signal(signal.SIGALRM, self._interrupt)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        if self._interrupts:
            signal.signal(signal.SIGALRM, self._before)
            self._interrupts = False

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """``function(...)``; raises DidNotReturn where it takes too long."""
        self._calls += 1
        self._calling = True
        try:
            return function(*arguments, **options)
        finally:
            self._calling = False

    def _watch(self) -> None:
        seen, looks = 0, 0
        while not self._closed.wait(self.config.call_s / TICKS):
            looks = looks + 1 if self._calling and self._calls == seen else 0
            seen = self._calls
            if looks == TICKS and self._interrupts:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            elif looks >= 2 * TICKS:
                self._end_process()

    def _interrupt(self, number: int, frame: object) -> None:
        if self._calling:
            raise DidNotReturn(f"did not return within {self.config.call_s:g} s")

    def _end_process(self) -> None:
        reason = (
            f"an environment did not return within {2 * self.config.call_s:g} s and cannot be interrupted, so this process ends "
            "itself. Nothing up to the last checkpoint is lost: the same command continues from there. If the environment is "
            "only slow, give more --watchdog.call-s"
        )
        print(f"farl: {reason}. It hangs here:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        with suppress(Exception):
            self._give_up(reason)
        os._exit(EXIT_STATUS)


class _Replaceable:
    """Makes an environment, and another in its place when it broke; gives up after too many in a row."""

    def __init__(self, name: str, make: Callable[[], Any], watchdog: Watchdog) -> None:
        self.name, self._make, self.watchdog = name, make, watchdog
        self.current = watchdog.call(make)
        self._broken, self._in_a_row = False, 0

    def broke(self, error: BaseException) -> str:
        """What was wrong, and where; raises UserError if that was once too often, MemoryError if it is one."""
        if isinstance(error, MemoryError):
            raise error   # whatever it was replaced by would fare no better
        what = str(error) if isinstance(error, DidNotReturn) else f"raised {type(error).__name__}: {error}"
        place = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__][-1:]
        reason = what + "".join(f" ({Path(at.filename).name}, line {at.lineno}, in {at.name})" for at in place)
        self._broken, self._in_a_row = True, self._in_a_row + 1
        if self._in_a_row > self.watchdog.config.retries:
            raise UserError(
                f"{self.name} broke {self._in_a_row} times in a row, the last time because it {reason}. The run is kept up to its "
                "last checkpoint and the same command continues it; `farl check` examines an environment"
            ) from error
        print(f"{self.name} {reason}; it is made anew", file=sys.stderr, flush=True)
        return reason

    def reset(self, **options: Any) -> Any:
        """Begin an episode, in a fresh environment if need be."""
        while True:
            try:
                if self._broken:
                    with suppress(Exception, DidNotReturn):
                        self.watchdog.call(self.current.close)
                    self.current = self.watchdog.call(self._make)
                    self._broken = False
                return self.watchdog.call(self.current.reset, **options)
            except (Exception, DidNotReturn) as error:
                self.broke(error)

    def lived(self) -> None:
        """An episode ended as it should."""
        self._in_a_row = 0


class Guarded(gym.Wrapper[Any, Any, Any, Any]):
    """One environment of several: if it breaks, its episode ends by truncation, with the reason in ``info["lost"]``.

    That step has no reward and no failure, and the observation it began with; the other environments go on.
    """

    def __init__(self, name: str, make: Callable[[], gym.Env[Any, Any]], watchdog: Watchdog) -> None:
        self._source, self._watchdog = _Replaceable(name, make, watchdog), watchdog
        super().__init__(self._source.current)
        self._obs: Any = None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:   # type: ignore[override]
        self._obs, info = self._source.reset(**options)
        self.env = self._source.current
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            result = self._watchdog.call(self.env.step, action)
        except (Exception, DidNotReturn) as error:
            return self._obs, 0.0, False, True, {"failure": False, "lost": self._source.broke(error)}
        self._obs = result[0]
        if result[2] or result[3]:
            self._source.lived()
        return result


class GuardedVector(VectorWrapper):
    """Environments that step in one call: if it breaks, the episodes of all of them are lost."""

    def __init__(self, name: str, make: Callable[[], VectorEnv[Any, Any, Any]], watchdog: Watchdog) -> None:
        self._source, self._watchdog = _Replaceable(name, make, watchdog), watchdog
        super().__init__(self._source.current)
        self._obs = np.zeros(self.observation_space.shape or (), np.float32)
        self._lost = ""

    def __getattr__(self, name: str) -> Any:
        """What else the environments offer, such as their states."""
        if name == "env" or name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:   # type: ignore[override]
        mask = (options.get("options") or {}).get("reset_mask")
        if mask is None or mask.all():
            self._obs, info = self._source.reset(**options)
            self.env = self._source.current
            return self._obs, info
        try:
            self._obs, info = self._watchdog.call(self.env.reset, **options)
            return self._obs, info
        except (Exception, DidNotReturn) as error:
            self._lost = self._source.broke(error)   # the others' episodes with it: the next step says so
            return self._obs, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        try:
            if not self._lost:
                result = self._watchdog.call(self.env.step, actions)
                self._obs = result[0]
                if (result[2] | result[3]).any():
                    self._source.lived()
                return result
        except (Exception, DidNotReturn) as error:
            self._lost = self._source.broke(error)
        everyone = np.ones(self.num_envs, np.bool_)
        info = {"failure": ~everyone, "lost": np.full(self.num_envs, self._lost, dtype=object)}
        self._lost = ""
        return self._obs, np.zeros(self.num_envs), ~everyone, everyone, info
