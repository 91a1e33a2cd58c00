"""`zip_folder`: images in a zip archive, as those of a folder."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import ganframe
from ganframe import testing
from ganframe.builtin.archive import Archive
from ganframe.builtin.image_folder import ImageFolder
from ganframe.builtin.zip_folder import ZipFolder

RNG = np.random.default_rng(0)


def png(mode="RGB", size=(9, 8), **options):
    image = Image.fromarray(RNG.integers(256, size=(size[1], size[0], 4), dtype=np.uint8), "RGBA").convert(mode)
    stream = io.BytesIO()
    image.save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


@pytest.fixture
def packed(tmp_path):
    """packed(members, compression=…): an archive of contents by name."""

    def pack(members, compression=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "images.zip", "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return str(tmp_path / "images.zip")

    return pack


def items(dataset):
    data = dataset.build()
    pairs = [data[i] for i in range(len(data))]
    return torch.stack([x for x, _ in pairs]), torch.stack([torch.as_tensor(y) for _, y in pairs])


def same_as_folder(dataset, tmp_path, **options):
    """Whether the dataset is what image_folder reads of the same files, unpacked."""
    folder = tmp_path / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(dataset.root) as archive:
        archive.extractall(folder)
    expected = ImageFolder(str(folder), **options)
    assert dataset.spec == expected.spec
    assert dataset.spec.class_names == expected.spec.class_names
    for got, wanted in zip(items(dataset), items(expected), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_folders_are_classes_and_images_those_of_the_unpacked_folder(packed, tmp_path, memory, compression):
    turned = Image.Exif()
    turned[274] = 6
    deep = io.BytesIO()
    Image.fromarray(RNG.integers(2**16, size=(8, 9), dtype=np.uint16)).save(deep, "PNG")
    members = {
        **{f"kind{k}/{i}.png": png() for k in (2, 10, 1) for i in range(2)},
        "kind2/turned.jpg": png(size=(8, 9), format="JPEG", exif=turned),
        "kind2/clear.png": png("RGBA"),
        "kind10/deep.png": deep.getvalue(),
        "kind10/named as none": png(),
        "kind10/.hidden.png": b"",
        "__MACOSX/kind2/._0.png": b"\0\5\x16\7",
        "kind1/readme.txt": "no image",
    }
    file = packed(members, compression)
    same_as_folder(ZipFolder(root=file, memory=memory), tmp_path)
    same_as_folder(
        ZipFolder(root=file, size=4, channels=1, background="red"), tmp_path, size=4, channels=1, background="red"
    )
    assert ZipFolder(root=file).spec.class_names == ("kind1", "kind2", "kind10")


def test_tiff_pages_arrays_and_formats_of_16_bits(packed, tmp_path):
    pages = [Image.fromarray(RNG.integers(256, size=(8, 9), dtype=np.uint8)) for _ in range(5)]
    tiff, ppm, npy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pages[0].save(tiff, "TIFF", save_all=True, append_images=pages[1:])
    np.save(npy, RNG.integers(256, size=(5, 8, 9), dtype=np.uint8))
    same_as_folder(
        ZipFolder(root=packed({"a.tif": tiff.getvalue(), "b.npy": npy.getvalue()}), channels=5), tmp_path, channels=5
    )
    ppm.write(b"P6 9 8 65535\n" + RNG.integers(256, size=8 * 9 * 6, dtype=np.uint8).tobytes())
    same_as_folder(ZipFolder(root=packed({"a.ppm": ppm.getvalue()})), tmp_path)


def test_a_folder_around_everything_is_passed_through(packed):
    assert ZipFolder(root=packed({"photos/1.png": png(), "photos/2.png": png()})).spec.classes is None
    spec = ZipFolder(root=packed({"all/photos/a/1.png": png(), "all/photos/b/2.png": png()})).spec
    assert spec.class_names == ("a", "b")


@pytest.mark.parametrize("around", ["", "ffhq/"])
def test_labels_of_dataset_json(packed, around):
    images = {f"{around}0000{i // 2}/img{i}.png": png() for i in range(4)}
    pairs = [[name.removeprefix(around), label] for name, label in zip(images, (1, 0, 6, 1), strict=True)]

    def with_labels(labels):
        return ZipFolder(root=packed({**images, f"{around}dataset.json": json.dumps({"labels": labels})}))

    dataset = with_labels(pairs[::-1])
    assert dataset.spec == ganframe.DataSpec((3, 8, 9), 7)
    assert items(dataset)[1].tolist() == [1, 0, 6, 1]
    testing.check_dataset(dataset)
    assert with_labels(None).spec.classes is None
    vectors = with_labels([[name, [label, 0.5]] for name, label in pairs])
    assert vectors.spec == ganframe.DataSpec((3, 8, 9), condition=(2,))
    assert items(vectors)[1].tolist() == [[1, 0.5], [0, 0.5], [6, 0.5], [1, 0.5]]
    testing.check_dataset(vectors)
    assert "has no label for 1 of 4 images" in refused(with_labels(pairs[1:]))
    assert "integers from 0, or lists" in refused(with_labels([[name, str(label)] for name, label in pairs]))
    assert "integers from 0, or lists" in refused(with_labels([[name, [0.5] * (1 + label)] for name, label in pairs]))
    assert "is not as StyleGAN's" in refused(ZipFolder(root=packed({**images, f"{around}dataset.json": "[1"})))


def refused(dataset):
    """The message of a ValueError, of one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller looks at the message)
        dataset.spec, dataset.build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_an_archive_is_said_in_one_line(packed, tmp_path):
    good = {"a.png": png(), "b.png": png()}
    file = packed(good, zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "images.zip").read_bytes())
    (tmp_path / "images.zip").write_bytes(content[:-30])
    assert "is no zip archive, or was not copied whole" in refused(ZipFolder(root=file))
    content[content.index(good["b.png"]) + 60] ^= 1
    (tmp_path / "images.zip").write_bytes(content)
    for size in (None, 4):
        message = refused(ZipFolder(root=file, size=size))
        assert "this member of the archive is damaged: Bad CRC-32" in message
        assert "b.png" in message
    assert "leads out of the archive" in refused(ZipFolder(root=packed({"../a.png": png()})))
    assert "leads out of the archive" in refused(ZipFolder(root=packed({"/a.png": png()})))
    assert "leads out of the archive" in refused(ZipFolder(root=packed({"C:\\a.png": png()})))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(packed(good), "a") as archive:
        archive.writestr("a.png", png())
    assert "two members are called 'a.png'" in refused(ZipFolder(root=file))
    content = (tmp_path / "images.zip").read_bytes()
    packed({"a.png": png()})
    content = bytearray((tmp_path / "images.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of encryption
    (tmp_path / "images.zip").write_bytes(content)
    assert "is encrypted" in refused(ZipFolder(root=file))
    assert "no images found" in refused(ZipFolder(root=packed({"a.txt": "a"})))
    assert "both in the folder itself and in its" in refused(ZipFolder(root=packed({"a.png": png(), "b/c.png": png()})))
    assert "classes without images: b" in refused(ZipFolder(root=packed({"a/a.png": png(), "b/c.txt": "c"})))
    assert "different sizes" in refused(ZipFolder(root=packed({"a.png": png(), "b.png": png(size=(4, 4))})))
    assert "no such file" in refused(ZipFolder(root=str(tmp_path / "none.zip")))


def test_links_are_no_images(packed, tmp_path):
    file = packed({"a.png": png()})
    link = zipfile.ZipInfo("b.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "a.png")
    assert len(ZipFolder(root=file).build()) == 1


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_open_the_archive_themselves(packed, start):
    file = packed({f"{i:02}.png": png() for i in range(24)})
    data = ZipFolder(root=file, memory=0).build()
    expected = torch.stack([data[i][0] for i in range(24)])  # opens the handle of this process
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=multiprocessing.get_context(start))
    assert torch.equal(torch.cat([x for x, _ in loader]), expected)


def test_archive_is_sent_without_its_handle(packed):
    archive = Archive(Path(packed({"a.png": b"1"})))
    assert archive.read("a.png") == b"1"
    assert pickle.loads(pickle.dumps(archive)).read("a.png") == b"1"


def test_fingerprint_tells_other_contents(packed):
    contents = {"a.png": png(), "b.png": png()}
    first = ZipFolder(root=packed(contents)).fingerprint()
    assert ZipFolder(root=packed(contents, zipfile.ZIP_STORED)).fingerprint() == first
    assert ZipFolder(root=packed({**contents, "b.png": png()})).fingerprint() != first


RECIPE = """
[dataset]
use = "zip_folder"
root = "images.zip"
memory = {memory}
[generator]
use = "mlp"
hidden = [8]
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "non_saturating"
[train]
steps = 6
batch_size = 8
workers = {workers}
[log]
checkpoint_every = 3
"""


@pytest.mark.parametrize(("memory", "workers"), [(2.0, 0), (0.0, 2)])
def test_resumed_run_equals_the_uninterrupted_one(packed, tmp_path, monkeypatch, memory, workers):
    monkeypatch.chdir(tmp_path)
    packed({f"{i:02}.png": png() for i in range(24)})
    (tmp_path / "r.toml").write_text(RECIPE.format(memory=memory, workers=workers))
    ganframe.run(ganframe.load_recipe("r.toml"), "whole")
    ganframe.run(ganframe.load_recipe("r.toml", ["train.steps=3"]), "parts")
    ganframe.resume("parts", ["train.steps=6"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts
