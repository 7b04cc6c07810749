"""Sessions: what is counted and learned from, and that a killed one continues as if nobody had killed it."""

import json
import signal
import subprocess
import sys
import time

import pytest

from farl.algorithms.rollout import Rollout
from farl.errors import UserError
from farl.online import checkpoint
from farl.robot.digest import digest
from robots.arm.interface import ArmStatus
from robots.operator.interface import Word
from robots.session.framing import frame
from robots.session.journal import read_events, read_steps
from tests.robots.paper_table import later
from tests.robots.sessions import STEPS, PaperSession, config


class Killed(BaseException):
    """As far as the session is concerned, SIGKILL."""


class Traced(PaperSession):
    """Remembers what it had become after every episode, and can be killed after a step that the journal has."""

    def __init__(self, settings, kill_after=None):
        self.trace, self.rollouts = {}, []
        super().__init__(settings)
        if kill_after is not None:
            keep, count = self.journal.step, [0]

            def step(record, images=None):
                keep(record, images)
                count[0] += 1
                if count[0] == kill_after:
                    raise Killed

            self.journal.step = step

    def hand_over(self, piece):
        super().hand_over(piece)
        self.rollouts.append(piece)
        self.trace[self.actor.ledger.episodes, self.actor.ledger.lost] = self.become()

    def become(self):
        """Everything that learns, decides and counts, apart from clocks and from how the box stood when it ended."""
        state = checkpoint.gather({"learner": self.learner, "actor": self.actor})
        for name in ("seconds", "obs"):
            del state["actor"][name]
        state["actor"]["router"] = {k: v for k, v in state["actor"]["router"].items() if k != "seconds"}
        return digest(state)


