"""Shared by the FailureBench tests."""

from __future__ import annotations

import gymnasium
import pytest

import failurebench  # noqa: F401  (registers the ids)
from failurebench.env import FailureEnv

BOUNDED_PUSH = "FailureBench/BoundedPush-v0"
HARD = "FailureBench/BoundedPush-Hard-v0"


@pytest.fixture
def env():
    """A fresh Bounded Push, unwrapped."""
    env = gymnasium.make(BOUNDED_PUSH).unwrapped
    assert isinstance(env, FailureEnv)
    yield env
    env.close()
