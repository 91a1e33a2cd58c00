"""Files of latents in the place of samples: how they are named in expressions, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ganframe import RequestError, arithmetic, load_generator
from ganframe.analysis.interpolation import find_paths
from ganframe.analysis.latent_files import Latents, file_of, fingerprint, read_latents, save_latents


@pytest.fixture
def z(tmp_path, monkeypatch):
    """Five latents of the generator of "ring", in the files of the test's folder that `write` names."""
    monkeypatch.chdir(tmp_path)
    return torch.arange(10.0).view(5, 2) - 3


def write(values, *names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        np.save(name, np.asarray(values))


FILES = {
    "a.npy": ("a.npy", None),
    "a.npy:0": ("a.npy", 0),
    " a.npy:12 ": ("a.npy", 12),
    "A.NPY:1": ("A.NPY", 1),
    "/x-1,2/3:4+5.npy:6": ("/x-1,2/3:4+5.npy", 6),
    "'my file.npy':3": ("my file.npy", 3),
    '"my file.npy"': ("my file.npy", None),
    "C:\\x\\a.npy:0": ("C:\\x\\a.npy", 0),
    "a.w.npy:1": ("a.w.npy", 1),
}


@pytest.mark.parametrize("item", FILES)
def test_items_are_split_into_file_and_row(item):
    assert file_of(item) == (Path(FILES[item][0]), FILES[item][1])


@pytest.mark.parametrize(
    "item", ["3", "2:7", "a.npz", "a.npy:x", "a.npy:-1", ".npy", "a.npy:1:2", "npy", "", "class=3"]
)
def test_other_items_are_no_files(item):
    assert file_of(item) is None


# ---------------------------------------------------------------------------------------------------------- expressions


def sums(z, shown):
    """Expressions with files, and their results; `shown` are the latents of the picture."""
    return {
        "a.npy:0": z[0],
        "a.npy": z.mean(0),
        "a.npy:0 - 3,4 + 5": z[0] - (shown[3] + shown[4]) / 2 + shown[5],
        "a.npy:0-3,4+5": z[0] - (shown[3] + shown[4]) / 2 + shown[5],
        "- a.npy:1 + 2:3": -z[1] + torch.zeros(2),  # the second is replaced below
        "3,a.npy:1,a.npy:2": (shown[3] + z[1] + z[2]) / 3,
        "b-1,2+3.npy:4 - b-1,2+3.npy:1": z[4] - z[1],
        "b-1,2+3.npy-b-1,2+3.npy:1+3": z.mean(0) - z[1] + shown[3],
        "x-1/2.npy:0 + x-1/2.npy:1": z[0] + z[1],
        "'my file.npy':1 - \"my file.npy:0\"": z[1] - z[0],
        "my file.npy:1 - 3": z[1] - shown[3],
        "7.npy:1 - 7": z[1] - shown[7],
        "3 - 7.npy:2": shown[3] - z[2],
        "./a.npy:1,./b-1,2+3.npy:2": (z[1] + z[2]) / 2,
    }


def test_names_with_signs_commas_and_spaces_are_read_in_expressions(runs, z):
    write(z, "a.npy", "b-1,2+3.npy", "x-1/2.npy", "my file.npy", "7.npy")
    G = load_generator(runs["ring"])
    shown, other = G.latents(64)[0], G.latents(64, seed=2)[0]
    for expression, expected in sums(z, shown).items():
        expected = expected + other[3] if "2:3" in expression else expected
        torch.testing.assert_close(arithmetic(runs["ring"], expression).z, expected, msg=lambda m, e=expression: e + m)


def test_what_is_a_file_wins_over_what_could_be_read_otherwise(runs, z):
    G = load_generator(runs["ring"])
    write(z, "a.npy")
    torch.testing.assert_close(arithmetic(runs["ring"], "3-a.npy:0").z, G.latents(64)[0][3] - z[0])
    write(-z, "3-a.npy")
    torch.testing.assert_close(arithmetic(runs["ring"], "3-a.npy:0").z, -z[0])
    torch.testing.assert_close(arithmetic(runs["ring"], "3 - 'a.npy':0").z, G.latents(64)[0][3] - z[0])


MISSING = {
    "none.npy:0 - 3": "none.npy: there is no such file",
    "3 - none.npy:0": "none.npy: there is no such file",
    "no-1,2.npy:0 - 3": "no-1,2.npy: there is no such file",
    "3,no-1.npy": "no-1.npy: there is no such file",
    "a.npy:5": "'a.npy:5': the file has 5 rows, from 0",
    "a.npy:x": "'a.npy:x': write the place",
    "a.npy 3": "'a.npy 3': write the place",
    "a.npy -": "",
    "\0": "",
}


@pytest.mark.parametrize("expression", MISSING)
def test_files_that_are_not_there_are_refused_in_one_line(runs, z, expression):
    write(z, "a.npy")
    with pytest.raises(RequestError) as refused:
        arithmetic(runs["ring"], expression)
    assert str(refused.value).startswith(MISSING[expression])
    assert len(str(refused.value).splitlines()) == 1


def test_classes_stay_classes_beside_files(runs, z):
    G = load_generator(runs["labelled"])
    write(torch.ones(2, 3), "t-shirt.npy")
    found = arithmetic(runs["labelled"], "class=dark - class=light + t-shirt.npy:0", label="light")
    assert [len(group.z) for group in found.groups] == [int((G.latents(64)[1] == c).sum()) for c in (0, 1)] + [1]
    assert found.groups[2].y.tolist() == [1]


# ---------------------------------------------------------------------------------------------------------- interpolate


def test_paths_between_files_begin_and_end_at_their_samples(call, runs, z):
    write(z, "a.npy")
    write(z[3], "one.npy")  # one latent (dim,)
    call("interpolate", runs["ring"], "--between", "a.npy:0", 7, "--between", "one.npy", "a.npy:4", "--out", "x.npy")
    made = torch.from_numpy(np.load("x.npy"))
    shown = load_generator(runs["ring"]).latents(64)[0]
    torch.testing.assert_close(made[:, 0], z[[0, 3]])
    torch.testing.assert_close(made[:, -1], torch.stack([shown[7], z[4]]))


def test_file_of_several_latents_needs_a_row_between_samples(runs, z):
    write(z, "a.npy")
    with pytest.raises(RequestError, match=r"'a.npy': the file has 5 rows; say which one, as in a.npy:0"):
        find_paths(load_generator(runs["ring"]), [("a.npy", "7")])


BAD = {
    "three.npy:0": "three.npy: it holds an array of shape (4, 3), and latents z of this generator are (k, 2)",
    "deep.npy:0": "deep.npy: it holds an array of shape (1, 1, 2)",
    "empty.npy": "empty.npy: it holds an array of shape (0, 2)",
    "nan.npy:0": "nan.npy: it holds values that are not finite",
    "whole.npy:0": "whole.npy: its values are int64: latents are floats",
    "text.npy:0": "text.npy: ",
    "folder.npy:0": "folder.npy: there is no such file",
    "none.npy:0": "none.npy: there is no such file",
    "w.w.npy:0": "this generator has no latents w",
    "said.npy:0": "said.json: cannot be read",
    "other.npy:0": "other.npy: other.json is of latents of shape (3, 2), not of these",
    f"a.npy:{10**17}": "'a.npy:",
}


@pytest.mark.parametrize("item", BAD)
@pytest.mark.parametrize("command", ["interpolate", "arithmetic"])
def test_wrong_files_are_refused_in_one_line(refused, runs, z, item, command):
    write(z, "a.npy", "w.w.npy", "said.npy", "other.npy")
    write(np.zeros((4, 3)), "three.npy")
    write(np.zeros((1, 1, 2)), "deep.npy")
    write(np.zeros((0, 2)), "empty.npy")
    write(np.full((1, 2), math.inf), "nan.npy")
    write(np.zeros((1, 2), np.int64), "whole.npy")
    Path("text.npy").write_text("no array")
    Path("folder.npy").mkdir()
    Path("said.json").write_text("{}")
    Path("other.json").write_text(json.dumps({"space": "z", "shape": [3, 2]}))
    asked = ["--between", item, "0"] if command == "interpolate" else [item]
    assert refused(command, "ring", *asked, "--out", "new/x.npy").startswith(BAD[item])
    assert not Path("new").exists()


# ------------------------------------------------------------------------------------------------- what is kept of them


def test_saved_latents_are_read_with_their_classes(runs, z):
    G = load_generator(runs["labelled"])
    latents, y = torch.randn(3, 3), torch.tensor([1, 0, 1])
    save_latents(Path("a.npy"), G, Latents(latents, y, "z"), {"more": 1})
    found, labels = read_latents("a.npy", G)
    assert torch.equal(found, latents)
    assert torch.equal(labels, y)
    assert read_latents("a.npy:1", G)[1].tolist() == [0]
    assert json.loads(Path("a.json").read_text())["more"] == 1
    Path("a.json").write_text(Path("a.json").read_text().replace("1,\n  0,\n  1", "1,\n  0,\n  2"))
    with pytest.raises(RequestError, match=r"a.json: its labels are not"):
        read_latents("a.npy", G)


def test_latents_of_unknown_classes_need_a_label(runs, z):
    G = load_generator(runs["labelled"])
    write(torch.randn(2, 3), "a.npy")
    with pytest.raises(RequestError, match=r"a\.json is not there; give --label"):
        find_paths(G, [("a.npy:0", "7")])
    assert find_paths(G, [("a.npy:0", "7")], y=1).y.tolist() == [1]
    Path("a.json").write_text('{"space": "z", "shape": [2, 3], "labels": null}')
    with pytest.raises(RequestError, match=r"a\.json names none; give --label"):
        find_paths(G, [("a.npy:0", "7")])


def test_latents_found_for_other_weights_are_used_with_a_warning(runs, z, capsys):
    ring, uniform = load_generator(runs["ring"]), load_generator(runs["plain"])
    save_latents(Path("a.npy"), ring, Latents(z, torch.zeros(5, dtype=torch.long), "z"), {})
    read_latents("a.npy", ring)
    assert capsys.readouterr().err == ""
    with torch.no_grad():
        uniform.network.last.bias += 1
    assert fingerprint(uniform) != fingerprint(ring)
    read_latents("a.npy", uniform)
    assert capsys.readouterr().err.startswith("warning: a.npy: was found for other weights")
