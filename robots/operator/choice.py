"""Which operator, as a configuration says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from robots.operator.gamepad import Gamepad, GamepadConfig
from robots.operator.interface import Operator
from robots.operator.keyboard import Keyboard
from robots.operator.keys import KeysConfig
from robots.operator.scripted import ScriptedOperator
from robots.operator.spacemouse import SpaceMouse
from robots.operator.terminal import Terminal

Kind = Literal["gamepad", "keyboard", "terminal", "spacemouse", "nobody"]


@dataclass(frozen=True)
class OperatorConfig:
    """What the person at the robot holds."""

    kind: Kind = "gamepad"
    """``spacemouse`` speaks through the keyboard; ``nobody`` is for twins"""
    gamepad: GamepadConfig = field(default_factory=GamepadConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)


def open_operator(config: OperatorConfig) -> Operator:
    """The configured device, not started yet."""
    if config.kind == "gamepad":
        return Gamepad(config.gamepad)
    if config.kind == "keyboard":
        return Keyboard(config.keys)
    if config.kind == "terminal":
        return Terminal(config.keys)
    if config.kind == "spacemouse":
        return SpaceMouse(Keyboard(config.keys), config.keys.hand)
    return ScriptedOperator()
