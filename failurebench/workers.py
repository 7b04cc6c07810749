"""Chunks of environments in worker processes: one message to a worker and one back for each step, arrays in shared memory.

Workers are spawned, never forked: a program that trains or renders has threads (OpenMP, CUDA, OpenGL), and a fork copies the
locks they hold without the threads that would release them. A spawned worker also inherits no other worker's pipe, so it sees
its own close when the parent is killed, and ends. The shared memory is ``multiprocessing``'s anonymous kind, unlinked as soon
as it is mapped: it goes with the last process that uses it, however that process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from failurebench.chunk import Bools, Chunk, row_type
from failurebench.judged import Judged, Protocol, State

_GRACE_S = 5.0
"""how long a worker may take to end by itself"""


class _Raised(NamedTuple):
    """A worker's answer where there is none."""

    error: Exception
    trace: str


class _Worker(NamedTuple):
    """One process, and the environments it runs."""

    name: str
    mine: slice
    process: Any
    connection: Connection

    def send(self, message: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.connection.send(message)
        except OSError as error:
            raise self._dead() from error

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._dead() from error

    def _dead(self) -> RuntimeError:
        self.process.join(1.0)
        code = self.process.exitcode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return RuntimeError(
            f"{self.name} died ({how}) and its episodes with it: the environment is closed, make it again "
            "(SIGKILL mostly means that the machine ran out of memory: use fewer workers or environments; exit code 1 at once, "
            "that the script which makes the environments does not guard what it runs by `if __name__ == '__main__':`)"
        )


class Workers:
    """The interface of a ``Chunk``, its environments split over ``num_workers`` processes.

    Raises:
        RuntimeError: a worker died; the message names it and its environments, and everything is closed.
    """

    def __init__(
        self,
        kind: type[Judged],
        task: Any,
        protocol: Protocol,
        mode: AutoresetMode,
        view: Any,
        num_envs: int,
        num_workers: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        memory = context.RawArray(ctypes.c_byte, 2 * num_envs * row_type(kind, task).itemsize)
        self.rows = _rows(memory, kind, task)
        self._workers: list[_Worker] = []
        # Also runs when this object is garbage, and when the interpreter exits.
        self._end = weakref.finalize(self, _end, self._workers, os.getpid())
        with self._in_step():
            for index in range(num_workers):
                mine = slice(index * num_envs // num_workers, (index + 1) * num_envs // num_workers)
                self._workers.append(_start(context, index, mine, (memory, kind, task, protocol, mode, view)))
            self._checked(self._answers())

    def reset(self, mask: Bools, seeds: Sequence[int | None]) -> None:
        """Begin episodes where ``mask`` is set."""
        self._ask("reset", *((mask[worker.mine], seeds[worker.mine]) for worker in self._workers))

    def step(self) -> None:
        """One agent step of every environment by the ``move`` in its row."""
        self._ask("step")

    def get_states(self) -> list[State]:
        """Each environment's whole episode."""
        return [state for states in self._ask("get_states") for state in states]

    def set_states(self, states: list[State]) -> None:
        """Continue saved episodes, bit for bit."""
        self._ask("set_states", *((states[worker.mine],) for worker in self._workers))

    def expert_views(self) -> list[NDArray[np.float32]]:
        """What each environment's demonstrator sees, where that is not the observation."""
        return [view for views in self._ask("expert_views") for view in views]

    def pictures(self) -> list[NDArray[np.uint8]]:
        """One picture per environment."""
        return [picture for pictures in self._ask("pictures") for picture in pictures]

    def close(self) -> None:
        """End the workers; again is no mistake."""
        self._end()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("environments in worker processes cannot be copied: make others and set_states(get_states())")

    def _ask(self, name: str, *arguments: tuple[Any, ...]) -> list[Any]:
        """Let every worker's chunk do ``name``, all at the same time."""
        if not self._end.alive:
            raise RuntimeError("the environment is closed: make it again")
        with self._in_step():
            for worker, its in zip(self._workers, arguments or [()] * len(self._workers), strict=True):
                worker.send((name, its))
            answers = self._answers()
        return self._checked(answers)

    def _answers(self) -> list[Any]:
        return [worker.receive() for worker in self._workers]

    def _checked(self, answers: list[Any]) -> list[Any]:
        for worker, answer in zip(self._workers, answers, strict=True):
            if isinstance(answer, _Raised):
                answer.error.add_note(f"raised in {worker.name}:\n{answer.trace}")
                raise answer.error
        return answers

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[None]:
        """After a death or Ctrl-C, nobody could say to which question the answers still to come belong."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def _rows(memory: Any, kind: type[Judged], task: Any) -> NDArray[Any]:
    return np.frombuffer(memory, row_type(kind, task)).reshape(2, -1)


def _start(context: Any, index: int, mine: slice, rest: tuple[Any, ...]) -> _Worker:
    ours, theirs = context.Pipe()
    # A daemon: an interpreter that exits must not wait for it.
    process = context.Process(target=_serve, args=(theirs, mine, *rest), daemon=True)
    process.start()
    theirs.close()  # else nobody would notice that the worker's own end has closed
    return _Worker(f"worker {index} (environments {mine.start} to {mine.stop - 1})", mine, process, ours)


def _serve(
    connection: Connection,
    mine: slice,
    memory: Any,
    kind: type[Judged],
    task: Any,
    protocol: Protocol,
    mode: AutoresetMode,
    view: Any,
) -> None:
    """A worker's life: do what is asked until the parent closes its end, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    with contextlib.suppress(EOFError, OSError):
        chunk = _attempt(Chunk, kind, task, protocol, mode, view, _rows(memory, kind, task)[:, mine])
        connection.send(chunk if isinstance(chunk, _Raised) else None)
        while True:
            name, arguments = connection.recv()
            connection.send(_attempt(getattr(chunk, name), *arguments))


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call`` returns, or what it raised."""
    try:
        return call(*arguments)
    except Exception as error:
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception with a constructor of its own may not travel
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return _Raised(error, trace)


def _end(workers: list[_Worker], parent: int) -> None:
    """Let the workers see that it is over, wait a little, and kill those that do not end."""
    if os.getpid() != parent:  # a forked copy of the parent: the workers are not its own
        return
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + _GRACE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        worker.process.close()
