"""The learner's process: ``python -m farl.online.distributed.learner_process CONFIG.yaml [--flag value ...]``.

The actor's process starts it with its own configuration. On another machine it is started by hand, with the same configuration and
bundle, ``--link.host`` and ``--link.port`` to listen at, and ``--link.key`` with a copy of the run's key.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime


def main(argv: list[str]) -> int:
    """Listen, and learn until the actor says stop or nobody has come for long enough."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C reaches both processes: the actor stops first, and says so here
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from farl.errors import UserError

    try:
        _serve(argv)
    except UserError as error:
        _say(str(error))
        return 2
    return 0


def step_back() -> None:
    """From now on this process runs only where nothing else wants the core.

    Being nice is not enough: of a 10 Hz loop's commands on two busy cores one in forty then is more than 5 ms late.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed here
        os.nice(19)


def _serve(argv: list[str]) -> None:
    import torch

    from farl import configuration
    from farl.files import write_text
    from farl.offline.bundle import OfflineBundle
    from farl.online.config import OnlineConfig, learner_of
    from farl.online.distributed import link, protocol
    from farl.online.distributed.routes import ADDRESS, KEY
    from farl.online.distributed.serving import LearnerServer

    config = configuration.load(OnlineConfig, argv, "python -m farl.online.distributed.learner_process", __doc__ or "")
    if config.link.spare:
        step_back()
    torch.manual_seed(config.seed)
    bundle = OfflineBundle.load(config.bundle, config.task)
    identity = protocol.identity(config, bundle)
    learner = learner_of(config, bundle)
    config.out.mkdir(parents=True, exist_ok=True)
    key = link.key_of(config.link.key or config.out / KEY)
    listener = link.listen(config.link.host, config.link.port)
    host, port, *_ = listener.getsockname()
    address = {"host": host, "port": port, "pid": os.getpid(), "identity": protocol.digest(identity)}
    write_text(config.out / ADDRESS, json.dumps(address) + "\n")
    _say(f"listening at {host}:{port}")
    server = LearnerServer(
        learner,
        listener,
        key,
        identity,
        patience_s=config.link.patience_s,
        silence_s=config.link.silence_s,
        say=_say,
    )
    server.serve()


def _say(text: str) -> None:
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
