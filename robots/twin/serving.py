"""The twin's own process: physics, controller and side channel in one loop of a thousand rounds a second."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from franky_sim.simulation_server import LocalHostnames

from robots.twin.child import orphaned
from robots.twin.configuration import TwinConfig
from robots.twin.controller import TICK_S, Controller, Error
from robots.twin.forces import Forces
from robots.twin.side import PORT, SideServer
from robots.twin.stage import Stage
from robots.twin.version import require_known_version
from robots.twin.world import Simulation

FORGIVEN_S = 0.05
"""later than this, lost time is not made up for"""

PARENT_TICKS = 100
"""between two looks at whether whoever started this is still there, and at the clock"""

REMEMBERED_TICKS = 10_000
"""over which lateness is reported"""

RATED = 11
"""looks at the clock that the rate is of: the last second"""


class Twin:
    """One simulated robot that can be stepped.

    Args:
        config: what it is.

    Raises:
        OSError: the address is in use.
    """

    def __init__(self, config: TwinConfig) -> None:
        self.config = config
        simulation = self.simulation = Simulation(config.task, config.base_height_m)
        simulation.init()
        simulation.start()
        self.stage = Stage(config.task, simulation.model, simulation.data)
        self.stage.reset(config.seed)
        self.forces = Forces(simulation.model, simulation.data, simulation.arm._dof_addrs)
        hosts: Iterable[str] = [config.host] if config.host else LocalHostnames()
        self.controller = Controller(simulation.arm, hosts, config.controller)
        self.controller.init()
        self.side = SideServer(self.controller.hostname, self._verbs())
        self.ticks, self.late, self.busy_s = 0, 0, 0.0
        self._recent = deque([time.monotonic()], RATED)
        self._lateness = deque([0.0], REMEMBERED_TICKS)

    def tick(self) -> None:
        """One millisecond."""
        self.side.poll()
        self.controller.process_commands()
        self.stage.tick()
        self.simulation.step()
        self.stage.force_n, external = self.forces.finger_n, self.forces.measure()
        self.controller.watch(external)
        self.controller.send_state()
        self.ticks += 1
        if self.ticks % PARENT_TICKS == 0:
            self._recent.append(time.monotonic())

    def run(self) -> None:
        """Tick a thousand times a second until whoever started this closes our standard input."""
        due = time.monotonic()
        while self.ticks % PARENT_TICKS or not orphaned():
            begun = time.thread_time()
            self.tick()
            self.busy_s += 0.01 * (time.thread_time() - begun - self.busy_s)
            due += TICK_S
            ahead = due - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            lateness = time.monotonic() - due
            self._lateness.append(lateness)
            if lateness > FORGIVEN_S:
                self.late += 1
                due += lateness

    def close(self) -> None:
        """Stop serving."""
        self.side.close()
        self.controller.cleanup()

    def _verbs(self) -> dict[str, Any]:
        stage = self.stage
        return {
            "look": lambda: {"scene": stage.scene(), "layout": stage.layout, "time": time.monotonic()},
            "reset": self._reset,
            "nearest": lambda since: stage.nearest(since)[1:],
            "user_stop": lambda pressed: self.controller.press_stop(bool(pressed)),
            "push": stage.push,
            "status": self._status,
            "pose": self._pose,
            "config": self.config.to_json,
        }

    def _reset(self, seed: int) -> Any:
        self.stage.reset(seed)
        return self.stage.layout

    def _pose(self) -> dict[str, Any]:
        """What a picture of the scene is drawn from."""
        data = self.simulation.data
        return {
            "time": time.monotonic(),
            "qpos": data.qpos.tolist(),
            "mocap": data.mocap_pos.ravel().tolist(),
            "layout": self.stage.layout,
        }

    def _status(self) -> dict[str, Any]:
        controller = self.controller
        recent = self._recent
        return {
            "rate_hz": PARENT_TICKS * (len(recent) - 1) / max(recent[-1] - recent[0], TICK_S),
            "ticks": self.ticks,
            "late": self.late,
            "lateness_ms": [1000.0 * share for share in np.percentile(self._lateness, (50, 99, 100)).tolist()],
            "busy_ms": 1000 * self.busy_s,
            "mode": controller.mode.name,
            "errors": [Error(bit).name.lower() for bit in sorted(controller.errors)],
            "connected": controller.udp_connected,
            "wrench": self.forces.estimate.wrench.tolist(),
            "finger_n": self.forces.finger_n,
        }


def main() -> None:
    """Serve what the first line of standard input describes; says where, or what is wrong, in a line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started this
    require_known_version()
    config = TwinConfig.from_json(sys.stdin.readline())
    try:
        twin = Twin(config)
    except OSError:
        place = config.host or "any loopback address"
        print(json.dumps({"error": f"{place} is in use: TCP ports 1337 and 1338, UDP port {PORT}"}), flush=True)
        return
    print(json.dumps({"host": twin.controller.hostname}), flush=True)
    gc.collect()
    gc.freeze()
    twin.run()
    twin.close()


if __name__ == "__main__":
    main()
