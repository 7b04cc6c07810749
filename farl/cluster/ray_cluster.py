"""A Ray cluster as farl uses one: joined, or started on loopback and taken down again; every node with the same code."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from farl.cluster.code_versions import code_versions, difference
from farl.errors import UserError

INSTALL = 'pip install -e ".[ray]"'
LOOPBACK = "127.0.0.2"   # Ray turns 127.0.0.1 into the machine's own address
REACH_S = 5.0
"""how long an address may take to answer"""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster and all that it has, in use or not."""

    id: str
    address: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.address}: {self.cpus:g} CPUs, {self.gpus:g} GPUs"


def load_ray() -> Any:
    """Ray itself; raises UserError with the command that installs it where it is missing."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(f"--launcher ray needs Ray, which is not installed here ({error}); install it: {INSTALL}") from error
    return ray


class RayCluster:
    """A context manager: joins the cluster at ``address``, or starts one on loopback with ``cpus`` where that is empty.

    Nodes that would run other code than this machine are refused, with the difference; ``modules`` are those whose sources
    are compared, beside the installed packages.
    """

    def __init__(self, address: str, modules: Sequence[str], cpus: int = 0) -> None:
        self.address, self.modules, self.cpus = address, tuple(modules), cpus or len(os.sched_getaffinity(0))
        self.versions = code_versions(self.modules)
        self._folder: str | None = None
        if self.own:
            _demand_token()
        self.ray = load_ray()

    @property
    def own(self) -> bool:
        """Whether it runs on this machine alone and ends with this program."""
        return not self.address

    def __enter__(self) -> RayCluster:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            if self.own:
                self._start()
            else:
                self._join()
                self.check_nodes()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._folder = tempfile.mkdtemp(prefix="farl-ray-")
        try:
            self.ray.init(
                address="local",   # not one that happens to run here
                num_cpus=self.cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address=LOOPBACK,
                _temp_dir=self._folder,
            )
        except (OSError, RuntimeError, self.ray.exceptions.RayError) as error:
            raise UserError(
                f"Ray could not start a cluster here ({str(error).strip().splitlines()[0]}). A machine that is very busy "
                "starts it too slowly: try again later, or without --launcher ray."
            ) from error

    def _join(self) -> None:
        check_address(self.address)
        try:
            self.ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"cannot join the Ray cluster at {self.address}: {str(error).strip().splitlines()[0]} "
                "Run this on a machine of the cluster, with the Ray and Python versions it was started with."
            ) from error

    def nodes(self) -> list[Node]:
        """Those that are alive now."""
        return [
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                float(node["Resources"].get("CPU", 0.0)),
                float(node["Resources"].get("GPU", 0.0)),
            )
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def check_fit(self, cpus: float, gpus: float) -> None:
        """Raises UserError, with what the nodes have, where no node could ever run what asks for so much."""
        nodes = self.nodes()
        if not any(node.cpus >= cpus and node.gpus >= gpus for node in nodes):
            listed = "; ".join(map(str, nodes)) or "no node is alive"
            raise UserError(
                f"a job asks for {cpus:g} CPUs and {gpus:g} GPUs, and no node has that much ({listed}). "
                "Ask for less with --ray.cpus and --ray.gpus, or add a node with `ray start --address ...`."
            )

    def check_nodes(self) -> None:
        """Every node that can run jobs is asked what it has installed."""
        nodes = [node for node in self.nodes() if node.cpus > 0]
        look = self.ray.remote(num_cpus=0, max_retries=0)(_look())
        pinned = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        asked = [
            look.options(scheduling_strategy=pinned(node.id, soft=False)).remote(self.modules) for node in nodes
        ]
        for node, found in zip(nodes, self.ray.get(asked), strict=True):
            if isinstance(found, str):
                raise UserError(f"node {node.address} cannot run jobs: {found}. Install this project there too.")
            if problem := difference(self.versions, found, node.address):
                raise UserError(problem)


def _demand_token() -> None:
    """Ray listens on every interface, whatever it is told: a cluster of our own turns away who does not know its token.

    Raises UserError where Ray was imported before, because it asks for tokens from its import on or not at all.
    """
    if os.environ.get("RAY_AUTH_MODE") == "token" and os.environ.get("RAY_AUTH_TOKEN"):
        return
    if sys.modules.get("ray") is not None:
        raise UserError(
            "Ray was imported before this study, so a cluster started now would be open to the network: "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN first, or give the address of a cluster"
        )
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _look() -> Any:
    """A function that travels by value, so that it also answers where farl is not installed."""

    def look(modules: tuple[str, ...]) -> dict[str, str] | str:
        try:
            from farl.cluster.code_versions import code_versions
        except ImportError as error:
            return f"farl cannot be imported by its Python ({error})"
        return code_versions(modules)

    return look


def check_address(address: str) -> None:
    """Raises UserError unless somebody answers at ``host:port`` (``auto`` is Ray's own way to find a cluster)."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or "/" in address:
        raise UserError(
            f"'{address}' is no address of a Ray cluster; it looks like 10.0.0.1:6379, as `ray start --head` prints it"
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}). Is `ray start --head` running there, and is the port open?"
        ) from error
