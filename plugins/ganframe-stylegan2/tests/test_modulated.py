"""Modulated convolutions: against their definition, their deviation, noise, derivatives, StyleGAN's normalisation."""

import math

import pytest
import torch
from ganframe_stylegan2.modulated import StyledConv, ToImage, demodulation, scaled
from torch.nn import functional as F


def layer(channels=3, out=4, size=(5, 7), w_dim=6, up=False, style="demodulate"):
    """A layer whose biases, noise and shifts are not 0."""
    made = StyledConv(channels, out, size, w_dim, up, style)
    torch.nn.init.normal_(made.bias)
    torch.nn.init.constant_(made.noise_strength, 0.3)
    return made


def by_definition(made, h, w):
    """The layer in evaluation mode, one sample at a time: w'_oik = s_i w_oik, divided by (Σ_ik w'² + ε)^½."""
    outs = []
    for sample, style in zip(h, made.style(w), strict=True):
        weight = made.conv.weight * style[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if made.filter is None:
            out = F.conv2d(sample[None], weight, padding=1)
        else:  # zeros between pixels, the convolution, [1, 3, 3, 1] / 4 along both axes
            zeros = torch.zeros(1, len(sample), 2 * sample.shape[1] - 1, 2 * sample.shape[2] - 1)
            zeros[..., ::2, ::2] = sample
            out = F.conv2d(F.pad(zeros, (2, 2, 2, 2)), weight.flip(2, 3))
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            kernel = torch.outer(taps, taps)
            out = torch.stack([F.conv2d(channel[None, None], kernel[None, None], padding=1) for channel in out[0]], 1)
            out = out.view(1, -1, *out.shape[-2:])[..., : made.size[0], : made.size[1]]
        out = math.sqrt(2) * out + 0.3 * made.noise + made.bias[:, None, None]
        outs.append(F.leaky_relu(out, 0.2))
    return torch.cat(outs)


@pytest.mark.parametrize(("up", "before"), [(False, (5, 7)), (True, (3, 4))])
def test_modulated_convolution_equals_its_definition_for_each_sample(up, before):
    made = layer(up=up).eval()
    h, w = torch.randn(4, 3, *before), 2 * torch.randn(4, 6)
    found = made(h, w)
    assert found.shape == (4, 4, 5, 7)  # an odd size: doubled and cropped
    torch.testing.assert_close(found, by_definition(made, h, w), rtol=1e-4, atol=1e-5)


def test_demodulated_outputs_have_unit_deviation_for_unit_normal_inputs():
    made = layer(channels=32, out=24)
    styles = torch.randn(8, 32).exp()  # scales that differ by orders of magnitude
    weight = made.conv.weight
    h = scaled(F.conv2d(scaled(torch.randn(8, 32, 66, 66), styles), weight), demodulation(weight, styles))
    deviations = h.std((2, 3))  # of each sample and channel
    torch.testing.assert_close(deviations, torch.ones_like(deviations), rtol=0.1, atol=0)
    assert deviations.mean().item() == pytest.approx(1, rel=0.01)
    modulated = F.conv2d(scaled(torch.randn(8, 32, 66, 66), styles), weight)
    assert modulated.std((2, 3)).max() > 2 * modulated.std((2, 3)).min()  # without demodulation they do not


def test_activations_keep_unit_deviation():
    made = StyledConv(32, 32, (64, 64), 6, up=False, style="demodulate")
    made.train()
    h = torch.randn(4, 32, 64, 64)
    for _ in range(3):
        h = made(h, torch.randn(4, 6))[..., 1:-1, 1:-1]
        h = F.pad(h, (1, 1, 1, 1), mode="reflect")
        assert h.square().mean().sqrt().item() == pytest.approx(1, rel=0.15)


def test_noise_is_random_in_training_and_fixed_in_evaluation():
    made = layer()
    h, w = torch.randn(2, 3, 5, 7), torch.randn(2, 6)
    assert not torch.equal(made(h, w), made(h, w))
    h = h[:1].expand(2, -1, -1, -1)
    w = w[:1].expand(2, -1)
    one, other = made(h, w)
    assert not torch.allclose(one, other)  # each sample has its own
    made.eval()
    assert torch.equal(made(h, w), made(h, w))
    assert torch.allclose(*made(h, w))
    with torch.no_grad():
        made.noise_strength.zero_()
        without = made(h, w)
        assert torch.equal(made.train()(h, w), without)
        made.noise_strength.fill_(0.3)
    assert not torch.allclose(made.eval()(h, w), without)


def test_noise_has_no_effect_at_the_start():
    made = StyledConv(3, 4, (5, 7), 6, up=False, style="demodulate")
    h, w = torch.randn(2, 3, 5, 7), torch.randn(2, 6)
    assert torch.equal(made.train()(h, w), made.eval()(h, w))


def test_instance_style_sets_mean_and_deviation_of_each_channel():
    made = layer(out=5, size=(6, 6), up=True, style="instance")
    h, w = torch.randn(3, 3, 3, 3), torch.randn(3, 6)
    found = made(h, w)
    torch.testing.assert_close(found.mean((2, 3)), made.shift(w), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.std((2, 3), correction=0), made.style(w).abs(), rtol=1e-3, atol=1e-4)


def test_layer_of_the_image_is_modulated_and_not_demodulated():
    to_image = ToImage(3, 2, 6, "demodulate")
    h, w = torch.randn(4, 3, 5, 5), torch.randn(4, 6)
    expected = torch.einsum("oi,ni,nihw->nohw", to_image.conv.weight[:, :, 0, 0], to_image.style(w), h)
    torch.testing.assert_close(to_image(h, w), expected + to_image.conv.bias[:, None, None])
    plain = ToImage(3, 2, 6, "instance")
    assert torch.equal(plain(h, w), plain.conv(h))


@pytest.mark.parametrize("style", ["demodulate", "instance"])
def test_second_derivatives_are_right(style):
    """Path lengths differentiate the gradient by w."""
    made = layer(channels=2, out=2, size=(4, 4), w_dim=3, up=True, style=style).double().eval()
    h = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, (h, w))
    assert torch.autograd.gradgradcheck(made, (h, w))


def test_autocast_keeps_activations_in_half_precision():
    made, to_image = layer(up=True), ToImage(4, 2, 6, "demodulate")
    with torch.autocast("cpu", torch.bfloat16):
        h = made(torch.randn(2, 3, 3, 4), w := torch.randn(2, 6))
        assert h.dtype == to_image(h, w).dtype == torch.bfloat16
