"""Which way leads away from a contact, and how often the arm may try it."""

from __future__ import annotations

import math

import pytest

from robots.arm.config import RecoveryConfig
from robots.arm.contact import Contact, Felt, away
from robots.arm.recovery import Budget

NONE = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_backs_off_from_a_wall_ahead_whatever_sign_the_controller_gives_forces(sign):
    wall_ahead = Contact((sign * 25.0, 0.0, 2.0), (0.03, 0.0, 0.0))
    assert away(wall_ahead) == pytest.approx((-1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("force", "lead", "direction"),
    [
        ((0.0, 9.0, 0.0), NONE, (0.0, -1.0, 0.0)),  # real arms' own: what the hand presses with
        ((0.0, 0.0, 1.0), (0.0, -0.02, 0.0), (0.0, 1.0, 0.0)),  # nothing was felt, but something held it back
        ((3.0, 0.0, -40.0), (0.01, 0.0, 0.0), (0.0, 0.0, 1.0)),  # the table: up, whatever the sign
        ((3.0, 0.0, 40.0), NONE, (0.0, 0.0, 1.0)),
        ((-6.0, -6.0, 1.0), (0.02, 0.02, 0.0), (-math.sqrt(0.5), -math.sqrt(0.5), 0.0)),
    ],
)
def test_the_way_is_across_the_table_or_up(force, lead, direction):
    assert away(Contact(force, lead)) == pytest.approx(direction)


def test_without_a_contact_there_is_nowhere_to_go():
    assert away(None) is None
    assert away(Contact((1.0, 0.0, 0.0), (0.0, 0.0005, 0.0))) is None


def test_what_counts_is_the_moment_of_the_greatest_force():
    felt = Felt()
    assert felt.strongest() is None
    for force in (1.0, 30.0, 0.0):
        felt.keep((force, 0.0, 0.0), (0.5, 0.0, 0.02), (0.5 + force / 1000, 0.0, 0.02))
    strongest = felt.strongest()
    assert strongest is not None
    assert strongest.force == (30.0, 0.0, 0.0)
    assert strongest.lead == pytest.approx((0.03, 0.0, 0.0))
    for _ in range(100):  # long ago
        felt.keep(NONE, NONE, NONE)
    assert felt.strongest() == Contact(NONE, NONE)


def test_stops_are_allowed_so_many_times_an_episode_and_a_session():
    budget = Budget(RecoveryConfig(per_episode=2, per_session=3))
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.new_episode()
    assert [budget.spend() for _ in range(2)] == [True, False]
    budget.new_episode()
    assert not budget.spend()
