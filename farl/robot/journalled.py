"""An arm as the actor's environment: what the journal holds is played back first, then the arm goes on.

A robot cannot be put back into a state, but everything that it acknowledged is on disk. So a run is continued from its last
checkpoint as one in a simulator is: the steps after it come again, from the journal.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from farl.errors import UserError
from robots.actions import Source
from robots.env import FrankaTaskEnv
from robots.session import words
from robots.session.journal import Journal, read_events, read_steps
from robots.session.labels import Verdict, judge_records
from robots.session.record import EventRecord, StepRecord

INTERRUPTED = "interrupted"
"""why an episode is lost whose process ended before it did"""

SAME = 1e-5
"""by which an action decided again may differ from the recorded one"""


@dataclass(frozen=True)
class Recorded:
    """One episode of the journal."""

    records: list[StepRecord]
    events: list[EventRecord]

    @property
    def lost(self) -> str:
        """Why it does not count; empty where it does."""
        last = self.records[-1]
        ended = [event.detail for event in self.events if event.word == words.ENDED]
        if ended:
            return ended[-1].removeprefix("lost: ") if ended[-1].startswith("lost: ") else ""
        return last.fault or (INTERRUPTED if not (last.terminated or last.truncated) else "")


class JournalledEnv(VectorEnv[Any, Any, Any]):
    """One arm as a vector environment of one.

    ``reset`` moves nothing and asks nobody: it notes the next episode's seed. ``begin`` begins it, so that what was collected
    is handed to the learner and saved before a person is waited for.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (as in the base)

    def __init__(self, env: FrankaTaskEnv) -> None:
        self.env, self.num_envs = env, 1
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.kept = 0
        """steps of the session so far, all of them in the journal"""
        self.sources: list[Source] = []
        """who acted, step by step of the episode that runs or ran last"""
        self._seed = 0
        self._obs = np.zeros((1, *(env.observation_space.shape or ())), np.float32)
        self._all: list[StepRecord] = []
        self._waiting: deque[Recorded] = deque()
        self._playing: Recorded | None = None
        self._step = 0

    # ------------------------------------------------------------ the journal

    def open(self, journal: Journal) -> None:
        """Write to ``journal`` from now on; what it holds already is played back first."""
        self.env.journal = journal
        records, events = read_steps(journal.folder).records, read_events(journal.folder).records
        self._all = [record for record in records if record.episode > 0]
        self._events = events
        self.env.begun = max([0, *(event.episode for event in events), *(record.episode for record in records)])
        self.env.number = self.env.begun
        self.env.trouble = bool(events) and events[-1].word != words.STOPPED   # nobody knows how that process left the table
        self._place(0)

    def get_states(self) -> list[dict[str, Any]]:
        """Where in the journal the run is."""
        return [{"kept": self.kept}]

    def set_states(self, states: list[dict[str, Any]]) -> None:
        """Go on from there: what the journal holds beyond it is played back."""
        self._place(int(states[0]["kept"]))

    @property
    def waiting(self) -> int:
        """Episodes of the journal that are still to be played back."""
        return len(self._waiting)

    @property
    def number(self) -> int:
        """Of the episode that runs, or ran last."""
        return self.env.number if self._playing is None else self._playing.records[0].episode

    @property
    def next_version(self) -> int | None:
        """The version of the policy that acted in the next recorded episode; None where the next one is not recorded."""
        return self._waiting[0].records[0].policy_version if self._waiting else None

    @property
    def verdict(self) -> Verdict:
        """On the episode that has just ended."""
        if self._playing is None:
            return self.env.verdict
        back = self.env.config.rules.label_back_steps
        return judge_records(self._playing.records, self._playing.events, back)

    def _place(self, kept: int) -> None:
        ends = {0, *itertools.accumulate(len(list(group)) for _, group in itertools.groupby(self._all, _number))}
        if kept not in ends:
            raise UserError(
                f"the journal holds {len(self._all)} steps and the checkpoint was made after {kept}: steps were taken away, or are "
                "another run's. Put the folder `session` back as it was, or delete the run directory to start over"
            )
        self.kept, self._playing = kept, None
        self._waiting = deque(
            Recorded(list(group), [event for event in self._events if event.episode == number])
            for number, group in itertools.groupby(self._all[kept:], _number)
        )

    # ------------------------------------------------------------ the actor's side

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Note the seed of the next episode."""
        self._seed = int(seed[0]) if isinstance(seed, list) else int(seed or 0)
        return self._obs.copy(), {}

    def prepare(self) -> None:
        """Bring the arm to the start of the next episode, with the operator's help where it takes that; not for a recorded one."""
        if not self._waiting:
            self.env.reset(seed=self._seed)

    def begin(self) -> NDArray[np.float32]:
        """The first observation of the episode that was prepared."""
        self._step, self.sources = 0, []
        self._playing = self._waiting.popleft() if self._waiting else None
        first = self.env.look_again() if self._playing is None else np.array(self._playing.records[0].obs, np.float32)
        self._obs = first[None]
        return self._obs.copy()

    def takeover(self) -> tuple[float, ...] | None:
        """What a person asks for now, or asked for then."""
        if self._playing is None:
            return self.env.takeover()
        record = self._playing.records[self._step]
        return tuple(record.decided) if record.source == "human" else None

    def permit(
        self,
        executed: tuple[float, float],
        proposed: tuple[float, float],
        recovery: tuple[float, float],
        risk: float,
        threshold: float,
        source: Source,
    ) -> None:
        """Hand in the decision behind the next step; what is played back needs none."""
        self.sources.append(source)
        if self._playing is None:
            self.env.permit(self.env.decided(executed, proposed, recovery, risk, threshold, source))

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of the arm, or of the journal."""
        if self._playing is None:
            obs, reward, terminated, truncated, info = self.env.step(actions[0])
        else:
            obs, reward, terminated, truncated, info = self._recorded(self._playing, actions[0])
        self.kept += 1
        self._obs = obs[None]
        infos = {name: np.array([info[name]]) for name in ("failure", "success", "margin", "cost")}
        texts = {name: np.array([info[name]], dtype=object) for name in ("failure_type", "failure_detail", "lost")}
        return self._obs.copy(), np.array([reward]), np.array([terminated]), np.array([truncated]), {**infos, **texts}

    def close(self, **options: Any) -> None:
        """Stop the arm; can be called twice."""
        self.env.close()

    def _recorded(
        self, episode: Recorded, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """The next step of the journal, if what is decided now is what was decided then."""
        record, last = episode.records[self._step], self._step == len(episode.records) - 1
        if record.source and not np.allclose(action, np.array(record.decided, np.float32), atol=SAME):
            then, now = np.round(record.decided, 4).tolist(), np.round(action, 4).tolist()
            raise UserError(
                f"episode {record.episode}, step {record.step}: {then} was decided according to the journal, the restored run "
                f"decides {now}: it is not the one that acted. Continue it with the bundle, the versions and the kind of processor "
                "that it was begun with (session/manifest.json), or give another --out"
            )
        self._step += 1
        following = record.next_obs if last else episode.records[self._step].obs
        lost = episode.lost if last else ""
        info = {
            "failure": record.failure,
            "success": record.success and not lost,
            "margin": record.margin,
            "cost": float(record.failure),
            "failure_type": record.failure_type,
            "failure_detail": record.failure_detail,
            "lost": lost,
        }
        if last and not lost:
            info["success"] = self.verdict.success
        ended = record.truncated or (last and not record.terminated)
        return np.array(following, np.float32), record.reward, record.terminated, ended, info


def _number(record: StepRecord) -> int:
    return record.episode
