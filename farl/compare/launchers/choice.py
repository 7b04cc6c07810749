"""Which launcher a study runs its jobs with, and the settings of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from farl.compare.jobs import Launcher
from farl.compare.launchers.local_pool import LocalPool
from farl.compare.launchers.ray_pool import RayConfig, RayPool
from farl.compare.launchers.slurm import SlurmConfig, SlurmPool

LauncherName = Literal["local", "ray", "slurm"]
PLACES = (
    *("launcher", "address", "jobs"),
    *(f"ray.{field.name}" for field in dataclasses.fields(RayConfig)),
    *(f"slurm.{field.name}" for field in dataclasses.fields(SlurmConfig)),
)
"""settings that say where jobs run and change no number"""


@contextmanager
def opened(
    name: LauncherName, limit: int, address: str, ray: RayConfig, slurm: SlurmConfig, study: Path, modules: Sequence[str]
) -> Iterator[Launcher]:
    """The launcher, ready for jobs; a cluster that was started for it is taken down afterwards."""
    if name == "local":
        yield LocalPool(limit)
    elif name == "slurm":
        yield SlurmPool(slurm, study, limit)
    else:
        from farl.cluster.ray_cluster import RayCluster

        with RayCluster(address, modules, limit) as cluster:
            yield RayPool(cluster, ray, limit)
