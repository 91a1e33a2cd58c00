"""The datasets `paired_images` and `unpaired_images`: which images belong together, how they are read, bad folders."""

import re
import unicodedata

import numpy as np
import pytest
import torch
from ganframe_translate.pairs import PairedImages, UnpairedImages
from PIL import Image
from torch.utils.data import TensorDataset

import ganframe
from ganframe.testing import check_dataset


def save(path, pixels):
    """Saves an array (H, W) or (H, W, C) of uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


def picture(seed, height, width, channels=3):
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Ten pairs of 8×6: the target is the negative of the input, so that each tells the other."""
    for index in range(10):
        image = picture(index, 6, 8)
        save(tmp_path / "in" / f"{index}.png", image)
        save(tmp_path / "out" / f"{index}.png", 255 - image)
    return tmp_path


def paired(folder, **options):
    return PairedImages(inputs=str(folder / "in"), targets=str(folder / "out"), **options)


def opposite(x, y):
    """Whether each x is the negative of its y."""
    return torch.equal(x.int() + y.int(), torch.full_like(x, 255, dtype=torch.int))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory": 0},
        {"size": 4},
        {"size": 5, "crop": 4, "flip": True},
        {"crop": 4},
        {"crop": 4, "memory": 0, "flip": True, "hold_out": 0.2},
        {"channels": 1, "condition_channels": 4, "hold_out": 0.3},
    ],
    ids=str,
)
def test_conformance(folders, options):
    check_dataset(paired(folders, **options))
    save(folders / "root" / "a.png", picture(0, 6, 16))
    save(folders / "root" / "b.jpg", picture(1, 6, 16))
    check_dataset(PairedImages(root=str(folders / "root"), **{**options, "hold_out": 0}))


def test_numbers_after_a_dot_are_no_suffix(folders):
    for side, time in (("in", "shot 10.30"), ("out", "shot 10.45")):
        (folders / side / "3.png").rename(folders / side / time)
    with pytest.raises(ValueError, match=r"no target of this name: shot 10\.30; .*no input of this name: shot 10\.45"):
        paired(folders).build()


def test_names_decide_which_images_belong_together(folders):
    (folders / "in" / "3.png").rename(folders / "in" / "z.png")
    (folders / "out" / "3.png").rename(folders / "out" / "z.bmp.png")
    Image.open(folders / "out" / "z.bmp.png").save(folders / "out" / "z.bmp")
    (folders / "out" / "z.bmp.png").unlink()
    for side in ("in", "out"):
        (folders / side / "sub" / "deep").mkdir(parents=True)
        (folders / side / "4.png").rename(folders / side / "sub" / "deep" / "1.png")
        (folders / side / ".hidden.png").write_bytes(b"")
        (folders / side / "Thumbs.db").write_bytes(b"")
    data = paired(folders).build()
    assert isinstance(data, TensorDataset)
    assert data.tensors[0].dtype == torch.uint8
    assert len(data) == 10
    assert opposite(*data.tensors)


def test_names_in_both_unicode_forms_belong_together(folders):
    for side, form in (("in", "NFC"), ("out", "NFD")):
        (folders / side / "3.png").rename(folders / side / unicodedata.normalize(form, "café.png"))
    assert opposite(*paired(folders).build().tensors)


def test_halves_of_an_image_are_input_and_target(tmp_path):
    for index in range(3):
        left = picture(index, 6, 8)
        save(tmp_path / f"{index}.png", np.concatenate([left, 255 - left], 1))
    x, y = PairedImages(root=str(tmp_path)).build().tensors
    assert opposite(x, y)
    assert y[0].permute(1, 2, 0).numpy().tolist() == picture(0, 6, 8).tolist()
    swapped = PairedImages(root=str(tmp_path), order="input_right").build().tensors
    assert torch.equal(swapped[0], y)
    grey = PairedImages(root=str(tmp_path), condition_channels=1)
    assert grey.build()[0][1].shape == grey.spec.condition == (1, 6, 8)


