"""Sessions: what is counted and learned from, whoever acts and whatever breaks."""

import json

import pytest

from farl.robot.digest import digest
from robots.arm.interface import ArmStatus
from robots.operator.interface import Word
from robots.session.journal import read_events, read_steps
from tests.robots.paper_table import later
from tests.robots.sessions import STEPS, Traced, config, lines, play


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
