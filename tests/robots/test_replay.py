"""Replays: pictures whose pixels say what the record says, videos that are never overwritten, folders that are no session."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from recorded_episodes import TASKS, episode
from recorded_session import CAMERA, Written, session

from robots.errors import RobotError
from robots.replay.frame import BORDER, CURVE, Painter
from robots.replay.looks import ACTORS, FAILURE
from robots.replay.player import ReplayConfig, main
from robots.replay.recording import read_recording
from robots.replay.table import TablePicture, View
from robots.session import words
from robots.session.journal import EVENTS, MANIFEST, STEPS
from robots.session.record import StepRecord

SIZE = (640, 496)


def recorded(task: str, number: int = 1) -> list[StepRecord]:
    return list(episode(TASKS[task](), number, begin=0.0))


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def near(picture: np.ndarray, colour: str, tolerance: int = 40) -> np.ndarray:
    """Where a picture has about that colour."""
    return np.abs(picture.astype(int) - rgb(colour)).max(axis=-1) <= tolerance


def place(task_name: str, point: tuple[float, float]) -> tuple[int, int]:
    """Row and column of a point of the table, from its definition's workspace alone."""
    (x_low, x_high), (y_low, y_high) = TASKS[task_name]().workspace
    scale = min(SIZE[0] / (y_high - y_low + 0.06), SIZE[1] / (x_high - x_low + 0.06))
    row = SIZE[1] / 2 - scale * (point[0] - (x_low + x_high) / 2)
    column = SIZE[0] / 2 - scale * (point[1] - (y_low + y_high) / 2)
    return round(row), round(column)


def around(found: np.ndarray, at: tuple[int, int], pixels: int = 1) -> bool:
    """Whether anything within so many pixels was found: thin lines fall between them."""
    row, column = at
    return bool(found[row - pixels : row + pixels + 1, column - pixels : column + pixels + 1].any())


# ---- the table


@pytest.mark.parametrize("task", TASKS)
def test_an_observation_is_read_by_the_names_of_its_numbers(task: str) -> None:
    definition, record = TASKS[task](), recorded(task)[10]
    view, said = View.of(definition, record), dict(zip(definition.fields, record.obs, strict=True))
    assert view.finger == (said["finger x"], said["finger y"])
    assert view.object == (said["object x"], said["object y"])
    assert view.goal == (said["goal x"], said["goal y"])
    layout = definition.layout(np.random.default_rng([0, 1]))
    if view.obstacle is None:
        assert view.hazard == pytest.approx(layout.hazard, abs=1e-6)
    else:
        assert view.obstacle[2] == pytest.approx(layout.hazard[0], abs=1e-6)


@pytest.mark.parametrize("yaw", [-0.7, -0.3, 0.0, 0.4, 0.7])
def test_a_box_is_drawn_turned_as_it_was_seen(yaw: float) -> None:
    definition, record = TASKS["FrankaFragilePushWall"](), recorded("FrankaFragilePushWall")[0]
    names = list(definition.fields)
    obs = list(record.obs)
    obs[names.index("cosine of 4 yaw")], obs[names.index("sine of 4 yaw")] = math.cos(4 * yaw), math.sin(4 * yaw)
    obs[names.index("finger x")] = 0.72  # out of the box's way
    turned = dataclasses.replace(record, obs=obs, executed=[0, 0], proposed=[0, 0], recovery=[0, 0])
    picture = np.asarray(TablePicture(definition, SIZE).draw([turned]))
    centre, half = (obs[names.index("object x")], obs[names.index("object y")]), definition.box_half_m
    for along, grey in ((0.9, True), (1.1, False)):  # a corner, from inside and from outside
        angle = yaw + math.pi / 4
        corner = (
            centre[0] + along * math.sqrt(2) * half * math.cos(angle),
            centre[1] + along * math.sqrt(2) * half * math.sin(angle),
        )
        assert near(picture, "#8b94a3")[place("FrankaFragilePushWall", corner)] == grey


