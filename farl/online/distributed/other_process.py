"""The learner as another process, seen from the actor's: handing over does not wait, and a learner that dies is started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from farl.errors import UserError
from farl.online.distributed import link, protocol, wire
from farl.online.distributed.courier import Courier
from farl.online.distributed.routes import KEY, START_S, Elsewhere, Started
from farl.online.learner import Handover, Update


@dataclass(frozen=True)
class LinkConfig:
    """Actor and learner as two processes (`mode: async`)."""

    ahead: int = 1
    """rollouts that may wait for their update while the actor goes on; 0 takes turns, which equals one process bit for bit"""
    swap: Literal["rollout", "episode"] | None = None
    """where the actor takes a new version: after a rollout, or between the episodes of a single environment, whose rollouts are
    then made of whole episodes; None is `episode` for one environment that does not take turns, else `rollout`"""
    spool: int = 8
    """as `ahead`, while the learner is away; they are kept on disk"""
    learner: str = ""
    """HOST:PORT of a learner that was started by hand, on this machine or another; empty starts one here"""
    host: str = "127.0.0.1"
    """address that the learner listens at; another than loopback lets other machines reach it, if they know the key"""
    port: int = 0
    """0 takes a free one"""
    key: Path | None = None
    """file with the secret that both sides know; None is link.key in the run's directory, made when it is missing"""
    silence_s: float = 30.0
    """seconds without a sign of life after which the other side is taken for gone"""
    update_s: float = 600.0
    """seconds that one update may take"""
    patience_s: float = 600.0
    """seconds that either side waits for the other to come back"""
    spare: bool = False
    """whether the learner's process runs only where nothing else wants the core: a robot's loop on the same few cores goes first"""

    def __post_init__(self) -> None:
        for name, least in (("ahead", 0), ("spool", 1), ("port", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"link.{name} is {getattr(self, name)}; give {least} or more")
        for name in ("silence_s", "update_s", "patience_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"link.{name} is {getattr(self, name)}; give seconds above 0")
        if self.learner and not self.learner.rpartition(":")[2].isdigit():
            raise ValueError(f"link.learner is '{self.learner}'; give HOST:PORT")


class OtherProcess:
    """A learner behind the link. The actor never waits for it but where its schedule says so, and then not for ever."""

    checkpoint_every = 1   # what the learner has is only safe when it is here, and what it has not yet must be too

    def __init__(
        self,
        state: dict[str, Any],
        folder: Path,
        config: LinkConfig,
        identity: dict[str, Any],
        say: Callable[[str], None],
        before_waiting: Callable[[], None],
    ) -> None:
        self.folder, self.config, self.identity, self.say = folder, config, identity, say
        self.before_waiting = before_waiting
        self._state = state
        self._outstanding: dict[int, Handover] = {}
        self._courier: Courier | None = None
        self._route: Started | Elsewhere | None = None
        self._met = False
        """whether there has been a learner since this process began"""

    @property
    def outstanding(self) -> list[Handover]:
        return list(self._outstanding.values())

    def submit(self, handover: Handover) -> None:
        self._outstanding[handover.number] = handover
        if self._courier is not None:
            self._courier.send(handover.number, protocol.rollout_message(handover))

    def next_update(self, drain: bool = False) -> Update | None:
        told, patience = False, self.config.patience_s if self._met else max(self.config.patience_s, START_S)
        until = time.monotonic() + patience
        while self._courier is not None:
            self._courier.arrived.clear()
            connected = self._courier.connected
            self._met = self._met or connected
            if (message := self._courier.take()) is not None:
                return self._update(message)
            if len(self._outstanding) <= self._room(connected, drain):
                return None
            if connected:
                until = time.monotonic() + patience
            elif self._met and not told:
                self.before_waiting()   # what waits for the learner now may wait for long: on disk
                self.say(f"waiting for the learner; {len(self._outstanding)} rollouts are kept for it on disk")
                told = True
            elif time.monotonic() > until:
                raise UserError(
                    f"no learner came back within {patience:.0f} s (link.patience_s); nothing is lost, and the same "
                    "command again continues the run"
                )
            self._courier.arrived.wait(0.5)
        return None

    def _room(self, connected: bool, drain: bool) -> int:
        """How many rollouts may be outstanding without waiting.

        None while the learner is only being started: what is collected meanwhile would all be by the first version. And
        whoever takes turns does so with an absent learner too.
        """
        if drain or self.config.ahead == 0 or not self._met:
            return 0
        return self.config.ahead if connected else max(self.config.ahead, self.config.spool)

    def _update(self, message: bytes) -> Update:
        _, content = wire.decode(message)
        self._state = content["state"]
        handover = self._outstanding.pop(content["number"])
        return Update(handover, content["losses"], content["seconds"], self._state["policy"])

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if missing := self._state.keys() - state.keys():
            raise KeyError(min(missing))
        self._state = state
        self._outstanding.clear()

    def start(self) -> None:
        key = link.key_of(self.config.key or self.folder / KEY)
        flags = {name: getattr(self.config, name) for name in ("host", "port", "silence_s", "patience_s")}
        route = self._route = (
            Elsewhere(self.config.learner, key)
            if self.config.learner
            else Started(self.folder, flags, key, protocol.digest(self.identity))
        )
        limits = self.config.silence_s, self.config.update_s
        self._courier = Courier(route, self.identity, self._state, *limits, self.say)
        for handover in self._outstanding.values():
            self._courier.send(handover.number, protocol.rollout_message(handover))
        self._courier.start()

    def close(self) -> None:
        if self._courier is not None and self._route is not None:
            self._route.close(self._courier)
            self._courier = None
