"""The twin's side channel: questions about and orders to what surrounds the arm, as JSON datagrams on loopback."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from failurebench.franka.scene import Layout, Scene
from robots.errors import RobotError

PORT = 1339
"""UDP, at the address of the robot; the robot itself is served on TCP 1337 and its gripper on 1338"""

LONGEST = 65_000
"""bytes of a datagram"""

ANSWER_S = 0.5
"""that an answer may take before the question is asked again"""

TRIES = 4


class Truth(NamedTuple):
    """What a simulator knows of its table."""

    scene: Scene
    layout: Layout
    time: float
    """``time.monotonic()``"""


class Pose(NamedTuple):
    """Where everything is, as MuJoCo has it."""

    qpos: list[float]
    mocap: list[float]
    layout: Layout
    time: float
    """``time.monotonic()``"""


class SideServer:
    """Answers what has arrived whenever it is polled; never waits.

    Args:
        host: the address to listen at.
        verbs: what can be asked for; each takes the question's fields by name and returns what JSON can hold.

    Raises:
        OSError: the address is in use.
    """

    def __init__(self, host: str, verbs: dict[str, Callable[..., Any]]) -> None:
        self._verbs = verbs
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, PORT))
        self._socket.setblocking(False)

    def poll(self) -> None:
        """Answer at most one question."""
        try:
            text, asker = self._socket.recvfrom(LONGEST)
        except BlockingIOError:
            return
        with contextlib.suppress(OSError):  # whoever asked is gone
            self._socket.sendto(json.dumps(self._answer(text)).encode(), asker)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _answer(self, text: bytes) -> dict[str, Any]:
        number = None
        try:
            question = json.loads(text)
            number = question["id"]
            return {"id": number, "answer": self._verbs[question["verb"]](**question["fields"])}
        except (KeyError, TypeError, ValueError) as error:
            return {"id": number, "error": f"{type(error).__name__}: {error}"}


class SideChannel:
    """Asks a twin. One thread at a time; make one for each.

    Args:
        host: the twin's address.
        answer_s: that an answer may take; asked ``TRIES`` times.
    """

    def __init__(self, host: str, answer_s: float = ANSWER_S) -> None:
        self.host, self.answer_s = host, answer_s
        self._numbers = itertools.count(time.monotonic_ns())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, PORT))
        self._socket.settimeout(answer_s)

    def ask(self, verb: str, **fields: Any) -> Any:
        """The twin's answer.

        Raises:
            RobotError: it does not answer, or cannot do what is asked.
        """
        number = next(self._numbers)
        question = json.dumps({"id": number, "verb": verb, "fields": fields}).encode()
        for _ in range(TRIES):
            try:
                self._socket.send(question)
                answer = self._receive(number)
            except OSError:
                continue
            if "error" in answer:
                raise RobotError(f"the twin at {self.host} cannot {verb}: {answer['error']}")
            return answer["answer"]
        raise RobotError(f"no twin answers at {self.host}, UDP port {PORT}: is it running, or frozen?")

    def look(self) -> Truth:
        """Everything on the table, now."""
        answer = self.ask("look")
        return Truth(_tuples(Scene, answer["scene"]), _tuples(Layout, answer["layout"]), answer["time"])

    def scene(self) -> tuple[Scene, float]:
        """The truth, and the ``time.monotonic()`` that it is of."""
        truth = self.look()
        return truth.scene, truth.time

    def layout(self) -> Layout:
        """What the episode on the table drew."""
        return self.look().layout

    def reset(self, layout_seed: int) -> Layout:
        """Put an episode on the table, drawn as the robosuite twin draws it for that seed; the arm stays where it is."""
        drawn: Layout = _tuples(Layout, self.ask("reset", seed=layout_seed))
        return drawn

    def nearest(self, since: float) -> tuple[float, str]:
        """The smallest margin since a ``time.monotonic()``, looked at every 20 ms, and which way of failing it is of."""
        margin, detail = self.ask("nearest", since=since)
        return margin, detail

    def user_stop(self, pressed: bool) -> None:
        """Press or release the robot's user stop."""
        self.ask("user_stop", pressed=pressed)

    def push(self, body: str, force: tuple[float, float, float], seconds: float) -> None:
        """Press on the ``object`` or the ``finger`` with a force in newtons for a while."""
        self.ask("push", body=body, force=list(force), seconds=seconds)

    def pose(self) -> Pose:
        """What a picture of the twin is drawn from."""
        answer = self.ask("pose")
        return Pose(answer["qpos"], answer["mocap"], _tuples(Layout, answer["layout"]), answer["time"])

    def status(self) -> dict[str, Any]:
        """How the controller does, by name.

        ``rate_hz`` over the last second, ``busy_ms`` of processor time in each millisecond, ``lateness_ms`` (median, 99th
        percentile and most of the last ten seconds), ``late`` (how often it gave up catching up), ``ticks``, ``mode``, ``errors``,
        ``connected``, ``wrench`` (of the surroundings on the arm, N and Nm), ``finger_n`` (contact force at the finger).
        """
        answer: dict[str, Any] = self.ask("status")
        return answer

    def close(self) -> None:
        """Let go."""
        self._socket.close()

    def _receive(self, number: int) -> dict[str, Any]:
        """The answer of that number; older ones were given up."""
        until = time.monotonic() + self.answer_s
        while time.monotonic() < until:
            answer: dict[str, Any] = json.loads(self._socket.recv(LONGEST))
            if answer["id"] == number:
                return answer
        raise TimeoutError


def _tuples(kind: Any, fields: list[Any]) -> Any:
    """Of JSON, which knows no tuples."""
    return kind(*(tuple(value) if isinstance(value, list) else value for value in fields))
