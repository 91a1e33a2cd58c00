"""The dataset crops."""

import numpy as np
import pytest
import torch
from ganframe_translate import Crops, Derived
from PIL import Image

from ganframe import DataSpec
from ganframe.testing import check_dataset


@pytest.fixture
def photographs(tmp_path):
    """Six images of different sizes and kinds, one turned by EXIF, one transparent, one in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    random = np.random.RandomState(0)

    def image(height, width, channels=3):
        return Image.fromarray(random.randint(0, 255, (height, width, channels), dtype=np.uint8))

    exif = Image.Exif()
    exif[0x0112] = 6
    image(20, 30).save(folder / "a.png")
    image(24, 17).save(folder / "b.jpg", exif=exif)
    image(16, 16, 4).save(folder / "c.webp", lossless=True)
    image(40, 19).convert("L").save(folder / "d.PNG")
    image(33, 21).save(folder / "more" / "e.png")
    image(17, 18).save(folder / "f.png")
    (folder / ".hidden.png").write_text("no image")
    (folder / "notes.txt").write_text("nor this")
    return folder


@pytest.mark.parametrize("options", [{}, {"memory": 0.0}, {"channels": 1, "flip": False}, {"hold_out": 0.3}])
def test_conformance(photographs, options):
    check_dataset(Crops(str(photographs), crop=16, **options))


def test_conformance_of_small_images_made_of_them(photographs):
    dataset = Derived(Crops(str(photographs), crop=16, hold_out=0.3), "downsample", factor=4)
    assert dataset.spec == DataSpec((3, 16, 16), condition=(3, 4, 4))
    check_dataset(dataset)


def test_parts_are_of_one_image_at_its_own_scale_and_move(photographs):
    whole = torch.from_numpy(np.array(Image.open(photographs / "a.png"))).permute(2, 0, 1)
    data = Crops(str(photographs), crop=16, flip=False).build()
    index = data.files.index(photographs / "a.png")
    windows = whole.unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 5, 15, 16, 16)
    found = set()
    for _ in range(20):
        same = (windows == data[index][0][:, None, None]).flatten(3).all(3).all(0)
        assert same.any()
        found.add(same.flatten().int().argmax().item())
    assert len(found) > 5


def test_half_of_the_parts_are_mirrored(photographs):
    data = Crops(str(photographs), crop=16, memory=0.0).build()
    index = data.files.index(photographs / "c.webp")
    images = [data[index][0] for _ in range(40)]
    mirrored = sum(torch.equal(image, images[0].flip(2)) for image in images)
    assert 8 <= mirrored <= 32
    assert all(torch.equal(image, images[0]) or torch.equal(image, images[0].flip(2)) for image in images)


def test_held_out_images_are_not_trained_on_and_do_not_move(photographs):
    dataset = Crops(str(photographs), crop=16, hold_out=0.3)
    training, held_out = dataset.build(), dataset.held_out()
    assert len(training) == 4
    assert len(held_out) == 2
    assert not {*training.files} & {*held_out.files}
    assert torch.equal(held_out[0][0], held_out[0][0])
    assert Crops(str(photographs), crop=16).held_out() is None


def test_images_of_16_bits_keep_their_levels(tmp_path):
    levels = np.arange(400, dtype=np.uint16).reshape(20, 20) * 100
    Image.fromarray(levels).save(tmp_path / "deep.png")
    Image.fromarray(np.full((20, 20), 128, np.uint8)).save(tmp_path / "flat.png")
    data = Crops(str(tmp_path), crop=20, flip=False, channels=1).build()
    values = data[0][0]
    assert values.dtype == data[1][0].dtype == torch.float32
    assert values.unique().numel() == 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 18}, r"crop: 3 of 6 images are smaller than 18×18: b.jpg \(.*smaller crop, or remove them"),
        ({"hold_out": 0.99}, r"hold_out: a share of 0.99 of 6 images leaves one part empty"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(photographs, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        Crops(str(photographs), **{"crop": 16, **options}).build()
    assert "\n" not in str(raised.value)


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="absent: no such folder"):
        Crops(str(tmp_path / "absent")).build()
    with pytest.raises(ValueError, match="no images found"):
        Crops(str(tmp_path)).build()


def test_broken_image_is_named(photographs):
    (photographs / "g.png").write_bytes((photographs / "a.png").read_bytes()[:400])
    with pytest.raises(ValueError, match=r"g\.png"):
        Crops(str(photographs), crop=16).build()
