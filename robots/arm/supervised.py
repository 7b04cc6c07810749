"""A call into a library that may never return, with a time-out of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TookTooLongError(Exception):
    """The call goes on in its thread; nobody waits for it any more."""


def supervised(call: Callable[[], T], seconds: float, abandon: Callable[[T], None] | None = None) -> T:
    """What ``call`` returns or raises, if it does so within ``seconds``; TookTooLongError otherwise.

    Args:
        abandon: gets the result of a call that came back after it was given up, such as a connection to let go of.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    lock, given_up = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            result = call()
        except BaseException as error:  # handed on to the caller
            failed.append(error)
            return
        with lock:
            done.append(result)
            late = given_up.is_set()
        if late and abandon is not None:
            abandon(done.pop())

    thread = threading.Thread(target=work, name="supervised call", daemon=True)
    thread.start()
    thread.join(seconds)
    with lock:
        if not done and not failed:
            given_up.set()
    if failed:
        raise failed[0]
    if not done:
        raise TookTooLongError
    return done[0]
