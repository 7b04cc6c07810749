"""A wire twin in a process of its own, started and ended by a ``with``."""

from __future__ import annotations

from types import TracebackType

from failurebench.franka.definition import FrankaTask
from robots.twin.child import Child
from robots.twin.configuration import ControllerConfig, TwinConfig
from robots.twin.placing import BASE_HEIGHT_M
from robots.twin.side import SideChannel
from robots.twin.version import require_known_version

START_S = 60.0
"""that the twin may take to serve; on an idle computer it is one or two"""


class TwinProcess(SideChannel):
    """A simulated FR3 at the task's table, served at ``host`` in its own protocol. Also the side channel to its surroundings.

    Args:
        task: whose furniture is on the table.
        seed: of the episode that is on it at the start.
        host: a loopback address; empty for the next free one.
        base_height_m: of the arm's base over the table's top.
        controller: how the simulated controller behaves.

    Raises:
        RobotError: franky-sim is missing or of another version, the address is in use, or the twin does not start.
    """

    def __init__(
        self,
        task: FrankaTask,
        seed: int = 0,
        host: str = "",
        base_height_m: float = BASE_HEIGHT_M,
        controller: ControllerConfig | None = None,
    ) -> None:
        require_known_version()
        self.config = TwinConfig(task, seed, host, base_height_m, controller or ControllerConfig())
        self.process = Child("robots.twin.serving", self.config.to_json(), "the twin", START_S)
        super().__init__(str(self.process.said["host"]))

    @property
    def task(self) -> FrankaTask:
        """Whose furniture is on the table."""
        return self.config.task

    def freeze(self) -> None:
        """Stop the process where it is, as a controller that hangs."""
        self.process.freeze()

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self.process.thaw()

    def kill(self) -> None:
        """End the process at once, as a power cut does."""
        self.process.kill()

    def close(self) -> None:
        """End the process; can be called twice."""
        self.process.close()
        super().close()

    def __enter__(self) -> TwinProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
