"""One run's episodes from several actors: asked at once, joined in the order of their numbers, so that timing changes nothing.

Beside each answer the learner's side keeps the actor's whole state. An actor that dies is replaced by one that goes on from
there and collects the same again; where a task cannot be put into a state, its open episodes are lost, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from farl import configuration
from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.cluster.ray_cluster import RayCluster
from farl.cluster.trees import pack
from farl.errors import UserError
from farl.networks.policy import GaussianPolicy
from farl.online.accounting import EpisodeRecord, Ledger
from farl.online.actor import OnEpisode, OnLost
from farl.online.checkpoint import from_tensors, to_tensors
from farl.online.config import OnlineConfig
from farl.online.distributed import wire
from farl.online.distributed.seats import Gone, ProcessSeat, RaySeat, Seat, check_room

REPLACEMENTS = 3
"""how often in a row one actor is replaced"""


def remote_actors(
    config: OnlineConfig,
    policy: GaussianPolicy,
    router: Router | Ungated,
    on_episode: OnEpisode,
    on_lost: OnLost,
    say: Callable[[str], None],
) -> Actors:
    """The actors of ``config``, in processes of this machine or on a Ray cluster; none is started yet.

    Raises UserError where the cluster cannot be joined or has not enough room.
    """
    if config.launcher == "local":
        seats: list[Seat] = [ProcessSeat(config.out / f"actor-{number}.log") for number in range(config.actors)]
        return Actors(config, seats, policy, router, on_episode, on_lost, say)
    cluster = RayCluster(config.address, ("farl", config.task.id.partition(":")[0]), config.actors).__enter__()
    try:
        check_room(cluster, config.actors)
    except BaseException:
        cluster.__exit__(None, None, None)
        raise
    return Actors(config, [RaySeat(cluster) for _ in range(config.actors)], policy, router, on_episode, on_lost, say, cluster)


class Actors:
    """Stands where a run's only actor would: the same calls, ``config.actors`` times as many environments."""

    def __init__(
        self,
        config: OnlineConfig,
        seats: Sequence[Seat],
        policy: GaussianPolicy,
        router: Router | Ungated,
        on_episode: OnEpisode,
        on_lost: OnLost,
        say: Callable[[str], None],
        cluster: RayCluster | None = None,
    ) -> None:
        self.config, self.seats, self.policy, self.router = config, list(seats), policy, router
        self.on_episode, self.on_lost, self.say, self.cluster = on_episode, on_lost, say, cluster
        self.ledger, self.steps, self.policy_version = Ledger(), 0, 0
        self.seconds = {"env": 0.0, "policy": 0.0}
        self._states: list[dict[str, Any] | None] = [None] * len(self.seats)
        self._seated = [False] * len(self.seats)
        foreign = None if cluster is None or cluster.own else cluster
        self._code = {
            "versions": {} if foreign is None else foreign.versions,
            "modules": [] if foreign is None else list(foreign.modules),
        }

    def collect(self, steps: int) -> Rollout:
        """Every actor acts for ``steps`` in each of its environments; raises UserError where one cannot be replaced."""
        content = {"steps": steps, "version": self.policy_version, "policy": self.policy.state_dict()}
        message = wire.encode("collect", content)
        for number in range(len(self.seats)):
            self._ask(number, message)
        answers = [self._answer(number, message) for number in range(len(self.seats))]
        self._account(answers)
        return Rollout.joined([Rollout(**answer["rollout"]) for answer in answers], dim=1)

    def swap(self, weights: Mapping[str, torch.Tensor] | None, version: int) -> None:
        """Act with another version from the next rollout on; None where its weights are in place already."""
        if weights is not None:
            self.policy.load_state_dict(weights)
        self.policy_version = version

    def adopt(self, lines: Sequence[Mapping[str, Any]], lost: int) -> None:
        """Count episodes that were finished or lost after the last checkpoint; the actors begin new ones after them."""
        self.steps = max(self.steps, self.ledger.adopt_all(lines, lost))
        for state in self._states:
            if state is not None:
                state["begun"] += len(lines) + lost

    def close(self) -> None:
        """End all actors."""
        for seat in self.seats:
            seat.stop()
        if self.cluster is not None:
            self.cluster.__exit__(None, None, None)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue: the state of each actor after its last rollout."""
        return {
            "ledger": self.ledger.state_dict(),
            "steps": self.steps,
            "policy_version": self.policy_version,
            "seconds": dict(self.seconds),
            "parts": list(self._states),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ledger.load_state_dict(state["ledger"])
        self.steps, self.policy_version = state["steps"], state["policy_version"]
        self.seconds, self._states = dict(state["seconds"]), list(state["parts"])

    # ------------------------------------------------------------ one actor

    def _ask(self, number: int, message: bytes) -> None:
        if not self._seated[number]:
            self.seats[number].start()
            self.seats[number].send(self._begin(number))
        self.seats[number].send(message)

    def _begin(self, number: int) -> bytes:
        state = self._states[number]
        bundle = torch.from_numpy(np.frombuffer(pack(self.config.bundle), dtype=np.uint8).copy())
        content = {"configuration": configuration.dump(self.config), "number": number, "bundle": bundle}
        return wire.encode("begin", {**content, **self._code, "state": state and to_tensors(state)})

    def _answer(self, number: int, message: bytes) -> dict[str, Any]:
        for _ in range(REPLACEMENTS + 1):
            try:
                if not self._seated[number]:
                    self._states[number] = from_tensors(self._received(number)["state"])
                    self._seated[number] = True
                return self._received(number)
            except Gone as error:
                reason = str(error)
                self._lose(number, reason)
                self._ask(number, message)
        raise UserError(
            f"actor {number} was lost {REPLACEMENTS + 1} times in a row ({reason}). Nothing else is; "
            "the same command again continues the run."
        )

    def _received(self, number: int) -> dict[str, Any]:
        kind, content = wire.decode(self.seats[number].receive())
        if kind == "failed":
            raise UserError(f"actor {number}: {content['why']}")
        return content

    def _lose(self, number: int, reason: str) -> None:
        """Let go of an actor, and name the episodes that cannot be taken up where they were."""
        self.seats[number].stop()
        self._seated[number] = False
        state = self._states[number]
        if state is None or state["environments"] is not None:
            self.say(f"actor {number} was lost ({reason}); another one goes on where its last rollout ended")
            return
        records = [EpisodeRecord.from_state(record) for record in state["records"]]
        where = {"end_step": self.steps, "policy_version": self.policy_version}
        for env, record in enumerate(records):
            place = {"env": number * self.config.num_envs + env, **where}
            self.on_lost({**self.ledger.lose(record, reason), **place})
            if record.first_failure is not None:   # it did happen, and counts
                self.on_episode(record, {**self.ledger.close(record, False, False), **place, "cap_hits": 0})
        state["begun"] += self.config.num_envs * self.config.rollout_steps   # at most so many were begun unseen
        state["records"] = [EpisodeRecord(0).state_dict() for _ in records]   # named once
        seeds = ", ".join(str(record.seed) for record in records)
        self.say(f"actor {number} was lost ({reason}) and is replaced; its open episodes are lost too: seeds {seeds}")

    # ------------------------------------------------------------ all actors

    def _account(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Episodes in the order in which one process with all environments would have ended them."""
        states = [from_tensors(answer["state"]) for answer in answers]
        for name in ("ended", "lost"):
            found = [
                (self._place(one["line"], number), one)
                for number, answer in enumerate(answers)
                for one in answer[name]
            ]
            for place, one in sorted(found, key=lambda item: (item[0]["end_step"], item[0]["env"])):
                self._count(name, {**one["line"], **place}, one)
        self.steps += sum(state["steps"] - self._local(number) for number, state in enumerate(states))
        self.seconds = {name: sum(state["seconds"][name] for state in states) for name in self.seconds}
        self.router.seconds = sum(answer["gate_s"] for answer in answers)
        self._states = list(states)

    def _local(self, number: int) -> int:
        """The actor's own step count when the rollout began."""
        state = self._states[number]
        return 0 if state is None else int(state["steps"])

    def _place(self, line: Mapping[str, Any], number: int) -> dict[str, int]:
        """Environment and step among all."""
        ended = self.steps + (line["end_step"] - self._local(number)) * len(self.seats)
        return {"env": number * self.config.num_envs + line["env"], "end_step": ended}

    def _count(self, name: str, line: dict[str, Any], one: Mapping[str, Any]) -> None:
        if name == "lost":
            self.ledger.lost += 1
            self.on_lost(line)
            return
        record = EpisodeRecord.from_state(from_tensors(one["record"]))
        line["episode"] = self.ledger.episodes
        self.ledger.adopt(line)
        self.ledger.reliability.add(record.risks, record.gated, record.first_failure)
        self.on_episode(record, line)
