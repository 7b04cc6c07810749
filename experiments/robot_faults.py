"""What goes wrong at an arm, over and over, and how soon it is safe: the fault table.

    python -m experiments.robot_faults [--repeats 20] [--only NAME ...] [--also MODULE ...] [--output results/robot_faults.md]

Every trial is a line of a CSV file beside the page; a second call does what is missing of ``--repeats``.

The real driver plays against the wire twin on loopback. The *time to safe* is that from the fault until the finger is at rest
for good by the simulator's own clock and readings, not by the driver's; where the simulator itself is frozen or killed, until the
driver refuses commands. *Back* is the time until a command is taken again, after whoever caused the fault has mended it.
Other modules add faults with ``fault``; they are imported with ``--also``.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from experiments.robot_relay import Relay
from experiments.tables import markdown, read_table, write_table
from failurebench.franka.push_wall import FrankaFragilePushWall
from farl.files import write_text
from robots.actions import GatedAction
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.limits import PERIOD_S, Limits
from robots.twin.process import TwinProcess

TASK = FrankaFragilePushWall()

AT_REST_MPS = 0.01

RESTED_S = 0.3
"""a finger that has not moved for this long has come to rest"""

PATIENCE_S = 30.0
"""until a fault that has not been dealt with counts as a failure of the driver"""

SWAY = 0.5
"""the policy goes up and down the table's near edge with this share of its full command"""


class Trial(NamedTuple):
    """What came of one fault."""

    outcome: str
    safe_s: float
    """NaN where the arm did not become safe"""
    back_s: float
    """NaN where it did not come back, or was not asked to"""


@dataclass
class Rig:
    """A twin, an arm that follows a policy on it, and what to break."""

    twin: TwinProcess
    arm: FrankyArm
    relay: Relay | None = None
    age_s: float = 0.0
    """of the estimate that the arm is told of"""

    def run(self, seconds: float, change: Callable[[GatedAction], GatedAction] = lambda action: action) -> list[str]:
        """Play at 10 Hz; the faults that commands came back with."""
        faults, due, ends = [], time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < ends:
            faults.append(self.arm.command(change(self.action())).fault)
            due += PERIOD_S
            time.sleep(max(due - time.monotonic(), 0.0))
        return faults

    def action(self) -> GatedAction:
        """The policy's, decided just now."""
        y = SWAY * math.copysign(1.0, math.sin(math.pi * time.monotonic()))
        now = time.monotonic()
        return GatedAction((0.0, y), (0.0, y), (0.0, 0.0), 0.0, 0.3, "task", now, now)

    def speed(self) -> float:
        """The finger's, in the simulation."""
        return math.hypot(*self.twin.scene()[0].tcp_velocity)

    def at_rest(self, since: float) -> float:
        """Seconds from ``since`` until the finger came to rest and stayed so; NaN where it does not."""
        still = None
        while (now := time.monotonic()) - since < PATIENCE_S:
            if self.speed() > AT_REST_MPS:
                still = None
            elif still is None:
                still = now
            elif now - still > RESTED_S:
                return still - since
            time.sleep(0.002)
        return math.nan

    def refused(self, since: float) -> float:
        """Seconds from ``since`` until commands are refused; NaN where they go on being taken."""
        while time.monotonic() - since < PATIENCE_S:
            if self.arm.command(self.action()).fault:
                return time.monotonic() - since
            time.sleep(PERIOD_S)
        return math.nan

    def status(self, wanted: ArmStatus, seconds: float = PATIENCE_S) -> bool:
        """Whether the arm gets into that state in time."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if self.arm.state().status is wanted:
                return True
            time.sleep(0.005)
        return False

    def back(self, recover: bool = True) -> float:
        """Seconds until a command is taken again, recovering where that is the driver's to do; NaN where none is."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_S:
            if recover and self.arm.state().status in (ArmStatus.REACTION_STOP, ArmStatus.REFLEX):
                self.arm.recover()
            if not self.arm.command(self.action()).fault:
                return time.monotonic() - begun
            time.sleep(0.05)
        return math.nan


Fault = Callable[[Rig], Trial]
FAULTS: dict[str, Fault] = {}
"""name -> one trial"""


