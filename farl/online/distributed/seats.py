"""Where a remote actor sits: in a process of this machine or in a worker of a Ray cluster. Both take and give bytes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from farl.cluster.ray_cluster import RayCluster
from farl.errors import UserError
from farl.online.distributed.actor_process import LENGTH, read_frame

ANSWER_S = 900.0
"""seconds that an actor may take to begin, or for one rollout"""
CPUS = 1.0


class Gone(Exception):
    """The actor will not answer any more; the message says why."""


class Seat(Protocol):
    """One actor; after ``Gone`` it can be started again."""

    def start(self) -> None:
        """Make an actor, which knows nothing yet; does not wait for it."""
        ...

    def send(self, message: bytes) -> None:
        """Hand over a message; its answers come in the order of the messages."""
        ...

    def receive(self) -> bytes:
        """The next answer; raises Gone."""
        ...

    def stop(self) -> None:
        """End the actor."""
        ...


class ProcessSeat:
    """A process of this machine, which ends with this one."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "farl.online.distributed.actor_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                process_group=0,   # Ctrl-C reaches the learner, which says when it is over
            )

    def send(self, message: bytes) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(OSError):   # a broken pipe is an answer that never comes
            self.process.stdin.write(LENGTH.pack(len(message)) + message)
            self.process.stdin.flush()

    def receive(self) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], ANSWER_S)[0]:
            raise Gone(f"silent for {ANSWER_S:.0f} s")
        answer = read_frame(self.process.stdout)   # type: ignore[arg-type]
        if answer is None:
            raise Gone(f"its process ended with status {self.process.wait()}; its log is {self.log}")
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self.process = None


class RaySeat:
    """A worker of a Ray cluster."""

    def __init__(self, cluster: RayCluster) -> None:
        self.cluster, self._ray = cluster, cluster.ray
        self._actor: Any = None
        self._answers: deque[Any] = deque()

    def start(self) -> None:
        from farl.online.distributed.remote_actor import RemoteActor

        remote = self._ray.remote(num_cpus=CPUS, max_restarts=0)(RemoteActor)
        self._actor = remote.options(runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}).remote()
        self._answers.clear()

    def send(self, message: bytes) -> None:
        self._answers.append(self._actor.handle.remote(message))

    def receive(self) -> bytes:
        errors = self._ray.exceptions
        try:
            answer: bytes = self._ray.get(self._answers.popleft(), timeout=ANSWER_S)
        except errors.RayTaskError as error:
            raise UserError(f"a remote actor stopped with an error of its own:\n{error}") from error
        except errors.RayError as error:
            raise Gone(str(error).strip().splitlines()[0]) from error
        return answer

    def stop(self) -> None:
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None


def check_room(cluster: RayCluster, actors: int) -> None:
    """Raises UserError where the cluster has not a CPU for each actor: they work together, so none can wait for another."""
    nodes = cluster.nodes()
    room = sum(int(node.cpus // CPUS) for node in nodes)
    if room < actors:
        has = "; ".join(map(str, nodes))
        raise UserError(f"{actors} actors need a CPU each, and the cluster has {room} ({has}); give fewer --actors")
