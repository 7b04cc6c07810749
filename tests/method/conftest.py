"""Shared by the tests of the method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filelock import FileLock

from farl.offline.bundle import OfflineBundle
from farl.offline.demos import collect
from farl.offline.pipeline import train
from method import cliff

torch.set_num_threads(1)  # tiny networks: threads that crowd each other cost more than they compute


@pytest.fixture
def generator() -> torch.Generator:
    """A generator of the test's own."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Demonstrations (``demos``) and a trained bundle (``bundle``) of the point mass; tests must not write here."""
    root = tmp_path_factory.getbasetemp()
    root = (root if worker_id == "master" else root.parent) / "point-mass"
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):  # parallel workers share one
        if not (root / "bundle" / "manifest.json").exists():
            collect(cliff.demos(root / "demos"))
            train(cliff.offline(root / "demos", root / "bundle"))
    return root


@pytest.fixture(scope="session")
def demos(made: Path) -> Path:
    """Folder of the four demonstration sets."""
    return made / "demos"


@pytest.fixture(scope="session")
def bundle_folder(made: Path) -> Path:
    """Folder of the trained bundle."""
    return made / "bundle"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations enough for every stage to run."""
    return collect(cliff.few(tmp_path_factory.mktemp("few") / "demos"))


@pytest.fixture
def bundle(bundle_folder: Path) -> OfflineBundle:
    """The trained bundle, freshly read."""
    return OfflineBundle.load(bundle_folder, cliff.TASK)
