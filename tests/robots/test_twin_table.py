"""What stands on the wire twin's table, and how its process is started and ended."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import time

import numpy as np
import pytest

from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Scene
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.errors import RobotError
from robots.twin.configuration import ControllerConfig, TwinConfig, task_named
from robots.twin.side import SideChannel

TASKS = [FrankaFragilePushWall(), FrankaDisturbedPush(), FrankaBoundedSoccer()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_reset_places_what_the_definition_draws(start_twin, task):
    process = start_twin(dataclasses.replace(task, start_range="full", randomize_hazard=True), seed=0)
    for seed in (5, 11):
        drawn = process.task.layout(np.random.default_rng(seed))
        assert process.reset(seed) == drawn
        scene, _ = process.scene()
        assert math.dist(scene.object, drawn.object) < 2e-3
        assert abs(scene.yaw - drawn.yaw) < 1e-2
        assert process.layout() == drawn
    process.close()


def test_the_person_walks_and_the_margin_is_the_definitions(start_twin):
    process = start_twin(FrankaDisturbedPush(), seed=1)
    begun = time.monotonic()
    seen = []
    while time.monotonic() - begun < 3.0:
        seen.append(process.scene()[0])
        time.sleep(0.02)
    way = [scene.obstacle for scene in seen]
    moved = sum(math.dist(one, other) for one, other in itertools.pairwise(way))
    assert moved > 0.1
    margins = [process.task.margin(scene, process.layout()) for scene in seen]
    nearest, _ = process.nearest(begun)
    assert nearest == pytest.approx(min(margins), abs=5e-3)
    process.close()


def test_a_ball_rests_on_its_turf_and_rolls_where_it_is_pushed(start_twin):
    process = start_twin(FrankaBoundedSoccer(), seed=4)
    time.sleep(0.5)
    still, _ = process.scene()
    assert math.dist(still.object, process.layout().object) < 0.01
    process.push("object", (0.1, 0.0, 0.0), 0.2)
    time.sleep(0.3)
    rolled, _ = process.scene()
    # F t / m, of which a rolling ball keeps 5/7: 0.1 N x 0.2 s / 50 g = 0.4 m/s
    assert 0.1 < rolled.object_velocity[0] < 0.4
    process.close()


def test_the_twin_ends_when_whoever_started_it_is_killed(tmp_path):
    """A twin without a parent would hold its address, and a processor, forever."""
    import subprocess
    import sys

    script = (
        "from robots.twin.process import TwinProcess\n"
        "from failurebench.franka.push_wall import FrankaFragilePushWall\n"
        "import time\n"
        "twin = TwinProcess(FrankaFragilePushWall())\n"
        "print(twin.host, twin.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        _, pid = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(int(pid), signal.SIGKILL)
    pytest.fail("the twin outlived the one who started it")


def test_a_configuration_survives_its_way_into_the_process():
    config = TwinConfig(
        FrankaDisturbedPush(person_speed=0.5, randomize_hazard=True),
        7,
        "127.0.0.9",
        0.0,
        ControllerConfig(recovery_s=1.0),
    )
    assert TwinConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: task_named("FrankaJuggling"), "no twin for the task 'FrankaJuggling'; there is one for FrankaFragile"),
        (lambda: task_named("FrankaBoundedSoccer", lane_half_m=9.0), "lane_half_m is 9.0; give metres, 0.05 to 0.15"),
        (lambda: TwinConfig(TASKS[0], host="192.168.0.2"), "'192.168.0.2'; it serves loopback only"),
        (lambda: ControllerConfig(force_sign=0), "force_sign is 0; give -1 or 1"),
        (lambda: ControllerConfig(recovery_s=float("nan")), "recovery_s is nan; give 0 to 60 seconds"),
        (lambda: TwinConfig(TASKS[0], base_height_m=1.0), "base_height_m is 1.0; give 0 to 0.3 metres"),
        (lambda: SideChannel("127.9.9.9", answer_s=0.05).scene(), "no twin answers at 127.9.9.9"),
    ],
)
def test_what_is_wrong_is_told_in_one_message(wrong, message):
    with pytest.raises(RobotError, match=message.replace("(", r"\(").replace(".", r"\.")):
        wrong()


def test_a_margin_is_known_from_the_first_moment_of_an_episode(twin):
    drawn = twin.reset(8)
    margin, detail = twin.nearest(time.monotonic())
    begun = Scene(twin.scene()[0].tcp, (0.0, 0.0), drawn.object, drawn.yaw)
    assert margin == pytest.approx(twin.task.margin(begun, drawn), abs=1e-3)
    assert detail == twin.task.detail(begun, drawn)


def test_a_later_push_outlives_an_earlier_one(twin):
    twin.push("finger", (0.0, 0.0, 5.0), 0.1)
    twin.push("finger", (0.0, 0.0, 10.0), 1.5)
    time.sleep(0.5)
    assert twin.status()["wrench"][2] == pytest.approx(10.0, abs=0.1)
    until = time.monotonic() + 5.0
    while twin.status()["wrench"][2] > 0.1 and time.monotonic() < until:
        time.sleep(0.05)
    assert twin.status()["wrench"][2] == pytest.approx(0.0, abs=0.1)


def test_an_address_in_use_is_told(twin, start_twin):
    with pytest.raises(RobotError, match=f"{twin.host} is in use"):
        start_twin(host=twin.host)


def test_what_the_side_channel_cannot_do_is_told(twin):
    with pytest.raises(RobotError, match="cannot juggle"):
        twin.ask("juggle")
    for body, force, seconds in [
        ("moon", (0.0, 0.0, 1.0), 1.0),
        ("finger", (0.0, 1.0), 1.0),
        ("finger", (0.0, 0.0, float("nan")), 1.0),
        ("finger", (0.0, 0.0, 1e6), 1.0),
        ("finger", (0.0, 0.0, 1.0), -1.0),
    ]:
        with pytest.raises(RobotError, match="cannot push"):
            twin.push(body, force, seconds)
    assert twin.status()["rate_hz"] > 0