def test_images_are_turned_as_exif_says(folders):
    image = Image.fromarray(255 - picture(0, 6, 8)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be shown a quarter turn clockwise
    image.save(folders / "out" / "0.png", exif=exif)
    assert opposite(*paired(folders).build().tensors)


def test_a_deep_image_makes_its_side_floats(folders):
    Image.fromarray((np.arange(48).reshape(6, 8) * 1000).astype(np.uint16)).save(folders / "in" / "0.png")
    dataset = paired(folders, condition_channels=1, memory=0)
    check_dataset(dataset)
    x, y = dataset.build()[0]
    assert x.dtype == torch.uint8
    assert y.dtype == torch.float32
    assert len(y.unique()) == 48


def test_targets_may_be_a_whole_multiple_of_their_inputs(tmp_path):
    for index in range(4):
        small = picture(index, 5, 7)
        save(tmp_path / "in" / f"{index}.png", small)
        save(tmp_path / "out" / f"{index}.png", small.repeat(3, 0).repeat(3, 1))
    dataset = paired(tmp_path)
    assert dataset.spec == ganframe.DataSpec((3, 15, 21), condition=(3, 5, 7))
    cropped = paired(tmp_path, crop=6, flip=True)
    assert cropped.spec == ganframe.DataSpec((3, 6, 6), condition=(3, 2, 2))
    for x, y in [dataset.build()[1], *(cropped.build()[1] for _ in range(10))]:
        assert torch.equal(x, y.repeat_interleave(3, 1).repeat_interleave(3, 2))
    with pytest.raises(ValueError, match=r"crop: targets have 3 times the size of their inputs.* not 4"):
        assert paired(tmp_path, crop=4).spec


def test_size_cuts_the_same_square_of_both_and_scales_it(tmp_path):
    for index, (height, width) in enumerate([(20, 32), (40, 24)]):
        image = np.zeros((height, width, 3))
        image[height // 2 - 6 : height // 2 + 6, width // 2 - 6 : width // 2 + 6] = 255
        save(tmp_path / "in" / f"{index}.png", image)
        save(tmp_path / "out" / f"{index}.png", 255 - image)
    x, y = paired(tmp_path, size=10).build().tensors
    assert x.shape == (2, 3, 10, 10)
    assert (x.int() + y.int() - 255).abs().max() <= 1
    share = y.float().mean((1, 2, 3)) / 255
    torch.testing.assert_close(share, torch.tensor([144 / 400, 144 / 576]), atol=0.03, rtol=0)


@pytest.mark.parametrize("memory", [0, 2.0])
def test_crop_and_flip_change_both_alike_and_anew_and_not_what_is_held_out(folders, memory):
    dataset = paired(folders, crop=4, flip=True, hold_out=0.5, memory=memory)
    data, apart = dataset.build(), dataset.held_out()
    seen = [data[0] for _ in range(400)]
    assert all(opposite(x, y) for x, y in seen)
    assert len({tuple(x.flatten().tolist()) for x, _ in seen}) == 3 * 5 * 2  # places and mirrored ones
    full = {tuple(x[:, 1:5, 2:6].flatten().tolist()) for x, _ in paired(folders).build()}
    assert all(tuple(x.flatten().tolist()) in full for x, _ in (apart[i] for i in range(len(apart))))


def test_crop_takes_images_of_different_sizes(folders):
    save(folders / "in" / "0.png", picture(0, 20, 9))
    save(folders / "out" / "0.png", 255 - picture(0, 20, 9))
    dataset = paired(folders, crop=4)
    check_dataset(dataset)
    assert all(opposite(*dataset.build()[index]) for index in range(10))


def test_held_out_pairs_are_a_share_that_names_decide(folders):
    dataset = paired(folders, hold_out=0.3)
    kept, apart = dataset.build().tensors[0], dataset.held_out().tensors[0]
    assert (len(kept), len(apart)) == (7, 3)
    whole = paired(folders).build().tensors[0]
    assert sorted(torch.cat([kept, apart]).flatten(1).tolist()) == sorted(whole.flatten(1).tolist())
    assert paired(folders).held_out() is None
    for side in ("in", "out"):
        save(folders / side / "new.png", picture(99, 6, 8))
    after = {tuple(x.flatten().tolist()) for x in dataset.held_out().tensors[0]}
    assert len(after & {tuple(x.flatten().tolist()) for x in apart}) >= 2


def test_fingerprint_tells_other_files(folders):
    before = paired(folders).fingerprint()
    assert before == paired(folders).fingerprint()
    save(folders / "out" / "3.png", np.zeros((6, 8, 3)))
    assert before != paired(folders).fingerprint()


def test_broken_images_are_named(folders):
    for name in ("3.png", "5.png"):
        whole = (folders / "out" / name).read_bytes()
        (folders / "out" / name).write_bytes(whole[: len(whole) - 60])
    with pytest.raises(ValueError, match=r"2 of 10 pairs cannot be read: 3, 5 \(.*out/3.png.*\); remove or replace"):
        paired(folders).build()
    data = paired(folders, memory=0).build()
    with pytest.raises(ganframe.RunError, match=r"out/3\.png"):
        data[3]


def one_name_less(folders):
    (folders / "in" / "3.png").unlink()
    for index in (5, 6, 7, 8, 9, 1):
        (folders / "out" / f"{index}.png").unlink()


def one_pair_of_other_sizes(folders):
    save(folders / "in" / "3.png", picture(0, 6, 7))


def pairs_of_other_sizes(folders):
    for side in ("in", "out"):
        save(folders / side / "3.png", picture(0, 7, 7))


def empty(folders):
    for file in (folders / "out").iterdir():
        file.unlink()
    (folders / "out" / "a.txt").write_text("")


def twice(folders):
    Image.open(folders / "out" / "3.png").save(folders / "out" / "3.jpg")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            one_name_less,
            {},
            r"6 in .*/in have no target of this name: 1, 5, 6, 7, 8, …; 1 in .*/out has no input of this name: 3; give",
        ),
        (one_pair_of_other_sizes, {}, r"one pair has sizes .* do not fit: 3 \(7×6 and 8×6\); give them the same size"),
        (one_pair_of_other_sizes, {"size": 4}, r"one pair has sizes .* do not fit: 3 \(7×6 and 8×6\)"),
        (pairs_of_other_sizes, {}, r"2 different sizes: 9 of 8×6 \(0\), 1 of 7×7 \(3\); set `size` or `crop`"),
        (pairs_of_other_sizes, {"crop": 7}, r"9 of 10 targets are smaller than 7×7, as 0 of 8×6"),
        (empty, {}, "out: no images found; .*; it has 1 other files"),
        (twice, {}, r"out: 1 names belong to more than one image: 3 \(3.jpg, 3.png\); keep one"),
        (lambda _: None, {"hold_out": 0.01}, "hold_out: a share of 0.01 of 10 pairs leaves one part empty"),
        (lambda _: None, {"size": 4, "crop": 5}, "crop: must be at most size, 4, not 5"),
        (lambda _: None, {"order": "input_right"}, "order is for `root`"),
    ],
    ids=["names", "pair", "pair with size", "sizes", "small", "empty", "twice", "share", "crop", "order"],
)
def test_pairs_that_do_not_fit_raise_value_error(folders, change, options, message):
    change(folders)
    with pytest.raises(ValueError, match=message) as raised:
        paired(folders, **options).build()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [PairedImages, UnpairedImages])
