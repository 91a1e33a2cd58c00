"""A certified upper bound on a network's Lipschitz constant, from the norms of its layers.

The network is called once on a tensor that carries a bound. Each torch function multiplies the bound by its own
Lipschitz constant, and the sum of two branches has the sum of their bounds (a residual block has 1 + its branch's). The
norms of linear layers come from above (`ganframe.analysis.norms`). The norm of a convolution is that of the linear
operator on images of that size, not the largest singular value of the kernel as a matrix. A module that declares
`lipschitz_constant` is believed.

The file is long because it is one table: the rules for torch's functions, and the tensor that applies them.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe.analysis.norms import UNIT, Convolution, matrix_norm, separable_norm
from ganframe.declarations import declared_constant

COVERS = (
    "every x and x' in exact arithmetic, for the weights as evaluation computes them in float64; not the rounding of a "
    "network that is called in float32, which can make it steeper between points that are very close"
)


class NoBound(Exception):
    """The network uses a function whose Lipschitz constant is not known here."""


@attrs.frozen
class Layer:
    """One step of the forward pass: the module it belongs to, torch's function, and its Lipschitz constant.

    `how` says where the norm comes from: "singular values" of a matrix, "singular values by frequency" of a convolution
    on a larger image, a "formula" (the largest slope of an activation), or "declared by" a class.
    """

    module: str
    function: str
    norm: float
    how: str


@attrs.frozen
class Bound:
    """A number that ‖D(x, y) - D(x', y)‖ / ‖x - x'‖ does not exceed, for any x, x', with the layers it comes from.

    `value` is from above in all of its parts, rounding in float64 included. `covers` says what it holds for.
    """

    value: float
    layers: list[Layer]
    covers: str = COVERS


def certified_bound(network: nn.Module, x: Tensor, y: Tensor) -> Bound:
    """A bound on ‖D(x, y) - D(x', y)‖ / ‖x - x'‖ over all x and x' and the given y, computed on a copy in float64.

    `network` must be in evaluation mode. x (N, *shape) gives the shape; y are (N,) or (N, *condition). Raises NoBound
    where a function of the forward pass has no rule, or where a part of it cannot be traced.
    """
    try:
        network = copy.deepcopy(network).cpu().double()
    except Exception as error:  # copying may fail in any way
        raise NoBound(f"the network cannot be copied: {_first_line(error)}") from None
    x, y = x.detach().cpu().double(), y.detach().cpu()
    y = y.double() if y.is_floating_point() else y
    trace = _Trace()
    with torch.no_grad():
        before = network(x.clone(), y)
        step = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        moved = network(x + step, y) - before
        _observe(network, trace)
        # What depends on x and is not traced (vmap, a scripted function) is NaN too, and is found by that.
        out = network(_Bounded.of(torch.full_like(x, math.nan), 1.0, trace), y)
        value = out.bound if isinstance(out, _Bounded) else 0.0
        if not isinstance(out, _Bounded) and out.isnan().any():
            raise NoBound(_UNTRACED.format("the result of the network"))
        if torch.linalg.vector_norm(moved).item() > torch.linalg.vector_norm(step).item() * value * (1 + 1e-9):
            raise NoBound("the network has parts that cannot be traced, and is steeper than the bound of the others")
    return Bound(value, trace.layers)


_UNTRACED = (
    "{} has numbers that depend on x in a way that cannot be traced (vmap, a scripted function), or non-finite weights"
)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


# ------------------------------------------------------------------------------------------- a tensor with a bound


@attrs.define
class _Trace:
    """The modules that are running, and the layers so far."""

    running: list[str] = attrs.field(factory=list)
    layers: list[Layer] = attrs.field(factory=list)

    @property
    def module(self) -> str:
        return self.running[-1] if self.running else ""

    @property
    def place(self) -> str:
        """For a person."""
        return self.module or "the network"

    def step(self, function: str, norm: float, how: str = "formula") -> float:
        """Notes a layer, and returns its norm."""
        self.layers.append(Layer(self.module, function, norm, how))
        return norm


class _Bounded(Tensor):
    """A tensor that is a function of the input with a Lipschitz constant of at most `bound`."""

    bound: float
    seen_by: _Trace

    @classmethod
    def of(cls, tensor: Tensor, bound: float, trace: _Trace) -> _Bounded:
        carried = tensor.as_subclass(cls)
        carried.bound, carried.seen_by = bound, trace
        return carried

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        carried = list(_carried([args, kwargs]))
        trace, plain_args, plain_kwargs = carried[0].seen_by, _plain(args), _plain(kwargs)
        given = list(_tensors([plain_args, plain_kwargs]))
        if any(
            not isinstance(t, _Bounded) and t.is_floating_point() and t.isnan().any() for t in _tensors([args, kwargs])
        ):
            raise NoBound(_UNTRACED.format(f"an argument of torch's {function.__name__}, in {trace.place},"))
        versions = [tensor._version for tensor in given]
        result = function(*plain_args, **plain_kwargs)
        wrote = any(tensor._version != version for tensor, version in zip(given, versions, strict=True))
        parts = result if isinstance(result, (tuple, list)) else (result,)
        place = next((i for i, argument in enumerate(args) if isinstance(argument, cls)), None)
        call = _Call(function, plain_args, plain_kwargs, place, result, trace, wrote)
        if not wrote and not any(isinstance(part, Tensor) for part in parts) and call.name in _ASKED:
            return result  # a shape, a type
        if not all(isinstance(part, Tensor) and part.is_floating_point() for part in parts):
            raise call.no_bound()  # a comparison, an index or a Python number: a step function, or no longer traced
        bound = _bound(call, carried)
        made = [cls.of(part, bound, trace) for part in parts]
        return made[0] if isinstance(result, Tensor) else type(result)(made)


@attrs.frozen
class _Call:
    """A call of a torch function, with plain arguments. `place` is the index of the first that had a bound."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | None
    result: Any
    trace: _Trace
    wrote: bool

    @property
    def name(self) -> str:
        """The same for torch.relu, Tensor.relu_ and F.relu."""
        name = self.function.__name__
        return name if name.startswith("__") else name.rstrip("_")

    def option(self, index: int, name: str, default: Any) -> Any:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def no_bound(self) -> NoBound:
        return NoBound(f"the Lipschitz constant of torch's {self.name}, in {self.trace.place}, is not known")

    def no_constant(self) -> NoBound:
        """For products of two functions of the input, as in self-attention (Kim et al. 2021, theorem 3.1)."""
        return NoBound(
            f"torch's {self.name}, in {self.trace.place}, multiplies two functions of x, as self-attention does: where "
            "these are unbounded there is no Lipschitz constant"
        )


def _carried(value: Any) -> Iterator[_Bounded]:
    """The tensors with bounds among a function's arguments, in order."""
    return (tensor for tensor in _tensors(value) if isinstance(tensor, _Bounded))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _plain(value: Any) -> Any:
    """The same arguments without bounds."""
    if isinstance(value, _Bounded):
        return value.as_subclass(Tensor)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):  # a named tuple too
        return [*map(_plain, value)] if isinstance(value, list) else tuple(map(_plain, value))
    return value


def _observe(network: nn.Module, trace: _Trace) -> None:
    """Makes a copy of a network record which of its modules runs, and not look into those that declare a constant."""

    def leave(*_: Any) -> None:  # a value returned by a hook would replace the output
        trace.running.pop()

    for name, module in network.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: trace.running.append(name))
        module.register_forward_hook(leave)
        if callable(getattr(module, "lipschitz_constant", None)):
            module.forward = _declared(module, trace)


