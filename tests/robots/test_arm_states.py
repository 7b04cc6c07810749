"""The arm's states: a table that is looked at whole, and what a controller's report means."""

from __future__ import annotations

import itertools

import pytest

from robots.arm.interface import ArmStatus
from robots.arm.states import ABLE, TRANSITIONS, Happening, Report, after, happened

S, H = ArmStatus, Happening


def test_every_state_has_its_row():
    assert set(TRANSITIONS) == set(ArmStatus)


@pytest.mark.parametrize("status", [status for status in S if status is not S.CLOSED])
def test_from_anywhere_silence_loses_and_closing_closes(status):
    assert after(status, H.SILENT) is S.LOST
    assert after(status, H.CLOSED) is S.CLOSED


def test_only_a_command_starts_motion_and_only_where_commands_are_taken():
    leading = {(s, h) for s, h in itertools.product(S, H) if after(s, h) is S.RUNNING and s is not S.RUNNING}
    assert leading == {(S.IDLE, H.COMMANDED), (S.HOLD, H.COMMANDED)}
    assert set(ABLE) == {S.IDLE, S.RUNNING, S.HOLD}


@pytest.mark.parametrize("stopped", [S.REACTION_STOP, S.REFLEX, S.USER_STOP])
def test_a_stopped_arm_takes_no_command_and_comes_to_rest_before_anything_else(stopped):
    for happening in H:
        reached = after(stopped, happening)
        assert reached not in (S.RUNNING, S.HOLD)
        if reached is S.IDLE:
            assert happening is H.CLEARED


def test_a_persons_stop_outranks_every_other_and_a_lost_arm_may_come_back_in_any_state():
    for status in (S.IDLE, S.RUNNING, S.HOLD, S.REACTION_STOP, S.REFLEX, S.LOST):
        assert after(status, H.PRESSED) is S.USER_STOP
    assert after(S.LOST, H.CONNECTED) is S.IDLE
    assert after(S.LOST, H.REFLEXED) is S.REFLEX


def report(mode: str, *errors: str, finished: bool = True) -> Report:
    return Report(mode, errors, finished)


@pytest.mark.parametrize(
    ("status", "said", "stopping", "meant"),
    [
        (S.RUNNING, report("Move", finished=False), False, None),
        (S.RUNNING, report("Idle"), False, H.REACTED),
        (S.RUNNING, report("Idle"), True, H.STOPPED),
        (S.HOLD, report("Idle"), False, H.REACTED),
        (S.RUNNING, report("Reflex", "cartesian_reflex"), False, H.REFLEXED),
        (S.IDLE, report("Idle", "joint_reflex"), False, H.REFLEXED),
        (S.RUNNING, report("UserStopped"), False, H.PRESSED),
        (S.REFLEX, report("UserStopped", "cartesian_reflex"), False, H.PRESSED),
        (S.IDLE, report("Guiding"), False, H.PRESSED),
        (S.USER_STOP, report("UserStopped"), False, H.PRESSED),
        (S.USER_STOP, report("Idle"), False, H.CLEARED),
        (S.USER_STOP, report("Reflex", "cartesian_reflex"), False, H.REFLEXED),
        (S.REFLEX, report("Idle"), False, None),  # only a recovery ends it, not a controller that has forgotten
        (S.REACTION_STOP, report("Idle"), False, None),
        (S.IDLE, report("Idle"), False, None),
    ],
)
def test_what_a_report_means(status, said, stopping, meant):
    assert happened(status, said, stopping) is meant