def test_folders_that_do_not_fit_raise_value_error(folders, kind):
    there, inner, missing = (str(folders / name) for name in ("in", "in/sub", "none"))
    (folders / "in" / "sub").mkdir()
    for inputs, targets, message in [
        (there, there, "are the same folder"),
        (there, f"{there}/../in", "are the same folder"),
        (there, inner, "lies inside"),
        (inner, there, "lies inside"),
        (missing, there, f"{re.escape(missing)}: no such folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            assert kind(inputs=inputs, targets=targets).spec


@pytest.mark.parametrize(
    "options",
    [{}, {"inputs": "a"}, {"inputs": "a", "targets": "b", "root": "c"}, {"inputs": "a", "root": "c"}],
    ids=str,
)
def test_two_folders_or_one_are_asked_for(options):
    with pytest.raises(ValueError, match="set `inputs` and `targets`, two folders, or `root`"):
        PairedImages(**options)


def test_side_by_side_images_of_odd_width_raise_value_error(tmp_path):
    save(tmp_path / "a.png", picture(0, 6, 9))
    with pytest.raises(ValueError, match=r"a\.png: is 9 pixels wide"):
        PairedImages(root=str(tmp_path)).build()


@pytest.fixture
def apart(tmp_path):
    """Seven dark images and five bright ones, of another size."""
    for index in range(7):
        save(tmp_path / "in" / f"{index}.png", picture(index, 6, 8) // 4)
    for index in range(5):
        save(tmp_path / "out" / f"b{index}.jpg", 255 - picture(index, 9, 9) // 4)
    return tmp_path


def unpaired(folder, **options):
    return UnpairedImages(inputs=str(folder / "in"), targets=str(folder / "out"), **options)


@pytest.mark.parametrize(
    "options", [{}, {"size": 5}, {"size": 5, "crop": 4, "flip": True, "memory": 0}, {"condition_channels": 1}], ids=str
)
def test_unpaired_conformance(apart, options):
    check_dataset(unpaired(apart, **options))


def test_unpaired_images_are_drawn_independently(apart):
    dataset = unpaired(apart, size=4)
    data = dataset.build()
    assert len(data) == 5
    drawn = {tuple(y.flatten().tolist()) for _, y in (data[0] for _ in range(80))}
    assert len(drawn) == 7
    x, y = data[2]
    assert x.min() > 180
    assert y.max() < 64


def test_unpaired_crop_larger_than_the_images_raises_value_error(apart):
    with pytest.raises(ValueError, match="crop: must be at most the side of the images, 6, not 7"):
        assert unpaired(apart, crop=7).spec


def test_unpaired_fingerprint_tells_other_files(apart):
    before = unpaired(apart).fingerprint()
    save(apart / "in" / "new.png", picture(3, 6, 8))
    assert before != unpaired(apart).fingerprint()
