"""Images of Hugging Face's `datasets`: by name from the hub, or from files on the disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs
import torch
from attrs.validators import ge, optional
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from ganframe import Dataset, DataSpec, RunError, option, read_image, read_image_header
from ganframe.builtin.image_folder import Size, check_colour, height_and_width, in_depth, sides_of_at_least

_FILES = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".csv": "csv"}
SEED = 0  # of the order in which a stream is shuffled


@attrs.frozen
class HuggingFace(Dataset):
    """Images of a dataset of Hugging Face's `datasets`, read as by `image_folder`.

    `name` is a local path (a folder that `save_to_disk` wrote, a folder of images or of Parquet files, or one such
    file), or a name on the hub, which is downloaded. Labels are a ClassLabel, integers from 0, or texts.

    With `streaming` nothing is downloaded beforehand: samples come in the order of the source, which `shuffle` mixes by
    a buffer of so many. Labels must then be a ClassLabel, and `size` be given.
    """

    name: str = option(help="name on the hub, or path of a folder or file")
    config: str | None = option(None, help="configuration of the dataset, where it has several")
    split: str = option("train", help="part of the dataset that is trained on")
    test_split: str | None = option(None, help="part of the dataset that is held out, for judging")
    image: str = option("image", help="column of the images")
    label: str | None = option(None, help="column of the labels; by default there are none")
    size: Size | None = option(
        None,
        help="pixels along each side after scaling and cropping, or [height, width]; by default those of the first",
        validator=optional(sides_of_at_least(1)),
    )
    channels: int = option(3, help="3 for colour, 1 for greyscale, 4 for colour and opacity", validator=ge(1))
    background: str = option(
        "white", help='what transparent images are laid on: a colour by name or "#rrggbb"', validator=check_colour
    )
    streaming: bool = option(False, help="read from the source while training, as a stream")
    shuffle: int = option(0, help="samples in the buffer that mixes a stream; 0 keeps its order", validator=ge(0))
    memory: float = option(
        2.0, help="GiB up to which images are kept in memory; larger datasets are read from disk", validator=ge(0)
    )

    def __attrs_post_init__(self) -> None:
        if self.streaming and self.size is None:
            raise ValueError("streaming: set size, as the sizes of all images are not known beforehand")
        if self.shuffle and not self.streaming:
            raise ValueError("shuffle: only a stream needs it; others are in random order")

    @property
    def spec(self) -> DataSpec:
        opened = self._open(self.split)
        names, classes = self._classes(opened)
        return DataSpec(self._shape(opened)[0], classes, class_names=names)

    def build(self) -> TorchDataset[Any]:
        return self._build(self.split)

    def held_out(self) -> TorchDataset[Any] | None:
        """The part `test_split`; None where none is named."""
        return None if self.test_split is None else self._build(self.test_split)

    def fingerprint(self) -> dict[str, str]:
        """Hugging Face's own fingerprint of the data, where it is not a stream."""
        found = getattr(self._open(self.split), "_fingerprint", None)
        return {"Hugging Face's fingerprint": found} if isinstance(found, str) else {}

    def _build(self, split: str) -> TorchDataset[Any]:
        opened = self._open(split)
        shape, deep = self._shape(opened)
        names, _ = self._classes(self._open(self.split))
        label_of = {name: label for label, name in enumerate(names or ())}
        if self.streaming:
            opened = opened.shuffle(seed=SEED, buffer_size=self.shuffle) if self.shuffle else opened
            return _Stream(opened, self, label_of, deep)
        if not len(opened):
            raise ValueError(f"{self.name}: split '{split}' has no samples")
        items = _Items(opened, self, label_of, deep)
        if len(items) * torch.Size(shape).numel() * (4 if deep else 1) > self.memory * 2**30:
            return items
        x, y = torch.empty(len(items), *shape, dtype=torch.float32 if deep else torch.uint8), []
        for index in range(len(items)):
            try:
                image, label = items[index]
            except RunError as error:
                raise ValueError(str(error)) from error
            if tuple(image.shape) != shape:
                found, wanted = (f"{sides[2]}×{sides[1]}" for sides in (image.shape, shape))
                raise ValueError(f"{self.name}: image {index} has {found} pixels, and the first {wanted}; set size")
            x[index] = image
            y.append(label)
        return TensorDataset(x, torch.tensor(y))

    def _open(self, split: str) -> Any:
        """The split, without decoding images. Raises ValueError, in one line."""
        datasets = _datasets()
        path = Path(self.name).expanduser()
        with _in_one_line(self.name):
            if not path.exists():
                if path.is_absolute() or self.name.startswith((".", "~")) or self.name.count("/") > 1:
                    raise ValueError("no such file or folder")
                found = datasets.load_dataset(self.name, self.config, split=split, streaming=self.streaming)
            elif any((path / file).is_file() for file in ("state.json", "dataset_dict.json")):
                found = datasets.load_from_disk(str(path))
                if isinstance(found, dict):
                    if split not in found:
                        raise ValueError(f"no split '{split}'; there are {', '.join(found)}")
                    found = found[split]
                found = found.to_iterable_dataset() if self.streaming else found
            elif path.is_file():
                kind = _FILES.get(path.suffix.lower())
                if kind is None:
                    raise ValueError(f"a file must end in {', '.join(_FILES)}; or give a folder, or use zip_folder")
                files = {split: str(path)}
                found = datasets.load_dataset(kind, data_files=files, split=split, streaming=self.streaming)
            else:
                found = datasets.load_dataset(str(path), self.config, split=split, streaming=self.streaming)
            features = found.features or {}
            for role, column in (("image", self.image), ("label", self.label)):
                if column is not None and column not in features:
                    raise ValueError(f"no column '{column}' ({role}); there are {', '.join(features)}")
            if not isinstance(features[self.image], datasets.Image):
                raise ValueError(f"column '{self.image}' holds no images, but {features[self.image]}")
            kept = [self.image, *([] if self.label is None else [self.label])]
            return found.select_columns(kept).cast_column(self.image, datasets.Image(decode=False))

    def _shape(self, opened: Any) -> tuple[tuple[int, int, int], bool]:
        """The shape (C, H, W) of samples, and whether they are floats, as of images of more than 8 bits."""
        row = next(iter(opened), None)
        if row is None:
            raise ValueError(f"{self.name}: it has no samples")
        header = read_image_header(_source(row[self.image], f"{self.name}: image 0"), self.channels)
        sides = (header.height, header.width) if self.size is None else height_and_width(self.size)
        return (self.channels, *sides), header.deep

    def _classes(self, opened: Any) -> tuple[tuple[str, ...] | None, int | None]:
        """The names of classes, if they have some, and their number, if there are labels."""
        if self.label is None:
            return None, None
        kind = opened.features[self.label]
        names = getattr(kind, "names", None)
        if names:
            return tuple(names), len(names)
        dtype = str(getattr(kind, "dtype", kind))
        if self.streaming:
            raise ValueError(f"label: column '{self.label}' is {dtype}: the labels of a stream must be a ClassLabel")
        values = opened.unique(self.label)
        if any(value is None for value in values):
            raise ValueError(f"label: some samples have no '{self.label}'")
        if dtype in ("string", "large_string"):
            return tuple(sorted(values)), len(values)
        if not dtype.startswith(("int", "uint", "bool")) or not 0 <= min(values) <= max(values) < max(2, len(opened)):
            raise ValueError(f"label: column '{self.label}' ({dtype}) does not count classes from 0")
        return None, int(max(values)) + 1

    def sample(self, row: Any, label_of: dict[str, int], deep: bool, index: int) -> tuple[Tensor, int]:
        """x and y of a row. Raises RunError where the image cannot be read."""
        source = _source(row[self.image], f"{self.name}: image {index}")
        try:
            x = in_depth(read_image(source, self.channels, self.size, self.background), deep)
        except ValueError as error:
            raise RunError(str(error)) from error
        label = 0 if self.label is None else row[self.label]
        if label is None or (isinstance(label, str) and label not in label_of):
            what = "there is none" if label is None else f"split '{self.split}' has no {label!r}"
            raise RunError(f"{self.name}: '{self.label}' of sample {index}: {what}; filter such rows out")
        return x, label_of[label] if isinstance(label, str) else int(label)


