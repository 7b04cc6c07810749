"""Where a camera stands that looks at the arm, from pictures of a marker that the hand carries.

With X the camera's place, Y the marker's place on the hand, H the hand's pose and M the marker's as the camera sees it,
X M = H Y in every picture. X and Y come first from rotations and translations apart (Shah 2013), then from the marker's
corners: those are what was measured, so their distance in the picture is what is made least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from robots.cameras.interface import Intrinsics
from robots.errors import RobotError
from robots.perception.markers import CORNERS, Detected, poses, project
from robots.rigid import Array, Rigid, angle_between, nearest_rotation, rotation, vector

FEWEST = 6
"""poses that a calibration needs"""

TURNED_RAD = math.radians(15.0)
"""the hand must have been turned by this about two axes, or the marker's place on it must be known"""

MISREAD_PX, MISREAD_TIMES = 3.0, 4.0
"""a pose is misread that is further off than this, and than this many times the usual"""

MISREAD_SHARE = 0.2
"""of the poses at most"""

ROBUST_PX = 1.0
"""corners that are further off count less and less"""


class Sample(NamedTuple):
    """One standing still."""

    hand: Rigid
    """``table_from_flange``, by the arm's joints"""
    corners: Array
    """``[4, 2]`` pixels of the hand's marker"""


@dataclass(frozen=True)
class Residuals:
    """How well all the poses agree with one camera and one marker."""

    poses: int
    corners_px: float
    """root mean square distance of a corner to where it should be"""
    translation_mm: float
    """root mean square, of the marker's middle across the line of sight, in poses that were left out of the fit"""
    worst_mm: float
    rotation_deg: float
    """root mean square, of the marker's own pose"""


class HandEye(NamedTuple):
    """Both unknowns."""

    table_from_camera: Rigid
    flange_from_marker: Rigid
    residuals: Residuals
    misread: tuple[int, ...]
    """indices of the poses that contradict all others and were left out"""


def solve(
    samples: Sequence[Sample], size_m: float, intrinsics: Intrinsics, marker_at_m: Sequence[float] | None = None
) -> HandEye:
    """Find camera and marker.

    Args:
        samples: hand and picture at rest, in many different places.
        size_m: side of the marker's black square.
        intrinsics: of the pictures.
        marker_at_m: the marker's middle in the flange's frame where it was measured; needed where the hand was never turned.

    Raises:
        RobotError: too few poses, or poses that leave the answer open; the message says which more are needed.
    """
    if len(samples) < FEWEST:
        raise RobotError(f"{len(samples)} poses of the hand are too few to find the camera: give at least {FEWEST}, better 15")
    require_variety(samples, marker_at_m is not None)
    found = _fit(samples, size_m, intrinsics, marker_at_m)
    misread = _misread(samples, size_m, intrinsics, *found)
    if misread:
        samples = [sample for k, sample in enumerate(samples) if k not in misread]
        found = _fit(samples, size_m, intrinsics, marker_at_m)
    return HandEye(*found, _residuals(samples, size_m, intrinsics, marker_at_m, *found), misread)


def _misread(samples: Sequence[Sample], size_m: float, intrinsics: Intrinsics, camera: Rigid, marker: Rigid) -> tuple[int, ...]:
    """Few poses that are far off where the others agree; none where many are: then something else is wrong."""
    off = [float(np.linalg.norm(_missed(sample, size_m, intrinsics, camera, marker), axis=1).mean()) for sample in samples]
    worst = max(MISREAD_PX, MISREAD_TIMES * float(np.median(off)))
    found = tuple(k for k, pixels in enumerate(off) if pixels > worst)
    few = len(found) <= MISREAD_SHARE * len(samples) and len(samples) - len(found) >= FEWEST
    return found if few else ()


def require_variety(samples: Sequence[Sample], marker_known: bool) -> None:
    """Refuse poses from which the camera cannot be found."""
    where = np.array([sample.hand.translation for sample in samples])
    spread = np.linalg.svd(where - where.mean(axis=0), compute_uv=False) / math.sqrt(len(samples))
    turns = np.array([vector(samples[0].hand.rotation.T @ sample.hand.rotation) for sample in samples])
    turned = np.linalg.svd(turns - turns.mean(axis=0), compute_uv=False) / math.sqrt(len(samples))
    if marker_known:
        if spread[2] < 0.01:
            raise RobotError(
                "the hand was always in one plane, or on one line: move it along x, y and up, by 10 cm or more each"
            )
        return
    if turned[1] < TURNED_RAD / 2:
        raise RobotError(
            f"the hand was turned too little ({math.degrees(2 * turned[1]):.0f} degrees about its second axis): turn it by 20 "
            "degrees or more about two axes, by guiding the arm by hand, or give marker_at_m, the marker's place on the hand"
        )


