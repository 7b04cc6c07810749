"""Another MuJoCo than the one measured with is announced, once."""

from __future__ import annotations

import subprocess
import sys
import warnings

import mujoco
import pytest

from failurebench.versions import MUJOCO, OtherMujocoWarning, installed_versions, warn_of_other_mujoco

PROGRAM = """
import gymnasium, mujoco, failurebench
mujoco.__version__ = {version!r}
for _ in range(2):
    gymnasium.make("FailureBench/BoundedPush-v0")
    failurebench.make_vec("FailureBench/BoundedPush-v0", 1)
"""


@pytest.mark.parametrize(("version", "times"), [("3.4.1", 1), (MUJOCO, 0)])
def test_making_environments_warns_once_of_another_mujoco(version, times):
    run = subprocess.run([sys.executable, "-c", PROGRAM.format(version=version)], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr.count("OtherMujocoWarning") == times
    assert run.stderr.count(f"MuJoCo {version} is installed") == times


def test_the_warning_names_both_versions_what_may_differ_and_the_cure():
    with pytest.warns(OtherMujocoWarning, match=r"3\.9\.9.*3\.3\.0.*rest pose.*failure rates.*pip install") as caught:
        warn_of_other_mujoco("3.9.9")
    assert len(caught) == 1


def test_the_pinned_version_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_mujoco(MUJOCO)


def test_the_versions_are_those_installed():
    versions = installed_versions()
    assert versions["mujoco"] == mujoco.__version__
    assert set(versions) == {"failurebench", "mujoco", "metaworld", "gymnasium", "numpy"}
