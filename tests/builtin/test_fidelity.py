"""Features of torch-fidelity, with random weights in the place of published ones, and what is said without any."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from ganframe.builtin import fidelity
from ganframe.builtin.fidelity import InceptionScore
from ganframe.builtin.frechet import Frechet, Kernel
from ganframe.builtin.images import Digits
from ganframe.builtin.neighbours import PrecisionRecall
from ganframe.judging.protocol import called

pytest.importorskip("torch_fidelity")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub"


@pytest.fixture
def weights(hub, monkeypatch):
    """Random weights of Inception in the place of those that users download."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    file = hub / "checkpoints" / fidelity.INCEPTION_URL.rpartition("/")[2]
    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(Inception, "load_state_dict", lambda *_: None)
        torch.save(Inception("inception-v3-compat", ["2048"]).state_dict(), file)
    return file


def digits(n):
    return Digits().build().tensors[0][:n].float() / 127.5 - 1


@pytest.mark.parametrize(
    ("metric", "url"),
    [
        (Frechet(features="inception"), fidelity.INCEPTION_URL),
        (Frechet(features="builtin:inception"), fidelity.INCEPTION_URL),
        (InceptionScore(), fidelity.INCEPTION_URL),
        (Kernel(features="dinov2"), fidelity.DINOV2_URL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_without_weights_it_is_said_what_to_download_and_where_to(judged, hub, metric, url):
    with pytest.raises(ValueError, match=r"need (weights|weights and code) that are not there: download") as raised:
        judged(metric, Digits(), digits(20))
    assert url in str(raised.value)
    assert str(hub / "checkpoints" / url.rpartition("/")[2]) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("features", ["inception", "dinov2"])
def test_without_the_library_the_command_that_installs_it_is_said(judged, hub, monkeypatch, features):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=rf"features '{features}' need torch-fidelity: pip install 'ganframe\[fid\]'"):
        judged(Frechet(features=features), Digits(), digits(20))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"], ids=["empty", "text", "cut off"])
def test_damaged_weights_are_named(judged, hub, content):
    file = hub / "checkpoints" / fidelity.INCEPTION_URL.rpartition("/")[2]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"features 'inception' cannot be opened from .*; download it again"):
        judged(Frechet(features="inception"), Digits(), digits(20))


def test_code_in_a_file_of_weights_is_not_run(judged, hub, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    torch.save({"x": Evil()}, hub / "checkpoints" / fidelity.INCEPTION_URL.rpartition("/")[2])
    with pytest.raises(ValueError, match="cannot be opened"):
        judged(Frechet(features="inception"), Digits(), digits(20))
    assert not (tmp_path / "run").exists()


def test_networks_get_bytes_with_three_channels():
    seen = []

    class Network(nn.Module):
        def forward(self, x):
            seen.append(x)
            return (x.float().flatten(1),)

    x = torch.tensor([-1.0, -1 + 2 / 255, 0.0, 1.0, 1.5]).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    fidelity.AsBytes(Network())(x.repeat(20, 1, 1, 1))
    assert seen[0].dtype == torch.uint8
    assert seen[0][:5, 0, 0, 0].tolist() == [0, 1, 128, 255, 255]
    assert max(map(len, seen)) <= fidelity.AT_A_TIME


def test_bytes_of_images_are_those_that_they_were_read_from():
    levels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(-1, 3, 1, 1)
    network = nn.Identity()
    network.forward = lambda x: (x,)
    found = fidelity.AsBytes(network)(levels.float().div(127.5).sub(1))
    assert torch.equal(found, levels.flatten(1))


def test_inception_gives_features_and_the_inception_score(judged, weights):
    """The whole way, of a few images: the network takes a second for each."""
    score = judged(Kernel(features="inception", real=4, subsets=2, subset_size=3), Digits(), digits(3), score=True)
    about = score["protocol"]["features"]["inception"]
    assert called(score, "kernel") == "kernel (KID)"
    assert about["resizer"] == "torch-fidelity's"
    assert "torch_fidelity" in about
    found = judged(InceptionScore(splits=1), Digits(), digits(3))
    assert found["inception_score"] >= 1 - 1e-9


@pytest.fixture
def random_inception(monkeypatch):
    """Features "inception" that cost nothing: random projections of the pixels."""
    project = torch.randn(192, 16, generator=torch.Generator().manual_seed(0))

    class Network(nn.Module):
        def forward(self, x):
            return (x.float().flatten(1) @ project / 100,)

    made = lambda layer, **about: fidelity._features(Network(), **about)  # noqa: E731
    monkeypatch.setattr(fidelity, "_inception", made)
    return lambda x: fidelity.AsBytes(Network())(x.expand(-1, 3, -1, -1))


def test_metrics_on_them_are_computed_by_the_library(judged, random_inception):
    """And its numbers are those of the metrics here."""
    from ganframe.builtin import frechet, neighbours

    x = (digits(300) + 0.2).clamp(-1, 1)
    extract = random_inception(x)
    found = judged(Frechet(features="inception", real=200), Digits(), x, score=True)
    real = random_inception(_real(200))
    moments = [frechet.moments(side.double()) for side in (extract, real)]
    assert found["frechet"] == pytest.approx(frechet.frechet(*moments), rel=1e-6)
    found = judged(PrecisionRecall(features="inception", real=200), Digits(), x)
    balls = neighbours.radii(real, (3, 5))
    assert found["precision"] == pytest.approx(neighbours.inside(extract, real, balls, 5)[0])
    found = judged(Kernel(features="inception", real=200, subsets=4, subset_size=50), Digits(), x)
    ours = frechet.kernel_distances(extract, real, 4, 50, 0)
    assert found["kernel"] == pytest.approx(ours.mean().item(), rel=1e-3, abs=1e-3)  # the library's is in float32


def _real(n):
    from ganframe.data.real import real_samples

    held_out = Digits().held_out()
    source = Digits().build() if held_out is None else held_out
    return real_samples(source, Digits().spec, n, 0 if held_out is None else 1, torch.device("cpu"))[0]
