"""The latent space: ways whose every sample is where geometry says, and sums that a linear generator lets one check."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import ganframe
from ganframe import DataSpec, RequestError, arithmetic, interpolate, latent, load_generator, runfolder
from ganframe.cli import main
from ganframe.recipe import Latent
from ganframe.sampling import TrainedGenerator, draw_latents

RECIPE = """
[dataset]
{dataset}
[latent]
dim = {dim}
distribution = "{distribution}"
[generator]
{generator}
[discriminator]
use = "mlp"
hidden = [4]
[objective]
use = "non_saturating"
[train]
steps = 1
batch_size = 4
"""
LINEAR = 'use = "mlp"\nhidden = []'  # one linear layer: what it makes of a sum is the sum of what it makes


def trained(folder, weights, dataset='use = "ring"', generator=LINEAR, dim=2, distribution="normal"):
    """A finished run whose generator's parameters were then set by weights(network)."""
    folder.mkdir()
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(dataset=dataset, generator=generator, dim=dim, distribution=distribution))
    run = ganframe.run(ganframe.load_recipe(recipe), out=folder / "run").folder
    G = load_generator(run)
    with torch.no_grad():
        weights(G.network)
    runfolder.save_generator(run / "generator.safetensors", G.network, G.spec)
    return run


def identity(network):
    """Samples are their latents."""
    network.last.weight.copy_(torch.eye(2))
    network.last.bias.zero_()


def shade(network):
    """Images of one grey, tanh(z): dark for negative latents, light for positive ones."""
    network.last.weight.fill_(1)
    network.last.bias.zero_()


def anything(network):
    """Parameters that tell classes well apart, which a step of training does not."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)


def folders_of_images(root):
    """Two classes of grey images, 0 a little darker than the middle and 1 a little lighter."""
    for name, value in (("dark", 100), ("light", 155)):
        (root / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8), value + i - 3, np.uint8)).save(root / name / f"{i}.png")
    return f'use = "image_folder"\nroot = "{root.as_posix()}"\nchannels = 1'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs by name, not to be changed."""
    folder = tmp_path_factory.mktemp("latent")
    made = {
        "ring": trained(folder / "ring", identity),
        "uniform": trained(folder / "uniform", identity, distribution="uniform"),
        "plain": trained(folder / "plain", identity, 'use = "swiss_roll"'),
        "single": trained(folder / "single", identity, 'use = "ring"\nmodes = 1'),
        "shades": trained(folder / "shades", shade, folders_of_images(folder / "data"), dim=1),
    }
    label = 'use = "dcgan"\nwidth = 4\ncondition = "concat"'
    gone = folders_of_images(folder / "gone")
    made["labelled"] = trained(folder / "labelled", anything, gone, label, dim=3)
    made["orphan"] = trained(folder / "orphan", shade, gone, dim=1)
    shutil.rmtree(folder / "gone")
    in_norm = 'use = "mlp"\nhidden = [8]\nbatch_norm = true\ncondition = "batch_norm"'
    made["in_norm"] = trained(folder / "in_norm", anything, 'use = "ring"\nmodes = 3', in_norm)
    return made


@pytest.fixture
def generators(runs):
    return {name: load_generator(run) for name, run in runs.items()}


@pytest.fixture
def made_up(monkeypatch):
    """made_up(function, …): arithmetic loads a generator with this forward(z, y), whatever run it is asked for."""

    def write(function, classes=None, dim=2, shape=(2,)):
        network = torch.nn.Module()
        network.forward = function
        G = TrainedGenerator(network, DataSpec(shape, classes), Latent(dim=dim))
        monkeypatch.setattr(latent, "load_generator", lambda run: G)
        return G

    return write


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(*arguments, code=0): the command line's result, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFRAME_BLOCK", "")

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.exit_code == code, result.output
        return result

    return run


# --------------------------------------------------------------------------------------------------------- interpolate


def directions(degrees, dtype=torch.float64):
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=dtype)


def lengths_stay_between(start, end, way, tolerance=1e-6):
    lengths, ends = way.double().norm(dim=-1), torch.stack([start.double().norm(dim=-1), end.double().norm(dim=-1)])
    return bool(
        (lengths >= ends.min(0).values * (1 - tolerance)).all()
        and (lengths <= ends.max(0).values * (1 + tolerance)).all()
    )


