"""Arithmetic of latents: sums checked with a linear generator, classes, and `ganframe arithmetic`."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe import DataSpec, RequestError, arithmetic, load_generator
from ganframe.analysis.arithmetic import decode_result, picture_rows
from ganframe.analysis.trained import TrainedGenerator
from ganframe.data.latents import fixed_latents
from ganframe.recipes.tables import Prior


@pytest.fixture
def made_up(monkeypatch):
    """made_up(function, …): makes arithmetic load a generator with this forward(z, y), whatever the run."""

    def write(function, classes=None, dim=2, shape=(2,)):
        network = torch.nn.Module()
        network.forward = function
        G = TrainedGenerator(network, DataSpec(shape, classes), Prior(dim=dim))
        monkeypatch.setattr("ganframe.analysis.arithmetic.load_generator", lambda run, step=None: G)
        return G

    return write


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
    "1 - 2,3,4,5,6,7,8,9,10,11": lambda z: z[1] - mean(z, *range(2, 12)),  # a mean for any size of group
    "3,3,5": lambda z: (2 * z[3] + z[5]) / 3,
    "1 - 1": lambda z: 0 * z[0],
    "007 + 0:63": lambda z: z[7] + z[63],
}


@pytest.mark.parametrize("expression", SUMS)
def test_result_is_the_signed_sum_of_group_means(runs, generators, expression):
    G = generators["ring"]
    found = arithmetic(runs["ring"], expression)
    expected = SUMS[expression](G.latents(64)[0])
    assert found.z.shape == (2,)
    torch.testing.assert_close(found.z, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(decode_result(G, found), SUMS[expression](G.sample(64))[None], atol=1e-6, rtol=1e-6)


def test_groups_keep_sign_and_order(runs, generators):
    z, y = generators["ring"].latents(64)
    found = arithmetic(str(runs["ring"]), "3,7,12 - 4,9")
    assert [group.sign for group in found.groups] == [1, -1]
    for group, places in zip(found.groups, ([3, 7, 12], [4, 9]), strict=True):
        assert torch.equal(group.z, z[places])
        assert torch.equal(group.y, y[places])
        torch.testing.assert_close(group.mean, z[places].mean(0))


def test_seed_and_place_select_a_sample_of_another_picture(runs, generators):
    G = generators["ring"]
    first, second = (G.latents(64, seed)[0] for seed in (0, 12))
    found = arithmetic(runs["ring"], "12:3,4 - 0:5 + 12:63")
    torch.testing.assert_close(found.z, (second[3] + first[4]) / 2 - first[5] + second[63])


def test_seed_and_n_select_the_picture(runs, generators):
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
def test_malformed_expression_is_refused_in_one_line(runs, expression):
    with pytest.raises(RequestError) as refused:
        arithmetic(runs["ring"], expression)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("digit", ["３", "٣", "۳"])
def test_non_ascii_digits_are_read_or_refused(runs, generators, digit):
    for expression in (digit, f"{digit}:{digit}", f"class={digit}"):
        try:
            found = arithmetic(runs["ring"], expression)
        except RequestError:
            continue
        assert torch.equal(found.z, arithmetic(runs["ring"], expression.replace(digit, "3")).z)


HUGE = [f"{2**64}:1", f"{10**30}:1", "9" * 30, f"class={10**30}", "9" * 5000, "9" * 5000 + ":1", "class=" + "9" * 5000]


@pytest.mark.parametrize("expression", HUGE, ids=lambda expression: expression[:30])
def test_numbers_too_large_are_refused(runs, expression):
    with pytest.raises(RequestError):
        arithmetic(runs["ring"], expression)


def test_arithmetic_on_a_missing_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="not the folder of a run"):
        arithmetic(tmp_path, "1")


def test_noise_is_uniform_and_leaves_the_first_sample_exact(runs, generators):
    G = generators["ring"]
    found = arithmetic(runs["ring"], "1 - 2")
    near = decode_result(G, found, noise=0.25, n=2000)
    offsets = near - found.z
    torch.testing.assert_close(near[0], found.z)
    assert offsets.abs().max() <= 0.25 + 1e-6
    assert offsets.min() < -0.24
    assert offsets.max() > 0.24
    assert offsets.mean().abs() < 0.02
    assert abs(offsets.std() - 0.25 / math.sqrt(3)) < 0.01
    assert torch.equal(near, decode_result(G, found, noise=0.25, n=2000))
    torch.testing.assert_close(decode_result(G, found, n=3), found.z.expand(3, 2))


def test_picture_rows_are_groups_after_their_means_then_the_result(runs, generators):
    G = generators["ring"]
    z, _ = G.latents(64)
    found = arithmetic(runs["ring"], "3,7 - 0,1,2,3,4,5,6,7,8,9,10 + 5")
    rows = picture_rows(G, found)
    assert rows.shape == (4, 9, 2)
    torch.testing.assert_close(rows[0], torch.stack([mean(z, 3, 7), z[3], z[7], *[torch.zeros(2)] * 6]))
    torch.testing.assert_close(rows[1], torch.stack([mean(z, *range(11)), *z[:8]]))
    torch.testing.assert_close(rows[2], torch.stack([z[5], z[5], *[torch.zeros(2)] * 7]))
    torch.testing.assert_close(rows[3, 0], found.z)
    distances = (rows[3, 1:] - found.z).abs()
    assert (distances.amax(1) > 0).all()
    assert distances.max() <= 0.25 + 1e-6


def test_picture_rows_of_a_conditional_generator_use_their_own_labels(runs, generators):
    G = generators["labelled"]
    found = arithmetic(runs["labelled"], "class=0 - class=0 + class=1")
    rows = picture_rows(G, found)
    for row, group in zip(rows, found.groups, strict=False):
        expected = G.decode(torch.cat([group.mean[None], group.z[:8]]), group.y[:1].expand(9))
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[-1, 0], G.decode(found.z[None], torch.tensor([1]))[0], atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize("name", ["labelled", "in_norm"])
def test_class_is_found_by_label_for_a_conditional_generator(runs, generators, name):
    """The dataset of `labelled` has been deleted, and is not needed."""
    z, y = generators[name].latents(64, seed=2)
    for label in (0, 1):
        found = arithmetic(runs[name], f"class={label}", seed=2)
        (group,) = found.groups
        assert torch.equal(group.z, z[y == label])
        assert (group.y == label).all()
        assert found.y == label
        torch.testing.assert_close(found.z, z[y == label].mean(0))


def test_class_is_found_among_n_samples(runs, generators):
    for n in (10, 500):
        z, y = generators["labelled"].latents(n)
        (group,) = arithmetic(runs["labelled"], "class=1", n=n).groups
        assert torch.equal(group.z, z[y == 1])


def test_class_and_places_mix_in_one_group(runs, generators):
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
def test_labels_that_cancel_leave_one_class(runs, expression, left):
    assert arithmetic(runs["labelled"], expression).y == left


@pytest.mark.parametrize(
    "expression",
    ["class=0 + class=1", "class=0 - class=1", "-class=1", "class=0 + class=0", "class=0,class=1", "class=1 - class=1"],
)
def test_labels_that_do_not_leave_one_class_are_refused(runs, expression):
    with pytest.raises(RequestError, match="do not add up to one"):
        arithmetic(runs["labelled"], expression)


def test_samples_chosen_by_place_have_labels(runs, generators):
    _, y = generators["labelled"].latents(64)
    a, b = int((y == 0).nonzero()[0]), int((y == 1).nonzero()[0])
    assert arithmetic(runs["labelled"], f"{b}").y == 1
    assert arithmetic(runs["labelled"], f"{a} - {a} + {b}").y == 1
    assert arithmetic(runs["labelled"], f"{a},{b} - {b},{a} + {b}").y == 1
    with pytest.raises(RequestError, match="do not add up to one"):
        arithmetic(runs["labelled"], f"{a} - {b}")


def test_generator_that_distinguishes_some_classes_is_conditional(made_up):
    """Only class 0 differs from the others."""
    G = made_up(lambda z, y: z + 10 * (y == 0)[:, None], classes=3)
    z, y = G.latents(64)
    for label in (0, 1, 2):
        assert arithmetic("run", str(int((y == label).nonzero()[0]))).y == label
    assert torch.equal(arithmetic("run", "class=1").groups[0].z, z[y == 1])


def test_conditional_generators_are_recognised_from_several_samples(made_up):
    """Samples with negative latents are the same for all classes."""
    G = made_up(lambda z, y: (z * (1 + y[:, None])).relu(), classes=3)
    z, y = G.latents(64)
    dark = [i for i in range(64) if (z[i] <= 0).all() and y[i] == 2]
    assert dark
    assert arithmetic("run", str(dark[0])).y == 2


def test_class_without_a_sample_is_refused(runs, generators):
    _, y = generators["in_norm"].latents(2)
    missing = min({0, 1, 2} - set(y.tolist()))
    with pytest.raises(RequestError, match=f"'class={missing}': none of 2 samples is of this class"):
        arithmetic(runs["in_norm"], f"class={missing}", n=2)


def test_class_is_found_by_nearest_real_samples_for_an_unconditional_generator(runs, generators):
    """Eight modes on a circle: the nearest mode is the one with the nearest angle."""
    z, y = generators["ring"].latents(64)
    turns = torch.atan2(z[:, 1], z[:, 0]) / (2 * math.pi / 8)
    mode = turns.round().long() % 8
    clear = (turns - turns.round()).abs() < 0.4
    assert clear.sum() > 40
    assert (y[clear] != mode[clear]).any()  # the drawn labels are not used
    chosen = torch.full((64,), -1)
    for label in range(8):
        found = arithmetic(runs["ring"], f"class={label}")
        members = (z[:, None] == found.groups[0].z).all(2).any(1)
        assert members.sum() == len(found.groups[0].z)
        chosen[members] = label
        torch.testing.assert_close(found.z, z[members].mean(0))
    assert torch.equal(chosen[clear], mode[clear])
    assert (chosen >= 0).all()


def test_real_images_are_scaled_before_comparison(runs, generators):
    """Bytes from 0 to 255 are scaled to [-1, 1] first; unscaled, they would all be far from the samples."""
    z, _ = generators["shades"].latents(64, seed=3)
    for label, members in ((0, z[:, 0] < 0), (1, z[:, 0] > 0)):
        assert torch.equal(arithmetic(runs["shades"], f"class={label}", seed=3).groups[0].z, z[members])


def test_labels_of_an_unconditional_generator_need_not_add_up(runs):
    for expression in ("class=0 + class=1", "class=0 - class=1", "1 + 2 + 3", "-1"):
        assert arithmetic(runs["shades"], expression).y == 0


def test_data_without_classes_has_places_but_no_class(runs, generators):
    z, _ = generators["plain"].latents(64)
    found = arithmetic(runs["plain"], "1 - 2")
    torch.testing.assert_close(found.z, z[1] - z[2])
    assert found.y == 0
    with pytest.raises(RequestError, match="'class=0': the data has no classes"):
        arithmetic(runs["plain"], "1 - class=0")


def test_all_samples_belong_to_the_only_class(runs, generators):
    z, _ = generators["single"].latents(64)
    found = arithmetic(runs["single"], "class=0 - 3")
    assert torch.equal(found.groups[0].z, z)
    assert found.y == 0
    with pytest.raises(RequestError, match="classes 0 to 0"):
        arithmetic(runs["single"], "class=1")


def test_class_of_an_unconditional_run_needs_its_dataset(runs, generators):
    z, _ = generators["orphan"].latents(64)
    torch.testing.assert_close(arithmetic(runs["orphan"], "1 - 2").z, z[1] - z[2])
    with pytest.raises(RequestError, match=r"its dataset is needed to tell .*no such folder") as refused:
        arithmetic(runs["orphan"], "class=0")
    assert str(refused.value).startswith(str(runs["orphan"]))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("change", ["another size", "more classes", "no classes"])
def test_dataset_that_changed_since_training_is_refused_or_harmless(runs, tmp_path, change):
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


def test_class_needs_the_plugin_of_the_dataset_and_a_place_does_not(install, call, train_on):
    install("odd-things", DATA.format(build="pass"), plugin="odd")
    run = train_on('use = "odd"')
    z, _ = load_generator(run).latents(64)
    assert torch.equal(arithmetic(run, "class=1").groups[0].z, z[z[:, 0] > 0])
    call("arithmetic", run, "1 - 2", "--out", "x.npy", "--block", "odd")
    result = call("arithmetic", run, "class=0", "--out", "y.npy", "--block", "odd", code=2)
    assert "odd" in result.stderr
    assert not Path("y.npy").exists()


def test_one_mislabelled_real_sample_is_outvoted(install, train_on):
    """The nearest real sample has the wrong class, and the next four outvote it."""
    z, _ = fixed_latents(Prior(dim=2), DataSpec((2,), 2), 64, 0)
    right = int(z[0, 0] > 0)
    wrong = f"torch.cat([POINTS, torch.tensor([{z[0].tolist()}])]), torch.cat([LABELS, torch.tensor([{1 - right}])])"
    data = DATA.format(build="pass").replace("return TensorDataset(", f"return TensorDataset({wrong})\n        (")
    points = "POINTS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(10, 1)\nLABELS = torch.arange(20) % 2\n"
    install("odd-things", data.replace("@attrs", points + "@attrs", 1), plugin="odd")
    run = train_on('use = "odd"')
    assert (arithmetic(run, f"class={right}").groups[0].z == z[0]).all(1).any()


@pytest.mark.parametrize("failure", ["ValueError", "OSError"])
def test_dataset_that_cannot_be_opened_is_reported_in_one_line(install, call, train_on, failure):
    install("odd-things", DATA.format(build=f"if Path('gone').exists(): raise {failure}('no room')"), plugin="odd")
    run = train_on('use = "odd"')
    Path("gone").touch()
    result = call("arithmetic", run, "class=0", "--out", "y.npy", code=2)
    assert "no room" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_samples_have_a_place_but_no_class(made_up, runs, value):
    """Of a run that diverged for some latents."""
    G = made_up(lambda z, y: torch.where(torch.arange(len(z))[:, None] < 20, z, value), classes=8)
    assert arithmetic(runs["ring"], "1").z.equal(G.latents(64)[0][1])
    with pytest.raises(RequestError, match="finite"):
        arithmetic(runs["ring"], "class=0")


# -------------------------------------------------------------------------------------------------- ganframe arithmetic


def test_arithmetic_picture(call, runs, generators, greys, tmp_path):
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


def test_arithmetic_array_is_the_sample_of_the_result(call, runs, generators):
    z, _ = generators["ring"].latents(20, seed=6)
    arguments = ["3,7 - 4,9 + 2:5", "-n", 20, "--seed", 6, "--out", "new/x.npy"]
    assert call("arithmetic", runs["ring"], *arguments).stdout == "+ mean of 2 - mean of 2 + mean of 1: new/x.npy\n"
    made = np.load("new/x.npy")
    assert made.shape == (2,)
    expected = mean(z, 3, 7) - mean(z, 4, 9) + generators["ring"].latents(20, seed=2)[0][5]
    torch.testing.assert_close(torch.from_numpy(made), expected)


def test_arithmetic_command_with_classes(call, runs, generators):
    z, y = generators["labelled"].latents(64)
    result = call("arithmetic", runs["labelled"], "class=0 - class=0 + class=1", "--out", "x.npy")
    zeros, ones = int((y == 0).sum()), int((y == 1).sum())
    assert result.stdout == f"+ mean of {zeros} - mean of {zeros} + mean of {ones}: x.npy\n"
    expected = generators["labelled"].decode(z[y == 1].mean(0)[None], torch.tensor([1]))[0]
    torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("expression", [["-1 + 2"], ["- 1 + 2"], ["-class=1 + 2"], ["--", "-1 + 2"]])
def test_leading_minus_is_not_an_option(call, runs, expression):
    result = call("arithmetic", "--out", "x.npy", runs["ring"], *expression)
    assert result.stdout.startswith("- mean of ")
    assert " + mean of 1: x.npy" in result.stdout


def test_arithmetic_of_points_has_a_default_file(call, runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["ring"], run)
    call("arithmetic", run, "1 - 2")
    assert np.load(run / "samples" / "arithmetic.npy").shape == (2,)


def test_requested_label_overrides_those_of_the_groups(call, runs):
    for expression in ("class=0 - class=1", "class=1"):
        found = arithmetic(runs["labelled"], expression, label=0)
        assert found.y == 0
        assert torch.equal(found.z, arithmetic(runs["labelled"], expression, label=1).z)
    with pytest.raises(RequestError, match="the data has classes 0 to 1"):
        arithmetic(runs["labelled"], "class=1", label=2)
    call("arithmetic", runs["labelled"], "class=0 - class=1", "--label", 1, "--out", "x.png")


REFUSED = [
    (["none", "1", "--out", "new/x.npy"], "none: not the folder of a run"),
    (["ring", "1", "--out", "new/x.png"], "--out new/x.png: the name must end in .npy"),
    (["shades", "1", "--out", "new/x.gif"], "--out new/x.gif: the name must end in .png or .npy"),
    (["shades", "", "--out", "new/x.png"], "'': write groups of samples"),
    (["shades", "1 +", "--out", "new/x.png"], "'1 +': write groups of samples"),
    (["shades", "class=7", "--out", "new/x.png"], "'class=7': the data has classes 0 to 1"),
    (["shades", "5", "-n", "5", "--out", "new/x.png"], "'5': the picture has 5 samples"),
    (["plain", "class=0", "--out", "new/x.npy"], "'class=0': the data has no classes"),
    (["labelled", "class=0 + class=1", "--out", "new/x.png"], "the generator is conditional"),
    (["orphan", "class=0", "--out", "new/x.png"], ""),
    (["ring", f"{10**30}:1", "--out", "new/x.npy"], "'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_arithmetic_command_refuses_in_one_line_and_writes_nothing(refused, arguments, message):
    assert refused("arithmetic", *arguments).startswith(message)
    assert [*Path().iterdir()] == []


@pytest.mark.parametrize("arguments", [[], ["1", "2"], ["1", "-n", "0"], ["1", "--sead", "3"]])
def test_arithmetic_command_refuses_wrong_flags(call, runs, arguments):
    assert "Error" in call("arithmetic", runs["ring"], *arguments, code=2).stderr


@pytest.mark.parametrize("command", [["interpolate"], ["arithmetic", "1 - 2"]])
@pytest.mark.parametrize("file", ["file/x.png", "file/deep/x.png", "folder.png", "file/x.npy"])
def test_file_that_cannot_be_written_is_reported_in_one_line(refused, tmp_path, command, file):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    assert refused(command[0], "shades", *command[1:], "--out", file).startswith("[Errno")
    assert (tmp_path / "file").read_text() == "mine"