class _Items(TorchDataset[tuple[Tensor, int]]):
    """Rows that are read at each access."""

    def __init__(self, rows: Any, options: HuggingFace, label_of: dict[str, int], deep: bool) -> None:
        self.rows, self.options, self.label_of, self.deep = rows, options, label_of, deep

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.options.sample(self.rows[int(index)], self.label_of, self.deep, index)


class _Stream(IterableDataset[tuple[Tensor, int]]):
    """Rows in the order of their source, whose position is that of Hugging Face's stream."""

    def __init__(self, rows: Any, options: HuggingFace, label_of: dict[str, int], deep: bool) -> None:
        self.rows, self.options, self.label_of, self.deep = rows, options, label_of, deep

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return self.iterate(lambda index: True)

    def iterate(self, wanted: Callable[[int], bool]) -> Iterator[Any]:
        for index, row in enumerate(self.rows):
            yield self.options.sample(row, self.label_of, self.deep, index) if wanted(index) else None

    def set_epoch(self, epoch: int) -> None:
        # The library keeps the epoch in memory that all workers of a loader share, though some are ahead of others. A
        # new dataset of the same rows has an epoch of its own.
        self.rows = self.rows.with_format(None)
        self.rows.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.rows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows.load_state_dict(state)


@attrs.frozen
class _Encoded:
    """The bytes of an image in a row, which are opened as a path is."""

    content: bytes
    path: str
    name: str

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.path)[1]

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BytesIO(self.content)

    def read_bytes(self) -> bytes:
        return self.content

    def __str__(self) -> str:
        return f"{self.name} ({self.path})" if self.path else self.name


def _source(value: Any, name: str) -> Any:
    """What an image is read from. Raises RunError where a row has none."""
    if value is None or (value.get("bytes") is None and value.get("path") is None):
        raise RunError(f"{name}: this row has no image; filter such rows out")
    if value["bytes"] is None:
        inside = value["path"].partition("::")[0]  # as zip://a.png::x.zip, or hf://…: a stream's files are not fetched
        if "://" not in inside:
            return Path(value["path"])
        return _Encoded(_fetched(value["path"], name), os.path.basename(inside), name)
    return _Encoded(value["bytes"], os.path.basename(value.get("path") or ""), name)


def _fetched(address: str, name: str) -> bytes:
    """The content of a file of a stream. Raises RunError where it cannot be read."""
    from datasets.utils.file_utils import xopen

    try:
        with xopen(address, "rb") as stream:
            return bytes(stream.read())
    except Exception as error:  # of any of the file systems that the library knows
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{name}: {address} cannot be read: {reason}") from error


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"huggingface needs datasets: pip install 'ganframe[huggingface]' ({error})") from error
    datasets.disable_progress_bars()
    return datasets


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as raised:  # the library raises many kinds, some of which only say that there was an error
        error = raised.__cause__ if "error occurred" in str(raised) and raised.__cause__ else raised
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name}: cannot be opened: {reason}") from error
