"""A gamepad through SDL: sticks, buttons, and what is to happen when it is unplugged."""

from __future__ import annotations

import ctypes
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

from failurebench.franka.geometry import Vec2
from robots.errors import RobotError
from robots.operator.hand import Hand, HandConfig
from robots.operator.interface import Event, Word

FULL = 32767
BUTTONS = (
    *("a", "b", "x", "y", "back", "guide", "start", "leftstick", "rightstick", "leftshoulder", "rightshoulder"),
    *("dpup", "dpdown", "dpleft", "dpright"),
)
"""SDL's names, in the order of its numbers"""


@dataclass(frozen=True)
class GamepadConfig:
    """Which button says what; names are SDL's, for the layout of an Xbox controller."""

    takeover: str = "rightshoulder"
    """held; the left stick then moves the finger"""
    success: str = "a"
    retract: str = "x"
    reset_done: str = "y"
    pause: str = "start"
    """again to go on"""
    abort: str = "back"
    quit: str = "guide"
    failures: tuple[tuple[str, str], ...] = (("b", ""), ("dpup", "dropped"), ("dpleft", "damaged"), ("dpright", "stuck"))
    """button and kind of failure"""
    hand: HandConfig = field(default_factory=HandConfig)

    def __post_init__(self) -> None:
        single = [self.success, self.retract, self.reset_done, self.pause, self.abort, self.quit]
        used = [self.takeover, *single, *(button for button, _ in self.failures)]
        unknown = [name for name in used if name not in BUTTONS]
        if unknown:
            raise ValueError(f"there is no button '{unknown[0]}'; SDL's names are {', '.join(BUTTONS)}")
        if len(set(used)) < len(used):
            raise ValueError(f"two things are on one button: {', '.join(sorted(used))}")

    def words(self) -> dict[str, tuple[Word, str]]:
        """What each button says, apart from the take-over."""
        single = {self.success: Word.SUCCESS, self.retract: Word.RETRACT, self.reset_done: Word.RESET_DONE}
        single |= {self.pause: Word.PAUSE, self.abort: Word.ABORT, self.quit: Word.QUIT}
        return {**{name: (word, "") for name, word in single.items()}, **{b: (Word.FAILURE, kind) for b, kind in self.failures}}


class Gamepad:
    """The first game controller that SDL finds. A press between two looks is not missed; a pad plugged in again is taken again."""

    def __init__(self, config: GamepadConfig | None = None) -> None:
        self.config = config or GamepadConfig()
        self._words, self._hand = self.config.words(), Hand(self.config.hand)
        self._sdl: Any = None
        self._pad: Any = None
        self._paused = False

    def start(self) -> None:
        """Raises RobotError where SDL or a gamepad is missing."""
        sdl = self._sdl = _sdl2()
        sdl.SDL_SetHint(b"SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", b"1")
        if sdl.SDL_Init(sdl.SDL_INIT_GAMECONTROLLER | sdl.SDL_INIT_EVENTS) != 0:
            raise RobotError(f"SDL cannot open gamepads: {sdl.SDL_GetError().decode()}")
        self._open()
        if self._pad is None:
            raise RobotError(
                "no gamepad is connected (or this user may not read it: see `ls -l /dev/input`); plug one in, or give another "
                "robot.operator, such as keyboard"
            )

    def events(self) -> list[Event]:
        said: list[Event] = []
        event = self._sdl.SDL_Event()
        while self._sdl.SDL_PollEvent(ctypes.byref(event)):
            if event.type == self._sdl.SDL_CONTROLLERBUTTONDOWN and (word := self._said(event.cbutton.button)):
                said.append(word)
        attached = self._pad is not None and self._sdl.SDL_GameControllerGetAttached(self._pad)
        if self._pad is not None and not attached:
            self._sdl.SDL_GameControllerClose(self._pad)
            self._pad = None
            self._hand.release()
            said.append(Event(Word.UNPLUGGED, time.monotonic()))
        elif self._pad is None:
            self._open()
        return said

    def takeover(self) -> Vec2 | None:
        if self._pad is None:
            return None
        sdl, pad = self._sdl, self._pad
        sdl.SDL_GameControllerUpdate()
        held = bool(sdl.SDL_GameControllerGetButton(pad, BUTTONS.index(self.config.takeover)))
        right = sdl.SDL_GameControllerGetAxis(pad, sdl.SDL_CONTROLLER_AXIS_LEFTX) / FULL
        down = sdl.SDL_GameControllerGetAxis(pad, sdl.SDL_CONTROLLER_AXIS_LEFTY) / FULL
        return self._hand.ask(held, -down, -right)

    def close(self) -> None:
        if self._sdl is None:
            return
        if self._pad is not None:
            self._sdl.SDL_GameControllerClose(self._pad)
        self._sdl.SDL_QuitSubSystem(self._sdl.SDL_INIT_GAMECONTROLLER | self._sdl.SDL_INIT_EVENTS)
        self._sdl = self._pad = None

    def _open(self) -> None:
        for number in range(self._sdl.SDL_NumJoysticks()):
            if self._sdl.SDL_IsGameController(number) and (pad := self._sdl.SDL_GameControllerOpen(number)):
                self._pad = pad
                return

    def _said(self, button: int) -> Event | None:
        name = BUTTONS[button] if button < len(BUTTONS) else ""
        if name not in self._words:
            return None
        word, detail = self._words[name]
        if word is Word.PAUSE:
            self._paused = not self._paused
            word = Word.PAUSE if self._paused else Word.RESUME
        elif word in (Word.ABORT, Word.RESET_DONE):
            self._paused = False
        return Event(word, time.monotonic(), detail)


def _sdl2() -> Any:
    try:
        with warnings.catch_warnings():   # it says on import where its library came from
            warnings.simplefilter("ignore", UserWarning)
            import sdl2
    except ImportError as error:
        raise RobotError(f"a gamepad needs SDL ({error}): pip install 'failure-aware-rl[robot]'") from error
    return sdl2