def fault(name: str) -> Callable[[Fault], Fault]:
    """Add a row to the table: a function that breaks something on a playing rig and tells what came of it."""

    def register(trial: Fault) -> Fault:
        FAULTS[name] = trial
        return trial

    return register


@fault("collision reflex: 70 N against the finger")
def collision(rig: Rig) -> Trial:
    since = time.monotonic()
    rig.twin.push("finger", (0.0, -70.0, 0.0), 0.2)
    reflex = rig.status(ArmStatus.REFLEX, 2.0)
    safe = rig.at_rest(since)
    return Trial(told(reflex, "reflex, recovered backing off"), safe, rig.back())


@fault("force reaction: into the wall at full speed")
def reaction(rig: Rig) -> Trial:
    for way in (((0.36, -0.12), 0.13), ((0.47, -0.12), 0.13), ((0.47, -0.12), 0.02)):
        rig.arm.move_to(way[0], 0.25, way[1])
    since, worst, due = time.monotonic(), 0.0, time.monotonic()
    stopped = (ArmStatus.REACTION_STOP, ArmStatus.REFLEX)
    while rig.arm.state().status not in stopped and time.monotonic() - since < 5.0:
        now = time.monotonic()
        rig.arm.command(GatedAction((1.0, 0.0), (1.0, 0.0), (0.0, 0.0), 0.0, 0.3, "task", now, now))
        due += PERIOD_S
        while time.monotonic() < due:
            felt = rig.twin.status()["finger_n"]
            if worst < 1.0 <= felt:
                since = time.monotonic()  # the fault is the contact, not the way to it
            worst = max(worst, felt)
    status = rig.arm.state().status
    outcomes = {
        ArmStatus.REACTION_STOP: "the reaction stopped it, recovered",
        ArmStatus.REFLEX: "the reflex was faster than a 1 kHz thread without a core, recovered",
    }
    safe = rig.at_rest(since)
    return Trial(outcomes.get(status, f"FAILED: {status.value}"), safe, rig.back())


@fault("user stop pressed for 1 s")
def user_stop(rig: Rig) -> Trial:
    since = time.monotonic()
    rig.twin.user_stop(True)
    stopped = rig.status(ArmStatus.USER_STOP)
    safe = rig.at_rest(since)
    waited = not rig.arm.recover() and set(rig.run(1.0)) == {"user_stop"}
    rig.twin.user_stop(False)
    return Trial(told(stopped and waited, "waited for the release, no recovery"), safe, rig.back(recover=False))


@fault("network lost for 2 s")
def network(rig: Rig) -> Trial:
    assert rig.relay is not None
    since = time.monotonic()
    rig.relay.cut()
    safe = rig.at_rest(since)
    lost = rig.status(ArmStatus.LOST)
    time.sleep(max(since + 2.0 - time.monotonic(), 0.0))
    rig.relay.mend()
    return Trial(told(lost, "lost, connected anew"), safe, rig.back())


@fault("controller frozen for 2 s")
def frozen(rig: Rig) -> Trial:
    since = time.monotonic()
    rig.twin.freeze()
    safe = rig.refused(since)
    lost = rig.status(ArmStatus.LOST, since + 1.5 - time.monotonic())
    time.sleep(max(since + 2.0 - time.monotonic(), 0.0))
    rig.twin.thaw()
    return Trial(told(lost, "lost within 1.5 s, connected anew"), safe, rig.back())


@fault("controller killed, started again")
def killed(rig: Rig) -> Trial:
    since, host = time.monotonic(), rig.twin.host
    rig.twin.kill()
    safe = rig.refused(since)
    lost = rig.status(ArmStatus.LOST, since + 1.5 - time.monotonic())
    rig.twin.close()
    rig.twin = TwinProcess(TASK, seed=3, host=host)
    return Trial(told(lost, "lost within 1.5 s, connected anew"), safe, rig.back())


@fault("driver killed (kill -9) in motion")
def driver_killed(rig: Rig) -> Trial:
    rig.arm.close()
    player = subprocess.Popen([sys.executable, "-m", "experiments.robot_faults", "--play", rig.twin.host])
    while rig.speed() < 0.02:
        time.sleep(0.01)
    since = time.monotonic()
    player.kill()
    safe = rig.at_rest(since)
    player.wait()
    rig.arm.connect()
    return Trial("the controller stopped by itself", safe, rig.back())


