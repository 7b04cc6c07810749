"""Every method, and farl with one setting changed at a time, on the same demonstrations, bundles and seeds.

    python -m experiments.ablations                                  # everything in configs/ablations.yaml; stop and repeat at will
    python -m experiments.ablations --list
    python -m experiments.ablations --only farl uni-o4 horizon-5 --jobs 2
    python -m experiments.ablations --bundles studies/paper/bounded-push-hard
    python -m experiments.paper_results studies/ablations studies/ablations/variants/*

A variant is a study of its own below `variants`. Where only the gate's look-ahead or calibration differs, its bundle has the
weights of the common one and is calibrated anew; where the training differs, it is trained; otherwise it is the common one.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farl import configuration
from farl.compare.jobs import Job, run_jobs
from farl.compare.launchers.local_pool import LocalPool
from farl.compare.live import Display
from farl.compare.study import EXTENDABLE, Folders, StudyConfig, job, locked, recorded, run_finished
from farl.errors import UserError
from farl.outputs import claim

CONFIG = Path("configs/ablations.yaml")


@dataclass(frozen=True)
class Variant:
    """Flags, as `farl compare` takes them, for the methods they concern."""

    flags: str
    methods: tuple[str, ...] = ("farl",)


BOTH = ("uni-o4", "farl")
_RISK, _GATE = "--offline.risk.", "--online.gate."

VARIANTS: dict[str, Variant] = {
    **{f"horizon-{h}": Variant(f"{_RISK}horizon {h}") for h in (2, 3, 5, 8, 10)},
    "horizon-20": Variant(f"{_RISK}horizon 20 --offline.state-model.horizon 21 --offline.no-paper-model"),
    **{f"threshold-{t}": Variant(f"{_GATE}threshold {t}") for t in (0.01, 0.05, 0.1, 0.3, 0.6)},
    **{f"miss-rate-{a}": Variant(f"{_GATE}miss-rate {a}") for a in (0.05, 0.1, 0.2)},
    "adaptive-threshold": Variant(f"{_GATE}adapt 0.05"),
    "distrust-unfamiliar": Variant(f"{_GATE}unfamiliar 0.99"),
    "hysteresis": Variant(f"{_GATE}leave 0.5 {_GATE}min-dwell 3"),
    "dwell-5": Variant(f"{_GATE}min-dwell 5"),
    **{f"cap-{steps}": Variant(f"{_GATE}max-dwell {steps}") for steps in (5, 10, 20, 40)},
    **{f"credit-{mode}": Variant(f"--online.credit {mode}") for mode in ("proposed", "executed", "mask", "zfilter")},
    **{f"handover-price-{price}": Variant(f"--online.handover-price {price}") for price in (0.0, 0.5)},
    "latent-model": Variant("--offline.model latent --offline.no-paper-model"),
    "model-without-recovery": Variant("--offline.model-data task failure"),
    **{f"accumulate-{how}": Variant(f"{_RISK}accumulate {how}") for how in ("sum", "max")},
    **{f"pessimism-{p}": Variant(f"{_RISK}pessimism {p}") for p in (0.0, 3.0)},
    "no-tail": Variant(f"{_RISK}no-tail"),
    "particles-8": Variant(f"{_RISK}particles 8"),
    **{f"std-{std}": Variant(f"--offline.exploration-std {std}", BOTH) for std in (0.1, 0.3)},
    **{f"lr-{lr}": Variant(f"--online.ppo.lr {lr}", BOTH) for lr in ("1e-4", "3e-4")},
}
"""by name; one that the configuration already says is left out. The critic is frozen in all: nothing trains it online"""


def chosen(only: Sequence[str], base: StudyConfig) -> tuple[list[str], list[str]]:
    """Methods and variants to run; raises UserError for a name that is neither."""
    methods = [*base.methods, "random-gate"]
    variants = [name for name, variant in VARIANTS.items() if not _same(variant_study(name, base), base)]
    if unknown := [name for name in only if name not in (*methods, *VARIANTS)]:
        raise UserError(f"there is no method or variant {', '.join(unknown)}; `--list` shows them")
    wanted = only or [*methods, *variants]
    return [name for name in methods if name in wanted], [name for name in variants if name in wanted]


def variant_study(name: str, base: StudyConfig) -> StudyConfig:
    """The study of a variant, in a folder of its own."""
    changed = _changed(name)
    return replace(
        base,
        out=base.out / "variants" / name,
        methods=VARIANTS[name].methods,
        offline=changed.offline,
        online=replace(changed.online, steps=base.online.steps),
    )


@functools.cache
def _changed(name: str) -> StudyConfig:
    return configuration.load(StudyConfig, [str(CONFIG), *VARIANTS[name].flags.split()], "experiments.ablations")


def _same(one: StudyConfig, other: StudyConfig) -> bool:
    return (one.offline, one.online) == (other.offline, other.online)


def jobs(base: StudyConfig, methods: Sequence[str], variants: Sequence[str], bundles: Path | None) -> Iterator[Job]:
    """Demonstrations and bundles first, unless another study has them, then the runs."""
    common = Folders(base.out if bundles is None else bundles, base.task.name)
    if bundles is None:
        demos = replace(base.demos, task=base.task, out=common.data)
        yield job(base, "demos", "demos", demos, (), (common.data / "demos.json").exists)
        for seed in base.seeds:
            yield _offline(base, "bundle", base, common, seed, ("demos",))
    for seed in base.seeds:
        for method in methods:
            yield _online(base, method, common.bundle(seed), method, seed, () if bundles else (f"bundle seed {seed}",))
        for name in variants:
            yield from _variant_jobs(name, base, common, seed, () if bundles else (f"bundle seed {seed}",))


def _variant_jobs(name: str, base: StudyConfig, common: Folders, seed: int, needs: tuple[str, ...]) -> Iterator[Job]:
    study = variant_study(name, base)
    bundle = common.bundle(seed)
    if study.offline != base.offline:
        own, offline = Folders(study.out, base.task.name), study.offline
        if replace(offline, risk=base.offline.risk, calibration=base.offline.calibration) == base.offline:
            offline = replace(offline, weights=bundle)
        changed = replace(study, offline=offline)
        yield _offline(base, f"{name}: bundle", changed, common, seed, needs)
        bundle, needs = own.bundle(seed), (f"{name}: bundle seed {seed}",)
    for method in study.methods:
        yield _online(study, f"{name}: {method}", bundle, method, seed, needs)


def _offline(
    base: StudyConfig, name: str, study: StudyConfig, common: Folders, seed: int, needs: tuple[str, ...]
) -> Job:
    out = Folders(study.out, base.task.name).bundle(seed)
    settings = replace(study.offline, task=base.task, data=common.data, out=out, seed=seed)
    made = job(study, f"offline seed {seed}", "offline", settings, needs, (out / "manifest.json").exists)
    return replace(made, name=f"{name} seed {seed}")


def _online(study: StudyConfig, name: str, bundle: Path, method: str, seed: int, needs: tuple[str, ...]) -> Job:
    folders, steps = Folders(study.out, study.task.name), study.online.steps
    controls = study.online.controls
    if method == "random-gate":  # as often as farl's gate in the run of the same seed
        needs, controls = (*needs, f"farl seed {seed}"), replace(controls, random_like=folders.run("farl", seed))
    out = folders.run(method, seed)
    settings = replace(
        study.online, task=study.task, bundle=bundle, out=out, seed=seed, method=method, controls=controls
    )  # fmt: skip
    made = job(study, f"{method} seed {seed}", "online", settings, needs, lambda: run_finished(out, steps))
    return replace(made, name=f"{name} seed {seed}")


def run(base: StudyConfig, only: Sequence[str], bundles: Path | None) -> None:
    """Run what is missing; raises UserError, after everything else has run, for jobs that failed."""
    methods, variants = chosen(only, base)
    if "random-gate" in methods and "farl" not in methods:
        methods = ["farl", *methods]
    if bundles is not None:
        common, task = Folders(bundles, base.task.name), base.task.name
        if missing := [seed for seed in base.seeds if not (common.bundle(seed) / "manifest.json").exists()]:
            raise UserError(
                f"{bundles} has no finished bundle of {task} for seeds {missing}; make it with `farl compare`"
            )
    claim(base.out, recorded(base), EXTENDABLE)
    with locked(base.out), Display(f"{base.task.name}: {len(methods)} methods, {len(variants)} variants") as display:
        works = run_jobs(list(jobs(base, methods, variants, bundles)), LocalPool(base.jobs), display)
    failed = [work for work in works if work.status == "failed"]
    if failed:
        raise UserError("\n".join(f"'{work.job.name}' failed; its log is {work.job.log}" for work in failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="methods and variants; all of them without this"
    )
    parser.add_argument("--list", action="store_true", help="show the variants and what they change")
    parser.add_argument("--steps", type=int, help="agent steps of each run")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=0, help="processes side by side, 0: one per core")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--bundles", type=Path, metavar="STUDY", help="take demonstrations and bundles from this finished study"
    )
    arguments = parser.parse_args()
    try:
        base = configuration.read(StudyConfig, CONFIG)
        base = replace(
            base,
            out=arguments.out or base.out,
            seeds=tuple(arguments.seeds or base.seeds),
            jobs=arguments.jobs,
            online=replace(base.online, steps=arguments.steps or base.online.steps),
        )
        if arguments.list:
            for name in chosen(arguments.only, base)[1]:
                print(f"{name:24}{VARIANTS[name].flags}  ({', '.join(VARIANTS[name].methods)})")
        else:
            run(base, arguments.only, arguments.bundles)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
