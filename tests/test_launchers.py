"""Where jobs run changes no number: a study on a Ray cluster, through Slurm's front end, and in the local pool."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from method import cliff

from farl import configuration
from farl.algorithms.gate import GateConfig
from farl.cluster import code_versions, trees
from farl.cluster.ray_cluster import RayCluster
from farl.compare import study
from farl.compare.jobs import Job, Work, run_jobs
from farl.compare.launchers import ray_worker
from farl.compare.launchers.local_pool import LocalPool
from farl.compare.launchers.ray_pool import RayConfig, RayPool
from farl.compare.launchers.relocation import Relocation
from farl.compare.study import StudyConfig
from farl.errors import UserError
from farl.offline.demos import collect
from farl.offline.pipeline import train

torch.set_num_threads(1)  # tiny networks
PIECES = ("json",)  # not our own sources, which somebody may be editing meanwhile

# ---------------------------------------------------------------- file trees


def archive(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, link, 0 if link else 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    return buffer.getvalue()


def test_a_tree_arrives_as_it_was_sent_and_hidden_files_stay(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "checkpoints").mkdir(parents=True)
    (here / "checkpoints" / "one.ckpt").write_bytes(bytes(range(256)))
    (here / "episodes.jsonl").write_text('{"a": 1}\n')
    (here / ".lock").write_text("")
    trees.unpack(trees.pack(here), there)
    assert cliff.contents(there) == {k: v for k, v in cliff.contents(here).items() if k != ".lock"}


@pytest.mark.parametrize(
    "tree",
    [
        archive("../outside"),
        archive("inside/../../outside"),
        archive("/tmp/outside"),
        archive("link", tarfile.SYMTYPE, "/etc/passwd"),
        archive("hard", tarfile.LNKTYPE, "../outside"),
        archive("door/outside"),
        b"no archive at all" * 100,
    ],
    ids=["parent", "hidden parent", "absolute", "symlink", "hardlink", "through a link of ours", "broken"],
)
def test_a_tree_never_writes_outside_its_target(tmp_path, tree):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (target / "door").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="nothing was written"):
        trees.unpack(tree, target)
    assert not list(tmp_path.rglob("outside"))
    assert not Path("/tmp/outside").exists()


def test_what_was_deleted_there_is_deleted_here_but_nothing_outside(tmp_path):
    (tmp_path / "kept").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.ckpt").write_text("")
    trees.unpack(trees.pack(tmp_path / "run", []), tmp_path / "run", gone=["old.ckpt"])
    assert not (tmp_path / "run" / "old.ckpt").exists()
    with pytest.raises(UserError, match="leads outside"):
        trees.unpack(trees.pack(tmp_path / "run", []), tmp_path / "run", gone=["../kept"])
    assert (tmp_path / "kept").exists()


def test_files_are_put_down_so_that_a_copy_cut_short_can_be_continued(tmp_path, monkeypatch):
    """Lines before the checkpoint that counts them, and what says `finished` last, wherever the writer is stopped."""
    source = tmp_path / "source"
    (source / "checkpoints").mkdir(parents=True)
    for second, name in enumerate(["config.yaml", "checkpoints/9.ckpt", "meta.json", "episodes.jsonl"]):
        (source / name).write_text(name)
        os.utime(source / name, (second + 1, second + 1))
    order: list[str] = []
    monkeypatch.setattr(trees, "write_bytes", lambda path, content: order.append(path.name))
    trees.unpack(trees.pack(source), tmp_path / "target")
    assert order == ["episodes.jsonl", "config.yaml", "9.ckpt", "meta.json"]


# ---------------------------------------------------------------- names and versions


@pytest.mark.parametrize("root", ["studies/a study", "/data/a study"])
def test_a_configuration_names_other_paths_on_another_machine_and_its_own_again_at_home(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    out = Path(root) if not root.startswith("/") else tmp_path / root[1:]
    config = StudyConfig(out=out, task=cliff.TASK, methods=("farl",), seeds=(3,))
    job = next(job for job in study.study_jobs(config) if job.name == "farl seed 3")
    relocation, sent = Relocation(job), job.inputs[0].read_bytes()
    there = relocation.outward("input.yaml", sent)
    values = configuration.parse(there.decode())
    assert (values["out"], values["bundle"]) == ("farl-job/out", "farl-job/input-1")
    assert root not in there.decode()
    assert relocation.homeward("config.yaml", there) == sent
    meta = json.dumps({"command": "farl online farl-job/out/config.yaml"}).encode()
    assert json.loads(relocation.homeward("meta.json", meta))["command"] == f"farl online {job.folder}/config.yaml"


def test_other_sources_are_other_code_though_the_version_is_the_same(tmp_path, monkeypatch):
    package = tmp_path / "some_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("SPEED = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    here = code_versions.code_versions(["some_tasks"])
    assert code_versions.difference(here, code_versions.code_versions(["some_tasks"]), "n") == ""
    (package / "__init__.py").write_text("SPEED = 2\n")
    said = code_versions.difference(here, {**code_versions.code_versions(["some_tasks"]), "torch": "1.0"}, "10.0.0.7")
    for part in ("10.0.0.7", "sources of some_tasks", f"torch: {here['torch']} here, 1.0 there"):
        assert part in said
    assert "mujoco" not in said


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("nonsense", "looks like 10.0.0.1:6379"),
     ("ray://127.0.0.1:1", "looks like 10.0.0.1:6379")],
)  # fmt: skip
def test_an_address_where_nobody_answers_is_said_at_once(address, said):
    start = time.monotonic()
    with pytest.raises(UserError, match=said), RayCluster(address, PIECES):
        pass
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("launcher", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, launcher, module):
    code = f"import sys; sys.modules[{module!r}] = None; from farl.cli import main; sys.exit(main({[*COMMAND, launcher]!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'pip install -e ".[{launcher}]"' in done.stderr
    assert "Traceback" not in done.stderr


COMMAND = ["compare", "--out", "study", "--launcher"]


def test_an_address_without_the_launcher_it_is_for_is_refused():
    with pytest.raises(ValueError, match="launcher is local"):
        StudyConfig(address="10.0.0.1:6379")


@pytest.mark.parametrize("changes", [{"cpus": 0.0}, {"gpus": -1.0}, {"retries": -1}, {"collect_every_s": 0.0}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match="give"):
        RayConfig(**changes)


def test_where_a_study_runs_may_change_when_it_is_continued():
    names = set(flat(yaml.safe_load(configuration.dump(StudyConfig()))))
    assert {name for name in names if name.partition(".")[0] in ("ray", "slurm")} <= set(study.EXTENDABLE)
    assert set(study.EXTENDABLE) <= names


def flat(value: dict, prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield from flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else [f"{prefix}{key}"]


# ---------------------------------------------------------------- Ray


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Any]:
    """A cluster of two nodes: a head that runs no jobs, and a worker whose temporary folder is its own."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # the library expects it
    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    machine = tmp_path_factory.mktemp("machine")
    cluster.add_node(num_cpus=2, num_gpus=1, env_vars={"TMPDIR": str(machine)}, **memory)  # it only says it has one
    os.environ["MACHINE_OF_THE_TEST"] = str(machine)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def address(nodes) -> str:
    return nodes.address