def _declared(module: nn.Module, trace: _Trace) -> Callable[..., Any]:
    """The forward pass of a module that declares its Lipschitz constant in its first argument."""
    forward = module.forward

    def bounded(h: Any, *rest: Any, **named: Any) -> Any:
        others = [*_carried([rest, named])]
        if not isinstance(h, _Bounded) and not others:
            return forward(h, *rest, **named)
        if not isinstance(h, _Bounded) or others:
            raise NoBound(
                f"{type(module).__name__}, in {trace.place}, declares a constant for its first argument alone, and "
                "others depend on x too"
            )
        try:
            constant = declared_constant(module)
        except ValueError as error:
            raise NoBound(f"{trace.place}: {error}") from None
        out = forward(torch.zeros_like(_plain(h)), *rest, **named)
        if not isinstance(out, Tensor):
            raise NoBound(f"{type(module).__name__}, in {trace.place}, declares a constant and returns no tensor")
        name = type(module).__name__
        bound = _up(h.bound * trace.step(name, constant, f"declared by {name}"))
        return _Bounded.of(torch.full_like(out, math.nan), bound, trace)

    return bounded


# ----------------------------------------------------------------------------------------------- torch's functions

# Functions that only move or keep numbers, so that no distance grows.
_KEPT = {
    *("__get__", "chunk", "clone", "contiguous", "detach", "double", "flatten", "flip", "float"),
    *("identity", "movedim", "narrow", "neg", "__neg__", "permute", "pixel_shuffle", "pixel_unshuffle", "ravel"),
    *("reshape", "roll", "select", "split", "squeeze", "swapaxes", "to", "transpose", "type", "unbind", "unflatten"),
    *("unsqueeze", "view", "view_as"),
}

