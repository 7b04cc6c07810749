"""The hand's gripper in a thread of its own: its calls take half a second, and sometimes minutes; nobody waits for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from robots.arm.connection import load_franky
from robots.arm.supervised import TookTooLongError, supervised
from robots.errors import RobotError

Order = tuple[Callable[[Any], bool], "Future[bool]"]


class Gripper:
    """Orders are carried out one after the other; each comes back as a future.

    A future holds whether the order was carried out, or a RobotError where the gripper cannot be reached or takes longer than
    ``timeout_s``. After either the next order connects anew.

    Args:
        host: the arm's address.
        timeout_s: for connecting, and for each order.
    """

    def __init__(self, host: str, timeout_s: float = 8.0) -> None:
        self.host, self.timeout_s = host, timeout_s
        self._orders: queue.Queue[Order | None] = queue.Queue()
        self._hand: Any = None
        self._thread = threading.Thread(target=self._work, name="gripper", daemon=True)
        self._thread.start()

    def home(self) -> Future[bool]:
        """Find the width of the fingers that are mounted; once after they were changed."""
        return self._order(lambda hand: bool(hand.homing()))

    def move(self, width_m: float, speed_mps: float = 0.05) -> Future[bool]:
        """Open or close to a width."""
        return self._order(lambda hand: bool(hand.move(width_m, speed_mps)))

    def grasp(self, width_m: float, force_n: float, speed_mps: float = 0.05) -> Future[bool]:
        """Close on an object of about that width and hold it."""
        return self._order(lambda hand: bool(hand.grasp(width_m, speed_mps, force_n)))

    def width(self) -> Future[float]:
        """How far the fingers are apart, m."""
        measured: Future[float] = Future()

        def read(hand: Any) -> bool:
            measured.set_result(float(hand.width))
            return True

        self._order(read).add_done_callback(lambda done: _pass_on(done, measured))
        return measured

    def close(self) -> None:
        """End the thread after the order that is being carried out; can be called twice."""
        self._orders.put(None)
        self._thread.join(self.timeout_s)

    def _order(self, call: Callable[[Any], bool]) -> Future[bool]:
        future: Future[bool] = Future()
        self._orders.put((call, future))
        return future

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            call, future = order
            try:
                future.set_result(self._carry_out(call))
            except Exception as error:
                self._hand = None
                future.set_exception(error)
        self._hand = None

    def _carry_out(self, call: Callable[[Any], bool]) -> bool:
        franky = load_franky()
        try:
            if self._hand is None:
                self._hand = supervised(lambda: franky.Gripper(self.host), self.timeout_s)
            hand = self._hand
            return supervised(lambda: call(hand), self.timeout_s)
        except TookTooLongError:
            raise RobotError(f"the gripper at {self.host} did not finish within {self.timeout_s:g} s") from None
        except (franky.NetworkException, franky.CommandException, RuntimeError) as error:
            raise RobotError(f"the gripper at {self.host}: {error}") from error


def _pass_on(done: Future[bool], measured: Future[float]) -> None:
    if (error := done.exception()) is not None and not measured.done():
        measured.set_exception(error)
