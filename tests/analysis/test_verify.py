"""`ganframe.verify_certificate`: a certificate as it was written, each way to tamper with it, and what is missing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ganframe
from ganframe.analysis.certificate import FILE
from ganframe.errors import RequestError
from ganframe.storage.files import checksum

QUICK = ("train.steps=20", "discriminator.hidden=[16]", "train.batch_size=64")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two files of samples and the certificate of them."""
    folder = tmp_path_factory.mktemp("made")
    draws = np.random.RandomState(0)
    np.save(folder / "x.npy", draws.randn(400, 2))
    np.save(folder / "y.npy", draws.randn(500, 2) + np.array([2, 0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ganframe.certify(data="x.npy", against="y.npy", overrides=QUICK, out="out")
    return folder


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy of that folder, in which the test runs; gives the certificate's folder."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / "out"


def edit(folder, place, change):
    """Changes the value at a place such as "found.critics.trained.low"."""
    document = json.loads((folder / FILE).read_text())
    *tables, last = place.split(".")
    table = document
    for name in tables:
        table = table[name]
    table[last] = change(table[last])
    (folder / FILE).write_text(json.dumps(document))


def refused(folder, said):
    with pytest.raises(RequestError, match=said) as raised:
        ganframe.verify_certificate(folder)
    assert "\n" not in str(raised.value)


def test_certificate_is_verified_as_it_was_written(copy):
    found = ganframe.verify_certificate(copy)
    assert found.certificate.certified > 0
    assert "means and variances of data and against from weights and samples" in found.checked
    assert len(found.missing) == 1
    assert found.missing[0].startswith("that the critics were trained")
    assert ganframe.verify_certificate(copy / FILE).certificate == found.certificate


NUMBERS = [
    *("certified", "confidence", "delta", "seed", "spread", "share", "null.certified", "found.certified"),
    *("found.data.judged", "found.data.other", "found.against.judged", "null.data.judged", "found.data.stored"),
    *(f"found.critics.trained.{name}" for name in ("constant", "low", "high", "certified")),
    *(f"found.critics.nearest_data.{name}" for name in ("constant", "low", "high", "certified")),
    *(f"{finding}.critics.nearest_against.constant" for finding in ("found", "null")),
    *(f"found.critics.trained.{side}.{name}" for side in ("data", "against") for name in ("mean", "variance")),
    *(f"found.critics.trained.{side}.samples" for side in ("data", "against")),
    *("null.critics.trained.data.mean", "null.critics.nearest_data.against.variance", "null.critics.trained.constant"),
]


@pytest.mark.parametrize("place", NUMBERS)
def test_each_number_that_is_changed_is_named(copy, place):
    edit(copy, place, lambda value: value + 1 if isinstance(value, int) else value * 0.99 + 0.001)
    refused(copy, r"certificate.json: ")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            "found.critics.trained.sha256",
            "0" * 64,
            r"found.critics.trained.sha256: trained.safetensors is not the file",
        ),
        ("found.data.sha256", "0" * 64, r"found.data.sha256: the judged samples of x.npy are others"),
        ("found.best", "nearest_data", r"found.best: "),
        ("found.best", "mine", r"not a certificate"),
        ("identities.data.sha256", "0" * 64, r"identities.data: x.npy is not what was judged: its sha256 differs"),
        ("says", "with 100 % confidence W1 is at least 9", r"says: is not what the numbers say"),
        ("found.critics.trained.weights", "../x.npy", r"weights: must be a file beside the certificate"),
        ("found.critics.trained.weights", "other.safetensors", r"there is no file other.safetensors"),
        ("recipe.discriminator.hidden", [8], r"trained.safetensors: cannot be loaded"),
        ("recipe.discriminator.activation", "tanh", r"certificate.json: (found|null).critics.trained"),
        ("recipe.discriminator.use", "nothing", r"unknown discriminator"),
        ("shape", [3], r"certificate.json|cannot be loaded|holds no points"),
        ("shape", [0], r"shape"),
        ("delta", 2.0, r"delta: must be between 0 and 1"),
        ("certified", "much", r"certified: must be a number, not 'much'"),
        ("found.critics.trained.high", None, r"found.critics\[trained\].high: must be a number"),
        ("identities", {}, r"identities: must be of data and against"),
    ],
)
def test_each_text_that_is_changed_is_named(copy, place, value, said):
    edit(copy, place, lambda _: value)
    refused(copy, said)


