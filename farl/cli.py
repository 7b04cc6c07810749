"""The ``farl`` program: one verb per job. The composition root: only here does farl know which tasks exist.

``farl --help`` answers at once because nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from farl import __version__
from farl.errors import UserError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory", re.IGNORECASE)
"""what torch says, which has no exception of its own for the processor's memory"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; what the user can mend is one line on stderr, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.path.append(str(Path.cwd()))   # a task of the user's own, `my_tasks:Mine-v0`, is looked for last and where they are
    os.environ.setdefault("OMP_NUM_THREADS", "1")   # tiny networks get many times slower when threads crowd each other
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()   # here, where a reader that has gone away is no error
        return status
    except UserError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        return _say("stopped; running the same command again continues where it was", 130)
    except BrokenPipeError:   # `farl list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        return _say("the memory is full; free some, or give fewer --num-envs, and run the same command again, it continues", 2)
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        return _say(f"the disk is full{place}; free space and run the same command again, it continues", 2)


def _say(message: str, status: int) -> int:
    print(f"farl: {message}", file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"farl {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in _VERBS:
        near = difflib.get_close_matches(verb, _VERBS, n=1, cutoff=0.6)
        hint = f"perhaps you meant `farl {near[0]}`" if near else f"the verbs are {', '.join(_VERBS)}"
        raise UserError(f"unknown verb '{verb}'; {hint}")
    if verb not in ("doctor", "report", "watch"):
        _check_rendering_choice()
    _, run = _VERBS[verb]
    return run(rest)


def _check_rendering_choice() -> None:
    """MuJoCo cannot even be imported when ``MUJOCO_GL`` names a backend that does not work: say so in one line."""
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen:
        return
    try:
        importlib.import_module("mujoco")
    except Exception as error:   # each backend fails in its own way, some with AttributeError
        cure = "unset it, or install what `farl doctor` names"
        raise UserError(f"rendering with MUJOCO_GL={chosen} does not work here ({error}); {cure}") from error


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<9} {summary}" for verb, (summary, _) in _VERBS.items())
    return (
        "usage: farl VERB [CONFIG.yaml] [--flag value ...]\n\n"
        "Failure-aware offline-to-online reinforcement learning.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`farl VERB --help` lists a verb's flags; configs/ holds ready configurations, and flags win over them.\n"
        "First steps: farl doctor; farl compare configs/quickstart.yaml"
    )


def _doctor(argv: list[str]) -> int:
    if argv:
        return _brief_usage("farl doctor", "doctor", argv)
    from farl import doctor

    return doctor.show(doctor.check_machine())


def _check(argv: list[str]) -> int:
    from farl import doctor
    from farl.configuration import load
    from farl.contract import CheckConfig, check_environment

    about = f"{_VERBS['check'][0]}\n\nShort form: farl check ENV_ID [--options KEY=VALUE ...]"
    config = load(CheckConfig, _with_env(argv), "farl check", about)
    if not config.env:
        raise UserError("something is missing; usage: farl check ENV_ID [--options KEY=VALUE ...]")
    return doctor.show(check_environment(_full_id(config.env), config.options))


def _list(argv: list[str]) -> int:
    if argv:
        return _brief_usage("farl list", "list", argv)
    from farl.listing import show

    show(_tasks())
    return 0