def lines(folder, stream):
    path = folder / "run" / f"{stream}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def play(settings, **options):
    with Traced(settings, **options) as session:
        session.play()
    return session


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A session that nobody disturbed, and where it lies."""
    folder = tmp_path_factory.mktemp("whole")
    return play(config(folder)), folder


def test_a_session_plays_its_budget_learns_between_episodes_and_keeps_everything(whole):
    session, folder = whole
    assert session.done
    assert [line["number"] for line in lines(folder, "episodes")] == [1, 2, 3, 4]
    assert [line["iteration"] for line in lines(folder, "metrics")] == [1, 2]
    assert [line["policy_version"] for line in lines(folder, "episodes")] == [0, 0, 1, 1]
    records = read_steps(folder / "run/session").records
    assert [(one.episode, one.step) for one in records] == [(n, step) for n in (1, 2, 3, 4) for step in range(STEPS)]
    assert {one.source for one in records} == {"task", "recovery"}
    gated = sum(line["gated_steps"] for line in lines(folder, "episodes"))
    assert gated == sum(one.source == "recovery" for one in records)
    assert json.loads((folder / "run/meta.json").read_text())["status"] == "finished"
    said = [event.word for event in read_events(folder / "run/session").records]
    assert said[0] == "session"
    assert said[-1] == "stopped"
    assert said.count("episode") == said.count("ended") == 4


@pytest.mark.parametrize("killed_after", [STEPS + 5, 2 * STEPS, 3 * STEPS])
def test_a_killed_session_becomes_what_it_was_and_goes_on(whole, tmp_path, killed_after):
    untouched, _ = whole
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=killed_after)
    again = play(config(tmp_path))
    finished, cut = divmod(killed_after, STEPS)
    if not cut:  # the last thing before the kill was an episode's end: it comes again, from the journal
        assert again.trace[finished, 0] == untouched.trace[finished, 0]
    assert again.actor.ledger.lost == bool(cut)
    assert again.done
    assert [line["reason"] for line in lines(tmp_path, "lost")] == ["interrupted"] * bool(cut)
    records = read_steps(tmp_path / "run/session").records
    assert again.actor.steps == again.arm.kept == len(records) == 4 * STEPS + cut


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("saves", [4, 5, 6])
def test_a_session_killed_around_a_checkpoint_goes_on(tmp_path, monkeypatch, written, saves):
    """Two checkpoints of the same step may differ, such as before and after an update; either is known to the journal."""
    real, count = checkpoint.save, [0]

    def save(*arguments):
        count[0] += 1
        if count[0] < saves or written:
            real(*arguments)
        if count[0] == saves:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(Killed):
        play(config(tmp_path))
    monkeypatch.undo()
    again = play(config(tmp_path))
    assert again.done
    assert again.actor.ledger.lost == 0


def test_steps_of_an_interrupted_episode_are_learned_from(tmp_path):
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=STEPS + 5)
    again = play(config(tmp_path))
    learned = Rollout.joined(again.rollouts, dim=0)
    records = [one for one in read_steps(tmp_path / "run/session").records if one.episode > 1]
    assert learned.executed[:, 0].tolist() == [pytest.approx(one.decided) for one in records]
    assert learned.truncated[4, 0]
    assert learned.risk[:5, 0].tolist() == [one.risk for one in records[:5]]


def test_without_any_checkpoint_the_journal_alone_brings_a_session_back(whole, tmp_path):
    untouched, _ = whole
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=3 * STEPS)
    for path in (tmp_path / "run/checkpoints").iterdir():
        path.unlink()
    again = play(config(tmp_path))
    for count in (1, 2, 3):
        assert again.trace[count, 0] == untouched.trace[count, 0]


def test_kill_9_of_the_process_loses_no_acknowledged_step(tmp_path):
    where = f"config(pathlib.Path({str(tmp_path)!r}), episodes=8)"
    code = f"import pathlib; from tests.robots.test_session import play, config; play({where})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while len(read_steps(tmp_path / "run/session").records) < 2 * STEPS + 3 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = read_steps(tmp_path / "run/session").records
    again = play(config(tmp_path, episodes=8))
    after = read_steps(tmp_path / "run/session").records
    assert after[: len(before)] == before
    assert again.actor.steps == len(after)
    assert again.actor.ledger.episodes == 8
    assert [line["episode"] for line in lines(tmp_path, "episodes")] == list(range(8))


def test_a_checkpoint_that_is_not_what_was_saved_is_refused_before_anything_moves(tmp_path):
    play(config(tmp_path, episodes=1))
    folder = tmp_path / "run/checkpoints"
    state = checkpoint.load_latest(folder)
    next(iter(state["learner"]["policy"].values())).add_(1e-3)
    checkpoint.save(folder, state["actor"]["steps"], state, keep=5)
    session = PaperSession(config(tmp_path))
    with pytest.raises(UserError, match="nothing moves"), session:
        pass
    assert session.paper.connections == 0


def test_a_journal_of_other_decisions_is_refused_before_anything_moves(tmp_path):
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=STEPS + 5)
    path = tmp_path / "run/session/steps.log"
    records = read_steps(path.parent).records
    content = [one.as_dict() for one in records]
    content[-1]["decided"] = [0.123, 0.456]
    path.write_bytes(b"".join(frame(json.dumps(one).encode()) for one in content))
    session = PaperSession(config(tmp_path))
    with pytest.raises(UserError, match="not the one that acted"), session:
        session.play()
    assert session.paper.connections == 0


def test_a_journal_that_lost_steps_is_refused(tmp_path):
    play(config(tmp_path, episodes=2))
    path = tmp_path / "run/session/steps.log"
    content = [one.as_dict() for one in read_steps(path.parent).records[:-1]]
    path.write_bytes(b"".join(frame(json.dumps(one).encode()) for one in content))
    with (
        pytest.raises(UserError, match="holds 23 steps and the checkpoint was made after 24"),
        PaperSession(config(tmp_path)),
    ):
        pass


def test_a_finished_session_goes_on_with_a_larger_budget_only(tmp_path):
    play(config(tmp_path, episodes=1))
    steps = len(read_steps(tmp_path / "run/session").records)
    assert play(config(tmp_path, episodes=1)).done
    assert len(read_steps(tmp_path / "run/session").records) == steps
    assert play(config(tmp_path, episodes=2)).actor.ledger.episodes == 2


def test_faults_are_lost_episodes_that_are_played_again_and_no_failures(tmp_path):
    with Traced(config(tmp_path, episodes=2)) as session:
        when = session.clock.now()
        later(session, 0.6, lambda: setattr(session.paper, "status", ArmStatus.LOST))
        session.play()
    assert when < session.clock.now()
    assert (session.actor.ledger.lost, session.actor.ledger.failures, session.actor.ledger.episodes) == (1, 0, 2)
    assert [line["reason"] for line in lines(tmp_path, "lost")] == ["arm_lost"]
    assert [line["number"] for line in lines(tmp_path, "episodes")] == [2, 3]


def test_people_count_as_recovery_does_and_are_told_apart(tmp_path):
    with Traced(config(tmp_path, episodes=1, method="uni-o4")) as session:
        session.operator.hold((0.25, -0.5))
        session.play()
    (rollout,) = session.rollouts
    assert rollout.gated.all()
    assert rollout.handover[:, 0].tolist() == [True] + [False] * (STEPS - 1)
    assert rollout.executed[:, 0].unique(dim=0).tolist() == [[0.25, -0.5]]
    assert not (rollout.proposed == rollout.executed).all(-1).any()
    assert {one.source for one in read_steps(tmp_path / "run/session").records} == {"human"}
    (line,) = lines(tmp_path, "episodes")
    assert (line["takeovers"], line["human_steps"], line["recoveries"], line["recovery_steps"]) == (1, STEPS, 0, 0)


def test_who_acted_is_counted_as_the_journal_has_it_also_where_it_is_played_back(tmp_path):
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=STEPS + 5)
    play(config(tmp_path))
    records = read_steps(tmp_path / "run/session").records
    for line in lines(tmp_path, "episodes"):
        sources = [one.source for one in records if one.episode == line["number"]]
        assert line["recovery_steps"] == sources.count("recovery") == line["gated_steps"]
        assert line["recoveries"] == len(line["bursts"])
    assert sum(line["recoveries"] for line in lines(tmp_path, "episodes")) > 0


def test_a_takeover_is_played_back_too(tmp_path):
    session = Traced(config(tmp_path), kill_after=STEPS + 5)
    later(session, 0.7, lambda: session.operator.hold((0.25, -0.5)))
    with pytest.raises(Killed), session:
        session.play()
    records = read_steps(tmp_path / "run/session").records
    assert {one.source for one in records} >= {"task", "human"}
    again = play(config(tmp_path))
    assert again.rollouts[0].executed[:, 0].tolist() == [pytest.approx(one.decided) for one in records[STEPS:]]
    assert again.rollouts[0].gated[:, 0].tolist() == [one.source != "task" for one in records[STEPS:]]


def test_spoken_labels_are_counted_from_where_they_reach_back_to_and_retracted_ones_are_not(tmp_path):
    with Traced(config(tmp_path, episodes=2)) as session:
        first, say = session.clock.now(), session.operator.say
        later(session, 0.85, lambda: say(Word.FAILURE, "vase"))
        later(session, 2.6, lambda: say(Word.FAILURE, "vase"))
        later(session, 2.9, lambda: say(Word.RETRACT))
        session.play()
    assert first < session.clock.now()
    one, two = lines(tmp_path, "episodes")
    events = [event for event in read_events(tmp_path / "run/session").records if event.word == "failure"]
    assert [event.episode for event in events] == [1, 2]
    assert (one["failed"], one["failure_type"], one["failing_steps"]) == (True, "vase", 4)
    assert one["first_failure"] == events[0].step - 3
    assert session.rollouts[0].failure[:, 0].nonzero().flatten().tolist() == [
        one["first_failure"] + k for k in range(4)
    ]
    assert session.rollouts[0].failed[:, 0].sum() == STEPS - one["first_failure"] - 1
    assert not two["failed"]
    assert not session.rollouts[1].failure.any()
    assert session.actor.ledger.failures == 1


def test_after_a_crash_a_person_looks_at_the_table_first(tmp_path):
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=5)
    session = PaperSession(config(tmp_path))
    assert session.arm.env.trouble
    session.close()


def test_an_operator_can_end_a_session_and_go_on_another_day(tmp_path):
    with Traced(config(tmp_path)) as session:
        later(session, 1.0, lambda: session.operator.say(Word.QUIT))
        assert not session.play()
    assert session.actor.ledger.episodes == 1
    assert json.loads((tmp_path / "run/meta.json").read_text())["status"] == "interrupted"
    assert play(config(tmp_path)).done


def test_the_slow_episode_before_the_first_is_not_counted_and_changes_nothing(whole, tmp_path):
    untouched, _ = whole
    session = play(config(tmp_path, first_speed=0.5))
    records = read_steps(tmp_path / "run/session").records
    slow = [one for one in records if one.episode == 0]
    assert len(slow) == STEPS
    for one in slow:
        assert one.executed == [pytest.approx(0.5 * value, abs=1e-6) for value in one.decided]
    ours, theirs = session.actor.state_dict(), untouched.actor.state_dict()
    for part in ("explore", "begun", "steps"):  # what is drawn for the counted episodes is what would have been drawn
        assert digest(ours[part]) == digest(theirs[part])
    assert digest(ours["router"]["gate"]) == digest(theirs["router"]["gate"])
    assert digest(ours["router"]["generator"]) == digest(theirs["router"]["generator"])
    assert session.arm.kept == len(records) - STEPS
