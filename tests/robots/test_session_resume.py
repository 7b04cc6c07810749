"""A session that was killed continues as if nobody had killed it, or is refused before anything moves."""

import json
import signal
import subprocess
import sys
import time

import pytest

from farl.algorithms.rollout import Rollout
from farl.errors import UserError
from farl.online import checkpoint
from robots.session.framing import frame
from robots.session.journal import read_steps
from tests.robots.paper_table import later
from tests.robots.sessions import STEPS, Killed, PaperSession, Traced, config, lines, play


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A session that nobody disturbed, and where it lies."""
    folder = tmp_path_factory.mktemp("whole")
    return play(config(folder)), folder


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
    code = f"import pathlib; from tests.robots.sessions import play, config; play({where})"
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


def test_after_a_crash_a_person_looks_at_the_table_first(tmp_path):
    with pytest.raises(Killed):
        play(config(tmp_path), kill_after=5)
    session = PaperSession(config(tmp_path))
    assert session.arm.env.trouble
    session.close()