@pytest.mark.parametrize("path", ["linear", "spherical"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [1, 2, 3, 64])
def test_a_way_begins_and_ends_at_its_ends_to_the_last_bit(dim, dtype, path):
    start, end = torch.randn(2, 200, dim).to(dtype)
    for steps in (2, 3, 9):
        way = interpolate(start, end, steps, path)
        assert way.shape == (steps, 200, dim)
        assert way.dtype == dtype
        assert torch.equal(way[0], start)
        assert torch.equal(way[-1], end)


def test_a_linear_way_goes_straight_in_equal_steps():
    way = interpolate(torch.tensor([0.0, 4.0]), torch.tensor([8.0, 0.0]), 5, "linear")
    assert way.tolist() == [[0, 4], [2, 3], [4, 2], [6, 1], [8, 0]]


@pytest.mark.parametrize("radius", [1.0, 3.0])
@pytest.mark.parametrize(("first", "last"), [(0, 90), (0, 60), (20, 170), (-30, 45), (90, 0), (10, 189)])
def test_a_spherical_way_turns_by_equal_angles(first, last, radius):
    way = interpolate(radius * directions(first), radius * directions(last), 7, "spherical")
    for step, point in enumerate(way):
        torch.testing.assert_close(point, radius * directions(first + (last - first) * step / 6), atol=1e-9, rtol=1e-9)


def test_a_spherical_way_takes_the_shorter_arc():
    way = interpolate(directions(10), directions(350), 3)
    torch.testing.assert_close(way[1], directions(0), atol=1e-12, rtol=0)


def test_halfway_between_two_orthogonal_latents_the_two_paths_differ_by_a_factor_of_root_two():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    torch.testing.assert_close(interpolate(a, b, 3)[1], torch.tensor([0.5, 0.5, 0]) * math.sqrt(2))
    torch.testing.assert_close(interpolate(a, b, 3, "linear")[1], torch.tensor([0.5, 0.5, 0]))


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_on_a_sphere_a_spherical_way_stays_there_and_in_the_plane_of_its_ends(dim):
    start, end = torch.nn.functional.normalize(torch.randn(2, 50, dim, dtype=torch.float64), dim=-1) * 5
    way = interpolate(start, end, 9)
    torch.testing.assert_close(way.norm(dim=-1), torch.full((9, 50), 5.0, dtype=torch.float64))
    steps = torch.nn.functional.cosine_similarity(way[1:], way[:-1], dim=-1).arccos()
    torch.testing.assert_close(steps, steps[:1].expand(8, 50))
    whole = torch.nn.functional.cosine_similarity(start, end, dim=-1).arccos()
    torch.testing.assert_close(steps.sum(0), whole)


@pytest.mark.parametrize("degrees", [30, 60, 90, 120, 150, 170, 179])
@pytest.mark.parametrize("longer", [1.1, 2.0, 10.0])
def test_between_different_lengths_a_spherical_way_keeps_to_the_lengths_between(longer, degrees):
    start, end = directions(0), longer * directions(degrees)
    assert lengths_stay_between(start, end, interpolate(start, end, 21))
    assert lengths_stay_between(end, start, interpolate(end, start, 21))


def test_between_gaussian_latents_of_few_dimensions_no_spherical_way_leaves_their_lengths():
    """Recipes for points have two dimensions of z, where any angle is as likely as any other."""
    start, end = torch.randn(2, 500, 2)
    assert lengths_stay_between(start, end, interpolate(start, end), 1e-5)


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.3, -1.0, -2.0, -0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_the_directions_are_one_or_opposite_a_spherical_way_is_linear(dtype, factor):
    start = torch.randn(20, 8, dtype=dtype)
    end = factor * start
    way = interpolate(start, end, 5, "spherical")
    torch.testing.assert_close(way, interpolate(start, end, 5, "linear"), atol=1e-5, rtol=1e-5)
    assert torch.equal(way[0], start)
    assert torch.equal(way[-1], end)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_latents_of_one_dimension_go_straight(path):
    start, end = torch.tensor([[-2.0], [1.0], [3.0]]), torch.tensor([[2.0], [3.0], [-1.0]])
    expected = [[[-2.0], [1.0], [3.0]], [[0.0], [2.0], [1.0]], [[2.0], [3.0], [-1.0]]]
    torch.testing.assert_close(interpolate(start, end, 3, path), torch.tensor(expected))


def test_the_zero_latent_has_no_direction_and_yet_a_way():
    zero, point = torch.zeros(3), torch.tensor([0.0, 2.0, 0.0])
    for start, end in ((zero, point), (point, zero), (zero, zero)):
        way = interpolate(start, end, 5)
        assert way.isfinite().all()
        assert torch.equal(way[0], start)
        assert torch.equal(way[-1], end)
        assert (way[:, [0, 2]] == 0).all()
        lengths = way.norm(dim=1)
        assert (lengths.diff().sign() == (end.norm() - start.norm()).sign()).all()


@pytest.mark.parametrize("off", [1e-3, 1e-4, 1e-5, 3e-6, 1e-6, 3e-7, 1e-8, 1e-12])
@pytest.mark.parametrize("about", [0.0, math.pi])
def test_directions_that_are_nearly_one_or_nearly_opposite_have_a_finite_way_with_exact_ends(about, off):
    angle = about + off
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    way = interpolate(start, end, 9)
    assert way.isfinite().all()
    assert (way.norm(dim=1) <= 1 + 1e-8).all()
    torch.testing.assert_close(way[0], start, atol=1e-15, rtol=0)
    torch.testing.assert_close(way[-1], end, atol=1e-15, rtol=0)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_ways_of_a_batch_are_those_of_its_rows(path):
    start, end = torch.randn(2, 12, 5)
    end[1], end[2], end[3], start[4] = start[1], -start[2], 2 * start[3], 0
    together = interpolate(start, end, 6, path)
    assert together.shape == (6, 12, 5)
    for i in range(12):
        torch.testing.assert_close(together[:, i], interpolate(start[i], end[i], 6, path), atol=1e-6, rtol=1e-6)


def test_the_way_back_is_the_way_reversed():
    start, end = torch.randn(2, 30, 6)
    for path in ("linear", "spherical"):
        torch.testing.assert_close(interpolate(end, start, 8, path), interpolate(start, end, 8, path).flip(0))


def test_a_way_has_nine_steps_and_is_spherical_unless_told_otherwise():
    start, end = torch.randn(2, 4)
    assert torch.equal(interpolate(start, end), interpolate(start, end, steps=9, path="spherical"))


def test_the_way_is_on_the_device_of_its_ends():
    start, end = torch.empty(2, 4, 3, device="meta", dtype=torch.bfloat16)
    for path in ("linear", "spherical"):
        way = interpolate(start, end, 5, path)
        assert (way.device.type, way.dtype, way.shape) == ("meta", torch.bfloat16, (5, 4, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_way_is_that_of_the_cpu_and_decoded_samples_come_back(generators):
    start, end = torch.randn(2, 40, 2)
    way = interpolate(start.cuda(), end.cuda())
    assert way.is_cuda
    torch.testing.assert_close(way.cpu(), interpolate(start, end), atol=1e-6, rtol=1e-6)
    G = generators["ring"].cuda()
    assert not G.decode(way[:, 0]).is_cuda
    torch.testing.assert_close(G.decode(way[:, 0]), way[:, 0].cpu(), atol=1e-3, rtol=1e-3)
    assert latent.ways(G, [("0", "1")], 5).shape == (1, 5, 2)


def test_the_ends_are_left_as_they_were():
    start, end = torch.randn(2, 3, 4)
    before = start.clone(), end.clone()
    for path in ("linear", "spherical"):
        interpolate(start, end, 4, path).zero_()
    assert torch.equal(start, before[0])
    assert torch.equal(end, before[1])


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_a_way_of_fewer_than_two_steps_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps = {steps}"):
        interpolate(torch.zeros(2), torch.ones(2), steps)


@pytest.mark.parametrize(
    ("start", "end"), [((2,), (3,)), ((2,), (1, 2)), ((4, 2), (2,)), ((4, 2), (1, 2)), ((1,), (3,))]
)
def test_ends_of_different_shapes_are_refused_and_never_stretched(start, end):
    with pytest.raises(ValueError, match="the ends have shapes"):
        interpolate(torch.ones(start), torch.ones(end))


@pytest.mark.parametrize("path", ["curved", "", None, "Linear"])
def test_a_path_of_another_name_is_refused(path):
    with pytest.raises(ValueError, match="linear or spherical"):
        interpolate(torch.zeros(2), torch.ones(2), 3, path)


# -------------------------------------------------------------------------------------------------- latents and decode


def test_the_samples_of_the_latents_of_a_seed_are_those_of_the_seed(generators):
    for G in generators.values():
        z, y = G.latents(20, seed=3)
        assert z.shape == (20, G.latent.dim)
        assert y.shape == (20,)
        assert torch.equal(G.decode(z, y), G.sample(20, seed=3))
        assert torch.equal(G.latents(20)[0], G.latents(20, seed=0)[0])


def test_decoding_in_parts_leaves_no_trace(generators):
    G = generators["labelled"]
    sizes = []
    G.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    z, y = G.latents(600, seed=1)
    torch.testing.assert_close(G.decode(z, y), G(z, y).detach(), atol=1e-5, rtol=1e-5)
    assert max(sizes[:-1]) <= 256
    for n in (0, 1, 255, 256, 257):
        assert G.decode(z[:n], y[:n]).shape == (n, 1, 8, 8)
        torch.testing.assert_close(G.decode(z[:n], y[:n]), G.decode(z, y)[:n], atol=1e-5, rtol=1e-5)


def test_decoded_samples_carry_no_graph(generators):
    G = generators["labelled"]
    z = torch.randn(5, 3, requires_grad=True)
    assert not G.decode(z).requires_grad
    assert z.grad is None


def test_without_labels_class_0_is_decoded(generators):
    G = generators["labelled"]
    z = torch.randn(300, 3)
    zeros = torch.zeros(300, dtype=torch.long)
    assert torch.equal(G.decode(z), G.decode(z, zeros))
    assert not torch.equal(G.decode(z), G.decode(z, zeros + 1))


# ---------------------------------------------------------------------------------------------------------------- ways


def test_a_way_leads_from_one_sample_of_the_picture_to_another(generators):
    for name, G in generators.items():
        if name == "labelled" or name == "in_norm":
            continue  # they have their own tests, below: the end is made with the label of the start
        shown, other = G.sample(64), G.sample(64, seed=5)
        made = latent.ways(G, [("3", "7"), ("0", "5:63"), (" 5:2 ", "3")], steps=4)
        assert made.shape == (3, 4, *G.spec.shape)
        torch.testing.assert_close(made[:, 0], torch.stack([shown[3], shown[0], other[2]]))
        torch.testing.assert_close(made[:, -1], torch.stack([shown[7], other[63], shown[3]]))


def test_each_row_of_ways_is_one_way_in_order(generators):
    G = generators["ring"]
    z, _ = G.latents(64)
    made = latent.ways(G, [("0", "1"), ("2", "3"), ("4", "2")], steps=5)
    for row, (a, b) in zip(made, [(0, 1), (2, 3), (4, 2)], strict=True):
        torch.testing.assert_close(row, interpolate(z[a], z[b], 5))


def test_places_are_those_of_the_picture_of_that_many_samples_and_that_seed(generators):
    G = generators["labelled"]
    z, y = G.latents(10, seed=4)
    made = latent.ways(G, [("9", "9")], steps=2, seed=4, n=10)
    torch.testing.assert_close(made[0, 0], G.sample(10, seed=4)[9])
    torch.testing.assert_close(made[0, 1], G.decode(z[9:], y[9:])[0])


@pytest.mark.parametrize("name", ["labelled", "in_norm"])
def test_all_samples_of_a_way_have_the_label_of_its_start_or_the_one_asked_for(generators, name):
    G = generators[name]
    z, y = G.latents(64)
    a, b = int((y == 1).nonzero()[0]), int((y == 0).nonzero()[0])
    pairs = [(str(a), str(b)), (str(b), str(a))]
    way = interpolate(z[[a, b]], z[[b, a]], 5)
    for label, wanted in ((None, [1, 0]), (0, [0, 0]), (1, [1, 1])):
        made = latent.ways(G, pairs, 5, label=label)
        for i in range(2):
            torch.testing.assert_close(made[i], G.decode(way[:, i], torch.full((5,), wanted[i])), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(latent.ways(G, pairs, 5, label=0), latent.ways(G, pairs, 5, label=1), atol=1e-3)


def test_ways_between_gaussian_latents_are_spherical_and_between_uniform_ones_linear(generators):
    for name, path, other in (("ring", "spherical", "linear"), ("uniform", "linear", "spherical")):
        G = generators[name]
        z, _ = G.latents(64)
        for given in (None, path, other):
            (made,) = latent.ways(G, [("1", "2")], 7, given)
            torch.testing.assert_close(made, interpolate(z[1], z[2], 7, given or path))
        assert not torch.allclose(*(interpolate(z[1], z[2], 7, p) for p in (path, other)))


def test_ways_between_uniform_latents_stay_in_the_cube(generators):
    pairs = [(str(i), str(i + 1)) for i in range(0, 64, 2)]
    assert latent.ways(generators["uniform"], pairs).abs().max() <= math.sqrt(3)
    assert latent.ways(generators["uniform"], pairs, path="spherical").abs().max() > math.sqrt(3)


def test_ways_that_cannot_be_had_are_refused(generators):
    ring, plain = generators["ring"], generators["plain"]
    with pytest.raises(RequestError, match=r"'64': the picture has 64 samples, 0 to 63"):
        latent.ways(ring, [("0", "1"), ("0", "64")])
    with pytest.raises(RequestError, match=r"'5': the picture has 5 samples, 0 to 4"):
        latent.ways(ring, [("5", "0")], n=5)
    with pytest.raises(ValueError, match="the data has classes 0 to 7"):
        latent.ways(ring, [("0", "1")], label=8)
    with pytest.raises(ValueError, match="the data has no classes"):
        latent.ways(plain, [("0", "1")], label=0)
    with pytest.raises(ValueError, match="steps = 1"):
        latent.ways(ring, [("0", "1")], steps=1)


# ---------------------------------------------------------------------------------------------------------- arithmetic


def mean(z, *places):
    return z[list(places)].mean(0)


SUMS = {
    "3,7,12 - 4,9,11 + 5,8,2": lambda z: mean(z, 3, 7, 12) - mean(z, 4, 9, 11) + mean(z, 5, 8, 2),
    "3,7,12-4,9,11+5,8,2": lambda z: mean(z, 3, 7, 12) - mean(z, 4, 9, 11) + mean(z, 5, 8, 2),
    "  3 , 7\n-\t4 ": lambda z: mean(z, 3, 7) - z[4],
    "5": lambda z: z[5],
    "+5": lambda z: z[5],
    "-5": lambda z: -z[5],
    " - 5 - 6 + 0,1": lambda z: -z[5] - z[6] + mean(z, 0, 1),
    "1 + 2 + 3 + 4": lambda z: z[1] + z[2] + z[3] + z[4],  # a sum, not a mean, of groups
    "1,2,3,4": lambda z: mean(z, 1, 2, 3, 4),
    "1 - 2,3,4,5,6,7,8,9,10,11": lambda z: z[1] - mean(z, *range(2, 12)),  # a mean whatever the group's size
    "3,3,5": lambda z: (2 * z[3] + z[5]) / 3,
    "1 - 1": lambda z: 0 * z[0],
    "007 + 0:63": lambda z: z[7] + z[63],
}


@pytest.mark.parametrize("expression", SUMS)
def test_the_result_is_the_sum_of_the_groups_means(runs, generators, expression):
    G = generators["ring"]
    found = arithmetic(runs["ring"], expression)
    expected = SUMS[expression](G.latents(64)[0])
    assert found.z.shape == (2,)
    torch.testing.assert_close(found.z, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        latent.decode_result(G, found), SUMS[expression](G.sample(64))[None], atol=1e-6, rtol=1e-6
    )


def test_groups_keep_their_sign_and_members_in_the_order_written(runs, generators):
    z, y = generators["ring"].latents(64)
    found = arithmetic(str(runs["ring"]), "3,7,12 - 4,9")
    assert [group.sign for group in found.groups] == [1, -1]
    for group, places in zip(found.groups, ([3, 7, 12], [4, 9]), strict=True):
        assert torch.equal(group.z, z[places])
        assert torch.equal(group.y, y[places])
        torch.testing.assert_close(group.mean, z[places].mean(0))


def test_a_place_in_the_picture_of_another_seed(runs, generators):
    G = generators["ring"]
    first, second = (G.latents(64, seed)[0] for seed in (0, 12))
    found = arithmetic(runs["ring"], "12:3,4 - 0:5 + 12:63")
    torch.testing.assert_close(found.z, (second[3] + first[4]) / 2 - first[5] + second[63])


def test_seed_and_number_say_which_picture(runs, generators):
    z, _ = generators["ring"].latents(100, seed=9)
    found = arithmetic(runs["ring"], "99 - 0:1", seed=9, n=100)
    torch.testing.assert_close(found.z, z[99] - generators["ring"].latents(100, seed=0)[0][1])
    with pytest.raises(RequestError, match="'10': the picture has 10 samples, 0 to 9; -n makes it larger"):
        arithmetic(runs["ring"], "10", n=10)


NONSENSE = [
    *("", " ", "+", "-", "1 +", "1 -", "+ + 1", "1 - -2", "1 + + 2", "--1", ",", "1,", ",1", "1,,2", "1 + ,", "1 2"),
    *("x", "1.5", "1e1", "0x1", "1_0", "99", "1 - 99", "1:2:3", ":3", "3:", "1:", "1;2", "1*2", "(1)", "−1", "²", "①"),
    *("1:²", "class", "class=", "class=x", "class=8", "class=-1", "class=1.0", "class=²", "class=1:2", "class=1=2"),
    *("klass=1", "=1", "1=class", "class:1", "classes=1", "1, class=", "class=1 class=2", "nan", "None"),
]


@pytest.mark.parametrize("expression", NONSENSE)
def test_an_expression_that_makes_no_sense_is_refused_in_one_line(runs, expression):
    with pytest.raises(RequestError) as refused:
        arithmetic(runs["ring"], expression)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("digit", ["３", "٣", "۳"])
def test_digits_of_other_scripts_are_read_or_refused(runs, generators, digit):
    for expression in (digit, f"{digit}:{digit}", f"class={digit}"):
        try:
            found = arithmetic(runs["ring"], expression)
        except RequestError:
            continue
        assert torch.equal(found.z, arithmetic(runs["ring"], expression.replace(digit, "3")).z)


@pytest.mark.parametrize("expression", [f"{2**64}:1", f"{10**30}:1", "9" * 30, f"class={10**30}"])
def test_numbers_too_large_for_a_seed_or_a_place_are_refused(runs, expression):
    with pytest.raises(RequestError):
        arithmetic(runs["ring"], expression)


def test_numbers_too_long_to_be_read_are_refused(runs):
    for expression in ("9" * 5000, "9" * 5000 + ":1", "class=" + "9" * 5000):
        with pytest.raises(RequestError):
            arithmetic(runs["ring"], expression)


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no run there"):
        arithmetic(tmp_path, "1")


def test_noise_surrounds_the_result_but_leaves_the_first_sample(runs, generators):
    G = generators["ring"]
    found = arithmetic(runs["ring"], "1 - 2")
    near = latent.decode_result(G, found, noise=0.25, n=2000)
    offsets = near - found.z
    torch.testing.assert_close(near[0], found.z)
    assert offsets.abs().max() <= 0.25 + 1e-6
    assert offsets.min() < -0.24
    assert offsets.max() > 0.24
    assert offsets.mean().abs() < 0.02
    assert abs(offsets.std() - 0.25 / math.sqrt(3)) < 0.01
    assert torch.equal(near, latent.decode_result(G, found, noise=0.25, n=2000))
    torch.testing.assert_close(latent.decode_result(G, found, n=3), found.z.expand(3, 2))


def test_the_picture_has_a_row_for_each_group_behind_its_mean_and_then_the_result(runs, generators):
    G = generators["ring"]
    z, _ = G.latents(64)
    found = arithmetic(runs["ring"], "3,7 - 0,1,2,3,4,5,6,7,8,9,10 + 5")
    rows = latent.rows(G, found)
    assert rows.shape == (4, 9, 2)
    torch.testing.assert_close(rows[0], torch.stack([mean(z, 3, 7), z[3], z[7], *[torch.zeros(2)] * 6]))
    torch.testing.assert_close(rows[1], torch.stack([mean(z, *range(11)), *z[:8]]))
    torch.testing.assert_close(rows[2], torch.stack([z[5], z[5], *[torch.zeros(2)] * 7]))
    torch.testing.assert_close(rows[3, 0], found.z)
    distances = (rows[3, 1:] - found.z).abs()
    assert (distances.amax(1) > 0).all()
    assert distances.max() <= 0.25 + 1e-6


def test_rows_of_a_conditional_generator_are_made_with_their_own_labels(runs, generators):
    G = generators["labelled"]
    found = arithmetic(runs["labelled"], "class=0 - class=0 + class=1")
    rows = latent.rows(G, found)
    for row, group in zip(rows, found.groups, strict=False):
        expected = G.decode(torch.cat([group.mean[None], group.z[:8]]), group.y[:1].expand(9))
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[-1, 0], G.decode(found.z[None], torch.tensor([1]))[0], atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize("name", ["labelled", "in_norm"])
def test_a_class_is_found_by_label_where_the_generator_is_conditional(runs, generators, name):
    """The dataset of `labelled` is gone, and not needed."""
    z, y = generators[name].latents(64, seed=2)
    for label in (0, 1):
        found = arithmetic(runs[name], f"class={label}", seed=2)
        (group,) = found.groups
        assert torch.equal(group.z, z[y == label])
        assert (group.y == label).all()
        assert found.y == label
        torch.testing.assert_close(found.z, z[y == label].mean(0))


def test_a_class_is_found_among_as_many_samples_as_asked_for(runs, generators):
    for n in (10, 500):
        z, y = generators["labelled"].latents(n)
        (group,) = arithmetic(runs["labelled"], "class=1", n=n).groups
        assert torch.equal(group.z, z[y == 1])


def test_class_and_places_join_in_one_group(runs, generators):
    z, y = generators["labelled"].latents(64)
    extra = int((y == 1).nonzero()[3])
    (group,) = arithmetic(runs["labelled"], f"{extra}, class=1 ,{extra}").groups
    assert torch.equal(group.z, torch.cat([z[[extra]], z[y == 1], z[[extra]]]))


@pytest.mark.parametrize(
    ("expression", "left"),
    [
        ("class=0 - class=0 + class=1", 1),
        ("- class=0 + class=0 + class=1", 1),
        ("class=1 - class=0 + class=0", 1),
        ("class=0,class=1 - class=0,class=1 + class=0", 0),
        ("class=1 - class=1 + class=0 - class=0 + class=1", 1),
    ],
)
def test_labels_cancel_but_for_one(runs, expression, left):
    assert arithmetic(runs["labelled"], expression).y == left


@pytest.mark.parametrize(
    "expression",
    ["class=0 + class=1", "class=0 - class=1", "-class=1", "class=0 + class=0", "class=0,class=1", "class=1 - class=1"],
)
def test_labels_that_do_not_leave_one_class_are_refused(runs, expression):
    with pytest.raises(RequestError, match="do not add up to one"):
        arithmetic(runs["labelled"], expression)


def test_places_of_a_conditional_generator_have_labels_too(runs, generators):
    _, y = generators["labelled"].latents(64)
    a, b = int((y == 0).nonzero()[0]), int((y == 1).nonzero()[0])
    assert arithmetic(runs["labelled"], f"{b}").y == 1
    assert arithmetic(runs["labelled"], f"{a} - {a} + {b}").y == 1
    assert arithmetic(runs["labelled"], f"{a},{b} - {b},{a} + {b}").y == 1
    with pytest.raises(RequestError, match="do not add up to one"):
        arithmetic(runs["labelled"], f"{a} - {b}")


def test_a_generator_that_tells_only_some_classes_apart_is_conditional(made_up):
    """Classes 1 and 2 look alike and 0 does not: a result of class 1 must not be made as a 0."""
    G = made_up(lambda z, y: z + 10 * (y == 0)[:, None], classes=3)
    z, y = G.latents(64)
    for label in (0, 1, 2):
        assert arithmetic("run", str(int((y == label).nonzero()[0]))).y == label
    assert torch.equal(arithmetic("run", "class=1").groups[0].z, z[y == 1])


def test_whether_a_generator_is_conditional_does_not_hang_on_one_sample(made_up):
    """Half of the samples look alike in every class."""
    G = made_up(lambda z, y: (z * (1 + y[:, None])).relu(), classes=3)
    z, y = G.latents(64)
    dark = [i for i in range(64) if (z[i] <= 0).all() and y[i] == 2]
    assert dark
    assert arithmetic("run", str(dark[0])).y == 2


def test_a_class_that_no_sample_shows_is_refused(runs, generators):
    _, y = generators["in_norm"].latents(2)
    missing = min({0, 1, 2} - set(y.tolist()))
    with pytest.raises(RequestError, match=f"'class={missing}': none of these 2 samples shows it"):
        arithmetic(runs["in_norm"], f"class={missing}", n=2)


def test_a_class_is_found_by_the_nearest_real_samples_where_the_generator_has_none(runs, generators):
    """Eight modes on a circle: the nearest is the one whose angle is."""
    z, y = generators["ring"].latents(64)
    turns = torch.atan2(z[:, 1], z[:, 0]) / (2 * math.pi / 8)
    mode = turns.round().long() % 8
    clear = (turns - turns.round()).abs() < 0.4
    assert clear.sum() > 40
    assert (y[clear] != mode[clear]).any()  # the labels that were drawn have nothing to do with it
    chosen = torch.full((64,), -1)
    for label in range(8):
        found = arithmetic(runs["ring"], f"class={label}")
        members = (z[:, None] == found.groups[0].z).all(2).any(1)
        assert members.sum() == len(found.groups[0].z)
        chosen[members] = label
        torch.testing.assert_close(found.z, z[members].mean(0))
    assert torch.equal(chosen[clear], mode[clear])
    assert (chosen >= 0).all()


def test_real_images_are_compared_as_the_generator_makes_them(runs, generators):
    """Bytes from 0 to 255 are brought to [-1, 1] first: all samples would look dark beside them."""
    z, _ = generators["shades"].latents(64, seed=3)
    for label, members in ((0, z[:, 0] < 0), (1, z[:, 0] > 0)):
        assert torch.equal(arithmetic(runs["shades"], f"class={label}", seed=3).groups[0].z, z[members])


def test_the_labels_of_a_generator_that_ignores_them_need_not_add_up(runs):
    for expression in ("class=0 + class=1", "class=0 - class=1", "1 + 2 + 3", "-1"):
        assert arithmetic(runs["shades"], expression).y == 0


def test_data_without_classes_has_places_and_no_class(runs, generators):
    z, _ = generators["plain"].latents(64)
    found = arithmetic(runs["plain"], "1 - 2")
    torch.testing.assert_close(found.z, z[1] - z[2])
    assert found.y == 0
    with pytest.raises(RequestError, match="'class=0': the data has no classes"):
        arithmetic(runs["plain"], "1 - class=0")


def test_of_one_class_all_samples_are(runs, generators):
    z, _ = generators["single"].latents(64)
    found = arithmetic(runs["single"], "class=0 - 3")
    assert torch.equal(found.groups[0].z, z)
    assert found.y == 0
    with pytest.raises(RequestError, match="classes 0 to 0"):
        arithmetic(runs["single"], "class=1")


def test_without_its_dataset_an_unconditional_run_has_places_but_no_class(runs, generators):
    z, _ = generators["orphan"].latents(64)
    torch.testing.assert_close(arithmetic(runs["orphan"], "1 - 2").z, z[1] - z[2])
    with pytest.raises(RequestError, match=r"its dataset is needed: .*no such folder") as refused:
        arithmetic(runs["orphan"], "class=0")
    assert str(refused.value).startswith(str(runs["orphan"]))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("change", ["another size", "more classes", "no classes"])
def test_a_dataset_that_is_no_longer_the_runs_is_refused_or_harmless(runs, tmp_path, change):
    copy = tmp_path / "run"
    shutil.copytree(runs["orphan"], copy)
    root = tmp_path / "data"
    names = {"another size": "ab", "more classes": "abc", "no classes": ["."]}[change]
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        size = 9 if change == "another size" else 8
        Image.fromarray(np.full((size, size), 50, np.uint8)).save(root / name / "1.png")
    text = (copy / "recipe.toml").read_text().splitlines()
    lines = [f'root = "{root.as_posix()}"' if line.startswith("root =") else line for line in text]
    (copy / "recipe.toml").write_text("\n".join(lines))
    if change == "no classes":
        assert len(arithmetic(copy, "class=0").groups[0].z) == 64
    else:
        with pytest.raises(RequestError, match="its dataset is needed"):
            arithmetic(copy, "class=0")


DATA = """
from pathlib import Path

import attrs
import torch
from ganframe import Dataset, DataSpec, hookimpl
from torch.utils.data import TensorDataset

@attrs.frozen
class Odd(Dataset):
    spec = DataSpec((2,), classes=2)

    def build(self):
        {build}
        return TensorDataset(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(10, 1), torch.arange(20) % 2)

@hookimpl
def ganframe_datasets():
    return {{"odd": Odd}}
"""


def test_a_class_needs_the_plugin_of_the_dataset_and_a_place_does_not(install, call, tmp_path):
    install("odd-things", DATA.format(build="pass"), plugin="odd")
    run = trained(tmp_path / "made", identity, 'use = "odd"')
    z, _ = load_generator(run).latents(64)
    assert torch.equal(arithmetic(run, "class=1").groups[0].z, z[z[:, 0] > 0])
    call("arithmetic", run, "1 - 2", "--out", "x.npy", "--block", "odd")
    result = call("arithmetic", run, "class=0", "--out", "y.npy", "--block", "odd", code=2)
    assert "odd" in result.stderr
    assert not Path("y.npy").exists()


def test_one_mislabelled_real_sample_does_not_decide(install, tmp_path):
    """A sample of the wrong class lies exactly where the generated one does, and the next four nearest outvote it."""
    z, _ = draw_latents(Latent(dim=2), DataSpec((2,), 2), 64, 0)
    right = int(z[0, 0] > 0)
    wrong = f"torch.cat([POINTS, torch.tensor([{z[0].tolist()}])]), torch.cat([LABELS, torch.tensor([{1 - right}])])"
    data = DATA.format(build="pass").replace("return TensorDataset(", f"return TensorDataset({wrong})\n        (")
    points = "POINTS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(10, 1)\nLABELS = torch.arange(20) % 2\n"
    install("odd-things", data.replace("@attrs", points + "@attrs", 1), plugin="odd")
    run = trained(tmp_path / "made", identity, 'use = "odd"')
    assert (arithmetic(run, f"class={right}").groups[0].z == z[0]).all(1).any()


@pytest.mark.parametrize("failure", ["ValueError", "OSError"])
def test_a_dataset_that_cannot_be_opened_is_no_crash(install, call, tmp_path, failure):
    install("odd-things", DATA.format(build=f"if Path('gone').exists(): raise {failure}('no room')"), plugin="odd")
    run = trained(tmp_path / "made", identity, 'use = "odd"')
    Path("gone").touch()
    result = call("arithmetic", run, "class=0", "--out", "y.npy", code=2)
    assert "no room" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_have_no_class_but_a_place(made_up, runs, value):
    """A run that diverged in part of its latents."""
    G = made_up(lambda z, y: torch.where(torch.arange(len(z))[:, None] < 20, z, value), classes=8)
    assert arithmetic(runs["ring"], "1").z.equal(G.latents(64)[0][1])
    with pytest.raises(RequestError, match="finite"):
        arithmetic(runs["ring"], "class=0")


# ------------------------------------------------------------------------------------------------- ganframe interpolate


def greys(file, rows, columns):
    """The middles of a picture's images (rows, columns), as the generator made them, in [-1, 1]; 50 pixels each."""
    with Image.open(file) as picture:
        assert picture.size == (50 * columns + 2, 50 * rows + 2)
        values = np.asarray(picture.convert("L")).astype(float)
    return torch.from_numpy(values[26::50, 26::50] / 127.5 - 1).float()


def test_by_default_eight_ways_of_nine_samples_go_into_the_run(call, runs, generators, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["shades"], run)
    result = call("interpolate", run)
    file = run / "samples" / "interpolation.png"
    assert result.stdout == f"8 ways of 9 samples: {file}\n"
    made = latent.ways(generators["shades"], [(str(i), str(i + 1)) for i in range(0, 16, 2)])
    torch.testing.assert_close(greys(file, 8, 9), made[:, :, 0, 4, 4], atol=0.01, rtol=0)


def test_a_picture_has_a_row_for_each_way(call, runs, generators):
    z = generators["shades"].latents(30, seed=4)[0][:, 0]
    arguments = ["--between", 3, 7, "--between", "1:2", 29, "--steps", 5, "-n", 30, "--seed", 4, "--out", "new/x.png"]
    assert call("interpolate", runs["shades"], *arguments).stdout == "2 ways of 5 samples: new/x.png\n"
    start = torch.stack([z[3], generators["shades"].latents(30, seed=1)[0][2, 0]])
    expected = torch.lerp(start[:, None], z[[7, 29]][:, None], torch.linspace(0, 1, 5)).tanh()
    torch.testing.assert_close(greys("new/x.png", 2, 5), expected, atol=0.01, rtol=0)


def test_an_array_has_ways_before_steps(call, runs, generators):
    for name in ("shades", "ring", "labelled"):
        call("interpolate", runs[name], "--between", 3, 7, "--between", 0, 1, "--steps", 4, "--out", f"{name}.npy")
        made = np.load(f"{name}.npy")
        assert made.shape == (2, 4, *generators[name].spec.shape)
        assert made.dtype == np.float32
        expected = latent.ways(generators[name], [("3", "7"), ("0", "1")], 4)
        assert torch.equal(torch.from_numpy(made), expected)


def test_path_and_label_are_heeded(call, runs, generators):
    pair = ["--between", "3", "7", "--steps", "4", "--out", "x.npy"]
    for path in ("linear", "spherical"):
        call("interpolate", runs["ring"], *pair, "--path", path)
        assert torch.equal(torch.from_numpy(np.load("x.npy")), latent.ways(generators["ring"], [("3", "7")], 4, path))
    for label in (0, 1):
        call("interpolate", runs["labelled"], *pair, "--label", label)
        expected = latent.ways(generators["labelled"], [("3", "7")], 4, label=label)
        assert torch.equal(torch.from_numpy(np.load("x.npy")), expected)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_an_animation_goes_there_and_back_for_ever(call, runs, generators, steps):
    pairs = ["--between", 3, 7, "--between", 0, 1, "--between", 5, 9]
    result = call("interpolate", runs["shades"], *pairs, "--steps", steps, "--out", "x.gif")
    assert result.stdout == f"3 ways of {steps} samples: x.gif\n"
    made = latent.ways(generators["shades"], [("3", "7"), ("0", "1"), ("5", "9")], steps)[:, :, 0, 4, 4]
    with Image.open("x.gif") as animation:
        assert animation.n_frames == 2 * steps - 2
        assert animation.info["loop"] == 0
        assert animation.size == (102, 102)
        for frame, step in enumerate([*range(steps), *range(steps - 2, 0, -1)]):
            animation.seek(frame)
            shown = np.asarray(animation.convert("L")).astype(float)[26::50, 26::50].flatten()[:3] / 127.5 - 1
            assert np.abs(shown - made[:, step].numpy()).max() < 0.03


@pytest.mark.parametrize(("n", "ways"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (17, 8)])
def test_of_a_small_picture_there_are_as_many_ways_as_it_has_pairs(call, runs, generators, n, ways):
    call("interpolate", runs["ring"], "-n", n, "--steps", 2, "--out", "x.npy")
    made = torch.from_numpy(np.load("x.npy"))
    assert made.shape == (ways, 2, 2)
    torch.testing.assert_close(made.flatten(0, 1)[: n if n > 1 else 1], generators["ring"].sample(n)[: 2 * ways])


def test_ways_between_points_are_drawn_as_points(call, runs):
    call("interpolate", runs["ring"], "--out", "x.png")
    with Image.open("x.png") as picture:
        assert min(picture.size) > 100


def test_points_cannot_be_animated(call, runs):
    result = call("interpolate", runs["ring"], "--out", "x.gif", code=2)
    assert result.stderr == "--out x.gif: the name must end in .png or .npy\n"


REFUSED = [
    (["interpolate", "shades", "--out", "new/x.jpg"], "--out new/x.jpg: the name must end in .png or .gif or .npy"),
    (["interpolate", "shades", "--out", "new/x"], "--out new/x: the name must end in .png or .gif or .npy"),
    (["interpolate", "shades", "--between", "0", "64", "--out", "new/x.png"], "'64': the picture has 64 samples"),
    (["interpolate", "shades", "--between", "x", "0", "--out", "new/x.gif"], "'x': write a sample's place"),
    (["interpolate", "shades", "--between", "", "0", "--out", "new/x.gif"], "'': write a sample's place"),
    (["interpolate", "labelled", "--label", "2", "--out", "new/x.npy"], "y = 2: the data has classes 0 to 1"),
    (["interpolate", "labelled", "--label", "-1", "--out", "new/x.npy"], "y = -1: the data has classes 0 to 1"),
    (["interpolate", "plain", "--label", "0", "--out", "new/x.npy"], "y = 0: the data has no classes"),
    (["interpolate", "none", "--out", "new/x.npy"], "none: no run there"),
    (["interpolate", "ring", "--out", "new/x.gif"], "--out new/x.gif: the name must end in .png or .npy"),
    (["arithmetic", "none", "1", "--out", "new/x.npy"], "none: no run there"),
    (["arithmetic", "ring", "1", "--out", "new/x.png"], "--out new/x.png: the name must end in .npy"),
    (["arithmetic", "shades", "1", "--out", "new/x.gif"], "--out new/x.gif: the name must end in .png or .npy"),
    (["arithmetic", "shades", "", "--out", "new/x.png"], "'': write groups of samples"),
    (["arithmetic", "shades", "1 +", "--out", "new/x.png"], "'1 +': write groups of samples"),
    (["arithmetic", "shades", "class=7", "--out", "new/x.png"], "'class=7': the data has classes 0 to 1"),
    (["arithmetic", "shades", "5", "-n", "5", "--out", "new/x.png"], "'5': the picture has 5 samples"),
    (["arithmetic", "plain", "class=0", "--out", "new/x.npy"], "'class=0': the data has no classes"),
    (["arithmetic", "labelled", "class=0 + class=1", "--out", "new/x.png"], "the generator is told a class"),
    (["arithmetic", "orphan", "class=0", "--out", "new/x.png"], ""),
    (["arithmetic", "ring", f"{10**30}:1", "--out", "new/x.npy"], ""),
    (["interpolate", "ring", "--between", f"{10**30}:1", "2", "--out", "new/x.npy"], ""),
    (["sample", "labelled", "--label", "2", "--out", "new/x.npy"], "y = 2: the data has classes 0 to 1"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(a)[:60] for a, _ in REFUSED])
def test_what_cannot_be_had_is_said_in_one_line_and_nothing_is_left(call, runs, arguments, message):
    result = call(*(runs.get(a, a) for a in arguments), code=2)
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert [*Path().iterdir()] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["interpolate", "ring", "--steps", "1"],
        ["interpolate", "ring", "-n", "0"],
        ["interpolate", "ring", "--seed", "-1"],
        ["interpolate", "ring", "--path", "curved"],
        ["interpolate", "ring", "--between", "1"],
        ["interpolate"],
        ["arithmetic", "ring"],
        ["arithmetic", "ring", "1", "2"],
        ["arithmetic", "ring", "1", "-n", "0"],
        ["arithmetic", "ring", "1", "--sead", "3"],
    ],
    ids=" ".join,
)
def test_wrong_flags_exit_with_2(call, runs, arguments):
    assert "Error" in call(*(runs.get(a, a) for a in arguments), code=2).stderr


@pytest.mark.parametrize("command", [["interpolate"], ["arithmetic", "1 - 2"]])
@pytest.mark.parametrize("file", ["file/x.png", "file/deep/x.png", "folder.png", "file/x.npy"])
def test_a_place_that_cannot_be_written_is_said(call, runs, command, file):
    Path("file").write_text("mine")
    Path("folder.png").mkdir()
    result = call(command[0], runs["shades"], *command[1:], "--out", file, code=2)
    assert result.stderr.startswith("[Errno")
    assert len(result.stderr.splitlines()) == 1
    assert Path("file").read_text() == "mine"


# -------------------------------------------------------------------------------------------------- ganframe arithmetic


def test_the_picture_of_a_sum(call, runs, generators, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["shades"], run)
    z = generators["shades"].latents(64)[0][:, 0]
    result = call("arithmetic", run, "3,7,12 - 4,9 + 5")
    file = run / "samples" / "arithmetic.png"
    assert result.stdout == f"+ mean of 3 - mean of 2 + mean of 1: {file}\n"
    shown = greys(file, 4, 9)
    means = torch.stack([mean(z, 3, 7, 12), mean(z, 4, 9), z[5]])
    total = means[0] - means[1] + means[2]
    torch.testing.assert_close(shown[:, 0], torch.cat([means, total[None]]).tanh(), atol=0.01, rtol=0)
    torch.testing.assert_close(shown[0, 1:4], z[[3, 7, 12]].tanh(), atol=0.01, rtol=0)
    torch.testing.assert_close(shown[1, 1:], torch.cat([z[[4, 9]].tanh(), torch.zeros(6)]), atol=0.01, rtol=0)
    near = (total + torch.tensor([-0.25, 0.25])).tanh()
    assert ((near[0] - 0.01 <= shown[3, 1:]) & (shown[3, 1:] <= near[1] + 0.01)).all()
    assert shown[3].std() > 0


def test_the_array_of_a_sum_is_its_sample(call, runs, generators):
    z, _ = generators["ring"].latents(20, seed=6)
    arguments = ["3,7 - 4,9 + 2:5", "-n", 20, "--seed", 6, "--out", "new/x.npy"]
    assert call("arithmetic", runs["ring"], *arguments).stdout == "+ mean of 2 - mean of 2 + mean of 1: new/x.npy\n"
    made = np.load("new/x.npy")
    assert made.shape == (2,)
    expected = mean(z, 3, 7) - mean(z, 4, 9) + generators["ring"].latents(20, seed=2)[0][5]
    torch.testing.assert_close(torch.from_numpy(made), expected)


def test_classes_on_the_command_line(call, runs, generators):
    z, y = generators["labelled"].latents(64)
    result = call("arithmetic", runs["labelled"], "class=0 - class=0 + class=1", "--out", "x.npy")
    zeros, ones = int((y == 0).sum()), int((y == 1).sum())
    assert result.stdout == f"+ mean of {zeros} - mean of {zeros} + mean of {ones}: x.npy\n"
    expected = generators["labelled"].decode(z[y == 1].mean(0)[None], torch.tensor([1]))[0]
    torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("expression", ["-1 + 2", "- 1 + 2", "-class=1 + 2"])
def test_a_leading_minus_is_no_flag(call, runs, expression):
    result = call("arithmetic", runs["ring"], expression, "--out", "x.npy")
    assert result.stdout.startswith("- mean of ")


def test_after_two_dashes_a_leading_minus_is_no_flag(call, runs):
    assert call("arithmetic", "--out", "x.npy", runs["ring"], "--", "-1 + 2").stdout.startswith(
        "- mean of 1 + mean of 1"
    )


def test_a_sum_of_points_has_a_default_file_too(call, runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["ring"], run)
    call("arithmetic", run, "1 - 2")
    assert np.load(run / "samples" / "arithmetic.npy").shape == (2,)


def test_a_label_that_is_given_makes_the_result_whatever_the_groups_are(runs):
    for expression in ("class=0 - class=1", "class=1"):
        found = arithmetic(runs["labelled"], expression, label=0)
        assert found.y == 0
        assert torch.equal(found.z, arithmetic(runs["labelled"], expression, label=1).z)
    with pytest.raises(RequestError, match="the data has classes 0 to 1"):
        arithmetic(runs["labelled"], "class=1", label=2)
    done = CliRunner().invoke(main, ["arithmetic", str(runs["labelled"]), "class=0 - class=1", "--label", "1"])
    assert done.exit_code == 0, done.output