# The largest slope of elementwise functions; those of gelu and silu are rounded up.
_SLOPES = {
    **dict.fromkeys(("abs", "cos", "elu", "hardtanh", "log_sigmoid", "relu", "relu6", "sin", "softplus", "tanh"), 1.0),
    "gelu": 1.1290,
    "group_sort": 1.0,  # of ganframe.layers
    "sigmoid": 0.25,
    "silu": 1.0999,
    "softsign": 1.0,
}

# Functions that do not read the numbers.
_ASKED = {
    *("__get__", "__hash__", "__len__", "__repr__", "dim", "element_size", "get_device", "is_complex"),
    *("is_contiguous", "is_floating_point", "ndimension", "nelement", "numel", "size", "stride", "type"),
}

# Convolutions and pooling by means, with the number of their axes.
_CONVOLUTIONS = {f"{kind}{dims}d": dims for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)}
_CONVOLUTIONS |= {"conv_then_pool2d": 2, "upsample_then_conv2d": 2}  # of ganframe.layers
_POOLS = {f"{kind}{dims}d": dims for kind in ("avg_pool", "adaptive_avg_pool") for dims in (1, 2, 3)}

_ADDED = {"add", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__rsub__", "__isub__"}
_MULTIPLIED = {"mul", "__mul__", "__rmul__", "__imul__"}
_PRODUCTS = {*_MULTIPLIED, "matmul", "__matmul__", "bmm", "einsum", "scaled_dot_product_attention"}
_DIVIDED = {"div", "__truediv__", "__itruediv__"}


def _up(value: float) -> float:
    """More than the same number computed without rounding, in up to six operations."""
    return value * (1 + 8 * UNIT)


def _bound(call: _Call, carried: list[_Bounded]) -> float:
    """The bound of what a call returns, from the bounds of its arguments."""
    bounds = [tensor.bound for tensor in carried]
    if call.wrote:  # views of the written tensor keep their old bound
        if call.place == 0 and len(carried) == 1 and (call.name in _SLOPES or call.name == "leaky_relu"):
            norm, how = _norm(call)
            if norm <= 1:
                call.trace.step(call.name, norm, how)
                return bounds[0]  # not less: it must hold for those views too
        raise call.no_bound()
    if call.name in _ADDED:
        if len(call.args) > 2:  # torch's old order: torch.add(x, alpha, y)
            raise call.no_bound()
        # A broadcast summand counts as often as it is repeated.
        repeated = (_up(h.bound * math.sqrt(call.result.numel() / _plain(h).numel())) for h in carried)
        return _up(sum(repeated) * max(1.0, abs(call.kwargs.get("alpha", 1))))
    if call.name in ("cat", "concat", "stack"):
        return math.hypot(*bounds) * (1 + 8 * len(bounds) * UNIT)
    if len(carried) > 1 and call.name in _PRODUCTS:
        raise call.no_constant()
    if len(carried) > 1 or call.place is None:
        raise call.no_bound()
    if call.name in _KEPT or (call.name == "dropout" and not call.option(2, "training", True)):
        return bounds[0]
    norm, how = _norm(call)
    if not math.isfinite(norm):
        raise call.no_bound()
    return _up(call.trace.step(call.name, norm, how) * bounds[0])


def _norm(call: _Call) -> tuple[float, str]:
    """The Lipschitz constant of a call in its only argument that depends on x, and how it is known."""
    if call.place == 0:
        if call.name == "linear" or (call.name in ("matmul", "__matmul__") and call.args[1].ndim == 2):
            return matrix_norm(call.option(1, "weight", None)), "singular values"
        if call.name in _CONVOLUTIONS:
            convolution = _convolution(call, _CONVOLUTIONS[call.name])
            return convolution.norm(), "singular values" if convolution.is_small else "singular values by frequency"
        axes = _axes(call)
        if 0 < axes < call.args[0].ndim:  # else it pads the batch
            apply = functools.partial(_again, call)
            return separable_norm(apply, call.args[0], axes), "singular values"
    return _constant(call), "formula"


def _again(call: _Call, x: Tensor) -> Tensor:
    """The same call with another x."""
    result: Tensor = call.function(x, *call.args[1:], **call.kwargs)
    return result


def _axes(call: _Call) -> int:
    """The number of axes on each of which a call acts by itself, as pooling by means or resizing do; 0 for others."""
    if call.name == "pad":
        return len(call.option(1, "pad", ())) // 2
    return call.args[0].ndim - 2 if call.name == "interpolate" else _POOLS.get(call.name, 0)


def _convolution(call: _Call, dims: int) -> Convolution:
    """The convolution that a call computes, or whose transpose it computes: both have the same norm."""
    weight, transposed = call.option(1, "weight", None), call.name.startswith(("conv_transpose", "upsample"))
    sizes = [tuple(call.args[0].shape[-dims:]), tuple(call.result.shape[-dims:])]
    inputs, outputs = reversed(sizes) if transposed else sizes
    if call.name in ("conv_then_pool2d", "upsample_then_conv2d"):
        # Means of 2×2 pixels after a 3×3 kernel are a 4×4 kernel. The transpose of that, times 4, is upsampling before.
        weight = 4 * weight.flip(2, 3).transpose(0, 1) if transposed else weight
        weight = F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, stride=1)
        return Convolution(weight, inputs, outputs, (2, 2), (1, 1), (1, 1))

    def each(value: Any) -> tuple[int, ...]:
        return (value,) * dims if isinstance(value, int) else tuple(value) * (dims // len(value))

    dilation = each(call.option(7 if transposed else 5, "dilation", 1))
    padding = call.option(4, "padding", 0)
    if padding == "same":  # the odd one of the zeros is on the right
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, weight.shape[2:], strict=True))
    padding = each(0 if padding == "valid" else padding)
    stride, groups = each(call.option(3, "stride", 1)), call.option(6, "groups", 1)
    return Convolution(weight, inputs, outputs, stride, padding, dilation, groups)