@pytest.mark.parametrize("task", TASKS)
def test_object_finger_goal_and_hazard_are_where_the_observation_says(task: str) -> None:
    definition, record = TASKS[task](), recorded(task)[0]
    still = dataclasses.replace(record, executed=[0, 0], proposed=[0, 0], recovery=[0, 0], reference=[0.5, 0.25])
    picture = np.asarray(TablePicture(definition, SIZE).draw([still]))
    view = View.of(definition, record)
    assert near(picture, "#8b94a3")[place(task, view.object)]
    assert near(picture, "#e4e7ec")[place(task, view.finger)]
    assert around(near(picture, "#3ecfa3"), place(task, (view.goal[0], view.goal[1] + 0.005)))
    if view.obstacle is not None:
        x, y, radius = view.obstacle
        edges = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in (0.5, 2.0, 4.0)]
    else:
        layout = definition.layout(np.random.default_rng([0, 1]))
        edges = [
            ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + (0.02 if a[1] != b[1] else 0))
            for a, b in definition.outline(layout)
        ]
    inside = [(row, column) for row, column in (place(task, edge) for edge in edges) if 0 <= row < SIZE[1]]
    assert inside
    assert all(around(near(picture, FAILURE), at, 2) for at in inside)


@pytest.mark.parametrize(
    ("key", "colour"), [("executed", "#ffffff"), ("proposed", ACTORS["task"]), ("recovery", ACTORS["recovery"])]
)
@pytest.mark.parametrize("direction", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_arrows_point_where_actions_go(key: str, colour: str, direction: tuple[float, float]) -> None:
    task = "FrankaBoundedSoccer"
    record = recorded(task)[0]
    obs = list(record.obs)
    obs[0], obs[1], obs[5], obs[6] = 0.58, 0.18, 0.36, -0.2  # the finger free on all sides
    actions = {"executed": [0.0, 0.0], "proposed": [0.0, 0.0], "recovery": [0.0, 0.0], key: list(direction)}
    picture = TablePicture(TASKS[task](), SIZE).draw(
        [dataclasses.replace(record, obs=obs, reference=[0.4, 0.2], **actions)]
    )
    found = near(np.asarray(picture), colour)
    ahead = place(task, (0.58 + 0.035 * direction[0], 0.18 + 0.035 * direction[1]))
    behind = place(task, (0.58 - 0.035 * direction[0], 0.18 - 0.035 * direction[1]))
    assert around(found, ahead)
    assert not around(found, behind)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "field", ["obs", "proposed", "recovery", "executed", "reference", "tip", "force", "risk", "threshold", "period"]
)
def test_what_is_no_number_is_left_out_and_the_rest_is_drawn(task: str, field: str, tmp_path: Path) -> None:
    records = recorded(task)[:3]
    value = getattr(records[-1], field)
    nothing = [math.nan] * len(value) if isinstance(value, list) else math.nan
    records[-1] = dataclasses.replace(records[-1], **{field: nothing})
    assert Painter(TASKS[task](), tmp_path).draw(records, 2).size == (640, 608)


def test_an_observation_of_another_kind_shows_the_finger_alone() -> None:
    still = {"executed": [0, 0], "proposed": [0, 0], "recovery": [0, 0]}
    record = dataclasses.replace(recorded("FrankaBoundedSoccer")[0], obs=[0.0] * 300, tip=[0.5, 0.1, 0.02], **still)
    picture = np.asarray(TablePicture(TASKS["FrankaBoundedSoccer"](), SIZE).draw([record]))
    assert near(picture, "#e4e7ec")[place("FrankaBoundedSoccer", (0.5, 0.1))]


# ---- frames


