"""Devices in a person's hands: what they say, what they move, that their absence is noticed. The libraries are the real ones."""

import ctypes
import math
import os
import pty
import subprocess
import time

import pytest

from robots.errors import RobotError
from robots.operator.choice import OperatorConfig, open_operator
from robots.operator.gamepad import BUTTONS, FULL, Gamepad, GamepadConfig
from robots.operator.hand import Hand, HandConfig
from robots.operator.interface import Word
from robots.operator.keyboard import Keyboard
from robots.operator.keys import KeysConfig
from robots.operator.terminal import Terminal


def test_a_stick_moves_nothing_in_its_dead_zone_and_grows_from_zero_beyond_it():
    hand = Hand(HandConfig(dead_zone=0.2, gain=0.5))
    assert hand.ask(True, 0.1, -0.15) == (0.0, 0.0)
    assert hand.ask(True, 1.0, 0.0) == (0.5, 0.0)
    ahead, left = hand.ask(True, 0.6, 0.0)
    assert (ahead, left) == pytest.approx((0.25, 0.0))
    ahead, left = hand.ask(True, 0.3, -0.4)
    assert left / ahead == pytest.approx(-4 / 3)
    assert math.hypot(ahead, left) == pytest.approx(0.5 * (0.5 - 0.2) / 0.8)
    assert hand.ask(True, math.nan, 1.0) == (0.0, 0.0)


def test_letting_go_keeps_the_arm_standing_for_a_step_and_then_gives_it_back():
    hand = Hand(HandConfig(linger_steps=1))
    assert hand.ask(False, 1.0, 0.0) is None
    assert hand.ask(True, 1.0, 0.0) == (1.0, 0.0)
    assert hand.ask(False, 1.0, 0.0) == (0.0, 0.0)
    assert hand.ask(False, 1.0, 0.0) is None


def test_two_things_on_one_button_are_refused():
    with pytest.raises(ValueError, match="two things are on one button"):
        GamepadConfig(success="b")
    with pytest.raises(ValueError, match="no button 'z'"):
        GamepadConfig(success="z")
    with pytest.raises(ValueError, match="none twice"):
        KeysConfig(success="f")


class VirtualPad:
    """A game controller that SDL itself makes up."""

    def __init__(self, sdl):
        self.sdl = sdl
        sdl.SDL_Init(sdl.SDL_INIT_GAMECONTROLLER | sdl.SDL_INIT_EVENTS)
        kind = sdl.SDL_JOYSTICK_TYPE_GAMECONTROLLER
        self.number = sdl.SDL_JoystickAttachVirtual(kind, 6, len(BUTTONS), 0)
        assert self.number >= 0, sdl.SDL_GetError()
        self.joystick = sdl.SDL_JoystickOpen(self.number)

    def press(self, name, down=True):
        self.sdl.SDL_JoystickSetVirtualButton(self.joystick, BUTTONS.index(name), int(down))
        self.sdl.SDL_JoystickUpdate()

    def tap(self, name):
        self.press(name)
        self.press(name, False)

    def stick(self, right, down):
        for axis, value in ((0, right), (1, down)):
            self.sdl.SDL_JoystickSetVirtualAxis(self.joystick, axis, round(FULL * value))
        self.sdl.SDL_JoystickUpdate()

    def unplug(self):
        self.sdl.SDL_JoystickDetachVirtual(self.number)
        self.sdl.SDL_JoystickUpdate()


@pytest.fixture
def pad():
    sdl = pytest.importorskip("sdl2")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    pad = VirtualPad(sdl)
    yield pad
    sdl.SDL_JoystickDetachVirtual(pad.number)
    sdl.SDL_Quit()


def test_a_gamepad_says_what_its_buttons_are_for_also_between_two_looks(pad):
    gamepad = Gamepad()
    gamepad.start()
    gamepad.events()
    for name in ("b", "dpup", "x", "a", "start", "start", "y", "back"):
        pad.tap(name)
    said = [(event.word, event.detail) for event in gamepad.events()]
    assert said == [
        (Word.FAILURE, ""),
        (Word.FAILURE, "dropped"),
        (Word.RETRACT, ""),
        (Word.SUCCESS, ""),
        (Word.PAUSE, ""),
        (Word.RESUME, ""),
        (Word.RESET_DONE, ""),
        (Word.ABORT, ""),
    ]
    assert gamepad.events() == []
    gamepad.close()


