"""What follows ``farl robot``: one function a verb, each loading its own."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable
from pathlib import Path

from farl.errors import UserError
from robots.errors import RobotError

Verb = Callable[[list[str]], int]


def run(argv: list[str]) -> int:
    """Run one; raises UserError for whatever a person did or can mend."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10} {about}" for name, (about, _) in VERBS.items())
        print(f"usage: farl robot VERB [...]\n\nA Franka arm, or its twin on the wire.\n\nverbs:\n{lines}")
        return 0
    name, *rest = argv
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"perhaps you meant `farl robot {near[0]}`" if near else f"the verbs are {', '.join(VERBS)}"
        raise UserError(f"unknown verb '{name}' of farl robot; {hint}")
    try:
        return VERBS[name][1](rest)
    except RobotError as error:
        raise UserError(str(error)) from error


def _session(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.robot.config import RobotSessionConfig
    from farl.robot.launching import run_session

    about = "A post-training session on one arm, or with --twin on a simulated one (docs/robots/sessions.md)."
    print(run_session(load(RobotSessionConfig, argv, "farl robot session", about)))
    return 0


def _check(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.robot.looking import RobotCheckConfig, run_check

    return run_check(load(RobotCheckConfig, argv, "farl robot check", VERBS["check"][0]))


def _calibrate(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.robot.looking import RobotCalibrateConfig, run_calibrate

    print(run_calibrate(load(RobotCalibrateConfig, argv, "farl robot calibrate", VERBS["calibrate"][0])))
    return 0


def _markers(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.robot.looking import RobotMarkersConfig, run_markers

    for page in run_markers(load(RobotMarkersConfig, argv, "farl robot markers", VERBS["markers"][0])):
        print(page)
    return 0


def _watch(argv: list[str]) -> int:
    from farl.configuration import load
    from robots.watch.server import WatchConfig, main

    folder, flags = _folder("watch", argv)
    about = f"{VERBS['watch'][0]}\n\nShort form: farl robot watch RUN [--flag value ...]"
    main(folder, load(WatchConfig, flags, "farl robot watch", about))
    return 0


def _replay(argv: list[str]) -> int:
    from farl.configuration import load
    from robots.replay.player import ReplayConfig, main

    folder, flags = _folder("replay", argv)
    about = f"{VERBS['replay'][0]}\n\nShort form: farl robot replay RUN [--flag value ...]"
    video = main(folder, load(ReplayConfig, flags, "farl robot replay", about))
    if video is not None:
        print(video)
    return 0


def _twin(argv: list[str]) -> int:
    from farl.configuration import load
    from robots.twin.serve import ServeConfig, main

    if argv[:1] not in (["serve"], ["-h"], ["--help"]):
        raise UserError("usage: farl robot twin serve [--task NAME] [--seed N] [--host 127.x.y.z]")
    main(load(ServeConfig, argv[argv[0] == "serve" :], "farl robot twin serve"))
    return 0


def _folder(verb: str, argv: list[str]) -> tuple[Path, list[str]]:
    """The session's folder and the flags after it."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if argv[:1] in (["-h"], ["--help"]):
        return Path(), argv
    if len(words) != 1:
        wrong = "one folder at a time" if words else "something is missing"
        raise UserError(f"{wrong}; usage: farl robot {verb} RUN [--flag value ...]")
    return Path(words[0]), argv[1:]


VERBS: dict[str, tuple[str, Verb]] = {
    "markers": ("Pages with the table's markers at their true size, to be printed.", _markers),
    "calibrate": ("Find out where the camera stands over the robot's table, step by step.", _calibrate),
    "check": ("Rates, latencies, limits, what is seen, and a picture: before anything moves.", _check),
    "session": ("Fifty episodes on the arm: gate and recovery on, a learner beside them, nothing lost.", _session),
    "watch": ("The operator's page of a session, or the same facts in the terminal.", _watch),
    "replay": ("Step through a recorded session, or write an episode as a video.", _replay),
    "twin": ("`twin serve`: a simulated robot that the real drivers connect to.", _twin),
}

