"""A gradient that is written out is the one that autograd finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from farl.networks.backprop import Backprop
from farl.networks.mlp import mlp

ROWS = 200
WIDTHS = pytest.mark.parametrize("width", [8, 256])
"""below and above what oneDNN is worth its preparation"""


class Still(torch.optim.SGD):
    """Leaves everything where it is, so that a test can look at the gradient."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.0)


def gradients(net):
    return [parameter.grad.clone() for parameter in net.parameters()]


def both(net, x, loss_of, max_norm=float("inf")):
    """Gradients by hand and by autograd."""
    trainer, optimizer = Backprop(net), Still(net.parameters())
    trainer.descend(loss_of(trainer(x)), optimizer, max_norm)
    by_hand = gradients(net)
    optimizer.zero_grad(set_to_none=True)
    loss_of(net(x)).backward()
    if max_norm < float("inf"):
        nn.utils.clip_grad_norm_(net.parameters(), max_norm)
    return by_hand, gradients(net)


@WIDTHS
@pytest.mark.parametrize("max_norm", [float("inf"), 0.1])
def test_the_gradient_is_autograds_clipped_or_not(width, max_norm, generator):
    net, x = mlp([80, width, width, 3]), torch.randn(ROWS, 80, generator=generator)
    by_hand, expected = both(net, x, lambda output: (output.tanh() * output).sum(), max_norm)
    assert max(part.abs().max() for part in expected) > 1e-3
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(by_hand, expected, strict=True))


def test_a_second_step_does_not_remember_the_first(generator):
    net, (first, second) = mlp([80, 64, 2]), torch.randn(2, ROWS, 80, generator=generator)
    trainer, optimizer = Backprop(net), Still(net.parameters())
    for x in (first, second):
        trainer.descend(trainer(x).square().mean(), optimizer, float("inf"))
    last = gradients(net)
    _, expected = both(net, second, lambda output: output.square().mean())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(last, expected, strict=True))


def test_the_norm_counts_what_else_the_loss_depends_on(generator):
    """A gradient of 3 in the network and 4 beside it has length 5."""
    net, beside = mlp([1, 1]), nn.Parameter(torch.ones(1))
    trainer, everything = Backprop(net, beside), [*net.parameters(), beside]
    # At x = 1 the weight and the bias have the same gradient, and two of 9 / sqrt(2) make 9.
    loss = (9 / 2**0.5 * trainer(torch.ones(1, 1)) + 12 * beside).sum()
    trainer.descend(loss, Still(everything), max_norm=5.0)
    assert torch.cat([part.flatten() for part in gradients(net)]).norm().item() == pytest.approx(3, rel=1e-5)
    assert beside.grad.item() == pytest.approx(4, rel=1e-5)


@WIDTHS
def test_its_input_is_left_alone_and_what_is_no_number_stays_so(width, generator):
    net, x = mlp([80, width, 3]), torch.randn(ROWS, 80, generator=generator)
    x[0, 0] = float("nan")
    given = x.clone()
    output = Backprop(net)(x)
    assert torch.equal(x.nan_to_num(7.0), given.nan_to_num(7.0))
    assert output[0].isnan().all()
    assert output[1:].isfinite().all()


def test_a_network_it_cannot_differentiate_is_refused():
    with pytest.raises(TypeError, match="SiLU"):
        Backprop(mlp([4, 4, 1], nn.SiLU))
