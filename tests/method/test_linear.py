"""The matrix product of every network: the same numbers and gradients as PyTorch's own, and nothing broken is hidden."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from farl.networks import linear as module
from farl.networks.linear import linear
from farl.networks.mlp import EnsembleMLP, mlp

ROWS = 300
"""of 80 inputs and 256 outputs: above what oneDNN is worth its preparation"""


@pytest.fixture
def operands(generator):
    x, weight, bias = (torch.randn(*size, generator=generator) for size in ((ROWS, 80), (256, 80), (256,)))
    return [tensor.requires_grad_() for tensor in (x, weight, bias)]


def plainly(monkeypatch, function):
    """What ``function`` gives where PyTorch has been built without oneDNN."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "AVAILABLE", False)
        return function()


def test_product_and_gradients_are_those_of_double_precision(operands, generator):
    upstream = torch.randn(ROWS, 256, generator=generator)
    ours = torch.autograd.grad(linear(*operands), operands, upstream)
    exact = [tensor.detach().double().requires_grad_() for tensor in operands]
    product = functional.linear(*exact)
    assert torch.allclose(linear(*operands).double(), product, atol=1e-4)
    for mine, theirs in zip(ours, torch.autograd.grad(product, exact, upstream.double()), strict=True):
        assert torch.allclose(mine.double(), theirs, atol=1e-3, rtol=1e-4)


def test_operands_may_be_views(operands):
    """A transposed weight, as an ensemble's, and rows of a wider table, as a minibatch of features."""
    x, weight, bias = (tensor.detach() for tensor in operands)
    wide, turned = torch.cat([x, x], 1)[:, :80], weight.t().contiguous().t()
    assert torch.allclose(linear(wide, turned, bias), functional.linear(x, weight, bias), atol=1e-4)


def test_a_constant_gradient_is_taken_as_any_other(operands):
    """A sum's gradient is one number seen as a matrix, with strides of zero."""
    linear(*operands).sum().backward()
    x, _, bias = operands
    assert torch.allclose(bias.grad, torch.full((256,), float(ROWS)))
    assert torch.allclose(operands[1].grad, x.detach().sum(0).expand(256, -1), atol=1e-3)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_row_that_is_no_number_stays_one_and_alone(activation, rows, generator):
    """A gate trusts a finite risk: an activation that made a zero of it would vouch for what nobody knows."""
    net, ensemble = mlp([80, 256, 256, 4], activation), EnsembleMLP([80, 256, 256, 1], 3)
    x = torch.randn(rows, 80, generator=generator)
    x[0, 3] = torch.nan
    for forget in (torch.no_grad, torch.enable_grad):
        with forget():
            for output in (net(x), ensemble(x).transpose(0, 1)):
                assert output[0].isnan().all()
                assert output[1:].isfinite().all()


def test_a_weight_that_is_no_number_is_seen_in_every_row(generator):
    net = mlp([80, 256, 256, 4])
    with torch.no_grad():
        net[2].weight[5, 7] = torch.nan
        assert net(torch.randn(ROWS, 80, generator=generator)).isnan().all()


@pytest.mark.parametrize("make", [lambda: mlp([80, 256, 256, 4], nn.SiLU), lambda: EnsembleMLP([80, 256, 256, 1], 3)])
def test_a_network_is_the_same_with_and_without_it(make, generator, monkeypatch):
    torch.manual_seed(0)
    net, x = make(), torch.randn(ROWS, 80, generator=generator)

    def answer():
        net.zero_grad()
        output = net(x)
        output.square().mean().backward()
        with torch.no_grad():
            assert torch.allclose(
                net(x), output, atol=1e-5
            )  # where no gradient is asked for, activations work in place
        return [output.detach(), *(parameter.grad for parameter in net.parameters())]

    kept = x.clone()
    for ours, plain in zip(answer(), plainly(monkeypatch, answer), strict=True):
        assert torch.allclose(ours, plain, atol=1e-4)
    assert torch.equal(x, kept)


def test_half_precision_is_left_to_autocast(operands):
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*operands).dtype == torch.bfloat16
