"""A Franka task at a real table, or at the wire twin's, as a Gymnasium environment of ten steps a second.

Nothing moves without a decision: ``permit`` hands in what a gate let through, and the ``step`` after it executes that and
nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from failurebench.franka.definition import CONTROL_HZ, FrankaTask
from failurebench.franka.geometry import Vec2
from robots.actions import GatedAction, Source
from robots.arm.interface import Commanded
from robots.operator.interface import Event, Word
from robots.session import words
from robots.session.episode import Episode, RulesConfig
from robots.session.journal import Journal
from robots.session.labels import Verdict
from robots.session.looking import Eyes, Look, StalenessConfig
from robots.session.pace import Clock, MonotonicClock, Pace
from robots.session.pictures import jpeg
from robots.session.record import EventRecord, StepRecord
from robots.session.resetting import ResetConfig, Resetting
from robots.session.station import Station

Observation = NDArray[np.float32]

UNPERMITTED = "no_decision"
"""the fault of a step whose action carries no decision"""

REFUSED = ("late_decision", "late_observation", "not_permitted", "not_finite")
"""what an arm says of a decision that it does not follow: it holds for that step, and nothing is broken"""

POLL_S = 0.02
_ENDINGS = {Word.ABORT: "aborted", Word.UNPLUGGED: "operator_unplugged"}
"""what people and devices say that ends an episode, as the fault it is"""


@dataclass(frozen=True)
class EnvConfig:
    """How episodes are played and judged."""

    lead_s: float = 0.03
    """from an observation to the command that is decided on it"""
    rules: RulesConfig = field(default_factory=RulesConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    stale: StalenessConfig = field(default_factory=StalenessConfig)


class FrankaTaskEnv(gymnasium.Env[Observation, Observation]):
    """One episode at a time; spaces, reward, verdicts and ``info`` are those of the FailureBench task of the same definition.

    ``info`` has besides: ``source`` (task, recovery, human, or empty where nobody was permitted), ``executed_action`` (after the
    limits), ``clipped`` (names of limits), ``fault``, ``lost`` (the same: such an episode is not counted), ``status`` (of the arm)
    and ``ages`` (seconds, by source). A fault of arm, eyes or computer ends the episode by truncation and is no failure.

    Making it opens nothing; the first ``reset`` does.

    Args:
        task: the definition.
        make_station: builds arm, eyes and operator; called once.
        config: how episodes are played.
        journal: where every step is kept before ``step`` returns; None keeps nothing.
        clock: what the control loop goes by.
    """

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": CONTROL_HZ}  # noqa: RUF012 (as in the base)

    def __init__(
        self,
        task: FrankaTask,
        make_station: Callable[[], Station],
        config: EnvConfig | None = None,
        journal: Journal | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.task, self.config, self.journal = task, config or EnvConfig(), journal
        spaces: Any = task.observation_space(), task.action_space()
        self.observation_space, self.action_space = spaces
        self.clock = clock or MonotonicClock()
        self._make_station = make_station
        self.station: Station | None = None
        self.begun = 0
        """episodes of the session so far"""
        self.number = 0
        """of the episode that runs, or ran last; 0 for one that is none of the session's"""
        self.policy_version = 0
        """for the journal"""
        self.speed = 1.0
        """share of every command that is executed"""
        self.counted = True
        """whether the next episode is one of the session's"""
        self.quitting = False
        """the operator wants no further episode"""
        self.trouble = False
        """something went wrong that a person has to look at before the next episode"""
        self.episode: Episode | None = None
        self._permit: GatedAction | None = None
        self._running = False

    @property
    def verdict(self) -> Verdict:
        """On the episode so far; final once it has ended."""
        return Verdict([], False) if self.episode is None else self.episode.verdict

    # ------------------------------------------------------------ who may move the arm

    def permit(self, action: GatedAction) -> None:
        """Hand in the decision behind the next ``step``; it is used up by it."""
        self._permit = action

    def decided(
        self, executed: Vec2, proposed: Vec2, recovery: Vec2, risk: float, threshold: float, source: Source
    ) -> GatedAction:
        """A decision made now on the newest observation."""
        return GatedAction(executed, proposed, recovery, risk, threshold, source, self._observed_at, self.clock.now())

    def takeover(self) -> Vec2 | None:
        """What a person asks for while they hold the take-over; None while they do not."""
        return None if self.station is None else self.station.operator.takeover()

    # ------------------------------------------------------------ Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Bring the station to the start of an episode, asking the operator where that cannot be seen to.

        Goal and hazard are the configuration's (drawn from ``seed`` where the task randomises them), or are seen; so is the object.
        ``options`` has no effect.

        Raises:
            SessionEnded: the operator quits.
            RobotError: something needed is missing or broken, in one sentence.
        """
        super().reset(seed=seed)
        station = self._open()
        drawn = seed if seed is not None else int(self.np_random.integers(2**31))
        resetting = Resetting(self.task, station, self.config.reset, self._hear, self.say, self.clock)
        layout = resetting.prepare(drawn, self.trouble)
        self.begun += self.counted
        self.number = self.begun if self.counted else 0
        self.episode = Episode(self.task, self.config.rules, layout)
        self._running, self.trouble, self._permit = True, False, None
        station.arm.new_episode()
        self.say(words.EPISODE, words.layout_detail(layout, "counted" if self.counted else "slow"))
        obs = self.look_again()
        self.episode.outcome = self.episode.outcome._replace(margin=self._look.margin)
        return obs, self._info("", Commanded(self._look.state.reference, (0.0, 0.0), ()))

    def look_again(self) -> Observation:
        """What is seen now, for an episode that has begun but not moved: the first decision is made on this."""
        assert self.episode is not None
        self.pace.begin()
        look = self.eyes.look(self.episode.layout)
        self._see(look, self.eyes.ages(look))
        return self._obs.copy()

    def step(self, action: Observation) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step: the permitted action at its deadline, then what it led to.

        Raises:
            ResetNeeded: no episode is running.
            RobotError: the step cannot be kept in the journal; the arm holds.
        """
        if not self._running or self.episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        episode, obs = self.episode, self._obs
        gated, self._permit = self._permit, None
        commanded = self._execute(gated, np.asarray(action, dtype=np.float32))
        decision = math.nan if gated is None else gated.decided_at - gated.observed_at
        look = self.eyes.look_until(self.pace.observation_due, episode.layout, self.pace)
        said, ages = self._hear(), self.eyes.ages(look)
        met = self.eyes.met_hazard(look)   # then what the arm calls a fault is the failure itself
        fault = "" if met else self.eyes.fault(look, ages) or commanded.fault or _ending(said)
        outcome = episode.conclude(self.eyes.scene(look), look.margin, look.detail, fault, met)
        self._see(look, ages, keep_last=bool(fault))
        self._keep(obs, gated, commanded, decision)
        if outcome.terminated or outcome.truncated:
            self._end()
        elif any(event.word is Word.PAUSE for event in said):
            self._pause()
        outcome = episode.outcome
        info = self._info("" if gated is None else gated.source, commanded)
        return self._obs.copy(), outcome.reward, outcome.terminated, outcome.truncated, info

    def close(self) -> None:
        """Stop the arm and let go of everything; can be called twice."""
        if self.station is not None:
            self.station.close()
        if self.journal is not None:
            self.journal.close()

    # ------------------------------------------------------------ one step

    def _open(self) -> Station:
        if self.station is None:
            station = self._make_station()
            station.open()
            self.station = station
            self.eyes = Eyes(self.task, station, self.config.stale, self.clock)
            self.pace = Pace(1.0 / CONTROL_HZ, self.config.lead_s, self.clock)
        return self.station

    def _execute(self, gated: GatedAction | None, action: Observation) -> Commanded:
        """Command what was permitted, at its deadline; anything else holds."""
        assert self.station is not None
        arm = self.station.arm
        self.pace.wait_for_command()
        if gated is None or not np.array_equal(action, np.array(gated.executed, np.float32)):
            arm.hold(UNPERMITTED)
            return Commanded(arm.state().reference, (0.0, 0.0), ("held",), UNPERMITTED)
        if self.speed != 1.0:
            x, y = gated.executed
            gated = replace(gated, executed=(self.speed * x, self.speed * y))
        commanded = arm.command(gated)
        if commanded.fault in REFUSED:   # the arm stands; what is decided next may be better
            return commanded._replace(clipped=(*commanded.clipped, commanded.fault), fault="")
        return commanded

    def _see(self, look: Look, ages: dict[str, float], keep_last: bool = False) -> None:
        """What the next decision is made on; after a fault what was seen before it stays."""
        assert self.episode is not None
        self._look, self._ages = look, ages
        if not keep_last:
            self._obs = self.task.observation(self.eyes.scene(look), self.episode.layout)
            self._observed_at = self.clock.now()

    def _end(self) -> None:
        """The arm stands; for a moment labels are still taken."""
        assert self.station is not None
        assert self.episode is not None
        self.station.arm.hold("episode_over")
        until = self.clock.now() + self.config.rules.verdict_s
        while not self.episode.outcome.fault and self.clock.now() < until:
            self.clock.sleep(POLL_S)
            self._hear()
        outcome = self.episode.close()
        self.trouble = self.episode.verdict.failed or bool(self.episode.outcome.fault)
        self._running = False
        self.say(words.ENDED, outcome)

    def _pause(self) -> None:
        """Stand until the operator goes on; what is seen then is what is decided on."""
        assert self.station is not None
        assert self.episode is not None
        self.station.arm.hold("paused")
        said: list[Event] = []
        while not (_ending(said) or any(event.word is Word.RESUME for event in said)):
            self.clock.sleep(POLL_S)
            said = self._hear()
        if fault := _ending(said):
            self.episode.lose(fault)
            self._end()
            return
        self.look_again()

    # ------------------------------------------------------------ people and the journal

    def _hear(self) -> list[Event]:
        """What the operator said since the last time, kept in the journal."""
        assert self.station is not None
        said = self.station.operator.events()
        for event in said:
            self.say(event.word.value, event.detail)
            self.quitting = self.quitting or event.word is Word.QUIT
        return said

    def say(self, word: str, detail: str) -> None:
        """Keep an event of the session in the journal."""
        steps = 0 if self.episode is None else self.episode.steps
        record = EventRecord(time.time(), self.number, steps, word, detail)
        if self.episode is not None:
            self.episode.heard.append(record)
        if self.journal is not None:
            self.journal.event(record)

    def _info(self, source: str, commanded: Commanded) -> dict[str, Any]:
        assert self.episode is not None
        fault = self.episode.outcome.fault
        return {
            **self.episode.info(),
            "source": source,
            "executed_action": np.array(commanded.executed, np.float32),
            "clipped": commanded.clipped,
            "fault": fault,
            "lost": fault,
            "status": self._look.state.status.value,
            "ages": dict(self._ages),
        }

    def _keep(self, obs: Observation, gated: GatedAction | None, commanded: Commanded, decision: float) -> None:
        """The step on disk, with its pictures, before anybody is told of it."""
        if self.journal is None:
            return
        assert self.episode is not None
        names, images = self._pictures(self.episode.steps - 1)
        outcome, state = self.episode.outcome, self._look.state
        nobody = GatedAction((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), math.nan, 0.0, "task", math.nan, math.nan)
        by = gated or nobody
        record = StepRecord(
            episode=self.number,
            step=self.episode.steps - 1,
            time=time.time(),
            obs=obs.tolist(),
            next_obs=self._obs.tolist(),
            proposed=list(by.proposed),
            recovery=list(by.recovery),
            executed=list(commanded.executed),
            risk=by.risk,
            threshold=by.threshold,
            source="" if gated is None else gated.source,
            reward=outcome.reward,
            failure=bool(self.episode.automatic[-1]),
            failure_type=self.episode.automatic[-1],
            success=self.episode.reached,
            margin=float(outcome.margin),
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            fault=outcome.fault,
            clipped=list(commanded.clipped),
            status=state.status.value,
            tip=list(state.tip),
            force=list(state.force),
            reference=list(commanded.reference),
            ages=dict(self._ages),
            period=self.pace.period,
            decision=decision,
            policy_version=self.policy_version,
            images=names,
            decided=list(by.executed),
            failure_detail=self.episode.outcome.detail,
        )
        try:
            self.journal.step(record, images)
        except BaseException:
            self._running = False
            assert self.station is not None
            self.station.arm.hold("journal")
            raise

    def _pictures(self, step: int) -> tuple[dict[str, str], dict[str, bytes]]:
        """Every camera's newest: names by camera, contents by name. None of an episode that is not the session's."""
        assert self.station is not None
        names, images = {}, {}
        for camera, source in self.station.cameras.items() if self.number else ():
            if (frame := source.newest()) is not None:
                names[camera] = f"{self.number}/{step}-{camera}.jpg"
                images[names[camera]] = jpeg(frame.color)
        return names, images


def _ending(said: list[Event]) -> str:
    """The fault that an episode ends with because of what was said; empty where nothing was."""
    return next((_ENDINGS[event.word] for event in said if event.word in _ENDINGS), "")
