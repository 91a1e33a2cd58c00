"""Interpolation: latents checked by geometry, their samples, and `ganframe interpolate`."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe import RequestError, interpolate
from ganframe.analysis.interpolation import interpolate_samples


def directions(degrees, dtype=torch.float64):
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=dtype)


def norms_stay_between(start, end, latents, tolerance=1e-6):
    lengths, ends = latents.double().norm(dim=-1), torch.stack([start.double().norm(dim=-1), end.double().norm(dim=-1)])
    return bool(
        (lengths >= ends.min(0).values * (1 - tolerance)).all()
        and (lengths <= ends.max(0).values * (1 + tolerance)).all()
    )


@pytest.mark.parametrize("path", ["linear", "spherical"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [1, 2, 3, 64])
def test_interpolation_ends_are_bit_exact(dim, dtype, path):
    start, end = torch.randn(2, 200, dim).to(dtype)
    for steps in (2, 3, 9):
        latents = interpolate(start, end, steps, path)
        assert latents.shape == (steps, 200, dim)
        assert latents.dtype == dtype
        assert torch.equal(latents[0], start)
        assert torch.equal(latents[-1], end)


def test_linear_interpolation_takes_equal_steps():
    latents = interpolate(torch.tensor([0.0, 4.0]), torch.tensor([8.0, 0.0]), 5, "linear")
    assert latents.tolist() == [[0, 4], [2, 3], [4, 2], [6, 1], [8, 0]]


@pytest.mark.parametrize("radius", [1.0, 3.0])
@pytest.mark.parametrize(("first", "last"), [(0, 90), (0, 60), (20, 170), (-30, 45), (90, 0), (10, 189)])
def test_spherical_interpolation_takes_equal_angles(first, last, radius):
    latents = interpolate(radius * directions(first), radius * directions(last), 7, "spherical")
    for step, point in enumerate(latents):
        torch.testing.assert_close(point, radius * directions(first + (last - first) * step / 6), atol=1e-9, rtol=1e-9)


def test_spherical_interpolation_takes_the_shorter_arc():
    latents = interpolate(directions(10), directions(350), 3)
    torch.testing.assert_close(latents[1], directions(0), atol=1e-12, rtol=0)


def test_midpoints_of_linear_and_spherical_paths_differ_by_root_two():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    torch.testing.assert_close(interpolate(a, b, 3)[1], torch.tensor([0.5, 0.5, 0]) * math.sqrt(2))
    torch.testing.assert_close(interpolate(a, b, 3, "linear")[1], torch.tensor([0.5, 0.5, 0]))


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_spherical_interpolation_stays_on_the_great_circle(dim):
    start, end = torch.nn.functional.normalize(torch.randn(2, 50, dim, dtype=torch.float64), dim=-1) * 5
    latents = interpolate(start, end, 9)
    torch.testing.assert_close(latents.norm(dim=-1), torch.full((9, 50), 5.0, dtype=torch.float64))
    steps = torch.nn.functional.cosine_similarity(latents[1:], latents[:-1], dim=-1).arccos()
    torch.testing.assert_close(steps, steps[:1].expand(8, 50))
    whole = torch.nn.functional.cosine_similarity(start, end, dim=-1).arccos()
    torch.testing.assert_close(steps.sum(0), whole)


@pytest.mark.parametrize("degrees", [30, 60, 90, 120, 150, 170, 179])
@pytest.mark.parametrize("longer", [1.1, 2.0, 10.0])
def test_spherical_interpolation_keeps_norms_between_those_of_its_ends(longer, degrees):
    start, end = directions(0), longer * directions(degrees)
    assert norms_stay_between(start, end, interpolate(start, end, 21))
    assert norms_stay_between(end, start, interpolate(end, start, 21))


def test_spherical_interpolation_of_two_dimensional_gaussians_keeps_norms():
    """In two dimensions, as recipes for points have, all angles are equally likely."""
    start, end = torch.randn(2, 500, 2)
    assert norms_stay_between(start, end, interpolate(start, end), 1e-5)


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.3, -1.0, -2.0, -0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spherical_interpolation_is_linear_for_parallel_and_antiparallel_latents(dtype, factor):
    start = torch.randn(20, 8, dtype=dtype)
    end = factor * start
    latents = interpolate(start, end, 5, "spherical")
    torch.testing.assert_close(latents, interpolate(start, end, 5, "linear"), atol=1e-5, rtol=1e-5)
    assert torch.equal(latents[0], start)
    assert torch.equal(latents[-1], end)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_one_dimensional_latents_are_interpolated_linearly(path):
    start, end = torch.tensor([[-2.0], [1.0], [3.0]]), torch.tensor([[2.0], [3.0], [-1.0]])
    expected = [[[-2.0], [1.0], [3.0]], [[0.0], [2.0], [1.0]], [[2.0], [3.0], [-1.0]]]
    torch.testing.assert_close(interpolate(start, end, 3, path), torch.tensor(expected))


def test_interpolation_with_the_zero_latent_is_finite():
    zero, point = torch.zeros(3), torch.tensor([0.0, 2.0, 0.0])
    for start, end in ((zero, point), (point, zero), (zero, zero)):
        latents = interpolate(start, end, 5)
        assert latents.isfinite().all()
        assert torch.equal(latents[0], start)
        assert torch.equal(latents[-1], end)
        assert (latents[:, [0, 2]] == 0).all()
        lengths = latents.norm(dim=1)
        assert (lengths.diff().sign() == (end.norm() - start.norm()).sign()).all()


@pytest.mark.parametrize("off", [1e-3, 1e-4, 1e-5, 3e-6, 1e-6, 3e-7, 1e-8, 1e-12])
@pytest.mark.parametrize("about", [0.0, math.pi])
def test_interpolation_of_nearly_parallel_latents_is_finite(about, off):
    angle = about + off
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    latents = interpolate(start, end, 9)
    assert latents.isfinite().all()
    assert (latents.norm(dim=1) <= 1 + 1e-8).all()
    torch.testing.assert_close(latents[0], start, atol=1e-15, rtol=0)
    torch.testing.assert_close(latents[-1], end, atol=1e-15, rtol=0)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_batched_interpolation_equals_that_of_each_row(path):
    start, end = torch.randn(2, 12, 5)
    end[1], end[2], end[3], start[4] = start[1], -start[2], 2 * start[3], 0
    together = interpolate(start, end, 6, path)
    assert together.shape == (6, 12, 5)
    for i in range(12):
        torch.testing.assert_close(together[:, i], interpolate(start[i], end[i], 6, path), atol=1e-6, rtol=1e-6)


def test_interpolation_is_symmetric():
    start, end = torch.randn(2, 30, 6)
    for path in ("linear", "spherical"):
        torch.testing.assert_close(interpolate(end, start, 8, path), interpolate(start, end, 8, path).flip(0))


def test_interpolation_defaults():
    start, end = torch.randn(2, 4)
    assert torch.equal(interpolate(start, end), interpolate(start, end, steps=9, path="spherical"))


def test_interpolation_keeps_device_and_dtype():
    start, end = torch.empty(2, 4, 3, device="meta", dtype=torch.bfloat16)
    for path in ("linear", "spherical"):
        latents = interpolate(start, end, 5, path)
        assert (latents.device.type, latents.dtype, latents.shape) == ("meta", torch.bfloat16, (5, 4, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_interpolation_on_gpu_equals_cpu_and_samples_return_to_cpu(generators):
    start, end = torch.randn(2, 40, 2)
    latents = interpolate(start.cuda(), end.cuda())
    assert latents.is_cuda
    torch.testing.assert_close(latents.cpu(), interpolate(start, end), atol=1e-6, rtol=1e-6)
    G = generators["ring"].cuda()
    assert not G.decode(latents[:, 0]).is_cuda
    torch.testing.assert_close(G.decode(latents[:, 0]), latents[:, 0].cpu(), atol=1e-3, rtol=1e-3)
    assert interpolate_samples(G, [("0", "1")], 5).shape == (1, 5, 2)


def test_interpolation_does_not_alias_its_inputs():
    start, end = torch.randn(2, 3, 4)
    before = start.clone(), end.clone()
    for path in ("linear", "spherical"):
        interpolate(start, end, 4, path).zero_()
    assert torch.equal(start, before[0])
    assert torch.equal(end, before[1])


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_fewer_than_two_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps = {steps}"):
        interpolate(torch.zeros(2), torch.ones(2), steps)


@pytest.mark.parametrize(
    ("start", "end"), [((2,), (3,)), ((2,), (1, 2)), ((4, 2), (2,)), ((4, 2), (1, 2)), ((1,), (3,))]
)
def test_ends_of_different_shapes_are_refused_and_not_broadcast(start, end):
    with pytest.raises(ValueError, match="the ends have shapes"):
        interpolate(torch.ones(start), torch.ones(end))


@pytest.mark.parametrize("path", ["curved", "", None, "Linear"])
def test_unknown_path_is_refused(path):
    with pytest.raises(ValueError, match="linear or spherical"):
        interpolate(torch.zeros(2), torch.ones(2), 3, path)


# ------------------------------------------------------------------------------------------------ interpolated samples


def test_interpolated_samples_start_and_end_at_the_chosen_samples(generators):
    for name, G in generators.items():
        if name == "labelled" or name == "in_norm":
            continue  # conditional: the end is decoded with the label of the start, as tested below
        shown, other = G.sample(64), G.sample(64, seed=5)
        made = interpolate_samples(G, [("3", "7"), ("0", "5:63"), (" 5:2 ", "3")], steps=4)
        assert made.shape == (3, 4, *G.spec.shape)
        torch.testing.assert_close(made[:, 0], torch.stack([shown[3], shown[0], other[2]]))
        torch.testing.assert_close(made[:, -1], torch.stack([shown[7], other[63], shown[3]]))


def test_each_row_is_the_interpolation_of_one_pair(generators):
    G = generators["ring"]
    z, _ = G.latents(64)
    made = interpolate_samples(G, [("0", "1"), ("2", "3"), ("4", "2")], steps=5)
    for row, (a, b) in zip(made, [(0, 1), (2, 3), (4, 2)], strict=True):
        torch.testing.assert_close(row, interpolate(z[a], z[b], 5))


def test_places_refer_to_the_picture_of_n_samples_and_that_seed(generators):
    G = generators["labelled"]
    z, y = G.latents(10, seed=4)
    made = interpolate_samples(G, [("9", "9")], steps=2, seed=4, n=10)
    torch.testing.assert_close(made[0, 0], G.sample(10, seed=4)[9])
    torch.testing.assert_close(made[0, 1], G.decode(z[9:], y[9:])[0])


@pytest.mark.parametrize("name", ["labelled", "in_norm"])
def test_samples_of_a_path_have_the_label_of_its_start_or_the_requested_one(generators, name):
    G = generators[name]
    z, y = G.latents(64)
    a, b = int((y == 1).nonzero()[0]), int((y == 0).nonzero()[0])
    pairs = [(str(a), str(b)), (str(b), str(a))]
    latents = interpolate(z[[a, b]], z[[b, a]], 5)
    for label, wanted in ((None, [1, 0]), (0, [0, 0]), (1, [1, 1])):
        made = interpolate_samples(G, pairs, 5, label=label)
        for i in range(2):
            expected = G.decode(latents[:, i], torch.full((5,), wanted[i]))
            torch.testing.assert_close(made[i], expected, atol=1e-5, rtol=1e-5)
    zeros, ones = (interpolate_samples(G, pairs, 5, label=label) for label in (0, 1))
    assert not torch.allclose(zeros, ones, atol=1e-3)


def test_default_path_is_spherical_for_gaussian_and_linear_for_uniform_priors(generators):
    for name, path, other in (("ring", "spherical", "linear"), ("uniform", "linear", "spherical")):
        G = generators[name]
        z, _ = G.latents(64)
        for given in (None, path, other):
            (made,) = interpolate_samples(G, [("1", "2")], 7, given)
            torch.testing.assert_close(made, interpolate(z[1], z[2], 7, given or path))
        assert not torch.allclose(*(interpolate(z[1], z[2], 7, p) for p in (path, other)))


def test_default_path_between_uniform_latents_stays_in_the_cube(generators):
    pairs = [(str(i), str(i + 1)) for i in range(0, 64, 2)]
    assert interpolate_samples(generators["uniform"], pairs).abs().max() <= math.sqrt(3)
    assert interpolate_samples(generators["uniform"], pairs, path="spherical").abs().max() > math.sqrt(3)


def test_samples_labels_and_steps_that_do_not_exist_are_refused(generators):
    ring, plain = generators["ring"], generators["plain"]
    with pytest.raises(RequestError, match=r"'64': the picture has 64 samples, 0 to 63"):
        interpolate_samples(ring, [("0", "1"), ("0", "64")])
    with pytest.raises(RequestError, match=r"'5': the picture has 5 samples, 0 to 4"):
        interpolate_samples(ring, [("5", "0")], n=5)
    with pytest.raises(ValueError, match="the data has classes 0 to 7"):
        interpolate_samples(ring, [("0", "1")], label=8)
    with pytest.raises(ValueError, match="the data has no classes"):
        interpolate_samples(plain, [("0", "1")], label=0)
    with pytest.raises(ValueError, match="steps = 1"):
        interpolate_samples(ring, [("0", "1")], steps=1)


# ------------------------------------------------------------------------------------------------- ganframe interpolate


def test_interpolate_command_defaults_to_eight_paths_of_nine_samples(call, runs, generators, greys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["shades"], run)
    result = call("interpolate", run)
    file = run / "samples" / "interpolation.png"
    assert result.stdout == f"8 paths of 9 samples: {file}\n"
    made = interpolate_samples(generators["shades"], [(str(i), str(i + 1)) for i in range(0, 16, 2)])
    torch.testing.assert_close(greys(file, 8, 9), made[:, :, 0, 4, 4], atol=0.01, rtol=0)


def test_picture_has_a_row_for_each_path(call, runs, generators, greys):
    z = generators["shades"].latents(30, seed=4)[0][:, 0]
    arguments = ["--between", 3, 7, "--between", "1:2", 29, "--steps", 5, "-n", 30, "--seed", 4, "--out", "new/x.png"]
    assert call("interpolate", runs["shades"], *arguments).stdout == "2 paths of 5 samples: new/x.png\n"
    start = torch.stack([z[3], generators["shades"].latents(30, seed=1)[0][2, 0]])
    expected = torch.lerp(start[:, None], z[[7, 29]][:, None], torch.linspace(0, 1, 5)).tanh()
    torch.testing.assert_close(greys("new/x.png", 2, 5), expected, atol=0.01, rtol=0)


def test_array_has_shape_paths_steps_sample(call, runs, generators):
    for name in ("shades", "ring", "labelled"):
        call("interpolate", runs[name], "--between", 3, 7, "--between", 0, 1, "--steps", 4, "--out", f"{name}.npy")
        made = np.load(f"{name}.npy")
        assert made.shape == (2, 4, *generators[name].spec.shape)
        assert made.dtype == np.float32
        expected = interpolate_samples(generators[name], [("3", "7"), ("0", "1")], 4)
        assert torch.equal(torch.from_numpy(made), expected)


def test_interpolate_command_uses_path_and_label(call, runs, generators):
    pair = ["--between", "3", "7", "--steps", "4", "--out", "x.npy"]
    for path in ("linear", "spherical"):
        call("interpolate", runs["ring"], *pair, "--path", path)
        expected = interpolate_samples(generators["ring"], [("3", "7")], 4, path)
        assert torch.equal(torch.from_numpy(np.load("x.npy")), expected)
    for label in (0, 1):
        call("interpolate", runs["labelled"], *pair, "--label", label)
        expected = interpolate_samples(generators["labelled"], [("3", "7")], 4, label=label)
        assert torch.equal(torch.from_numpy(np.load("x.npy")), expected)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_animation_plays_forth_and_back_and_loops(call, runs, generators, steps):
    pairs = ["--between", 3, 7, "--between", 0, 1, "--between", 5, 9]
    result = call("interpolate", runs["shades"], *pairs, "--steps", steps, "--out", "x.gif")
    assert result.stdout == f"3 paths of {steps} samples: x.gif\n"
    made = interpolate_samples(generators["shades"], [("3", "7"), ("0", "1"), ("5", "9")], steps)[:, :, 0, 4, 4]
    with Image.open("x.gif") as animation:
        assert animation.n_frames == 2 * steps - 2
        assert animation.info["loop"] == 0
        assert animation.size == (2 * 8 * 31 + 6,) * 2  # images of 8 pixels, enlarged so that there are 500
        half = animation.width // 2
        for frame, step in enumerate([*range(steps), *range(steps - 2, 0, -1)]):
            animation.seek(frame)
            grey = np.asarray(animation.convert("L")).astype(float)
            shown = grey[half // 2 :: half, half // 2 :: half].flatten()[:3] / 127.5 - 1
            assert np.abs(shown - made[:, step].numpy()).max() < 0.03


@pytest.mark.parametrize(("n", "paths"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (17, 8)])
def test_small_pictures_have_fewer_default_paths(call, runs, generators, n, paths):
    call("interpolate", runs["ring"], "-n", n, "--steps", 2, "--out", "x.npy")
    made = torch.from_numpy(np.load("x.npy"))
    assert made.shape == (paths, 2, 2)
    torch.testing.assert_close(made.flatten(0, 1)[: n if n > 1 else 1], generators["ring"].sample(n)[: 2 * paths])


def test_paths_of_points_are_drawn_as_a_scatter_plot(call, runs):
    call("interpolate", runs["ring"], "--out", "x.png")
    with Image.open("x.png") as picture:
        assert min(picture.size) > 100


REFUSED = [
    ("shades --out new/x.jpg", "--out new/x.jpg: the name must end in .png or .gif or .npy"),
    ("shades --out new/x", "--out new/x: the name must end in .png or .gif or .npy"),
    ("ring --out new/x.gif", "--out new/x.gif: the name must end in .png or .npy"),  # points are not animated
    ("shades --between 0 64 --out new/x.png", "'64': the picture has 64 samples"),
    ("shades --between x 0 --out new/x.gif", "'x': write the place of a sample"),
    ("shades --between= 0 --out new/x.gif", "'': write the place of a sample"),
    ("labelled --label 2 --out new/x.npy", "y = 2: the data has classes 0 to 1"),
    ("labelled --label -1 --out new/x.npy", "y = -1: the data has classes 0 to 1"),
    ("plain --label 0 --out new/x.npy", "y = 0: the data has no classes"),
    ("none --out new/x.npy", "none: not the folder of a run"),
    (f"ring --between {10**30}:1 2 --out new/x.npy", "'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_interpolate_command_refuses_in_one_line_and_writes_nothing(refused, arguments, message):
    assert refused("interpolate", *arguments.split()).startswith(message)
    assert [*Path().iterdir()] == []


@pytest.mark.parametrize("flags", ["--steps 1", "-n 0", "--seed -1", "--path curved", "--between 1"])
def test_interpolate_command_refuses_wrong_flags(call, runs, flags):
    assert "Error" in call("interpolate", runs["ring"], *flags.split(), code=2).stderr
    assert "Error" in call("interpolate", code=2).stderr