@pytest.fixture(scope="module")
def joined(address) -> Iterator[RayCluster]:
    with RayCluster(address, PIECES) as cluster:
        yield cluster


@pytest.fixture
def pool(joined) -> RayPool:
    return RayPool(joined, RayConfig(cpus=0.5, collect_every_s=0.1, retries=2, grace_s=10.0))


def machine() -> Path:
    return Path(os.environ["MACHINE_OF_THE_TEST"])


def job(folder: Path, name: str, code: str = "", needs: tuple[str, ...] = ()) -> Job:
    """A job that runs ``code`` in its folder (``out``), with the folders that it needs in ``given``."""
    place, file = folder / name, folder / "jobs" / f"{name}.yaml"
    inputs = (file, *(folder / need for need in needs))
    file.parent.mkdir(exist_ok=True)
    file.write_text(configuration.dump({"out": str(place), "given": [str(path) for path in inputs[1:]]}))
    script = "\n".join([
        "import pathlib, sys, time, os, yaml",
        "said = yaml.safe_load(open(sys.argv[1]))",
        "out, given = pathlib.Path(said['out']), [pathlib.Path(path) for path in said['given']]",
        textwrap.dedent(code),
        "(out / 'done').write_text(os.getcwd())",
    ])  # fmt: skip
    return Job(name, place, (sys.executable, "-c", script, str(file)), (place / "done").exists, needs, inputs)


