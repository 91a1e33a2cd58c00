"""Where the samples of a certificate come from: a dataset, the generator of a run, or a file of samples.

Each gives one sequence of samples, the same for the same seed. Its parts are slices, so that they share no sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.components import Dataset, DataSpec, Distribution, Judging
from ganframe.data.arrays import as_samples, in_order_of_axes, open_array
from ganframe.data.checks import check_data, check_samples
from ganframe.data.fingerprint import comparable, fingerprint
from ganframe.data.latents import sample_prior
from ganframe.data.randomness import own_random_state
from ganframe.data.real import judging_data, real_samples
from ganframe.errors import RequestError, warn
from ganframe.judging.features import find_features
from ganframe.plugins.registry import Registry
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_dataset, load_recipe, structure_dataset
from ganframe.recipes.writing import to_table
from ganframe.storage import checkpoints, run_folder
from ganframe.storage.files import checksum

CPU = torch.device("cpu")
LABELLED = 2_000  # training samples whose labels say how frequent classes are


@attrs.frozen(eq=False)
class Source:
    """One side of a certificate.

    `draw(n, seed)` gives the first n samples x (n, *shape) of its sequence, or all `size` of them where it is finite.
    `training(n, seed)` gives samples that a dataset trains with, which are never in the sequence; None of others.
    `identity` says what it is, in types that JSON has; `title` is what messages call it. Of a dataset there are also
    its configuration, its spec with labels, and `labelled(n)`, samples (x, y) that never judge; None where all may.
    """

    title: str
    spec: DataSpec
    identity: dict[str, Any]
    size: int | None
    draw: Callable[[int, int], Tensor]
    training: Callable[[int, int], Tensor] | None = None
    dataset: Dataset | None = None
    full: DataSpec | None = None
    labelled: Callable[[int], tuple[Tensor, Tensor]] | None = None

    @property
    def finite(self) -> bool:
        return self.size is not None


def of_dataset(dataset: Dataset, registry: Registry, title: str) -> Source:
    """The samples that a dataset holds out of training; of one that holds out none, all that it has, or draws.

    Raises RecipeError where the data is not there, or not what its spec says.
    """
    return _of_opened(dataset, registry, title, *_opened(dataset, title))


def _opened(dataset: Dataset, title: str) -> tuple[DataSpec, Any, Any]:
    """The spec, what was built for training, and what is for judging."""
    problems = Problems(title)
    spec = problems.attempt("dataset", lambda: dataset.spec)
    problems.raise_any()

    def opened() -> tuple[Any, Any]:
        built = dataset.build()
        check_data(built, spec)
        return built, judging_data(dataset, spec, built)

    data = problems.attempt("dataset", opened)
    problems.raise_any()
    return spec, *data


def _of_opened(dataset: Dataset, registry: Registry, title: str, spec: DataSpec, built: Any, judged: Any) -> Source:
    if isinstance(judged, IterableDataset):
        raise RequestError(f"{title}: a stream has no length; give data of which the number of samples is known")
    kind = "drawn" if isinstance(judged, Distribution) else "all" if judged is built else "held out"
    return Source(
        title,
        _bare(spec),
        {"dataset": to_table(dataset, registry), "samples": kind},
        None if isinstance(judged, Distribution) else len(judged),
        functools.partial(_drawn, title, judged, spec),
        functools.partial(_drawn, title, built, spec) if kind == "held out" else None,
        dataset,
        spec,
        None if kind == "all" else lambda n: real_samples(built, spec, n, 1, CPU),
    )


def _bare(spec: DataSpec) -> DataSpec:
    """The form of the samples alone: certificates know neither labels nor conditions nor columns."""
    return DataSpec(spec.shape, is_image=spec.is_image)


def _drawn(title: str, data: Any, spec: DataSpec, n: int, seed: int) -> Tensor:
    try:
        return real_samples(data, spec, n, seed, CPU)[0]
    except ValueError as error:  # of data that is read item by item only a part was checked before
        raise RequestError(f"{title}: {error}") from None


def of_run(path: str | Path, registry: Registry, device: torch.device, frequencies: list[int] | None = None) -> Source:
    """The samples of a run's generator, or of its moving average; under its conditions, drawn uniformly, or classes.

    These are drawn as often as `frequencies` says of each, where it fits: uniform ones would count against a good
    generator of data whose classes are not equally frequent.
    """
    generator = load_generator(path, registry).to(device).requires_grad_(False)
    if generator.spec.condition is not None and generator.heeds_y and generator.conditions is None:
        raise RequestError(f"{path}: the run keeps no conditions to sample under (conditions.safetensors is missing)")
    identity: dict[str, Any] = {"run": str(path), "generator": checksum(run_folder.existing(path).generator)}
    classes = generator.spec.classes if generator.heeds_y and generator.conditions is None else None
    weights = None
    if classes is not None and _are_counts(frequencies, classes):
        identity["frequencies"] = frequencies
        weights = torch.tensor(frequencies, dtype=torch.float64)
    draw = functools.partial(_generated, str(path), generator, weights)
    return Source(str(path), _bare(generator.spec), identity, None, draw)


def _are_counts(value: Any, classes: int) -> bool:
    """Whether a value, which may be that of a file, has a number of samples for each class."""
    counts = value if isinstance(value, list) else []
    return len(counts) == classes and all(type(n) is int and n >= 0 for n in counts) and sum(counts) > 0


def class_frequencies(data: Source) -> list[int] | None:
    """How many of some training samples have each class; None where there are no classes, or all samples may judge."""
    if data.full is None or not data.full.classes or data.labelled is None:
        return None
    return data.labelled(LABELLED)[1].bincount(minlength=data.full.classes).tolist()


def _generated(title: str, generator: TrainedGenerator, frequencies: Tensor | None, n: int, seed: int) -> Tensor:
    """n samples (n, *shape). Latents are drawn on the CPU, so that they are the same on any device."""
    draws = torch.Generator().manual_seed(seed)
    z = sample_prior(generator.prior, n, draws)
    if not generator.heeds_y:
        y = generator.spec.blank(n)
    elif frequencies is not None:
        y = torch.multinomial(frequencies, n, replacement=True, generator=draws)
    elif generator.conditions is None:
        y = torch.randint(generator.spec.classes or 1, (n,), generator=draws)
    else:
        y = generator.conditions[torch.randint(len(generator.conditions), (n,), generator=draws)]
    x = generator.decode(z, y)
    if not x.isfinite().all():
        raise RequestError(f"{title}: its samples are not finite: the generator has diverged")
    return x


def of_file(path: str | Path, like: DataSpec | None = None) -> Source:
    """The samples of an array file (.npy), in a random order; `like` is the form of the other side, where it has one.

    Images as `like` may have their channels last, and be in uint8. Raises RequestError where they are not samples.
    """
    file = Path(path)
    try:
        array = open_array(file)
        if array.ndim == 0 or not len(array):
            raise ValueError("it has no samples")
        array = array[:, None] if array.ndim == 1 else array
        spec = like or DataSpec(tuple(array.shape[1:]), is_image=array.ndim == 4 and array.dtype == np.uint8)
        identity = {"file": str(path), "sha256": checksum(file)}
    except (ValueError, OSError, EOFError) as error:
        raise RequestError(f"{path}: not an array of samples (.npy): {error}") from None
    try:
        array = in_order_of_axes(array, spec)
    except ValueError:
        shapes = f"its samples have shape {tuple(array.shape[1:])}, and those of the other side {spec.shape}"
        raise RequestError(f"{path}: {shapes}") from None

    def draw(n: int, seed: int) -> Tensor:
        rows = torch.randperm(len(array), generator=torch.Generator().manual_seed(seed))[:n]
        try:
            x = as_samples(np.array(array[rows.numpy()]), spec)
            check_samples(x, torch.zeros(len(x), dtype=torch.long), spec, rows.tolist())
        except ValueError as error:
            raise RequestError(f"{path}: {error}") from None
        return x

    return Source(str(path), spec, identity, len(array), draw)


# ------------------------------------------------------------------------------------------------------------ features


def with_features(
    pair: tuple[Source, Source], name: str, registry: Registry, device: torch.device
) -> tuple[Source, Source, dict[str, Any]]:
    """Both sources with feature vectors (n, F) in the place of samples, and what identifies the features.

    Those that are made from data, as a classifier's are, see training samples of the first dataset of the pair that
    holds out others, or draws them, and no sample that judges. Raises RequestError where there are no such features, or
    they do not suit the samples.
    """
    by = next((source for source in pair if source.labelled is not None), None)

    def training(n: int) -> tuple[Tensor, Tensor]:
        if by is None or by.labelled is None:
            raise ValueError("they are made from training samples, and no side is a dataset that holds out others")
        return by.labelled(n)

    def none(n: int) -> tuple[Tensor, Tensor]:
        raise ValueError("samples that judge are not there to make features from")

    judging = Judging(
        dataset=Dataset() if by is None or by.dataset is None else by.dataset,
        spec=pair[0].spec if by is None or by.full is None else by.full,
        data=TensorDataset(torch.zeros(0)),
        against="train",
        samples=0,
        seed=0,
        device=device,
        real=training,
        training=training,
        held_out=none,
        features=lambda _: none(0)[0],  # type: ignore[arg-type,return-value]
    )
    problems = Problems(pair[0].title)
    with own_random_state(0, device), torch.enable_grad():  # a classifier is trained
        extract = problems.attempt("features", lambda: find_features(name, judging, registry))
    problems.raise_any()
    width = problems.attempt("features", lambda: extract(torch.zeros(1, *pair[0].spec.shape)).shape[1])
    problems.raise_any()
    one, other = (_extracted(source, extract, width) for source in pair)
    return one, other, extract.described()


def _extracted(source: Source, extract: Callable[[Tensor], Tensor], width: int) -> Source:
    def of(draw: Callable[[int, int], Tensor]) -> Callable[[int, int], Tensor]:
        return lambda n, seed: extract(draw(n, seed))

    training = None if source.training is None else of(source.training)
    return attrs.evolve(source, spec=DataSpec((width,)), draw=of(source.draw), training=training)


# ----------------------------------------------------------------------------------------------------------- both sides


def open_pair(
    data: str | Path, against: str | Path, registry: Registry, device: torch.device, overrides: tuple[str, ...] = ()
) -> tuple[Source, Source]:
    """Both sides by their paths, each a recipe, a run or a file; `overrides` are of the recipe `data`.

    Raises RequestError where one cannot be opened, and where they do not fit together.
    """
    paths = [Path(path).expanduser() for path in (data, against)]
    found: dict[int, Source] = {}
    if overrides and paths[0].suffix.lower() != ".toml":
        raise RequestError(f"--set {overrides[0]}: {data} is no recipe, so it has no [dataset] to change")
    for index, path in enumerate(paths):
        if path.suffix.lower() == ".toml":
            found[index] = of_dataset(load_dataset(path, () if index else overrides, registry), registry, str(path))
        elif path.is_dir():
            frequencies = class_frequencies(found[0]) if index and 0 in found else None
            found[index] = of_run(path, registry, device, frequencies)
        elif path.suffix.lower() != ".npy":
            missing = "" if path.exists() else "there is no such file or folder; "
            raise RequestError(f"{path}: {missing}give a recipe (.toml), the folder of a run, or an array file (.npy)")
    for index, path in enumerate(paths):
        if index not in found:
            found[index] = of_file(path, next((source.spec for source in found.values()), None))
    return fitting(found[0], found[1])


def of_a_run_and_its_data(path: str | Path, registry: Registry, device: torch.device) -> tuple[Source, Source]:
    """The held-out data of a run, and its generator. Warns where the run may have been trained with that data."""
    folder = run_folder.existing(path)
    recipe = load_recipe(folder.recipe, registry=registry)
    opened = _opened(recipe.dataset, str(path))
    data = _of_opened(recipe.dataset, registry, str(path), *opened)
    _warn_of_seen_data(folder, data, functools.partial(fingerprint, recipe.dataset, *opened[:2]))
    return fitting(data, of_run(path, registry, device, class_frequencies(data)))


def _warn_of_seen_data(
    folder: run_folder.RunFolder, data: Source, fingerprint_now: Callable[[], dict[str, Any]]
) -> None:
    if data.identity["samples"] == "all":
        warn(
            f"{folder.path}: its dataset holds out no samples, so that the generator has been trained with those that "
            "judge it; a generator that memorises is not told from the data"
        )
    saved = folder.checkpoints()
    then = checkpoints.read_manifest(saved[-1]).get("data") if saved else None
    if not isinstance(then, dict):
        return
    now = fingerprint_now()
    other = [name for name in then if name in now and comparable(then[name], now[name]) and then[name] != now[name]]
    if other:
        warn(
            f"{folder.path}: the data is not that of the run ({', '.join(other)} differ): what is held out now may "
            "have been seen in training"
        )


def fitting(data: Source, against: Source) -> tuple[Source, Source]:
    """Both sides. Raises RequestError where they have different shapes, or are one finite set of samples."""
    if data.spec.shape != against.spec.shape:
        shapes = f"its samples have shape {against.spec.shape}, and those of {data.title} {data.spec.shape}"
        raise RequestError(f"{against.title}: {shapes}")
    one, other = ({key: value for key, value in side.identity.items() if key != "file"} for side in (data, against))
    if data.finite and one == other:  # a copy under another name too
        raise RequestError(
            f"{against.title}: both sides are the same set of samples; the certificate has a comparison of the data "
            "with itself anyway"
        )
    return data, against


def reopened(
    identity: dict[str, Any], like: DataSpec | None, where: str | None, registry: Registry, device: torch.device
) -> Source:
    """The source that a certificate names; `where` is the path at which a run or a file lies now.

    Raises RequestError where it is not there, or no longer the same.
    """
    if "dataset" in identity:
        dataset = structure_dataset(identity["dataset"], registry, "certificate")
        source = of_dataset(dataset, registry, "dataset")
    elif "run" in identity:
        source = of_run(where or identity["run"], registry, device, identity.get("frequencies"))
    else:
        source = of_file(where or identity.get("file", ""), like)
    return source
