"""A trained generator as a file for other programs: a program of torch.export, or ONNX. Each is run before it is kept.

The program takes z (N, latent_dim) and y, N free, and gives the samples that `ganframe sample` draws of them: weights
are the moving average where the run has one, and images are clipped to [-1, 1]. y is (N,) int64 or (N, *condition)
float32; a generator that heeds no y takes z alone, and one that ignores z takes y alone.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.components import DataSpec
from ganframe.data.latents import fixed_latents
from ganframe.declarations import ignores_latent
from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry
from ganframe.storage import run_folder
from ganframe.storage.files import write_atomically
from ganframe.training.networks import copied

Format = Literal["torch", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-5
"""The largest difference between samples of the file and of the generator, beside a magnitude of 1 or their own."""
TRACED, CHECKED = 2, (1, 3, 8)
"""Sizes of the batch that is traced, and of those that check that the size is free."""


@attrs.frozen
class Exported:
    """A file of a generator. `inputs` are the names of what it takes, in this order, with what they are."""

    file: Path
    inputs: dict[str, str]


class Exportable(nn.Module):
    """samples (N, *shape) of the inputs that matter, in float32, in range."""

    def __init__(self, network: nn.Module, spec: DataSpec, inputs: tuple[str, ...], latent_dim: int) -> None:
        super().__init__()
        self.network, self.spec, self.inputs, self.latent_dim = network, spec, inputs, latent_dim

    def given(self, drawn: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The inputs among z and y."""
        return tuple(drawn[name] for name in self.inputs)

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.inputs, given, strict=True))
        n = given[0].shape[0]
        z = named["z"] if "z" in named else given[0].new_zeros((n, self.latent_dim), dtype=torch.float32)
        y = named["y"] if "y" in named else self.spec.blank(n, z.device)
        x = self.network(z, y).contiguous()
        return torch.where(x.isfinite(), x.clamp(-1, 1), x) if self.spec.is_image else x


def export(
    path: str | Path,
    file: str | Path | None = None,
    format: Format = "torch",
    step: int | None = None,
    registry: Registry | None = None,
) -> Exported:
    """Writes the generator of a run to a file: a program of torch.export (.pt2), or ONNX (.onnx).

    By default `generator` with that suffix in the folder of the run; `step` is that of a checkpoint. The batch size is
    free. The file is loaded and run, ONNX by onnxruntime, before it takes its name: its samples of other latents are
    those of the generator but for TOLERANCE. What the inputs are stands in the file too: the extra file
    `ganframe.json` of the program, the metadata `ganframe` of ONNX.

    Raises RequestError where the extra `onnx` is missing, where the generator cannot be expressed (a shape or a branch
    that depends on the data, an operation that ONNX has not, noise of its own), or where the samples differ.
    """
    if format not in FORMATS:
        raise RequestError(f"format '{format}': known: {', '.join(FORMATS)}")
    if format == "onnx":
        _require_onnx()
    folder = run_folder.existing(path)
    target = folder.path / f"generator{SUFFIXES[format]}" if file is None else Path(file).expanduser()
    if target.is_dir():
        raise RequestError(f"{target}: is a folder; name a file that ends in {SUFFIXES[format]}")
    if target.suffix.lower() != SUFFIXES[format]:
        raise RequestError(f"{target}: the name of a file of format {format} must end in {SUFFIXES[format]}")
    G = load_generator(path, registry, step)
    # In the plain memory format: exporters write down strides, and other programs have their own.
    network = copied(G.network, G.network).to(memory_format=torch.contiguous_format)
    _fix_training_step(network)
    module = Exportable(network, G.spec, _inputs(G), G.prior.dim).eval().requires_grad_(False)
    _refuse_noise(path, G)
    about = json.dumps(_about(G, module.inputs))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, lambda partial: _write_checked(str(path), module, G, format, about, partial))
    except OSError as error:
        raise RequestError(f"{target}: cannot be written: {error}") from None
    return Exported(target, {name: _meaning(name, G) for name in module.inputs})


def _fix_training_step(network: nn.Module) -> None:
    """Replaces the buffers in which a network that grows finds the step by their number: it has grown."""
    for module in network.modules():
        if module._buffers.get("training_step") is not None:
            module.training_step = int(module._buffers.pop("training_step"))  # type: ignore[arg-type, assignment]


def _inputs(G: TrainedGenerator) -> tuple[str, ...]:
    """Which of z and y the samples depend on, in this order."""
    z, y = not ignores_latent(G.network), G.heeds_y and (G.spec.classes is not None or G.spec.condition is not None)
    return ("z",) * (z or not y) + ("y",) * y


def _meaning(name: str, G: TrainedGenerator) -> str:
    """What an input is: its shape, type and values."""
    if name == "z":
        drawn = "N(0, 1)" if G.prior.distribution == "normal" else "U(-√3, √3)"
        return f"latents (N, {G.prior.dim}), float32, drawn from {drawn}"
    if G.spec.condition is None:
        return f"labels (N,), int64, 0 to {(G.spec.classes or 1) - 1}"
    return f"conditions ({', '.join(map(str, ('N', *G.spec.condition)))}), float32"


def _about(G: TrainedGenerator, inputs: tuple[str, ...]) -> dict[str, Any]:
    """What someone needs to know to call the program: its inputs, what z is drawn from, what y and samples mean."""
    spec = {name: value for name, value in attrs.asdict(G.spec).items() if value is not None}
    return {"inputs": {name: _meaning(name, G) for name in inputs}, "samples": spec}


def _drawn(G: TrainedGenerator, n: int, seed: int) -> dict[str, Tensor]:
    """z and y of n samples: y are drawn labels, or the conditions that the run keeps, blank ones without."""
    z, y = fixed_latents(G.prior, G.spec, n, seed, G.conditions)
    return {"z": z, "y": y if G.heeds_y else G.spec.blank(n)}


@torch.no_grad()
def _refuse_noise(path: str | Path, G: TrainedGenerator) -> None:
    """Raises RequestError where two calls with the same inputs give other samples: no file could be checked."""
    drawn = _drawn(G, TRACED, 0)
    if not torch.equal(G.decode(**drawn), G.decode(**drawn)):
        raise RequestError(f"{path}: the generator draws noise of its own, so samples of a file could not be checked")


def _write_checked(path: str, module: Exportable, G: TrainedGenerator, format: Format, about: str, file: Path) -> None:
    """Writes the file, loads it, and compares its samples. Raises RequestError."""
    batch = torch.export.Dim("batch", min=1)
    given = module.given(_drawn(G, TRACED, 0))
    with _one_line(path, format), torch.no_grad(), _silent():
        program = torch.export.export(module, given, dynamic_shapes=(tuple({0: batch} for _ in given),))
        if format == "torch":
            with file.open("wb") as stream:  # its name does not end in .pt2 yet
                torch.export.save(program, stream, extra_files={"ganframe.json": about})
            run = _torch_program(file)
        else:
            _save_onnx(program, given, module.inputs, about, file)
            run = _onnx_program(file, module.inputs)
        for seed, n in enumerate(CHECKED, start=1):
            drawn = _drawn(G, n, seed)
            expected, found = G.decode(**drawn), run(*module.given(drawn))
            if found.shape != expected.shape:
                raise ValueError(f"its samples have shape {tuple(found.shape)}, not {tuple(expected.shape)}")
            worst = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
            if not worst <= TOLERANCE:
                raise ValueError(f"its samples differ by up to {worst:.2g} from those of the generator")


def _torch_program(file: Path) -> Callable[..., Tensor]:
    with file.open("rb") as stream:
        return torch.export.load(stream).module()


def _save_onnx(
    program: torch.export.ExportedProgram, given: tuple[Tensor, ...], inputs: tuple[str, ...], about: str, file: Path
) -> None:
    made = torch.onnx.export(program, given, dynamo=True, input_names=list(inputs), output_names=["x"], verbose=False)
    assert made is not None
    made.model.metadata_props["ganframe"] = about
    made.save(str(file), external_data=False)


def _onnx_program(file: Path, inputs: tuple[str, ...]) -> Callable[..., Tensor]:
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.set_default_logger_severity(3)  # errors
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(*given: Tensor) -> Tensor:
        feed = {name: tensor.numpy() for name, tensor in zip(inputs, given, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise RequestError(f"format onnx needs {package}; pip install 'ganframe[onnx]'") from None


@contextlib.contextmanager
def _one_line(path: str, format: Format) -> Iterator[None]:
    """Turns what exporters raise, classes of many modules with pages of text, into RequestError with one line."""
    try:
        yield
    except (OSError, RequestError):
        raise
    except Exception as error:
        raise RequestError(f"{path}: cannot be written as {format}: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    """What is to blame, in a line: of the errors of exporters, the first line of the innermost one."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    name, first = type(error).__name__, next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if "DataDependent" in name:
        return "a shape or a branch of the network depends on values that it computes"
    if "Constraints violated" in str(error):
        return "the network fixes the size of a batch"
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        return f"ONNX has no operation for {missing[1]} of torch"
    return first if type(error) is ValueError else f"{name}: {first}"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drops what exporters print, log and warn of: what matters of it is checked by running the file."""
    before = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