def run(jobs: list[Job], pool, watch: Callable[[list[Work]], None] = lambda works: None) -> dict[str, Work]:
    return {work.job.name: work for work in run_jobs(jobs, pool, watch, poll_s=0.02)}


def test_a_worker_without_our_files_gets_what_a_job_needs_and_returns_its_folder(tmp_path, pool):
    copy = "(out / 'deep').mkdir(); (out / 'deep' / 'copy').write_text((given[0] / 'made').read_text() + ' again')"
    first, second = job(tmp_path, "a", "(out / 'made').write_text('demos')"), job(tmp_path, "b", copy, ("a",))
    works = run([first, second], pool)
    assert {work.status for work in works.values()} == {"finished"}, (second.log.read_text(), first.log.read_text())
    assert (tmp_path / "b" / "deep" / "copy").read_text() == "demos again"
    worked_in = Path((tmp_path / "b" / "done").read_text())
    assert worked_in.parent == machine(), "the job has not run in the folder of the other machine"
    assert not worked_in.exists(), "something stayed behind on the worker"


def test_a_job_that_fails_by_itself_is_not_tried_again_and_its_log_is_here(tmp_path, pool):
    crash = "(out / 'tries').open('a').write('x'); print('out of plutonium'); sys.exit(2)"
    works = run([job(tmp_path, "bad", crash), job(tmp_path, "after", needs=("bad",))], pool)
    assert {name: work.status for name, work in works.items()} == {"bad": "failed", "after": "blocked"}
    assert (tmp_path / "bad" / "tries").read_text() == "x"
    assert "out of plutonium" in works["bad"].job.log_tail()


def test_a_job_whose_process_is_killed_is_continued_a_few_times_and_no_more(tmp_path, pool):
    code = "(out / 'tries').open('a').write('x'); os.kill(os.getpid(), 9)"
    work = run([job(tmp_path, "a", code)], pool)["a"]
    assert work.status == "failed"
    assert (tmp_path / "a" / "tries").read_text() == "xxx", "each try must find what the one before has left"
    assert "ended with status -9" in work.job.log_tail()
    assert "given up after 3 tries" in work.job.log_tail()


def test_jobs_that_ask_for_half_a_gpu_share_one(tmp_path, joined):
    """Each waits until it has seen the other at work."""
    meet = f"""
    (pathlib.Path({str(tmp_path)!r}) / out.parent.name).touch()
    other = pathlib.Path({str(tmp_path)!r}) / sys.argv[2]
    while not other.exists():
        time.sleep(0.05)
    (out / "gpu").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    """
    jobs = []
    for name, other in (("a", "at-b"), ("b", "at-a")):
        code = meet.replace("out.parent.name", repr(f"at-{name}"))
        one = job(tmp_path, name, code)
        script, file = one.command[2], one.command[3]
        command = (*one.command[:2], script.replace("sys.argv[2]", repr(other)), file)
        jobs.append(dataclasses.replace(one, command=command, wants_gpu=True))
    works = run(jobs, RayPool(joined, RayConfig(cpus=0.5, gpus=0.5, collect_every_s=0.1)))
    assert {work.status for work in works.values()} == {"finished"}
    assert [(tmp_path / name / "gpu").read_text() for name in ("a", "b")] == ["0", "0"]