def test_bound_that_is_consistent_but_not_of_the_samples_is_found(copy):
    """A mean is raised, and all that follows from it too."""
    document = json.loads((copy / FILE).read_text())
    critic = document["found"]["critics"][document["found"]["best"]]
    critic["data"]["mean"] += 0.1
    critic["certified"] += 0.1 / critic["constant"]
    document["certified"] = document["found"]["certified"] = critic["certified"]
    document["share"] = document["certified"] / document["spread"]
    document["says"] = f"with 95 % confidence W1 is at least {document['certified']:.5g}"
    (copy / FILE).write_text(json.dumps(document))
    refused(
        copy, rf"found.critics.{document['found']['best']}.data.mean: the file says .*, and its weights and samples"
    )


def tampered_weights(folder, name, change, finding="found"):
    """Other weights, with the checksum of the new file in the certificate."""
    prefix = "null_" if finding == "null" else ""
    file = folder / f"{prefix}{name}.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    edit(folder, f"{finding}.critics.{name}.sha256", lambda _: checksum(file))


def test_steeper_weights_have_another_constant(copy):
    def steeper(weights):
        key = next(name for name in weights if name.endswith("original"))
        weights[key.replace("original", "0._u") if key.replace("original", "0._u") in weights else "scale"].mul_(3)

    tampered_weights(copy, "trained", steeper)
    refused(copy, r"found.critics.trained\.")


def test_points_must_be_samples_that_do_not_judge(copy):
    tampered_weights(copy, "nearest_data", lambda weights: weights["points"].add_(0.01))
    refused(copy, r"found.critics.nearest_data.weights: its points are not the samples that it has to store")


def test_weights_of_the_null_are_checked_too(copy):
    tampered_weights(copy, "nearest_against", lambda weights: weights["sign"].neg_(), "null")
    refused(copy, r"null.critics.nearest_against.data.mean")


def test_damaged_weights_are_found_by_their_checksum(copy):
    file = copy / "trained.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    refused(copy, r"found.critics.trained.sha256")


def test_other_samples_are_found(copy):
    x = np.load("x.npy")
    x[7] += 1e-3
    np.save("x.npy", x)
    refused(copy, r"identities.data: x.npy is not what was judged: its sha256 differs")


def test_missing_samples_are_stated(copy):
    (copy.parent / "x.npy").rename(copy.parent / "moved.npy")
    found = ganframe.verify_certificate(copy)
    assert any(line.startswith("the samples of data: x.npy") for line in found.missing)
    assert not any("means and variances of data" in line for line in found.checked)
    assert any("means and variances of against" in line for line in found.checked)
    whole = ganframe.verify_certificate(copy, data="moved.npy")
    assert len(whole.missing) == 1


def test_samples_of_one_side_do_not_excuse_its_means(copy):
    (copy.parent / "x.npy").unlink()
    edit(copy, "found.critics.nearest_data.against.mean", lambda value: value)
    ganframe.verify_certificate(copy)
    tampered_weights(copy, "nearest_data", lambda weights: weights["points"].add_(0.5))
    refused(copy, r"found.critics.nearest_data.against.(mean|variance)")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"certified": 1}', "not json", '{"found": null}'])
def test_what_is_no_certificate_is_said_in_one_line(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RequestError, match=r"certificate.json"):
        ganframe.verify_certificate(tmp_path)


def test_generator_of_a_run_is_identified_by_its_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ganframe.run(ganframe.load_recipe(tiny())).folder
    ganframe.certify(run, overrides=QUICK, samples=100, out="out")
    assert len(ganframe.verify_certificate("out").missing) == 1
    file = run / "generator.safetensors"
    other = load_file(file)
    with torch.no_grad():
        next(iter(other.values())).mul_(1.1)
    save_file(other, file, {"spec": '{"shape": [2], "classes": 8, "is_image": false}'})
    refused(tmp_path / "out", r"identities.against: .* its generator differs")
    shutil.rmtree(run)
    assert any("the samples of against" in line for line in ganframe.verify_certificate("out").missing)


def test_features_are_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "digits.toml"
    data.write_text('[dataset]\nuse = "digits"\nsplit = "train"\n')
    np.save("noise.npy", np.random.RandomState(0).uniform(-1, 1, (400, 1, 8, 8)).astype(np.float32))
    ganframe.certify(data=data, against="noise.npy", features="classifier", overrides=QUICK, out="out")
    assert len(ganframe.verify_certificate("out").missing) == 1
    edit(tmp_path / "out", "features.hash", lambda _: "0" * 12)
    assert any("features" in line for line in ganframe.verify_certificate("out").missing)
