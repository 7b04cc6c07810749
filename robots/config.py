"""One robot's table as a configuration says it: which arm, how it is seen, who operates it, within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from robots.arm.config import ArmConfig
from robots.env import EnvConfig
from robots.limits import Limits
from robots.operator.choice import OperatorConfig

TWIN = "twin"
"""the host that stands for a simulated robot, which the session starts for itself"""


@dataclass(frozen=True)
class RobotConfig:
    """Everything about a table that is not the task, the policy or the learning."""

    arm: ArmConfig = field(default_factory=lambda: ArmConfig(TWIN))
    """its ``host`` is the robot's address; ``twin`` plays on the wire twin"""
    limits: Limits = field(default_factory=Limits)
    env: EnvConfig = field(default_factory=EnvConfig)
    operator: OperatorConfig = field(default_factory=OperatorConfig)
    eyes: str = ""
    """YAML file of cameras, calibration and what is on the table (docs/robots/cameras.md); a twin does without"""

    @property
    def on_twin(self) -> bool:
        """Whether the robot is simulated."""
        return self.arm.host == TWIN