def _play(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.play import PlayConfig, play

    about = f"{_VERBS['play'][0]}\n\nShort form: farl play ENV_ID [--flag value ...]"
    video = play(load(PlayConfig, _with_env(argv), "farl play", about))
    if video is not None:
        print(video)
    return 0


def _demos(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.offline.demos import DemosConfig, collect

    print(collect(load(DemosConfig, argv, "farl demos", _VERBS["demos"][0])))
    return 0


def _datasets(argv: list[str]) -> int:
    from farl import datasets

    verb = argv[0] if argv else ""
    if verb == "import":
        return _import_dataset(argv[1:])
    usage = "farl datasets [FOLDER ...] | import minari:NAME OUT.hdf5 | export FILE.hdf5 minari:NAME"
    if any(word.startswith("-") for word in argv):
        return _brief_usage(usage, "datasets", argv)
    if verb == "export":
        if len(argv) != 3:
            return _brief_usage(usage, "datasets", argv)
        print(datasets.export_dataset(Path(argv[1]), argv[2]))
        return 0
    return datasets.show([Path(word) for word in argv])


def _import_dataset(argv: list[str]) -> int:
    from farl import datasets
    from farl.configuration import load

    given = [word for word in argv[:2] if not word.startswith("-")]
    flags = [part for flag, word in zip(("--source", "--out"), given, strict=False) for part in (flag, word)]
    about = "A Minari dataset as one of ours.\n\nShort form: farl datasets import minari:NAME OUT.hdf5 [--flag value ...]"
    config = load(datasets.ImportConfig, [*flags, *argv[len(given) :]], "farl datasets import", about)
    print(datasets.import_dataset(config, _full_id))
    return 0


def _offline(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.offline.pipeline import OfflineConfig, train

    print(train(load(OfflineConfig, argv, "farl offline", _VERBS["offline"][0])))
    return 0


def _online(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.online.config import OnlineConfig
    from farl.online.run import run

    print(run(load(OnlineConfig, argv, "farl online", _VERBS["online"][0])))
    return 0


def _predict(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.predict import PredictConfig, predict, table

    about = f"{_VERBS['predict'][0]}\n\nShort form: farl predict BUNDLE [RUN ...] [--flag value ...]"
    config = load(PredictConfig, _with_bundle(argv), "farl predict", about)
    if config.bundle == Path():
        raise UserError("something is missing; usage: farl predict BUNDLE [RUN ...]")
    print(table(predict(config)))
    return 0


def _compare(argv: list[str]) -> int:
    from farl.compare.study import StudyConfig, compare
    from farl.configuration import load

    print(compare(load(StudyConfig, argv, "farl compare", _VERBS["compare"][0])))
    return 0


def _report(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        return _brief_usage("farl report STUDY_DIR", "report", argv)
    study = Path(argv[0])
    if not study.is_dir():
        raise UserError(f"there is no study folder '{study}'; `farl compare configs/quickstart.yaml` makes one")
    from farl.compare.report import write_report

    print(write_report(study))
    return 0


def _diagnose(argv: list[str]) -> int:
    file, argv = (argv[:1], argv[1:]) if argv and argv[0].endswith(".yaml") else ([], argv)
    count = next((place for place, word in enumerate(argv) if word.startswith("-")), len(argv))
    from farl.configuration import load
    from farl.diagnosis.diagnose import DiagnoseConfig, describe, diagnose, runs_in

    about = f"{_VERBS['diagnose'][0]}\n\nShort form: farl diagnose RUN_OR_STUDY [...] [--flag value ...]"
    config = load(DiagnoseConfig, [*file, *argv[count:]], "farl diagnose", about)
    if count == 0:
        raise UserError("something is missing; usage: farl diagnose RUN_OR_STUDY [...]")
    for run in runs_in([Path(word) for word in argv[:count]]):
        print(describe(run, diagnose(run, config)))
    return 0


def _watch(argv: list[str]) -> int:
    from farl.configuration import load
    from farl.watch.server import WatchConfig, watch

    folders = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    about = f"{_VERBS['watch'][0]}\n\nShort form: farl watch RUN_OR_STUDY [...] [--flag value ...]"
    config = load(WatchConfig, argv[len(folders) :], "farl watch", about)
    if not folders:
        raise UserError("something is missing; usage: farl watch RUN_OR_STUDY [...]")
    watch([Path(word) for word in folders], config)
    return 0


def _robot(argv: list[str]) -> int:
    from farl.robot import verbs

    return verbs.run(argv)


def _brief_usage(usage: str, verb: str, argv: list[str]) -> int:
    """The help of a verb without flags; anything else is a mistake."""
    if argv not in (["-h"], ["--help"]):
        given = f"'{' '.join(argv)}' was not expected" if argv else "something is missing"
        raise UserError(f"{given}; usage: {usage}")
    print(f"usage: {usage}\n\n{_VERBS[verb][0]}")
    return 0


def _tasks() -> dict[str, str]:
    """The shipped tasks by id, with their first docstring line."""
    import failurebench

    tasks = {}
    for name, entry in {**failurebench.TASKS, **failurebench.FRANKA}.items():
        module, _, task = entry.task.partition(":")
        about = getattr(importlib.import_module(module), task).__doc__ or ""
        tasks[f"failurebench:{name}"] = about.strip().partition("\n")[0]
    return tasks


def _with_env(argv: list[str]) -> list[str]:
    """A first argument that is neither a flag nor a file is the environment."""
    if argv and not argv[0].startswith("-") and not argv[0].endswith(".yaml"):
        return ["--env", _full_id(argv[0]), *argv[1:]]
    return argv


def _with_bundle(argv: list[str]) -> list[str]:
    """First arguments that are neither flags nor a file are a bundle and runs that began from it."""
    folders = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if not folders or folders[0].endswith(".yaml"):
        return argv
    runs = ["--runs", *folders[1:]] if folders[1:] else []
    return ["--bundle", folders[0], *runs, *argv[len(folders) :]]


def _full_id(env: str) -> str:
    """``FailureBench/BoundedPush-v0`` may be written without the module that registers it."""
    return f"failurebench:{env}" if env.startswith("FailureBench/") else env


_VERBS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "doctor": ("Check this machine and say how to mend what is wrong.", _doctor),
    "check": ("Check an environment, yours or ours, against the contract: each breach with its cure.", _check),
    "list": ("List the tasks, the methods and the ready configurations.", _list),
    "play": ("Run episodes of a task with a scripted, random or trained agent; can write a video.", _play),
    "demos": ("Collect demonstrations with the task's scripted experts.", _demos),
    "datasets": ("List the demonstrations there are, and what is wrong with a file; Minari in and out.", _datasets),
    "offline": ("Learn task policy, recovery policy, world model and gate from demonstrations: one bundle.", _offline),
    "online": ("Fine-tune the task policy, with the gate deciding who acts: one run.", _online),
    "predict": ("Return and failure rate of a bundle's and its runs' policies, imagined in the world model.", _predict),
    "compare": ("Tasks x methods x seeds, then one HTML report: the main job.", _compare),
    "watch": ("Follow runs in a browser: curves, failures, the gate, clips; several side by side.", _watch),
    "diagnose": ("Say which part let each failure of a run happen, trying other actions in the simulator.", _diagnose),
    "report": ("Write the report of a study again.", _report),
    "robot": ("A real arm or its twin: sessions, and what they need.", _robot),
}
