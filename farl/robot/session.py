"""A post-training session on one arm: episodes with the gate on, a learner beside them, everything kept."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.algorithms.takeover import Takeover
from farl.errors import UserError
from farl.online import checkpoint
from farl.online.accounting import EpisodeRecord
from farl.online.provenance import mark
from farl.online.run import Session
from farl.robot.actor import Permits, RobotActor
from farl.robot.config import RobotSessionConfig
from farl.robot.digest import digest
from farl.robot.journalled import JournalledEnv
from robots.env import FrankaTaskEnv
from robots.session import words
from robots.session.acting import acting
from robots.session.journal import Journal, read_events
from robots.session.resetting import SessionEnded

PROVEN = ("learner", "actor")
"""components whose hash a checkpoint leaves in the journal: everything that learns, decides and counts"""

SLOW_SEED = 2**31 - 1


class RobotSession(Session):
    """A run whose environment is an arm.

    What it had done after its last checkpoint is played back from the journal, decision by decision, before the arm moves.

    Args:
        robot: the session's configuration.
        env: the arm's environment, not opened yet.
        manifest: for the journal.
    """

    actor: RobotActor

    def __init__(self, robot: RobotSessionConfig, env: FrankaTaskEnv, manifest: dict[str, Any]) -> None:
        self.robot, self.arm = robot, JournalledEnv(env)
        super().__init__(robot.online())
        try:
            self.journal = Journal(robot.out / "session", manifest)
        except BaseException:
            self.claim.release()
            raise
        self.arm.open(self.journal)

    def _environments(self, count: int) -> VectorEnv[Any, Any, Any]:
        return self.arm

    def _actor(self, router: Router | Ungated) -> RobotActor:
        config, taken = self.config, Takeover(router, [self.arm.takeover])
        permits = Permits(self.arm, taken, self.guard.decided)
        parts = self.arm, config.task, self.policy, taken, self.bundle.reward_scale, config.seed
        return RobotActor(*parts, self._episode, permits, partial(self.recorder.write, "lost"))

    @property
    def replays(self) -> bool:
        """The journal plays what followed the last checkpoint again."""
        return True

    @property
    def done(self) -> bool:
        """Whether every episode of the budget has been counted."""
        return self.actor.ledger.episodes >= self.robot.episodes

    def play(self) -> bool:
        """Episodes until the budget is used up, or the operator has had enough; whether it is used up."""
        self.save()
        try:
            self._slow_episode()
            while not self.done and not self.arm.env.quitting:
                self.arm.prepare()
                self._learned_meanwhile()
                self.hand_over(self._episode_of_arm())
                self.take_updates()
                self.save()
            self.take_updates(drain=True)
            why = "the budget is used up" if self.done else "the operator ended it"
        except SessionEnded as ended:
            why = str(ended)
        self.save()
        self.arm.env.say(words.STOPPED, why)
        return self.done

    def _learned_meanwhile(self) -> None:
        """Take what was learned while people put things back; the version that acts is on disk before it does."""
        before = self.actor.policy_version
        self.take_updates()
        if self.actor.policy_version != before:
            self.save()

    @property
    def share_done(self) -> float:
        """Of the episodes: how long they are, and how many are lost, is not what a session is planned by."""
        return min(self.actor.ledger.episodes / self.robot.episodes, 1.0)

    def _episode_of_arm(self) -> Rollout:
        self.arm.env.policy_version = self.actor.policy_version
        return self.actor.collect_episode()

    def take_updates(self, drain: bool = False) -> None:
        """The newest version; before a recorded episode exactly the one that acted in it, waiting for it if need be."""
        wanted = self.arm.next_version
        if wanted is None:
            super().take_updates(drain)
            return
        while self.actor.policy_version < wanted and self.take_update(drain=True):
            pass
        if self.actor.policy_version != wanted:
            raise UserError(
                f"version {wanted} of the policy acted next according to the journal, and the run has version "
                f"{self.actor.policy_version}: checkpoint and journal do not belong together; put both back as they were"
            )

    def _slow_episode(self) -> None:
        """One before the first, slowly and with the policy's mean, that nothing counts or learns from: a person watches it."""
        env, router = self.arm.env, self.actor.router
        if not self.robot.first_speed or self.arm.waiting or self.done:
            return
        before = copy.deepcopy(router.state_dict())
        env.counted, env.speed = False, self.robot.first_speed
        obs, _ = env.reset(seed=SLOW_SEED)
        router.reset(torch.ones(1, dtype=torch.bool))
        over = False
        while not over:
            seen = torch.from_numpy(obs)[None]
            with torch.no_grad():
                decision = router.decide(seen, self.policy.act(seen))
            self.actor.check(seen, decision)
            obs, _, terminated, truncated, _ = env.step(decision.executed[0].clamp(-1, 1).numpy())
            over = terminated or truncated
        env.counted, env.speed = True, 1.0
        router.load_state_dict(before)

    def _episode(self, record: EpisodeRecord, line: dict[str, Any]) -> None:
        super()._episode(record, {**line, "number": self.arm.number, **acting(self.arm.sources)._asdict()})

    # ------------------------------------------------------------ kept and proven

    def proof(self) -> str:
        """The hash of everything that learns, decides and counts."""
        state = checkpoint.gather({name: self.components[name] for name in PROVEN})
        return digest(state)

    def save(self) -> None:
        """A checkpoint. Its hash is in the journal first: whenever the process is killed, what is there is known to it."""
        self.arm.env.say(words.CHECKPOINT, json.dumps(self._facts()))
        super().save()

    def _facts(self) -> dict[str, Any]:
        ledger = self.actor.ledger
        return {"steps": self.actor.steps, "episodes": ledger.episodes, "hash": self.proof()}

    def _resume(self) -> None:
        super()._resume()
        said = [json.loads(event.detail) for event in read_events(self.journal.folder).records if event.word == words.CHECKPOINT]
        same = [facts["hash"] for facts in said if facts["steps"] == self.actor.steps]
        ours = self.proof()
        if same and ours not in same:
            raise UserError(
                f"what was restored from step {self.actor.steps} has the hash {ours[:12]}, the journal says {same[-1][:12]}: it is "
                "not what was saved, so nothing moves. Put checkpoints/ and session/ back as they were, or give another --out"
            )
        self.arm.env.say(words.RESUMED if self.actor.steps else words.SESSION, json.dumps(self._facts()))
        proven = "as the journal has it" if same else "new"
        self.progress.say(
            f"weights, optimiser, gate and counters: {ours[:16]} ({proven}); {self.actor.ledger.episodes} of {self.robot.episodes} "
            f"episodes, {self.arm.waiting} more in the journal"
        )

    def close(self) -> None:
        """The arm stands before anything else is waited for."""
        self.arm.close()
        super().close()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        if kind is None and not self.done:
            mark(self.config.out, status="interrupted", steps=self.actor.steps)