@pytest.mark.parametrize("source", ["task", "recovery", "human"])
def test_the_border_says_who_acts(source: str, tmp_path: Path) -> None:
    records = [dataclasses.replace(record, source=source) for record in recorded("FrankaFragilePushWall")[:4]]
    painter = Painter(TASKS["FrankaFragilePushWall"](), tmp_path)
    picture = np.asarray(painter.draw(records, 3))
    top = picture.shape[0] - CURVE
    border = np.concatenate(
        [
            picture[BORDER // 2, :],
            picture[top - BORDER // 2, :],
            picture[:top, BORDER // 2],
            picture[:top, -BORDER // 2],
        ]
    )
    assert near(border, ACTORS[source], 4).all()


def test_the_strip_shows_the_past_and_marks_who_acted(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(record, source="task", risk=0.1, failure=False)
        for record in recorded("FrankaFragilePushWall")[:20]
    ]
    records[5:8] = [dataclasses.replace(record, source="recovery", risk=0.5) for record in records[5:8]]
    painter = Painter(TASKS["FrankaFragilePushWall"](), tmp_path)
    strips = [np.asarray(painter.draw(records, step))[-CURVE:] for step in (4, 19)]
    columns = [np.flatnonzero(near(part[30:], "#4a1a20", 8).any(axis=0)) for part in strips]
    assert columns[0].size == 0
    left, right = 6 + (640 - 12) * 4.5 / 19, 6 + (640 - 12) * 7.5 / 19
    assert (columns[1].min(), columns[1].max()) == pytest.approx((left, right), abs=2)


@pytest.mark.parametrize("damage", ["missing", "truncated", "not listed"])
def test_a_picture_that_cannot_be_shown_is_said_in_its_place(tmp_path: Path, damage: str) -> None:
    written = session(tmp_path / "run", count=1)
    recording = read_recording(written.run)
    steps = list(recording.episodes[0].steps)
    path = recording.images / steps[3].images[CAMERA]
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    else:
        steps[3] = dataclasses.replace(steps[3], images={})
    painter = Painter(recording.task, recording.images, CAMERA)
    whole, broken = (np.asarray(painter.draw(steps, step))[100:370, 40:480] for step in (2, 3))
    assert near(whole, "#b9a98c").mean() > 0.5
    assert near(broken, "#14171c").mean() > 0.9
    assert near(broken, "#c9cfd8").any()


# ---- recordings


def test_labels_that_came_later_are_in_what_is_shown(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    written.begin(1)
    records = list(episode(written.task, 1, begin=written.clock, steps=30))
    written.steps(records[:20])
    written.say("failure", "scratched")
    written.steps(records[20:])
    written.end("timeout")
    shown = read_recording(written.run).episode(1)
    assert [step.step for step in shown.steps if step.failure] == [17, 18, 19, 20]
    assert {step.failure_type for step in shown.steps if step.failure} == {"scratched"}
    assert "4 violating steps" in shown.title


def test_the_task_is_played_with_its_own_options_and_rules(tmp_path: Path) -> None:
    """As a session's manifest has them: options of the table and rules of episodes in one, the configuration as text."""
    written = Written(
        tmp_path / "run",
        TASKS["FrankaFragilePushWall"](),
        options={"clearance": 0.02, "max_episode_steps": 120, "action_repeat": 1},
        config={"robot": {"env": {"rules": {"label_back_steps": "0"}}}},
    )
    written.begin(1)
    written.steps(episode(written.task, 1, begin=written.clock, steps=9))
    written.say("failure", "scratched")
    written.end("timeout")
    recording = read_recording(written.run)
    assert recording.task == TASKS["FrankaFragilePushWall"](clearance=0.02)
    assert [step.step for step in recording.episode(1).steps if step.failure] == [8]


def test_episodes_are_those_that_count_and_the_lost_ones(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaBoundedSoccer"]())
    written.begin(0, "slow")
    written.steps(episode(written.task, 0, begin=written.clock, steps=5))
    with pytest.raises(RobotError, match="slow first episode"):
        read_recording(written.run)
    written.end("timeout")
    written.play(1)
    written.play(2, steps=9, fault="camera_stale")
    written.begin(3)
    written.steps(list(episode(written.task, 3, begin=written.clock, steps=9))[:6])
    outcomes = {episode.number: episode.outcome for episode in read_recording(written.run).episodes}
    assert outcomes == {1: "success", 2: "lost: camera_stale", 3: "runs, or was interrupted"}


# ---- videos


def test_a_video_has_a_frame_for_every_step(tmp_path: Path) -> None:
    written = session(tmp_path / "run", "FrankaDisturbedPush", count=4)
    video = tmp_path / "out.mp4"
    assert main(written.run, ReplayConfig(video=video)) == video
    steps = read_recording(written.run).episode(4).steps
    with imageio.get_reader(video) as reader:
        frames = [np.asarray(frame) for frame in reader]
        assert reader.get_meta_data()["fps"] == 10
    assert frames[0].shape == (496, 1008, 3)
    assert len(frames) == len(steps) + 10
    recovering = next(place for place, step in enumerate(steps) if step.source == "recovery")
    assert near(frames[recovering][BORDER // 2, 50:-50], ACTORS["recovery"], 60).mean() > 0.9
    assert near(frames[recovering - 1][BORDER // 2, 50:-50], ACTORS["task"], 60).mean() > 0.9
    assert not list(tmp_path.glob(".*"))


def test_a_video_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    written = session(tmp_path / "run", count=1)
    video = tmp_path / "out.mp4"
    video.write_bytes(b"somebody's")
    with pytest.raises(RobotError, match="not overwritten; give another name"):
        main(written.run, ReplayConfig(video=video))
    assert video.read_bytes() == b"somebody's"
    with pytest.raises(RobotError, match=r"ends with \.mp4"):
        main(written.run, ReplayConfig(video=tmp_path / "out.gif"))
    with pytest.raises(RobotError, match="there is no folder"):
        main(written.run, ReplayConfig(video=tmp_path / "nowhere" / "out.mp4"))


# ---- bad input


def test_what_cannot_be_replayed_gets_one_message(tmp_path: Path) -> None:
    video = ReplayConfig(video=tmp_path / "out.mp4")
    with pytest.raises(RobotError, match="there is no folder"):
        main(tmp_path / "nothing", video)
    with pytest.raises(RobotError, match="no session in"):
        main(tmp_path, video)
    written = session(tmp_path / "run", count=2)
    with pytest.raises(RobotError, match="no episode 7 in this session; it has 1 to 2"):
        main(written.run, dataclasses.replace(video, episode=7))
    with pytest.raises(RobotError, match="no pictures by 'wrist'; it has scene"):
        main(written.run, dataclasses.replace(video, camera="wrist"))
    with pytest.raises(ValueError, match="episode is -1"):
        ReplayConfig(episode=-1)
    (written.folder / MANIFEST).write_text('{"task": "Chess"}')
    with pytest.raises(RobotError, match="Chess"):
        main(written.run, video)
    (written.folder / MANIFEST).write_text('{"task": ')
    with pytest.raises(RobotError, match="cannot be read"):
        main(written.run, video)
    assert not video.video.exists()


def test_an_empty_session_and_one_of_another_version_are_said_to_be(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaBoundedSoccer"]())
    with pytest.raises(RobotError, match="no step has been recorded"):
        read_recording(written.run)
    written._append(STEPS, [{"episode": 1, "step": 0, "colour": "blue"}])
    with pytest.raises(RobotError, match="another version of this program"):
        read_recording(written.run)


def test_a_torn_end_is_said_and_the_rest_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = session(tmp_path / "run", count=1)
    whole = len(read_recording(written.run).episode(1).steps)
    content = (written.folder / STEPS).read_bytes()
    (written.folder / STEPS).write_bytes(content[:-7])
    with (written.folder / EVENTS).open("ab") as file:
        file.write(b"\x01")
    recording = read_recording(written.run)
    assert len(recording.episode(1).steps) == whole - 1
    assert len(recording.notes) == 2
    main(written.run, ReplayConfig(video=tmp_path / "out.mp4", camera="table"))
    assert "that are no whole record; everything before is shown" in capsys.readouterr().out


def test_words_of_a_fault_are_not_taken_for_a_failure(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaBoundedSoccer"]())
    written.begin(1)
    written.say(words.FAULT, "no answer")
    written.steps(episode(written.task, 1, begin=written.clock, steps=4))
    assert not any(step.failure for step in read_recording(written.run).episode(1).steps)