@fault("policy says NaN")
def nan_policy(rig: Rig) -> Trial:
    def broken(action: GatedAction) -> GatedAction:
        return GatedAction(
            (math.nan, 0.0), (math.nan, 0.0), (0.0, 0.0), 0.0, 0.3, "task", action.observed_at, action.decided_at
        )

    return refusing(rig, broken, "not_finite")


@fault("gate says NaN")
def nan_gate(rig: Rig) -> Trial:
    def unknown(action: GatedAction) -> GatedAction:
        return GatedAction(
            action.executed, action.proposed, (0.0, 0.0), math.nan, 0.3, "task", action.observed_at, action.decided_at
        )

    return refusing(rig, unknown, "not_permitted")


@fault("gate decides 0.2 s late")
def late_gate(rig: Rig) -> Trial:
    def late(action: GatedAction) -> GatedAction:
        return GatedAction(
            action.executed,
            action.proposed,
            (0.0, 0.0),
            0.0,
            0.3,
            "task",
            action.observed_at - 0.2,
            action.decided_at - 0.2,
        )

    return refusing(rig, late, "late_decision")


@fault("policy stalls")
def stalled(rig: Rig) -> Trial:
    since = time.monotonic()
    safe = rig.at_rest(since)
    held = rig.status(ArmStatus.IDLE, 3.0) and "stalled" in {change.reason for change in rig.arm.changes}
    return Trial(told(held, "held, then its motion ended"), safe, rig.back())


@fault("estimate of the object goes stale")
def stale(rig: Rig) -> Trial:
    rig.age_s, since = 9.0, time.monotonic()
    held = rig.status(ArmStatus.HOLD, 1.0)
    safe = rig.at_rest(since)
    refused = set(rig.run(0.5)) == {"stale_object"}
    rig.age_s = 0.0
    return Trial(told(held and refused, "held"), safe, rig.back())


@fault("a second program connects")
def second(rig: Rig) -> Trial:
    other = FrankyArm(ArmConfig(rig.twin.host, connect_timeout_s=0.5), TASK, Limits())
    since = time.monotonic()
    try:
        other.connect()
        outcome = "FAILED: it got the robot"
    except RobotError:
        outcome = "refused with a message, the first one plays on"
    answered = time.monotonic() - since
    return Trial(outcome, answered, rig.back(recover=False))


def refusing(rig: Rig, change: Callable[[GatedAction], GatedAction], reason: str) -> Trial:
    """Half a second of commands that must not be followed."""
    since = time.monotonic()
    first = rig.arm.command(change(rig.action())).fault
    safe = rig.at_rest(since)
    faults = {first, *rig.run(0.5, change)}
    return Trial(told(faults <= {reason, "stopping"}, "held"), safe, rig.back())


def told(well: bool, outcome: str) -> str:
    """What happened, or that it did not."""
    return outcome if well else f"FAILED: not {outcome}"


@contextmanager
def playing(cabled: bool) -> Iterator[Rig]:
    """A rig whose arm moves, fresh for every trial; ``cabled`` lets the network be cut."""
    with ExitStack() as stack:
        # An address of its own: the next free one would be taken by whoever starts a twin while this one's is killed.
        twin = stack.enter_context(TwinProcess(TASK, seed=3, host=f"127.{50 + os.getpid() % 200}.9.2"))
        relay = stack.enter_context(Relay(f"127.{50 + os.getpid() % 200}.9.1", twin.host)) if cabled else None
        host = twin.host if relay is None else relay.host
        arm = FrankyArm(ArmConfig(host), TASK, Limits(), {"object": lambda: rig.age_s})
        rig = Rig(twin, arm, relay)
        stack.callback(lambda: rig.twin.close())
        stack.callback(arm.close)
        arm.connect()
        rig.run(0.4 + 0.4 * (time.monotonic() % 1.0))  # not always at the same point of the way
        yield rig


