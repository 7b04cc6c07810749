"""The actor's end of the link: a thread that carries rollouts out and versions in, and finds the learner again when it is gone."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from farl.errors import UserError
from farl.online.distributed import protocol, wire
from farl.online.distributed.link import GREETING_S, Channel, LinkLost

PAUSES_S = (0.0, 0.5, 2.0, 5.0)
"""before the first, second, ... attempt in a row to reach the learner; the last one before all further"""


class Route(Protocol):
    """How to get to a learner."""

    def reach(self, failed: int) -> Channel:
        """A connection; raises LinkLost where there is none yet, and UserError where trying again is no use.

        ``failed`` counts the attempts since the last update.
        """
        ...

    def stuck(self) -> None:
        """The learner takes far too long: make an end of it, if it is ours."""
        ...


class Courier:
    """Carries messages beside the control loop, which only ever looks into ``take`` and never waits for the network."""

    def __init__(
        self,
        route: Route,
        identity: dict[str, Any],
        state: dict[str, Any],
        silence_s: float,
        update_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.route, self.identity = route, identity
        self.silence_s, self.update_s, self.say = silence_s, update_s, say
        self.connected = False
        self.failure: BaseException | None = None
        """why the run cannot go on, once that is clear"""
        self._newest = wire.encode("begin", {"state": state})
        """the message with the learner's state that a new connection begins from: this one, or the last update"""
        self._failed = 0
        self.arrived = threading.Event()
        """set whenever something has changed"""
        self._unlearned: dict[int, bytes] = {}
        """rollouts by number until their update is here, to be sent again to a learner that forgot them"""
        self._to_send: deque[bytes] = deque()
        self._updates: deque[bytes] = deque()
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._farewell = b""
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, number: int, message: bytes) -> None:
        """A rollout, now or when the learner is back; does not wait."""
        with self._lock:
            self._unlearned[number] = message
            self._to_send.append(message)
        os.write(self._waker, b"!")

    def take(self) -> bytes | None:
        """The next update that has arrived; raises UserError once the run cannot go on."""
        if self.failure is not None:
            raise self.failure
        with self._lock:
            return self._updates.popleft() if self._updates else None

    def close(self, farewell: str, patience_s: float = 5.0) -> None:
        """Tell the learner ``stop`` or ``bye`` and hang up."""
        self._farewell = wire.encode(farewell, {})
        self._stopping.set()
        os.write(self._waker, b"!")
        if self._thread.ident is not None:
            self._thread.join(patience_s)
        for end in (self._wake, self._waker):
            os.close(end)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._stopping.wait(PAUSES_S[min(self._failed, len(PAUSES_S) - 1)]):
                try:
                    self._converse(self._greeted(self.route.reach(self._failed)))
                except (LinkLost, wire.NotAMessage) as error:
                    if self.connected or self._failed == 0:
                        self.say(f"the learner is not there ({error}); trying again")
                    self._failed += 1
                    self.connected = False
                    self.arrived.set()
        except BaseException as error:   # whatever it is, the run must not wait for a thread that is no more
            self.failure = error
        finally:
            self.connected = False
            self.arrived.set()

    def _greeted(self, channel: Channel) -> Channel:
        """Both know who they are and where to begin, and the learner has all it has not learned from."""
        try:
            channel.send(wire.encode("hello", {"identity": self.identity}))
            answer = channel.receive(GREETING_S)
            kind, content = wire.decode(answer) if answer is not None else ("silence", {})
            if kind == "refused":
                raise UserError(f"the learner refused this actor: {content['why']}")
            if kind != "welcome":
                raise LinkLost(f"'{kind}' where a welcome was expected")
            with self._lock:
                self._to_send.clear()
                newest, rollouts = self._newest, list(self._unlearned.values())
            for message in (wire.encode("begin", {"state": wire.decode(newest)[1]["state"]}), *rollouts):
                channel.send(message)
        except BaseException:
            channel.close()
            raise
        if self._failed:
            self.say(f"the learner is there; {len(rollouts)} rollouts were handed in")
        self.connected = True
        self.arrived.set()
        return channel

    def _converse(self, channel: Channel) -> None:
        heard = beat = progress = time.monotonic()
        try:
            while not self._stopping.is_set():
                readable = select.select([channel.fileno(), self._wake], [], [], protocol.BEAT_S / 2)[0]
                now = time.monotonic()
                if self._wake in readable:
                    os.read(self._wake, 4096)
                while message := self._next_to_send():
                    progress = now if len(self._unlearned) == 1 else progress
                    channel.send(message)
                if channel.fileno() in readable and (message := channel.receive(0)) is not None:
                    heard = now
                    if self._received(message):
                        progress = now
                if now - beat > protocol.BEAT_S:
                    channel.send(protocol.BEAT)
                    beat = now
                self._check(now, heard, progress)
            channel.send(self._farewell)
        except OSError as error:
            raise LinkLost(f"the connection is closed ({error})") from error
        finally:
            channel.close()

    def _next_to_send(self) -> bytes | None:
        with self._lock:
            return self._to_send.popleft() if self._to_send else None

    def _received(self, message: bytes) -> bool:
        """Note what came; true for an update."""
        kind, content = wire.peek(message)
        if kind == "failed":
            raise UserError(str(content["why"]))
        if kind != "update":
            return False
        with self._lock:
            if content["number"] not in self._unlearned:
                raise LinkLost(f"an update for rollout {content['number']}, which was not handed in")
            del self._unlearned[content["number"]]
            self._updates.append(message)
            self._newest, self._failed = message, 0
        self.arrived.set()
        return True

    def _check(self, now: float, heard: float, progress: float) -> None:
        if now - heard > self.silence_s:
            raise LinkLost(f"silent for {self.silence_s:.0f} s")
        if self._unlearned and now - progress > self.update_s:
            self.route.stuck()
            raise LinkLost(f"an update took more than {self.update_s:.0f} s")