def _constant(call: _Call) -> float:
    """The Lipschitz constant of a function with a formula, in its only argument that depends on x."""
    name = call.name
    if name in _MULTIPLIED and len(call.args) == 2:
        factor = torch.as_tensor(call.args[1 - (call.place or 0)]).double().abs()
        return float(factor.max()) * _repeated(call)
    if name in _DIVIDED and call.place == 0 and not call.kwargs:
        return float(1 / torch.as_tensor(call.args[1]).double().abs().min()) * _repeated(call)
    if call.place != 0:
        raise call.no_bound()
    if name == "__getitem__":
        return _picked(call)
    if name == "softplus" and call.option(2, "threshold", 20) < 20:  # it is discontinuous there
        raise call.no_bound()
    if name in ("sum", "mean"):
        together = call.args[0].numel() / call.result.numel()
        return math.sqrt(together if name == "sum" else 1 / together)
    if name in _SLOPES:
        return _SLOPES[name] * max(1.0, abs(call.option(1, "alpha", 1.0)) if name == "elu" else 1.0)
    if name in ("leaky_relu", "prelu"):
        slope = call.option(1, "weight" if name == "prelu" else "negative_slope", 0.01)
        return max(1.0, float(torch.as_tensor(slope).abs().max()))
    if name == "expand":
        return _repeated(call)
    if name.startswith("max_pool"):
        return _max_pool(int(name[8]), call)
    if name in ("layer_norm", "group_norm"):
        # y = γ (h - mean) / √(var + ε) + β is steepest where the variance is 0.
        weight, eps = call.option(2, "weight", None), call.option(4, "eps", 1e-5)
        return (1.0 if weight is None else float(weight.abs().max())) / math.sqrt(eps) if eps else math.inf
    if call.function is F.batch_norm and not call.option(5, "training", False):
        variance, weight = call.option(2, "running_var", None).double(), call.option(3, "weight", None)
        return float(
            ((1.0 if weight is None else weight.abs()) / (variance + call.option(7, "eps", 1e-5)).sqrt()).max()
        )
    raise call.no_bound()


def _repeated(call: _Call) -> float:
    """√(number of times that each number is repeated), where an argument is broadcast or expanded."""
    return math.sqrt(call.result.numel() / call.args[call.place or 0].numel())


def _picked(call: _Call) -> float:
    """√(largest number of times that an index picks one number)."""
    h = call.args[0]
    places = torch.arange(h.numel(), device=h.device).view(h.shape)[call.args[1]]
    return math.sqrt(int(places.flatten().bincount().max()) if places.numel() else 0)


def _max_pool(dims: int, call: _Call) -> float:
    """√(number of windows that share a number)."""

    def sizes(value: Any) -> tuple[int, ...]:
        return (value,) * dims if isinstance(value, int) else tuple(value)

    kernel = sizes(call.option(1, "kernel_size", None))
    stride = sizes(call.option(2, "stride", None) or kernel)
    dilation = sizes(call.option(4, "dilation", 1))
    shared = (math.ceil(k * math.gcd(s, d) / s) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return math.sqrt(math.prod(shared))