def test_a_job_goes_on_elsewhere_when_its_machine_is_lost(tmp_path, nodes, joined):
    code = """
    tries = out / 'tries'
    tries.open('a').write('x')
    if tries.read_text() == 'x':
        time.sleep(120)
    """
    memory, one = {"object_store_memory": 80 * 2**20}, job(tmp_path, "a", code)
    big = [nodes.add_node(num_cpus=4, **memory)]

    def lose(works: list[Work]) -> None:
        """The only machine that is big enough, once what the job wrote there has arrived here."""
        if len(big) == 1 and (one.folder / "tries").exists():
            big.append(nodes.add_node(num_cpus=4, **memory))
            nodes.remove_node(big[0], allow_graceful=False)

    work = run([one], RayPool(joined, RayConfig(cpus=3, collect_every_s=0.1)), lose)["a"]
    nodes.remove_node(big[1])
    assert work.status == "finished"
    assert (one.folder / "tries").read_text() == "xx", "what was collected from the lost machine was not sent on"
    assert "it is continued elsewhere" in one.log.read_text()


def test_jobs_that_no_node_could_ever_run_are_refused_with_what_nodes_have(tmp_path, joined):
    with pytest.raises(UserError, match=r"asks for 64 CPUs and 0 GPUs.*2 CPUs, 1 GPUs"):
        run([job(tmp_path, "a")], RayPool(joined, RayConfig(cpus=64)))
    hungry = dataclasses.replace(job(tmp_path, "b"), wants_gpu=True)
    with pytest.raises(UserError, match=r"asks for 1 CPUs and 2 GPUs"):
        run([hungry], RayPool(joined, RayConfig(gpus=2)))