def test_a_gamepad_moves_only_while_the_take_over_is_held(pad):
    gamepad = Gamepad()
    gamepad.start()
    pad.stick(0.0, -1.0)
    assert gamepad.takeover() is None
    pad.press("rightshoulder")
    assert gamepad.takeover() == pytest.approx((1.0, 0.0), abs=1e-3)
    pad.stick(1.0, 0.0)
    assert gamepad.takeover() == pytest.approx((0.0, -1.0), abs=1e-3)
    pad.press("rightshoulder", False)
    assert gamepad.takeover() == (0.0, 0.0)
    assert gamepad.takeover() is None
    gamepad.close()


def test_an_unplugged_gamepad_lets_go_and_is_taken_again_when_it_is_back(pad):
    gamepad = Gamepad()
    gamepad.start()
    pad.press("rightshoulder")
    assert gamepad.takeover() is not None
    pad.unplug()
    assert [event.word for event in gamepad.events()] == [Word.UNPLUGGED]
    assert gamepad.takeover() is None
    assert gamepad.events() == []
    again = VirtualPad(pad.sdl)
    gamepad.events()
    again.press("rightshoulder")
    assert gamepad.takeover() == (0.0, 0.0)
    again.unplug()
    gamepad.close()


def test_no_gamepad_is_one_message(monkeypatch):
    pytest.importorskip("sdl2")
    monkeypatch.setenv("SDL_GAMECONTROLLER_IGNORE_DEVICES_EXCEPT", "0xffff/0xffff")  # nor is one that is connected
    with pytest.raises(RobotError, match="no gamepad is connected"):
        open_operator(OperatorConfig("gamepad")).start()


def test_the_terminal_speaks_and_never_moves():
    ours, theirs = pty.openpty()
    terminal = Terminal(handle=theirs)
    terminal.start()
    os.write(ours, b"F1rz")
    time.sleep(0.05)
    said = [(event.word, event.detail) for event in terminal.events()]
    assert said == [(Word.FAILURE, ""), (Word.FAILURE, "dropped"), (Word.RETRACT, "")]
    assert terminal.takeover() is None
    terminal.close()
    os.close(ours)
    os.close(theirs)


def test_a_terminal_that_is_none_is_one_message():
    reader, writer = os.pipe()
    with pytest.raises(RobotError, match="standard input is none"):
        Terminal(handle=reader).start()
    os.close(reader)
    os.close(writer)


@pytest.fixture
def display(monkeypatch):
    """An X server of our own."""
    try:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-nolisten", "tcp"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        # Not an omission: `make test` installs it where it may (scripts/setup browser); a machine without apt-get or without root's
        # rights has none. What keys say is tested without a display above.
        pytest.skip("there is no Xvfb")
    number = server.stdout.readline().decode().strip()
    monkeypatch.setenv("DISPLAY", f":{number}")
    yield f":{number}"
    server.kill()
    server.wait()
    server.stdout.close()


def press_keys(keys):
    """Through the X server's own test extension, from another connection."""
    from pynput.keyboard import Controller

    controller = Controller()
    for key, down in keys:
        (controller.press if down else controller.release)(key)
        time.sleep(0.02)
    time.sleep(0.2)


def test_the_keyboard_speaks_and_moves(display):
    pytest.importorskip("Xlib")
    keyboard = Keyboard()
    keyboard.start()
    from pynput.keyboard import Key

    press_keys([("f", True), ("f", False), ("s", True), ("s", False)])
    assert [event.word for event in keyboard.events()] == [Word.FAILURE, Word.SUCCESS]
    press_keys([(Key.up, True)])
    assert keyboard.takeover() is None
    press_keys([(Key.shift, True)])
    assert keyboard.takeover() == (1.0, 0.0)
    press_keys([(Key.shift, False), (Key.up, False)])
    assert keyboard.takeover() == (0.0, 0.0)
    assert keyboard.takeover() is None
    keyboard.close()


def test_a_virtual_pad_has_every_button_of_ours():
    sdl = pytest.importorskip("sdl2")
    names = [sdl.SDL_GameControllerGetStringForButton(number) for number in range(len(BUTTONS))]
    assert [ctypes.string_at(name).decode() for name in names] == list(BUTTONS)
