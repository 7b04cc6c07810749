"""The learner as a server: actors connect, hand in rollouts and get versions of the policy; it learns as they come."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from farl.algorithms.rollout import Rollout
from farl.errors import UserError
from farl.online import link, protocol, wire
from farl.online.learner import Handover, Learner
from farl.online.link import Channel, LinkLost

MOST_WAITING = 64
"""rollouts of one actor that are held; one that sends more does not keep to its bound and is cut off"""


class Peer:
    """A connected actor."""

    def __init__(self, channel: Channel, number: int, name: str) -> None:
        self.channel, self.number, self.name = channel, number, name

    def send(self, message: bytes) -> None:
        """To an actor that is gone nothing is sent: it will ask for what it needs when it is back."""
        try:
            self.channel.send(message)
        except LinkLost:
            self.channel.close()   # half a frame may have left: whoever listens to this actor notices, and says so


class LearnerServer:
    """Learns from one rollout of each of ``actors`` at a time, joined in the order of their numbers, until told to stop.

    It keeps nothing on disk. Actor 0 has the run's directory: it says which state to begin from, and gets the whole state after
    every update; the others get the policy. Whatever is lost with this process, actor 0 hands in again.
    """

    def __init__(
        self,
        learner: Learner,
        listener: socket.socket,
        key: bytes,
        identity: dict[str, Any],
        actors: int = 1,
        patience_s: float = 600.0,
        silence_s: float = 30.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self.learner, self.listener, self.key, self.identity = learner, listener, key, identity
        self.actors, self.patience_s, self.silence_s, self.say = actors, patience_s, silence_s, say
        self.peers: dict[int, Peer] = {}
        self._waiting: dict[int, dict[int, Handover]] = {number: {} for number in range(actors)}
        self._events: queue.Queue[tuple[Peer, str, dict[str, Any]]] = queue.Queue()
        self._lock, self._closed, self._begun = threading.Lock(), threading.Event(), False

    def serve(self) -> None:
        """Learn until actor 0 says stop, or nobody has been here for ``patience_s``."""
        threading.Thread(target=self._accept, daemon=True).start()
        alone_since = time.monotonic()
        try:
            while True:
                try:
                    peer, kind, content = self._events.get(timeout=0.5)
                except queue.Empty:
                    alone_since = time.monotonic() if self.peers else alone_since
                    if time.monotonic() - alone_since > self.patience_s:
                        self.say(f"no actor came within {self.patience_s:.0f} s: the learner ends; nothing is lost by that")
                        return
                    continue
                if kind == "stop":
                    return
                self._handle(peer, kind, content)
                self._learn_while_ready()
        finally:
            self._closed.set()
            self.listener.close()
            for peer in list(self.peers.values()):
                peer.channel.close()

    def _handle(self, peer: Peer, kind: str, content: dict[str, Any]) -> None:
        if kind == "gone":
            self.say(f"{peer.name} is gone ({content['why']}); waiting {self.patience_s:.0f} s for it to come back")
        elif kind == "begin" and peer.number == 0:
            self.learner.load_state_dict(content["state"])
            self._begun = True
            for waiting in self._waiting.values():
                waiting.clear()
            self.say(f"{peer.name} begins from version {self.learner.version}")
            self._publish_policy()
        elif kind == "rollout":
            self._waiting[peer.number][content["handover"].number] = content["handover"]
        else:
            self.say(f"{peer.name} sent '{kind}', which nobody expected")

    def _learn_while_ready(self) -> None:
        while self._begun:
            number = self.learner.version + 1
            if not all(number in waiting for waiting in self._waiting.values()):
                return
            self._learn([waiting.pop(number) for waiting in self._waiting.values()])

    def _learn(self, parts: list[Handover]) -> None:
        try:
            rollout = Rollout.joined([part.rollout for part in parts], dim=1)
            losses, seconds = self.learner.learn(rollout, max(part.done for part in parts))
        except UserError as error:   # such as a loss that is no number: the run must stop, and its actor says why
            if owner := self.peers.get(0):
                owner.send(wire.encode("failed", {"why": str(error)}))
            raise
        if owner := self.peers.get(0):
            content = {"number": self.learner.version, "losses": losses, "seconds": seconds}
            owner.send(wire.encode("update", {**content, "state": self.learner.state_dict()}))
        self._publish_policy()

    def _publish_policy(self) -> None:
        others = [peer for number, peer in self.peers.items() if number > 0]
        if others:
            content = {"number": self.learner.version, "policy": self.learner.ppo.policy.state_dict()}
            for peer in others:
                peer.send(wire.encode("snapshot", content))

    # ------------------------------------------------------------ threads: one that accepts, one for each actor

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
        peer = None
        try:
            peer = self._welcome(channel, host)
            if peer is not None:
                self._listen(peer)
        except (LinkLost, wire.NotAMessage) as error:
            if peer is not None:
                self._events.put((peer, "gone", {"why": str(error)}))
            else:
                self.say(f"{host}: {error}")
        finally:
            channel.close()
            with self._lock:
                if peer is not None and self.peers.get(peer.number) is peer:
                    del self.peers[peer.number]

    def _welcome(self, channel: Channel, host: str) -> Peer | None:
        """The actor, if it is one of this run's; whoever is refused is told why."""
        kind, content = _message(channel, link.GREETING_S)
        number = content.get("actor")
        if kind != "hello" or not isinstance(number, int) or not 0 <= number < self.actors:
            why = f"an actor from 0 to {self.actors - 1} was expected, not '{kind}' of {number}"
        elif differing := protocol.disagreement(self.identity, content.get("identity", {})):
            why = f"the learner serves another run ({differing}, 'here' being the learner's)"
        else:
            with self._lock:
                if number not in self.peers:
                    peer = Peer(channel, number, f"actor {number} at {host}")
                    channel.send(wire.encode("welcome", {"version": self.learner.version}))
                    self.peers[number] = peer
                    return peer
            why = f"actor {number} is connected already"
        channel.send(wire.encode("refused", {"why": why}))
        self.say(f"{host} was refused: {why}")
        return None

    def _listen(self, peer: Peer) -> None:
        heard = beat = time.monotonic()
        while not self._closed.is_set():
            message, now = peer.channel.receive(protocol.BEAT_S / 2), time.monotonic()
            if message is not None:
                heard = now
                kind, content = wire.decode(message)
                if kind == "bye":
                    raise LinkLost("it said good-bye")
                if len(self._waiting[peer.number]) >= MOST_WAITING:
                    raise LinkLost(f"it sent more than {MOST_WAITING} rollouts that nothing was learned from yet")
                if kind == "rollout":
                    content = {"handover": protocol.handover_of(content)}
                if kind != "beat":
                    self._events.put((peer, kind, content))
            elif now - heard > self.silence_s:
                raise LinkLost(f"silent for {self.silence_s:.0f} s")
            if now - beat > protocol.BEAT_S:
                peer.channel.send(_BEAT)
                beat = now


_BEAT = wire.encode("beat", {})


def _message(channel: Channel, timeout_s: float) -> tuple[str, dict[str, Any]]:
    message = channel.receive(timeout_s)
    if message is None:
        raise LinkLost(f"silent for {timeout_s:.0f} s after the greeting")
    return wire.decode(message)