CABLED = ("network lost for 2 s",)
"""faults for which a relay stands between arm and controller"""


def tried(name: str) -> Trial:
    """One trial; an error of the driver is an outcome too."""
    with playing(cabled=name in CABLED) as rig:
        try:
            return FAULTS[name](rig)
        except Exception as error:
            return Trial(f"FAILED: {type(error).__name__}: {error}", math.nan, math.nan)


COLUMNS = ("fault", *Trial._fields, "load")


def row(name: str, trials: list[Trial]) -> list[str]:
    """How often it went well, and how long it took."""
    outcomes = Counter(trial.outcome for trial in trials)
    return [
        name,
        "; ".join(f"{outcome} ({count})" for outcome, count in outcomes.most_common()),
        f"{sum(math.isfinite(trial.safe_s) for trial in trials)} of {len(trials)}",
        spread([trial.safe_s for trial in trials]),
        f"{sum(math.isfinite(trial.back_s) for trial in trials)} of {len(trials)}",
        spread([trial.back_s for trial in trials]),
    ]


def spread(seconds: list[float]) -> str:
    """Median and maximum."""
    known = [value for value in seconds if math.isfinite(value)]
    return f"{median(known):.2f} / {max(known):.2f}" if known else ""


def report(lines: list[dict[str, Any]], of: str, command: str) -> str:
    """The page of all trials on record."""
    head = ["fault", "outcome (times)", "safe", "to safe, s: median / max", "back", "back, s: median / max"]
    trials: dict[str, list[Trial]] = {}
    for line in lines:
        trial = Trial(line["outcome"], float(line["safe_s"]), float(line["back_s"]))
        trials.setdefault(line["fault"], []).append(trial)
    loads = [float(line["load"]) for line in lines]
    packages = ", ".join(f"{name} {version(name)}" for name in ("franky-control", "franky-sim", "mujoco"))
    return "\n".join(
        [
            f"# Faults of {of}",
            "",
            f"`{command}`, {packages}, Python {platform.python_version()}, {os.cpu_count()} cores. Load "
            f"averages while it ran: {min(loads):.0f} to {max(loads):.0f}, which driver and simulated controller shared the cores "
            "with: on a machine with a free core everything that waits for a process is faster.",
            "",
            "Loopback, a simulated controller: what a real one does is not in here. *To safe* is from the fault until the finger "
            "is at rest for good by the simulator's readings; where the simulator is frozen or killed, until commands are refused; "
            "for the second program, until it has its answer. *Back* is from the mending of the fault, or for a stop by force "
            "from rest, until a command is taken again.",
            "",
            "*FAILED* is any outcome but the expected one, such as the reflex of a controller whose client got no processor for "
            "0.1 s; whether the arm was safe then is in the next column. What did not come back in 30 s counts as not back.",
            "",
            markdown(head, [row(name, done) for name, done in trials.items()]),
            "",
        ]
    )


def play(host: str) -> None:
    """Follow the policy until killed: the driver that ``driver_killed`` kills."""
    arm = FrankyArm(ArmConfig(host), TASK, Limits())
    arm.connect()
    Rig(None, arm).run(60.0)  # type: ignore[arg-type]


def main(of: str = "arm, network and policy", command: str = "python -m experiments.robot_faults") -> None:
    """Try, record, and write the page of what the faults are ``of``, which ``command`` makes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="faults whose names begin like this")
    parser.add_argument("--also", nargs="*", default=[], help="modules that add faults")
    parser.add_argument("--output", type=Path, default=Path("results/robot_faults.md"))
    parser.add_argument("--play", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        play(options.play)
        return
    for module in options.also:
        importlib.import_module(module)
    names = [name for name in FAULTS if not options.only or name.startswith(tuple(options.only))]
    record = options.output.with_suffix(".csv")
    for name in names:
        while (done := sum(line["fault"] == name for line in read_table(record))) < options.repeats:
            trial = tried(name)
            line = {"fault": name, **trial._asdict(), "load": os.getloadavg()[0]}
            write_table(record, COLUMNS, [*read_table(record), line])
            print(f"{name} {done + 1}: {trial}", flush=True)
        write_text(options.output, report(read_table(record), of, command))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