def test_a_worker_that_does_not_see_the_files_it_should_share_is_refused(tmp_path, joined, monkeypatch):
    one = job(tmp_path, "a")
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "not-mounted")
    hidden = dataclasses.replace(one, command=(*one.command[:-1], "jobs/a.yaml"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"does not see .*not-mounted/jobs/a\.yaml.*leave that flag out"):
        run([hidden], RayPool(joined, RayConfig(shared_files=True)))


def test_a_node_with_other_code_is_refused_with_both_versions(joined, monkeypatch):
    joined.check_nodes()
    monkeypatch.setattr(joined, "versions", {"torch": "9.9.9"})
    with pytest.raises(UserError, match=r"torch: 9\.9\.9 here, \d+\.\d+.* there"):
        joined.check_nodes()


def test_code_that_changed_after_the_study_began_is_refused_when_a_job_starts(tmp_path):
    order = ray_worker.Order(("",), "out", {"torch": "9.9.9"}, (), (), 1.0)
    with pytest.raises(UserError, match=r"torch: 9\.9\.9 here"):
        ray_worker.Worker().start(order)


# ---------------------------------------------------------------- the same numbers everywhere


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with demonstrations (``data``) and a bundle (``bundles``) of the point mass, as a study has them."""
    root = tmp_path_factory.mktemp("prepared")
    folders = study.Folders(root, cliff.TASK.name)
    collect(cliff.few(folders.data))
    train(cliff.hurried(folders.data, folders.bundle(0)))
    return root


def tiny(prepared: Path, out: Path, **changes) -> StudyConfig:
    """A study whose runs are still to be made: some five seconds each with a checkpoint every tenth of one, long enough to be met
    in the middle by what is collected once a second."""
    shutil.copytree(prepared, out)
    return StudyConfig(
        task=cliff.TASK, methods=("uni-o4", "farl"), seeds=(0,), out=out, jobs=2,
        demos=cliff.few(Path("x")), offline=cliff.hurried(Path("x"), Path("y")),
        online=cliff.online(Path("y"), Path("z"), gate=GateConfig(threshold=0.02), steps=6144, **changes),
    )  # fmt: skip


def runs_of(config: StudyConfig) -> list[Job]:
    return [job for job in study.study_jobs(config) if job.command[3] == "online"]


def run_study(config: StudyConfig, launcher, watch: Callable[[list[Work]], None] = lambda works: None) -> list[Work]:
    works = run_jobs(study.study_jobs(config), launcher, watch, poll_s=0.02)
    assert {work.status for work in works} == {"finished"}, [work.job.log_tail() for work in works]
    assert [work.left_alone for work in works[:2]] == [True, True]
    return works


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> StudyConfig:
    """The study as the local pool runs it."""
    config = tiny(prepared, tmp_path_factory.mktemp("local") / "study")
    run_study(config, LocalPool(2))
    return config


def same_results(one: StudyConfig, other: StudyConfig) -> None:
    for here, there in zip(runs_of(one), runs_of(other), strict=True):
        for stream in ("episodes", "evaluations", "failures"):
            files = [job.folder / f"{stream}.jsonl" for job in (here, there)]
            assert files[0].exists() == files[1].exists()
            assert not files[0].exists() or files[0].read_bytes() == files[1].read_bytes()
        assert cliff.lines(here.folder, "metrics", cliff.CLOCKS) == cliff.lines(there.folder, "metrics", cliff.CLOCKS)
        assert cliff.same_weights(cliff.weights(here.folder), cliff.weights(there.folder))
        episodes = [row["episode"] for row in cliff.lines(there.folder, "episodes")]
        assert episodes == list(range(len(episodes))), "an episode is missing or stands there twice"


def test_a_study_has_the_same_numbers_on_a_cluster_without_shared_files(prepared, undisturbed, tmp_path, pool):
    config = tiny(prepared, tmp_path / "study")
    run_study(config, pool)
    same_results(undisturbed, config)
    for here, there in zip(runs_of(undisturbed), runs_of(config), strict=True):
        text = (there.folder / "config.yaml").read_text()
        assert text.replace(str(config.out), str(undisturbed.out)) == (here.folder / "config.yaml").read_text()
        assert "farl-job" not in text + (there.folder / "meta.json").read_text() + there.log.read_text()


def test_a_study_whose_worker_is_killed_in_mid_run_ends_with_the_same_numbers(prepared, undisturbed, tmp_path, pool):
    config = tiny(prepared, tmp_path / "study")
    _, gated = runs_of(config)
    killed: list[psutil.Process] = []

    def kill(works: list[Work]) -> None:
        """The worker of the gated run, as soon as its first checkpoint has arrived here."""
        if not killed and list(gated.folder.glob("checkpoints/*.ckpt")):
            child = next(p for p in workers() if "farl-seed-0.yaml" in " ".join(p.cmdline()))
            killed.extend([child.parent(), child])
            killed[0].kill()

    run_study(config, pool, kill)
    assert killed
    wait_until(lambda: not any(alive(process) for process in killed), 5)
    assert "it is continued elsewhere" in gated.log.read_text()
    same_results(undisturbed, config)


def workers() -> list[psutil.Process]:
    """The processes of jobs that run on the cluster of this test."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(machine()) and "farl" in process.cmdline():
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_study_interrupted_on_a_cluster_continues_in_the_local_pool(prepared, undisturbed, tmp_path, pool):
    config = tiny(prepared, tmp_path / "study")

    def interrupt(works: list[Work]) -> None:
        if list(runs_of(config)[1].folder.glob("checkpoints/*.ckpt")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, pool, interrupt)
    wait_until(lambda: not workers(), 5)
    assert not list(machine().glob("farl-job-*"))
    gated = json.loads((runs_of(config)[1].folder / "meta.json").read_text())
    assert gated["status"] == "interrupted", "it was not given the time to stop cleanly"
    run_study(config, LocalPool(2))
    same_results(undisturbed, config)
