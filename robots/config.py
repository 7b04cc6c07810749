"""One robot's table as a configuration says it: which arm, how it is seen, who operates it, within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from robots.arm.config import ArmConfig
from robots.env import EnvConfig
from robots.errors import RobotError
from robots.limits import KeepOut, Limits
from robots.operator.choice import OperatorConfig

TWIN = "twin"
"""the host that stands for a simulated robot, which the session starts for itself"""


@dataclass(frozen=True)
class PlainLimits(Limits):
    """Every limit that is a number; regions to keep out of stand beside them (``RobotConfig.keep_out``)."""

    keep_out: tuple[KeepOut, ...] = field(init=False, default=())


@dataclass(frozen=True)
class RobotConfig:
    """Everything about a table that is not the task, the policy or the learning."""

    arm: ArmConfig = field(default_factory=lambda: ArmConfig(TWIN))
    """its ``host`` is the robot's address; ``twin`` plays on the wire twin"""
    limits: PlainLimits = field(default_factory=PlainLimits)
    keep_out: tuple[tuple[str, float, float, float, float, float, float], ...] = ()
    """blocks that the finger never enters: a name, then x, y, z of the lowest and of the highest corner, m"""
    env: EnvConfig = field(default_factory=EnvConfig)
    operator: OperatorConfig = field(default_factory=OperatorConfig)
    eyes: str = ""
    """YAML file of camera, calibration and what is on the table, for a real arm"""
    twin_eyes: Literal["truth", "camera"] = "truth"
    """of a twin: what it knows of itself, or what its rendered camera sees of markers, through the real library"""

    def __post_init__(self) -> None:
        lead, age = self.env.lead_s, self.bounds.decision_age_s
        if lead >= age:
            raise RobotError(
                f"env.lead_s is {lead:g} and limits.decision_age_s {age:g}: a quick decision would "
                "be too old when its command is due; raise the second or lower the first"
            )

    @property
    def bounds(self) -> Limits:
        """The limits, regions to keep out of included."""
        plain = {one.name: getattr(self.limits, one.name) for one in fields(Limits) if one.name != "keep_out"}
        return Limits(**plain, keep_out=tuple(KeepOut(name, (a, b, c), (d, e, f)) for name, a, b, c, d, e, f in self.keep_out))

    @property
    def on_twin(self) -> bool:
        """Whether the robot is simulated."""
        return self.arm.host == TWIN
