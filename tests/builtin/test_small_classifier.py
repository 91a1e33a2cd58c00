"""The classifier's features: accuracy, the same weights again, the cache folder, several processes, what is refused."""

from __future__ import annotations

import subprocess
import sys

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option
from ganframe.builtin import small_classifier as classifier
from ganframe.builtin.distributions import Ring, SwissRoll
from ganframe.builtin.frechet import Frechet
from ganframe.builtin.images import Digits


@attrs.frozen
class Bars(Dataset):
    """Images with a bright row or column, which is the class."""

    shape: tuple[int, ...] = option((1, 8, 8), help="of an image")
    count: int = option(400, help="images")
    labels: int | None = option(4, help="classes")
    scale: float = option(1.0, help="of the values")

    @property
    def spec(self):
        return DataSpec(self.shape, classes=self.labels)

    def build(self):
        x, y = bars(self.count, self.shape)
        return TensorDataset(x * self.scale, y if self.labels else torch.zeros_like(y))


def bars(count, shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    x = 0.3 * torch.randn(count, *shape, generator=draw).clamp(-1, 1) - 0.5
    height, width = shape[1:]
    for label, (rows, columns) in enumerate(
        [
            (slice(0, height // 2), slice(None)),
            (slice(height // 2, None), slice(None)),
            (slice(None), slice(0, width // 2)),
            (slice(None), slice(width // 2, None)),
        ]
    ):
        x[y == label, :, rows, columns] += 0.7
    return x, y


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "kept"
    monkeypatch.setenv("GANFRAME_CACHE", str(folder))
    return folder


@pytest.fixture
def few_steps(monkeypatch):
    """The training ends after so many steps; returns the list of calls."""
    trained = []
    whole = classifier.train
    monkeypatch.setattr(classifier, "STEPS", (8, 8))
    monkeypatch.setattr(classifier, "train", lambda *data: trained.append(1) or whole(*data))
    return trained


def said(judged, dataset, **options):
    """What the score says of the classifier."""
    x = dataset.build().tensors[0].float()
    score = judged(Frechet(features="classifier", **options), dataset, x, score=True)
    return score["protocol"]["features"]["classifier"]


def kept(folder):
    return sorted(folder.glob("*.safetensors"))


def test_digits_are_classified_and_the_score_states_the_accuracy(judged):
    x = Digits().build().tensors[0].float() / 127.5 - 1
    score = judged(Frechet(), Digits(), x, score=True)
    about = score["protocol"]["features"]["classifier"]
    assert about["accuracy"] > 0.96
    assert len(about["hash"]) == 12


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 16, 16), (3, 28, 20), (1, 32, 32), (2, 64, 64), (3, 70, 90), (1, 4, 4)], ids=str
)
def test_images_of_any_size_have_features_that_vary(few_steps, shape):
    x, y = bars(70, shape)
    network, accuracy = classifier.train(x, y, 4, True)
    network.gives = "features"
    with torch.no_grad():
        features = network(x)
    assert features.shape == (70, classifier.WIDTH)
    assert (features.std(0) > 1e-3).all()
    assert 0 <= accuracy <= 1


def test_points_and_other_samples_are_classified_by_a_perceptron(few_steps, monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", (60, 60))
    x, y = Ring().build().draw(1000, torch.Generator().manual_seed(0))
    assert classifier.train(100 * x + 7, y, 8, False)[1] > 0.9  # of any scale
    network, _ = classifier.train(torch.randn(100, 4, 5, 2), torch.arange(100) % 3, 3, False)
    assert network(torch.randn(6, 4, 5, 2)).shape == (6, 3)


def test_it_is_trained_once_and_kept(judged, cache, few_steps):
    first, again = said(judged, Bars()), said(judged, Bars())
    assert first == again
    assert len(few_steps) == 1
    assert len(kept(cache)) == 1
    assert not list(cache.glob("*.tmp"))


def test_the_same_data_has_the_same_weights_whatever_was_drawn_and_however_many_threads(judged, cache, few_steps):
    threads = torch.get_num_threads()
    hashes = set()
    for number in (1, 2):
        torch.set_num_threads(number)
        torch.manual_seed(number)
        hashes.add(said(judged, Bars())["hash"])
        assert torch.get_num_threads() == number
        kept(cache)[0].unlink()
    torch.set_num_threads(threads)
    assert (len(hashes), len(few_steps)) == (1, 2)


def test_training_leaves_the_random_state_as_it_was(few_steps):
    before = torch.get_rng_state()
    classifier.train(*bars(100, (1, 8, 8)), 4, True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "other",
    [Bars(count=300), Bars(scale=0.9), Bars(shape=(1, 8, 9)), Bars(labels=5)],
    ids=["count", "values", "shape", "classes"],
)
def test_other_data_has_a_classifier_of_its_own(judged, cache, few_steps, other):
    said(judged, Bars())
    said(judged, other)
    assert len(kept(cache)) == 2


@pytest.mark.parametrize("content", [b"", b"no weights", "half", "other"])
def test_a_damaged_file_is_made_again(judged, cache, few_steps, content):
    first = said(judged, Bars())
    (file,) = kept(cache)
    whole = file.read_bytes()
    if content == "other":  # intact, of another network
        said(judged, Bars(labels=5))
        content = next(f for f in kept(cache) if f != file).read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert said(judged, Bars()) == first
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_made_gives_a_warning(judged, tmp_path, monkeypatch, few_steps, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANFRAME_CACHE", str(tmp_path / "file" / "kept"))
    assert said(judged, Bars())["accuracy"] >= 0
    assert "warning: the classifier is not kept: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_gives_a_warning(judged, cache, monkeypatch, few_steps, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(classifier.safetensors.torch, "save_file", full)
    assert said(judged, Bars())["accuracy"] >= 0
    assert "the classifier is not kept: [Errno 28] No space left on device" in capsys.readouterr().err
    assert not kept(cache)


WORKER = """
import torch
from ganframe.builtin import small_classifier as classifier

classifier.STEPS = (8, 8)
whole = classifier.train
trained = []
classifier.train = lambda *data: trained.append(1) or whole(*data)
torch.manual_seed(0)
network, accuracy = classifier._known_or_trained(torch.rand(200, 1, 8, 8), torch.arange(200) % 4, 4, True)
print(len(trained), accuracy, network.head.weight.sum().item())
"""


def test_of_several_processes_one_trains_it(cache):
    started = [subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0].split(maxsplit=1) for process in started]
    assert sorted(trained for trained, _ in said) == ["0", "1"]
    assert said[0][1] == said[1][1]


def test_copies_of_a_sample_are_on_one_side(few_steps, monkeypatch):
    """Else the accuracy would be that on training samples."""
    seen = []
    whole = classifier._descend
    monkeypatch.setattr(classifier, "_descend", lambda network, x, y: seen.append(x) or whole(network, x, y))
    x = torch.rand(60, 1, 8, 8).repeat(3, 1, 1, 1)
    classifier.train(x, torch.arange(180) % 60 % 2, 2, True)
    rows = [tuple(row.flatten().tolist()) for row in seen[0]]
    assert all(rows.count(row) == 3 for row in set(rows))
    assert 60 < len(rows) < 180


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Bars(labels=None), "features 'classifier' need data with labels, and this dataset has none"),
        (Bars(count=20), "features 'classifier' need 50 training samples, and there are 20; use 'pixels'"),
        (Bars(scale=0.0), "need samples that differ, and all training samples are the same"),
    ],
    ids=["no labels", "few", "all the same"],
)
def test_data_that_it_does_not_suit_is_refused(judged, cache, dataset, message):
    with pytest.raises(ValueError, match=message):
        said(judged, dataset)
    assert not kept(cache)


def test_data_without_labels_is_refused_for_points_too(judged):
    with pytest.raises(ValueError, match="need data with labels"):
        judged(Frechet(features="classifier"), SwissRoll(), torch.rand(100, 2))
