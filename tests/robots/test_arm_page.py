"""The arm's page lists every limit and setting with the code's own default, and every state."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from robots.arm.config import ArmConfig, RecoveryConfig
from robots.arm.interface import ArmStatus
from robots.limits import Limits

PAGE = Path(__file__).parents[2] / "docs/robots/arm.md"


def table() -> dict[str, str]:
    """First column -> second, for every row of every table; rows that name several fields are taken apart."""
    told: dict[str, str] = {}
    for line in PAGE.read_text().splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([a-z_]+)`", cells[0])
        values = re.findall(r"`([^`]*)`", cells[1]) if len(cells) > 1 else []
        told.update(zip(names, values, strict=False) if values else ((name, "") for name in names))
    return told


@pytest.mark.parametrize("config", [Limits, ArmConfig, RecoveryConfig])
def test_every_setting_is_listed_with_its_default(config):
    told = table()
    for field in dataclasses.fields(config):
        assert field.name in told or field.name == "recovery", field.name
        if field.default is not dataclasses.MISSING:
            assert told[field.name] == str(field.default), field.name


def test_every_state_is_listed():
    assert {status.value for status in ArmStatus} <= set(table())
