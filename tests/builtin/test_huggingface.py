"""`huggingface`: images of the `datasets` library, from data made here, offline."""

from __future__ import annotations

import copy
import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

import ganframe
from ganframe import RunError, testing
from ganframe.builtin.huggingface import HuggingFace

datasets = pytest.importorskip("datasets", reason="needs the extra ganframe[huggingface]")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(30, 8, 9, 3), dtype=np.uint8)
LABELS = RNG.integers(3, size=30).tolist()
NAMES = ["emu", "cat", "dog"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Its cache is kept for this test alone, and nothing is downloaded."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def png(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def made(labels=LABELS, kind=None, images=None, column="image"):
    features = {column: datasets.Image(), "label": kind or datasets.ClassLabel(names=NAMES)}
    images = images or [{"bytes": png(pixels), "path": None} for pixels in PIXELS]
    return datasets.Dataset.from_dict({column: images, "label": labels}, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path):
    """saved(data, form): the data on the disk, in one of the forms that are read; gives the path."""

    def save(data, form="disk"):
        path = tmp_path / form
        if form == "disk":
            data.save_to_disk(path)
        elif form == "splits":
            datasets.DatasetDict({"train": data, "test": data.select(range(10))}).save_to_disk(path)
        elif form == "file":
            path = tmp_path / "data.parquet"
            data.to_parquet(path)
        elif form == "parquet":
            path.mkdir()
            data.to_parquet(path / "train.parquet")
        else:
            (path / "train").mkdir(parents=True)
            for i, row in enumerate(data.cast_column("image", datasets.Image(decode=False))):
                (path / "train" / NAMES[row["label"]]).mkdir(exist_ok=True)
                (path / "train" / NAMES[row["label"]] / f"{i:02}.png").write_bytes(row["image"]["bytes"])
        return str(path)

    return save


def items(data):
    pairs = [*data] if isinstance(data, IterableDataset) else [data[i] for i in range(len(data))]
    return torch.stack([x for x, _ in pairs]), torch.stack([torch.as_tensor(y) for _, y in pairs])


@pytest.mark.parametrize("form", ["disk", "splits", "file", "parquet"])
def test_images_and_labels_are_those_of_the_data(saved, form):
    name = saved(made(), form)
    for options in ({}, {"memory": 0.0}, {"streaming": True, "size": (8, 9)}):
        dataset = HuggingFace(name, label="label", **options)
        assert dataset.spec == ganframe.DataSpec((3, 8, 9), 3)
        assert dataset.spec.class_names == tuple(NAMES)
        data = dataset.build()
        assert isinstance(data, TensorDataset) == (not options)
        x, y = items(data)
        np.testing.assert_array_equal(x, PIXELS.transpose(0, 3, 1, 2))
        assert y.tolist() == LABELS


def test_folder_of_images_has_its_folders_as_classes(saved):
    dataset = HuggingFace(saved(made(), "images"), label="label")
    assert dataset.spec.class_names == ("cat", "dog", "emu")
    x, y = items(dataset.build())
    for image, label in zip(x, y, strict=True):
        (place,) = [i for i, pixels in enumerate(PIXELS.transpose(0, 3, 1, 2)) if (image.numpy() == pixels).all()]
        assert NAMES[LABELS[place]] == dataset.spec.class_names[label]


def test_dataset_conforms(saved):
    name = saved(made(), "splits")
    for options in ({}, {"memory": 0.0}, {"size": 8, "streaming": True}):
        dataset = HuggingFace(name, label="label", test_split="test", **options)
        testing.check_dataset(dataset)
    assert len(HuggingFace(name, test_split="test").held_out()) == 10
    assert HuggingFace(name).spec.classes is None


def test_labels_may_be_integers_or_texts(saved):
    dataset = HuggingFace(saved(made(kind=datasets.Value("int64")), "disk"), label="label")
    assert dataset.spec.classes == 3
    assert items(dataset.build())[1].tolist() == LABELS
    texts = made([NAMES[label] for label in LABELS], datasets.Value("string"))
    dataset = HuggingFace(saved(texts, "splits"), label="label", test_split="test")
    assert dataset.spec.class_names == ("cat", "dog", "emu")
    assert [dataset.spec.class_names[y] for y in items(dataset.build())[1]] == [NAMES[label] for label in LABELS]
    assert [dataset.spec.class_names[y] for y in items(dataset.held_out())[1]] == [NAMES[y] for y in LABELS[:10]]


def test_images_are_upright_and_transparent_ones_laid_on_the_background(saved):
    turned = Image.Exif()
    turned[274] = 6
    clear = np.zeros((9, 8, 4), np.uint8)
    images = [{"bytes": png(PIXELS[0], exif=turned), "path": None}, {"bytes": png(clear), "path": None}]
    dataset = HuggingFace(saved(made([0, 1], images=images)), background="red")
    x, _ = items(dataset.build())
    np.testing.assert_array_equal(x[0], np.rot90(PIXELS[0], -1).transpose(2, 0, 1))
    assert (x[1] == torch.tensor([255, 0, 0])[:, None, None]).all()


def refused(dataset):
    """The message of a ValueError, of one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller looks at the message)
        dataset.spec, dataset.build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused_in_one_line(saved, tmp_path):
    name = saved(made(), "splits")
    assert "no column 'picture' (image); there are image, label" in refused(HuggingFace(name, image="picture"))
    assert "column 'label' holds no images" in refused(HuggingFace(name, image="label"))
    assert "no split 'valid'; there are train, test" in refused(HuggingFace(name, split="valid"))
    assert "no such file or folder" in refused(HuggingFace(str(tmp_path / "none")))
    (tmp_path / "a.txt").write_text("a")
    assert "a file must end in .parquet" in refused(HuggingFace(str(tmp_path / "a.txt")))
    (tmp_path / "b.parquet").write_text("b")
    assert "cannot be opened" in refused(HuggingFace(str(tmp_path / "b.parquet")))
    sizes = [{"bytes": png(PIXELS[0]), "path": None}, {"bytes": png(PIXELS[1, :4]), "path": None}]
    assert "image 1 has 9×4 pixels, and the first 9×8; set size" in refused(
        HuggingFace(saved(made([0, 1], images=sizes)))
    )
    broken = [{"bytes": png(PIXELS[0]), "path": None}, {"bytes": png(PIXELS[1])[:90], "path": None}]
    assert "image 1: cannot be read as an image" in refused(HuggingFace(saved(made([0, 1], images=broken), "file")))
    with pytest.raises(ValueError, match="set size"):
        HuggingFace(name, streaming=True)
    with pytest.raises(ValueError, match="only a stream"):
        HuggingFace(name, shuffle=10)


def test_streams_need_names_of_classes(saved):
    name = saved(made(kind=datasets.Value("int64")))
    assert "must be a ClassLabel" in refused(HuggingFace(name, label="label", streaming=True, size=8))


def test_row_without_an_image_is_named(saved):
    images = [{"bytes": png(PIXELS[0]), "path": None}, None]
    assert "image 1: this row has no image" in refused(HuggingFace(saved(made([0, 1], images=images))))


RECIPE = """
[dataset]
use = "huggingface"
name = "{name}"
label = "label"
size = 8
{more}
[generator]
use = "mlp"
hidden = [8]
condition = "concat"
[discriminator]
use = "mlp"
hidden = [8]
condition = "concat"
[objective]
use = "non_saturating"
[train]
steps = 9
batch_size = 8
workers = {workers}
[log]
checkpoint_every = 3
"""


@pytest.mark.parametrize(
    ("more", "workers"), [("", 0), ("memory = 0", 2), ("streaming = true", 0), ("streaming = true", 2)]
)
def test_resumed_run_equals_the_uninterrupted_one(saved, tmp_path, monkeypatch, more, workers, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE.format(name=saved(made()), more=more, workers=workers))
    ganframe.run(ganframe.load_recipe("r.toml"), "whole")
    ganframe.run(ganframe.load_recipe("r.toml", ["train.steps=5"]), "parts")
    ganframe.resume("parts", ["train.steps=9"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts
    assert "warning" not in capsys.readouterr().err


def test_stream_of_images_in_an_archive_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "train.zip", "w") as archive:
        for i, pixels in enumerate(PIXELS[:5]):
            archive.writestr(f"{i}.png", png(pixels))
    stream = HuggingFace(str(tmp_path / "data"), size=9, streaming=True, channels=3)
    whole = HuggingFace(str(tmp_path / "data"), size=9, channels=3).build()
    found = [x for x, _ in stream.build()]
    assert len(found) == len(whole) == 5
    assert all(any(torch.equal(x, whole[i][0]) for i in range(5)) for x in found)


def test_worker_that_is_an_epoch_ahead_does_not_move_the_others(saved):
    """Workers are copies of one stream, whose epoch the library keeps in shared memory."""
    first = HuggingFace(saved(made()), label="label", size=8, streaming=True).build()
    second = copy.copy(first)
    second.rows = copy.copy(first.rows)  # shares its tensor, as after a fork
    for worker in (first, second):
        worker.set_epoch(1)
    rows = iter(first)
    expected = [next(rows) for _ in range(9)][-1]
    state = _after(second, 8)
    second.set_epoch(1)
    first.set_epoch(2)
    second.load_state_dict(state)
    x, y = next(iter(second))
    assert torch.equal(x, expected[0])
    assert y == expected[1]


def _after(stream, n):
    """The state of a stream after n samples."""
    rows = iter(stream)
    for _ in range(n):
        next(rows)
    return stream.state_dict()


def test_shuffled_stream_says_where_it_cannot_be_resumed_exactly(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = "streaming = true\nshuffle = 12"
    (tmp_path / "r.toml").write_text(RECIPE.format(name=saved(made()), more=more, workers=0))
    ganframe.run(ganframe.load_recipe("r.toml"), "whole")
    ganframe.run(ganframe.load_recipe("r.toml", ["train.steps=5"]), "parts")
    ganframe.resume("parts", ["train.steps=9"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert (whole == parts) != ("trains on other samples" in capsys.readouterr().err)


def test_missing_library_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'ganframe[huggingface]'" in refused(HuggingFace("somebody/faces"))


@pytest.mark.parametrize("kept", [True, False])
def test_samples_without_a_known_label_are_named(saved, kept):
    """A ClassLabel may be missing, as in a test split, and a split may have texts that that of training has not."""
    memory = 2.0 if kept else 0.0
    name = saved(made([None, *LABELS[1:]]), "disk")
    with pytest.raises((ValueError, RunError), match=r"'label' of sample 0: there is none; filter such rows out"):
        HuggingFace(name, label="label", memory=memory).build()[0]
    texts = [NAMES[label] for label in LABELS]
    data = datasets.DatasetDict(
        {"train": made(texts, datasets.Value("string")), "test": made([*texts[:29], "owl"], datasets.Value("string"))}
    )
    path = f"{name}-splits"
    data.save_to_disk(path)
    with pytest.raises((ValueError, RunError), match=r"'label' of sample 29: split 'train' has no 'owl'; filter"):
        HuggingFace(path, label="label", test_split="test", memory=memory).held_out()[29]


def test_what_the_library_hides_behind_an_error_is_said(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"image": 1}\n{"image": [')
    with pytest.raises(ValueError, match=r"data: cannot be opened: (?!An error occurred)."):
        HuggingFace(str(tmp_path / "data")).build()
