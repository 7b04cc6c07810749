"""One online run, from a bundle to a run directory: an actor, and a learner in this process or in another."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.environments import get_states, make_vector
from farl.methods import find
from farl.offline.bundle import OfflineBundle
from farl.offline.evaluation import evaluate
from farl.online import checkpoint
from farl.online.accounting import EpisodeRecord
from farl.online.actor import Actor
from farl.online.adoption import adopt
from farl.online.config import EXTENDABLE, OnlineConfig, learner_of, parts_of
from farl.online.distributed import protocol
from farl.online.distributed.many_actors import Actors, remote_actors
from farl.online.distributed.other_process import OtherProcess
from farl.online.failure_gate import check_fit
from farl.online.finite import FiniteGuard
from farl.online.learner import Handover, Learner, Learning, SameProcess, Update
from farl.online.provenance import describe_run, is_finished, mark
from farl.online.recorder import Recorder
from farl.outputs import check, claim
from farl.progress import Progress
from farl.seeds import Purpose, episode_seed
from farl.watchdog import Watchdog


def run(config: OnlineConfig) -> Path:
    """Train until ``config.steps``; an interrupted run continues, a finished one is left alone."""
    check(config.out, config, EXTENDABLE)
    if is_finished(config.out, config.steps):
        print(f"{config.out} is finished; give more --steps to continue it, or another --out.")
        return config.out
    with Session(config) as session:
        train(session, config.steps)
    return config.out


def train(session: Session, steps: int) -> None:
    """The loop: collect, hand over, take what was learned meanwhile; evaluate and save when due."""
    session.evaluate_if_due()
    while session.actor.steps < steps:
        session.hand_over(session.collect())
        session.take_updates()
        session.evaluate_if_due()
        session.save_if_due()
    session.take_updates(drain=True)
    session.evaluate_if_due(final=True)


class Session:
    """Everything one run consists of, wired together; resumes from the newest checkpoint if there is one."""

    def __init__(self, config: OnlineConfig) -> None:
        # Whatever can be refused is made first: a refused run leaves nothing behind.
        self.config, self.method = config, find(config.method)
        self.bundle = OfflineBundle.load(config.bundle, config.task)
        self.policy = self.bundle.policy
        self.watchdog = Watchdog(config.watchdog, lambda reason: mark(config.out, status="failed", reason=reason))
        self.envs = self._environments(config.num_envs)
        check_fit(self.bundle, self.envs.single_observation_space, self.envs.single_action_space, None)
        count = min(config.num_envs, config.evaluation_episodes) or 1
        self.evaluation_envs = self._environments(count)
        self.evaluation_noise = torch.Generator()
        parts = parts_of(config, self.bundle, self.envs, torch.Generator().manual_seed(config.seed + 2))
        router, learner = self.method.router(parts), learner_of(config, self.bundle)
        self.evaluation_router = self.method.router(
            parts_of(config, self.bundle, self.evaluation_envs, self.evaluation_noise)
        )
        self.adaptation = self.method.adaptation(parts, router.gate)
        threshold = float("inf") if router.gate is None else router.gate.threshold
        self.claim = claim(config.out, config, EXTENDABLE)
        torch.manual_seed(config.seed)
        self.recorder = Recorder(config.out, threshold)
        self.guard = FiniteGuard(self.bundle.networks(), config.out)
        self.progress = Progress(config.out, f"{config.method}, seed {config.seed}")
        self.actor = self._actor(router)
        self.collect: Callable[[], Rollout] = partial(self.actor.collect, config.rollout_steps)
        if config.swap == "episode" and isinstance(self.actor, Actor):
            self.collect = self.actor.collect_episode
        self.learner = self._learning(learner)
        self.pieces: list[Rollout] = []
        """what the actor has collected of the next rollout"""
        self.boundaries = self.handed_over = 0
        """times that the actor could take a new version, and rollouts handed over"""
        self.evaluated_at = -1
        self.update_seconds, self.checkpoint_seconds = 0.0, 0.0
        self.earlier_seconds, self.started = 0.0, time.perf_counter()

    def _environments(self, count: int) -> VectorEnv[Any, Any, Any]:
        return make_vector(self.config.task, count, self.watchdog)

    def _actor(self, router: Router | Ungated) -> Actor | Actors:
        config, on_lost = self.config, partial(self.recorder.write, "lost")
        if config.remote:
            return remote_actors(config, self.policy, router, self._episode, on_lost, self.progress.say)
        parts = self.envs, config.task, self.policy, router, self.bundle.reward_scale, config.seed
        return Actor(*parts, self._episode, self.guard.decided, on_lost)

    def _learning(self, learner: Learner) -> Learning:
        config = self.config
        if config.mode == "single":
            return SameProcess(learner, config.checkpoint_every)
        who = protocol.identity(config, self.bundle)
        return OtherProcess(learner.state_dict(), config.out, config.link, who, self.progress.say, self.save)

    @property
    def replays(self) -> bool:
        """Whether what followed the last checkpoint is played again step for step when a run is continued."""
        return self.config.swap == "rollout" and get_states(self.envs) is not None

    @property
    def components(self) -> dict[str, checkpoint.Component]:
        """All that a checkpoint holds. What is not in here begins anew when a run is continued."""
        parts: dict[str, checkpoint.Component] = {
            "actor": self.actor,
            "learner": self.learner,
            "recorder": self.recorder,
            "guard": self.guard,
            "session": self,
        }
        return parts if self.adaptation is None else {**parts, "adaptation": self.adaptation}

    def state_dict(self) -> dict[str, Any]:
        """The session's own: what is on its way to the learner, when it last evaluated, and time spent."""
        return {
            "boundaries": self.boundaries,
            "handed_over": self.handed_over,
            "pieces": [vars(piece) for piece in self.pieces],
            "outstanding": [{**vars(one), "rollout": vars(one.rollout)} for one in self.learner.outstanding],
            "evaluated_at": self.evaluated_at,
            "seconds": self.seconds(),
            "update_seconds": self.update_seconds,
            "checkpoint_seconds": self.checkpoint_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.boundaries, self.handed_over = state["boundaries"], state["handed_over"]
        self.pieces = [Rollout(**piece) for piece in state["pieces"]]
        for one in state["outstanding"]:
            self.learner.submit(Handover(**{**one, "rollout": Rollout(**one["rollout"])}))
        self.evaluated_at, self.earlier_seconds = state["evaluated_at"], state["seconds"]
        self.update_seconds, self.checkpoint_seconds = state["update_seconds"], state["checkpoint_seconds"]

    def __enter__(self) -> Self:
        try:
            self.watchdog.start()
            self._resume()
        except BaseException:
            self.close()
            raise
        return self

    def _resume(self) -> None:
        """Continue from the newest checkpoint, or begin."""
        state = checkpoint.load_latest(self.config.out / "checkpoints")
        if state is not None:
            checkpoint.restore(state, self.components)
            self.policy.load_state_dict(state["learner"]["policy"])   # what acted then: a version is taken before anything is saved
            self.progress.say(f"{self.config.out} continues from step {self.actor.steps:,} of {self.config.steps:,}")
        if not self.replays and (count := adopt(self.recorder, self.actor)):
            self.progress.say(f"{count} episodes finished after the last checkpoint are counted; they cannot be played again")
        self.recorder.rewind(self.actor.steps)
        self.learner.start()
        describe_run(self.config.out, self.config, self.bundle, self.recorder.threshold)
        self.progress.stage("training", self.config.steps)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                mark(self.config.out, status="finished", steps=self.actor.steps, wall_s=self.seconds())
            else:
                status = "interrupted" if kind is KeyboardInterrupt else "failed"
                mark(self.config.out, status=status, steps=self.actor.steps)
        finally:
            self.close()

    def close(self) -> None:
        """End what was opened, and let others work in the folder."""
        self.watchdog.close()
        self.actor.close()
        self.learner.close()
        self.recorder.close()
        self.envs.close()
        self.evaluation_envs.close()
        self.claim.release()

    def seconds(self) -> float:
        """Wall-clock time spent on this run, earlier starts included."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def _episode(self, record: EpisodeRecord, line: dict[str, Any]) -> None:
        """A finished training episode: what it says about the threshold, and the files."""
        if self.adaptation is not None:
            self.adaptation.close(record.risks, record.first_failure)
        self.recorder.episode(record, line)

    def hand_over(self, piece: Rollout) -> None:
        """The learner gets what the actor collects as soon as it makes a whole rollout."""
        self.boundaries += 1
        self.pieces.append(piece)
        if sum(one.risk.numel() for one in self.pieces) >= self.config.num_envs * self.config.rollout_steps:
            rollout, self.pieces = Rollout.joined(self.pieces, dim=0), []
            self.handed_over += 1
            self.learner.submit(Handover(self.handed_over, rollout, self.share_done, self._figures(rollout)))

    @property
    def share_done(self) -> float:
        """Of the budget: learning rates fall with it."""
        return min(self.actor.steps / self.config.steps, 1.0)

    def take_updates(self, drain: bool = False) -> None:
        """Act with the newest version; waits for one where the schedule says so, with ``drain`` for the last."""
        while self.take_update(drain):
            pass

    def take_update(self, drain: bool = False) -> bool:
        """One of them; whether there was one."""
        update = self.learner.next_update(drain)
        if update is None:
            return False
        self.update_seconds += update.seconds
        self.actor.swap(update.policy, update.handover.number)
        self._record(update)
        return True

    def _figures(self, rollout: Rollout) -> dict[str, Any]:
        """What the actor knows of a rollout, for the line of metrics."""
        gated, risk = rollout.gated, rollout.risk.flatten()
        known = risk[risk.isfinite()]
        z = rollout.z_max[gated]
        return {
            "step": self.actor.steps,
            **self.actor.ledger.summary(),
            "lag": self.handed_over - 1 - int(rollout.version.min()),
            "gated_fraction": float(gated.float().mean()),
            **({} if self.adaptation is None else {"threshold": self.adaptation.gate.threshold}),
            "risk_mean": float(known.mean()) if len(known) else 0.0,
            "risk_p95": float(known.quantile(0.95)) if len(known) else 0.0,
            "unknown_risks": int(len(risk) - len(known)),
            "z_median": float(z.median()) if len(z) else 0.0,
            "env_s": self.actor.seconds["env"],
            "policy_s": self.actor.seconds["policy"],
            "gate_s": self.actor.router.seconds,
        }

    def _record(self, update: Update) -> None:
        """One line of metrics."""
        clocks = {"wall_s": self.seconds(), "update_s": self.update_seconds, "checkpoint_s": self.checkpoint_seconds}
        line = {"iteration": update.handover.number, **update.handover.figures, **update.losses, **clocks}
        self.recorder.metrics(line)
        self.progress.at(
            min(self.actor.steps, self.config.steps),
            f"success {line['success_rate']:.2f}, failures {line['failures']}, gated {line['gated_fraction']:.1%}",
        )

    def evaluate_if_due(self, final: bool = False) -> None:
        """Evaluate with the gate on and off at the configured interval, before the first step and after the last."""
        steps, every = self.actor.steps, self.config.evaluate_every
        due = self.evaluated_at < 0 or steps // every > self.evaluated_at // every
        if self.config.evaluation_episodes == 0 or not (due or final) or self.evaluated_at == steps:
            self.evaluated_at = max(self.evaluated_at, steps if final else self.evaluated_at)
        else:
            self._follow_threshold()
            for name, router in (("off", Ungated()), ("on", self.evaluation_router)):
                if name == "on" and (router.gate is None or router.gate.threshold == float("inf")):
                    continue   # nobody would ever be handed over to
                self.evaluation_noise.manual_seed(self.config.seed + 3)
                rows = evaluate(
                    self.evaluation_envs,
                    self.config.task,
                    self.policy.act,
                    router,
                    self.config.evaluation_episodes,
                    episode_seed(Purpose.EVALUATION, 0, 0),
                )
                self.recorder.evaluation(steps, name, rows)
            self.evaluated_at = steps
        if final:
            self.save()

    def _follow_threshold(self) -> None:
        """Evaluations are made behind the gate as it is now."""
        if self.adaptation is not None and self.evaluation_router.gate is not None:
            self.evaluation_router.gate.threshold = self.adaptation.gate.threshold

    def save_if_due(self) -> None:
        if self.boundaries % self.learner.checkpoint_every == 0:
            self.save()

    def save(self) -> None:
        """A checkpoint that holds everything needed to continue bit for bit."""
        start = time.perf_counter()
        self.recorder.flush()
        folder, keep = self.config.out / "checkpoints", self.config.checkpoints_kept
        checkpoint.save(folder, self.actor.steps, checkpoint.gather(self.components), keep)
        self.checkpoint_seconds += time.perf_counter() - start
