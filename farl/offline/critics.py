"""The failure critics that a bundle holds, each under the name its calibration is kept by."""

from __future__ import annotations

from dataclasses import replace

import torch

from farl.algorithms.calibration import Calibration
from farl.algorithms.familiarity import Familiarity
from farl.algorithms.q_risk import QRisk
from farl.algorithms.risk import ImaginedRisk
from farl.errors import UserError
from farl.networks.latent_model import LatentModel
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.types import FailureCritic

PAPER_HORIZON = 10
"""agent steps that farl-paper looks ahead; what the publication used is not known"""


def q_risk_critic(bundle: OfflineBundle) -> QRisk:
    """Recovery RL's critic; raises UserError where the bundle has none."""
    if bundle.q_risk is None:
        raise UserError(
            "the bundle has no Q-risk: it was made without, or before there was one; make it again with `farl offline`"
        )
    return QRisk(bundle.q_risk, bundle.normalizer)


def model_critic(
    bundle: OfflineBundle, policy: GaussianPolicy, generator: torch.Generator | None = None
) -> ImaginedRisk:
    """FARL's C_H: the bundle's world model with its calibrated heads, then Q-risk for what comes after the horizon."""
    c = bundle.calibration
    scale, shift = (c.scale, c.shift) if c else (1.0, 0.0)
    return ImaginedRisk(bundle.model, policy, bundle.risk, scale, shift, generator, bundle.later)


def paper_critic(
    bundle: OfflineBundle, policy: GaussianPolicy, generator: torch.Generator | None = None
) -> ImaginedRisk:
    """The paper's C_H: the latent model, the plain sum, the mean of the failure heads as they come."""
    model = bundle.model if isinstance(bundle.model, LatentModel) else bundle.latent
    if model is None:
        raise UserError(
            "the bundle has no latent world model; make it with `farl offline --paper-model`, or with `--model latent`"
        )
    risk = replace(bundle.risk, horizon=PAPER_HORIZON, accumulate="sum", pessimism=0.0, tail=False)
    return ImaginedRisk(model, policy, risk, generator=generator)


def further_critics(bundle: OfflineBundle) -> dict[str, FailureCritic]:
    """Those a bundle has beside its world model's, for the policy as the bundle holds it."""
    critics: dict[str, FailureCritic] = {}
    if bundle.q_risk is not None:
        critics["q_risk"] = q_risk_critic(bundle)
    if bundle.latent is not None or isinstance(bundle.model, LatentModel):
        critics["paper"] = paper_critic(bundle, bundle.policy)
    return critics


def calibration_of(bundle: OfflineBundle, name: str) -> Calibration:
    """How a critic was calibrated, ``model`` or a further one; raises UserError where it was not."""
    if name == "model":
        if bundle.calibration is None:
            raise UserError("the bundle is not calibrated; give a threshold with --gate.threshold")
        return bundle.calibration
    if name not in bundle.calibrations:
        raise UserError(f"the bundle holds no calibration of {name}; give a threshold with --gate.threshold")
    return bundle.calibrations[name]


def largest_risk(bundle: OfflineBundle, name: str) -> float:
    """What no risk of a critic exceeds: certainty, or certainty of failing on every step where failures are added up."""
    risk = bundle.risk
    if name == "paper":
        return sum(risk.gamma**step for step in range(PAPER_HORIZON + 1))
    if name == "model" and risk.accumulate == "sum":
        return sum(risk.gamma**step for step in range(risk.horizon + 1 + risk.tail))
    return 1.0


def familiarity_of(bundle: OfflineBundle) -> Familiarity:
    """How surprising held-out steps were to the world model; raises UserError where that was not measured."""
    if bundle.familiarity is None:
        raise UserError(
            "gate.unfamiliar needs the model's surprise on held-out steps and the bundle does not keep it: make it again with "
            "`farl offline`, or leave gate.unfamiliar at 0"
        )
    return bundle.familiarity