def _fit(
    samples: Sequence[Sample], size_m: float, intrinsics: Intrinsics, marker_at_m: Sequence[float] | None
) -> tuple[Rigid, Rigid]:
    from scipy.optimize import least_squares

    seen = [poses(Detected(0, sample.corners), size_m, intrinsics)[0][0] for sample in samples]
    known = None if marker_at_m is None else np.asarray(marker_at_m, np.float64)
    starts = [_from_places(samples, seen, known)]
    if known is None:
        starts.append(_from_rotations(samples, seen))
    hands = np.array([sample.hand.rotation for sample in samples]), np.array([sample.hand.translation for sample in samples])
    pixels = np.array([sample.corners for sample in samples])

    def errors(numbers: Array) -> Array:
        camera, marker = _unpacked(numbers, known)
        on_hand = marker.apply(CORNERS * size_m)
        on_table = np.einsum("nij,kj->nki", hands[0], on_hand) + hands[1][:, None]
        missed = project(camera.inverse().apply(on_table), intrinsics) - pixels
        return np.asarray(np.nan_to_num(missed, nan=1e3).ravel())

    tries: list[Any] = [least_squares(errors, _packed(*start, known), loss="soft_l1", f_scale=ROBUST_PX) for start in starts]
    best = min(tries, key=lambda tried: float(tried.cost))
    return _unpacked(best.x, known)


def _packed(camera: Rigid, marker: Rigid, known: Array | None) -> Array:
    parts = [vector(camera.rotation), camera.translation, vector(marker.rotation)]
    return np.concatenate(parts if known is not None else [*parts, marker.translation])


def _unpacked(numbers: Array, known: Array | None) -> tuple[Rigid, Rigid]:
    at = numbers[9:12] if known is None else known
    return Rigid(rotation(numbers[:3]), numbers[3:6]), Rigid(rotation(numbers[6:9]), at)


def _from_places(samples: Sequence[Sample], seen: Sequence[Rigid], known: Array | None) -> tuple[Rigid, Rigid]:
    """From where the marker was: two sets of the same points (Kabsch), its offset on the hand as known or none."""
    at = np.zeros(3) if known is None else known
    there = np.array([sample.hand.apply(at) for sample in samples])
    here = np.array([pose.translation for pose in seen])
    turn = nearest_rotation((there - there.mean(axis=0)).T @ (here - here.mean(axis=0)))
    camera = Rigid(turn, there.mean(axis=0) - turn @ here.mean(axis=0))
    return camera, Rigid(_on_hand(turn, samples, seen), at)


def _from_rotations(samples: Sequence[Sample], seen: Sequence[Rigid]) -> tuple[Rigid, Rigid]:
    """Rotations from the singular vectors of a sum of Kronecker products, then translations, which are linear."""
    total = np.asarray(sum(np.kron(pose.rotation, sample.hand.rotation) for sample, pose in zip(samples, seen, strict=True)))
    stacked = np.linalg.svd(total)[0][:, 0].reshape(3, 3).T
    turn = nearest_rotation(np.sign(np.linalg.det(stacked)) * stacked)
    own = _on_hand(turn, samples, seen)
    rows = np.concatenate([np.hstack([np.eye(3), -sample.hand.rotation]) for sample in samples])
    given = np.concatenate(
        [sample.hand.translation - turn @ pose.translation for sample, pose in zip(samples, seen, strict=True)]
    )
    shifts = np.linalg.lstsq(rows, given, rcond=None)[0]
    return Rigid(turn, shifts[:3]), Rigid(own, shifts[3:])


def _on_hand(turn: Array, samples: Sequence[Sample], seen: Sequence[Rigid]) -> Array:
    """How the marker is turned on the hand, once it is known how the camera is turned: the mean over the poses."""
    turns = (sample.hand.rotation.T @ turn @ pose.rotation for sample, pose in zip(samples, seen, strict=True))
    return nearest_rotation(np.asarray(sum(turns)))


def _residuals(
    samples: Sequence[Sample],
    size_m: float,
    intrinsics: Intrinsics,
    marker_at_m: Sequence[float] | None,
    camera: Rigid,
    marker: Rigid,
) -> Residuals:
    corners = np.concatenate([_missed(sample, size_m, intrinsics, camera, marker) for sample in samples])
    turns = []
    for sample in samples:
        told = (camera.inverse() @ sample.hand @ marker).rotation
        turns.append(min(angle_between(told, pose.rotation) for pose, _ in poses(Detected(0, sample.corners), size_m, intrinsics)))
    left_out = _left_out(samples, size_m, intrinsics, marker_at_m)
    return Residuals(
        len(samples),
        float(np.sqrt(np.square(corners).sum(axis=1).mean())),
        1000.0 * float(np.sqrt(np.square(left_out).mean())),
        1000.0 * max(left_out),
        math.degrees(float(np.sqrt(np.square(turns).mean()))),
    )


def _left_out(
    samples: Sequence[Sample], size_m: float, intrinsics: Intrinsics, marker_at_m: Sequence[float] | None
) -> list[float]:
    """How far off across the line of sight, m, the marker is in poses that the fit did not see: a third of them at a time."""
    off = []
    for part in range(3):
        kept = [sample for k, sample in enumerate(samples) if k % 3 != part]
        camera, marker = _fit(kept, size_m, intrinsics, marker_at_m)
        for sample in samples[part::3]:
            away = float((camera.inverse() @ sample.hand @ marker).translation[2])
            middle = _missed(sample, size_m, intrinsics, camera, marker).mean(axis=0)
            off.append(float(np.linalg.norm(middle)) * away / intrinsics.fx)
    return off


def _missed(sample: Sample, size_m: float, intrinsics: Intrinsics, camera: Rigid, marker: Rigid) -> Array:
    """``[4, 2]`` pixels from the corners to where camera, hand and marker put them."""
    told = project((camera.inverse() @ sample.hand @ marker).apply(CORNERS * size_m), intrinsics)
    return np.asarray(told - sample.corners)
