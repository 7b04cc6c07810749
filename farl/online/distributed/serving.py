"""The learner as a server: an actor connects, hands in rollouts and gets versions of the policy; it learns as they come."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from farl.errors import UserError
from farl.online.distributed import link, protocol, wire
from farl.online.distributed.link import Channel, LinkLost
from farl.online.learner import Handover, Learner

MOST_WAITING = 64
"""rollouts that are held; an actor that sends more does not keep to its bound and is cut off"""


class LearnerServer:
    """Learns from one rollout after another, in the order of their numbers, until told to stop.

    It keeps nothing on disk: its actor says which state to begin from, and gets the whole state after every update. Whatever is
    lost with this process, the actor hands in again.
    """

    def __init__(
        self,
        learner: Learner,
        listener: socket.socket,
        key: bytes,
        identity: dict[str, Any],
        patience_s: float = 600.0,
        silence_s: float = 30.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self.learner, self.listener, self.key, self.identity = learner, listener, key, identity
        self.patience_s, self.silence_s, self.say = patience_s, silence_s, say
        self._actor: Channel | None = None
        self._waiting: dict[int, Handover] = {}
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._lock, self._closed = threading.Lock(), threading.Event()

    def serve(self) -> None:
        """Learn until told to stop, or until nobody has been here for ``patience_s``."""
        threading.Thread(target=self._accept, daemon=True).start()
        alone_since = time.monotonic()
        try:
            while True:
                try:
                    kind, content = self._events.get(timeout=0.5)
                except queue.Empty:
                    alone_since = alone_since if self._actor is None else time.monotonic()
                    if time.monotonic() - alone_since > self.patience_s:
                        self.say(f"no actor came within {self.patience_s:.0f} s: the learner ends; nothing is lost by that")
                        return
                    continue
                if kind == "stop":
                    return
                self._handle(kind, content)
                while (handover := self._waiting.pop(self.learner.version + 1, None)) is not None:
                    self._learn(handover)
        finally:
            self._closed.set()
            self.listener.close()
            if self._actor is not None:
                self._actor.close()

    def stop(self) -> None:
        """End ``serve`` once the update at work is done."""
        self._events.put(("stop", None))

    def _handle(self, kind: str, content: Any) -> None:
        if kind == "begin":
            self.learner.load_state_dict(content["state"])
            self._waiting.clear()
            self.say(f"an actor begins from version {self.learner.version}")
        elif kind == "rollout":
            self._waiting[content.number] = content
        elif kind == "gone":
            self.say(f"the actor is gone ({content}); waiting {self.patience_s:.0f} s for it to come back")

    def _learn(self, handover: Handover) -> None:
        try:
            losses, seconds = self.learner.learn(handover.rollout, handover.done)
        except UserError as error:   # such as a loss that is no number: the run must stop, and its actor says why
            self._send(wire.encode("failed", {"why": str(error)}))
            raise
        content = {"number": handover.number, "losses": losses, "seconds": seconds}
        self._send(wire.encode("update", {**content, "state": self.learner.state_dict()}))

    def _send(self, message: bytes) -> None:
        """To an actor that is gone nothing is sent: it asks for what it needs when it is back."""
        channel = self._actor
        if channel is None:
            return
        try:
            channel.send(message)
        except LinkLost:
            channel.close()   # half a frame may have left: whoever listens to the actor notices, and says so

    # ------------------------------------------------------------ threads: one that accepts, one for each who connects

    def _accept(self) -> None:
        self.listener.settimeout(0.5)
        while not self._closed.is_set():
            try:
                sock, (host, *_) = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            sock.settimeout(None)
            threading.Thread(target=self._attend, args=(sock, host), daemon=True).start()

    def _attend(self, sock: socket.socket, host: str) -> None:
        """Greet whoever connected, then pass on what they say until they are gone."""
        try:
            channel = link.accept(sock, self.key)
        except (LinkLost, UserError) as error:
            self.say(f"{host}: {error}")
            return
        try:
            if self._welcome(channel, host):
                self._listen(channel)
        except (LinkLost, wire.NotAMessage) as error:
            if self._actor is channel:
                self._events.put(("gone", str(error)))
            else:
                self.say(f"{host}: {error}")
        finally:
            channel.close()
            with self._lock:
                if self._actor is channel:
                    self._actor = None

    def _welcome(self, channel: Channel, host: str) -> bool:
        """Whether it is this run's actor; whoever is refused is told why."""
        message = channel.receive(link.GREETING_S)
        kind, content = wire.decode(message) if message is not None else ("silence", {})
        if kind != "hello":
            why = f"'{kind}' where a hello was expected"
        elif differing := protocol.disagreement(self.identity, content.get("identity", {})):
            why = f"the learner serves another run ({differing}, 'here' being the learner's)"
        else:
            with self._lock:
                if self._actor is None:
                    channel.send(wire.encode("welcome", {"version": self.learner.version}))
                    self._actor = channel
                    return True
            why = "another actor is connected"
        channel.send(wire.encode("refused", {"why": why}))
        self.say(f"{host} was refused: {why}")
        return False

    def _listen(self, channel: Channel) -> None:
        heard = beat = time.monotonic()
        while not self._closed.is_set():
            message, now = channel.receive(protocol.BEAT_S / 2), time.monotonic()
            if message is not None:
                heard = now
                self._received(*wire.decode(message))
            elif now - heard > self.silence_s:
                raise LinkLost(f"silent for {self.silence_s:.0f} s")
            if now - beat > protocol.BEAT_S:
                channel.send(protocol.BEAT)
                beat = now

    def _received(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "rollout":
            if len(self._waiting) + self._events.qsize() >= MOST_WAITING:
                raise LinkLost(f"it sent more than {MOST_WAITING} rollouts that nothing was learned from yet")
            self._events.put((kind, protocol.handover_of(content)))
        elif kind in ("begin", "stop"):
            self._events.put((kind, content))
        elif kind == "bye":
            raise LinkLost("it said good-bye")
        elif kind != "beat":
            raise wire.NotAMessage(f"'{kind}', which nobody expects from an actor")
