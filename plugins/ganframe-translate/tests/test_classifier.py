"""The small classifier: sizes, accuracy, the same weights again, and what it refuses."""

import attrs
import pytest
import torch
from ganframe_translate import classifier
from ganframe_translate.classifier import Classifier, samples, trained_classifier
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, component, option


@attrs.frozen
class Halves(Dataset):
    """Grey images with a bright upper (class 0) or lower half (class 1)."""

    shape: tuple[int, ...] = option((1, 9, 12), help="of an image")
    classes: int | None = option(2, help="number of classes")
    listed: bool = option(False, help="whether it is read item by item")

    @property
    def spec(self):
        return DataSpec(self.shape, self.classes)

    def build(self):
        x, y = torch.randint(100, (40, *self.shape), dtype=torch.uint8), torch.arange(40) % 2
        x[y == 0, :, : self.shape[1] // 2] += 120
        x[y == 1, :, self.shape[1] // 2 :] += 120
        return Items(x, y) if self.listed else TensorDataset(x, y)


class Items(TorchDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", (12, 12))


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (64, 40)], ids=str)
def test_images_of_any_size_are_classified(size):
    network = Classifier(3, 5).eval()
    x = torch.rand(2, 3, *size)
    assert network(x).shape == (2, 5)
    assert [h.shape[1] for h in network.features(x)] == [16, 32, 64]
    torch.testing.assert_close(network(x), network.head(network.features(x)[-1]))


@pytest.mark.parametrize("listed", [False, True])
def test_it_learns_the_classes(few_steps, listed):
    data = Halves(listed=listed)
    network = trained_classifier(data)
    assert not network.training
    torch.manual_seed(5)
    x, y = samples(data.build(), 20)
    assert x.shape == (20, 1, 9, 12)
    assert -1 <= x.min() < 0 < x.max() <= 1
    assert (network.classes(x) == y).float().mean() > 0.9


@pytest.mark.slow
def test_it_classifies_digits():
    digits = component("dataset", "digits")(split="train")
    x, y = samples(digits.held_out(), 1000)
    assert (trained_classifier(digits).classes(x) == y).float().mean() > 0.96


def test_the_same_data_gives_the_same_weights_and_leaves_the_random_state(few_steps):
    threads = torch.get_num_threads()
    found = []
    digits = component("dataset", "digits")()
    for seed in (1, 2):
        classifier._known.clear()
        torch.manual_seed(seed)
        torch.set_num_threads(seed)
        before = torch.get_rng_state()
        with torch.no_grad():
            found.append(trained_classifier(digits).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == seed
    torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_it_is_trained_once_in_a_process(few_steps, monkeypatch):
    calls = []
    whole = classifier._trained
    monkeypatch.setattr(classifier, "_trained", lambda *data: calls.append(1) or whole(*data))
    monkeypatch.setattr(classifier, "_known", {})
    digits = component("dataset", "digits")()
    first, again = trained_classifier(digits), trained_classifier(digits)
    assert first is not again
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    with torch.no_grad():
        first.head[2].bias.add_(1)  # what a caller does to one stays with it
    torch.testing.assert_close(trained_classifier(digits).state_dict(), again.state_dict(), rtol=0, atol=0)
    assert len(calls) == 1
    trained_classifier(digits, seed=1)
    trained_classifier(component("dataset", "digits")(split="train"))
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (Halves(classes=None), "of: a classifier is trained on labelled images.* no labels"),
        (Halves(shape=(4,)), r"labelled images, and this data has shape \(4,\)"),
        (Halves(shape=(1, 6, 20)), r"at least 8 pixels a side, not \(6, 20\)"),
    ],
)
def test_data_that_it_cannot_learn_is_refused(data, cause):
    with pytest.raises(ValueError, match=cause):
        trained_classifier(data)
