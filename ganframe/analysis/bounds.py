"""An upper bound on a network's Lipschitz constant, from the operator norms of its layers.

The network is called once on a tensor that carries a bound. Each torch function multiplies the bound by its own
Lipschitz constant, and the sum of two branches has the sum of their bounds (a residual block has 1 + its branch's). The
constant of a convolution is the norm of the linear operator on images of that size, found by Lanczos iteration. It is
not the largest singular value of the kernel as a matrix. Knows torch alone.

The file is long because it is one table: the rules for torch's functions, and the tensor that applies them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn


class NoBound(Exception):
    """The network uses a function whose Lipschitz constant is not known here."""


@attrs.frozen
class Layer:
    """One step of the forward pass: the module it belongs to, torch's function, and its Lipschitz constant."""

    module: str
    function: str
    norm: float


def upper_bound(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, list[Layer]]:
    """A bound on ‖D(x, y) - D(x', y)‖ / ‖x - x'‖ over all x and x' and the given y, with the layers it comes from.

    `network` must be in evaluation mode. x (N, *shape) gives the shape; y are (N,) or (N, *condition). The bound is
    computed in the dtype of the network and x. Raises NoBound where a function of the forward pass has no rule.
    """
    trace = _Trace()
    with torch.no_grad(), _named(network, trace):
        out = network(_Bounded.of(x.clone(), 1.0, trace), y)
        bound = out.bound if isinstance(out, _Bounded) else 0.0
        # Parts that cannot be traced (vmap, a scripted function) are detected here in most cases.
        step = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        moved = network(x + step, y) - network(x.clone(), y)
        if (torch.linalg.vector_norm(moved) / torch.linalg.vector_norm(step)).item() > 1.001 * bound:
            raise NoBound("the network has parts that cannot be traced, and is steeper than the bound of the others")
    return bound, trace.layers


def operator_norm(function: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """The largest ‖Ax‖ / ‖x‖ of an affine function x -> Ax + b of tensors shaped as `like`, to a relative 1e-5.

    By Lanczos iteration of AᵀA, which approaches the norm from below. The transpose comes from autograd. NaN where A
    has non-finite values.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import

    with torch.no_grad():
        offset, transpose, *_ = torch.func.vjp(function, torch.zeros_like(like))

        def squared(v: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(np.ascontiguousarray(v)).to(like).view_as(like)
            return transpose(function(x) - offset)[0].flatten().double().cpu().numpy()

        n = like.numel()
        start = np.random.default_rng(0).standard_normal(n)
        first = squared(start)
        if not np.isfinite(first).all():
            return math.nan
        if n == 1 or not first.any():
            return math.sqrt(abs(first[0] / start[0]))
        operator = LinearOperator((n, n), matvec=squared, dtype=np.float64)
        (largest,) = eigsh(operator, k=1, which="LA", v0=start, tol=1e-5, return_eigenvectors=False)
    return math.sqrt(max(largest, 0.0))


# ------------------------------------------------------------------------------------------- a tensor with a bound


@attrs.define
class _Trace:
    """The modules that are running, and the layers so far."""

    running: list[str] = attrs.field(factory=list)
    layers: list[Layer] = attrs.field(factory=list)

    @property
    def module(self) -> str:
        return self.running[-1] if self.running else ""


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
        where = self.trace.module or "the network"
        return NoBound(f"the Lipschitz constant of torch's {self.name}, in {where}, is not known")

    def no_constant(self) -> NoBound:
        """For products of two functions of the input, as in self-attention (Kim et al. 2021, theorem 3.1)."""
        where = self.trace.module or "the network"
        return NoBound(
            f"torch's {self.name}, in {where}, multiplies two functions of x, as self-attention does: where these are "
            "unbounded there is no Lipschitz constant"
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


@contextmanager
def _named(network: nn.Module, trace: _Trace) -> Iterator[None]:
    """Records which module of the network is running."""

    def leave(*_: Any) -> None:  # a value returned by a hook would replace the output
        trace.running.pop()

    handles: list[Any] = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: trace.running.append(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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

# Functions that are affine in their first argument, for each sample.
_AFFINE = {
    *(f"{kind}{dims}d" for kind in ("conv", "conv_transpose", "avg_pool", "adaptive_avg_pool") for dims in (1, 2, 3)),
    *("batch_norm", "interpolate", "linear", "pad"),
    *("conv_then_pool2d", "upsample_then_conv2d"),  # of ganframe.layers
}

# Functions that do not read the numbers.
_ASKED = {
    *("__get__", "__hash__", "__len__", "__repr__", "dim", "element_size", "get_device", "is_complex"),
    *("is_contiguous", "is_floating_point", "ndimension", "nelement", "numel", "size", "stride", "type"),
}

_ADDED = {"add", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__rsub__", "__isub__"}
_MULTIPLIED = {"mul", "__mul__", "__rmul__", "__imul__"}
_PRODUCTS = {*_MULTIPLIED, "matmul", "__matmul__", "bmm", "einsum", "scaled_dot_product_attention"}
_DIVIDED = {"div", "__truediv__", "__itruediv__"}


def _bound(call: _Call, carried: list[_Bounded]) -> float:
    """The bound of what a call returns, from the bounds of its arguments."""
    bounds = [tensor.bound for tensor in carried]
    if call.wrote:  # views of the written tensor keep their old bound
        if call.place == 0 and len(carried) == 1 and (call.name in _SLOPES or call.name == "leaky_relu"):
            norm = _norm(call)
            if norm <= 1:
                call.trace.layers.append(Layer(call.trace.module, call.name, norm))
                return bounds[0]  # not less: it must hold for those views too
        raise call.no_bound()
    if call.name in _ADDED:
        if len(call.args) > 2:  # torch's old order: torch.add(x, alpha, y)
            raise call.no_bound()
        # A broadcast summand counts as often as it is repeated.
        repeated = (h.bound * math.sqrt(call.result.numel() / _plain(h).numel()) for h in carried)
        return sum(repeated) * max(1.0, abs(call.kwargs.get("alpha", 1)))
    if call.name in ("cat", "concat", "stack"):
        return math.hypot(*bounds)
    if len(carried) > 1 and call.name in _PRODUCTS:
        raise call.no_constant()
    if len(carried) > 1 or call.place is None:
        raise call.no_bound()
    if call.name in _KEPT or (call.name == "dropout" and not call.option(2, "training", True)):
        return bounds[0]
    norm = _norm(call)
    if not math.isfinite(norm):
        raise call.no_bound()
    call.trace.layers.append(Layer(call.trace.module, call.name, norm))
    return norm * bounds[0]


def _norm(call: _Call) -> float:
    """The Lipschitz constant of a call in its only argument that depends on the network's input."""
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
    if name in _AFFINE and not (name == "batch_norm" and call.option(5, "training", False)):
        h = call.args[0]
        batched = h.ndim > (1 + int(name[-2]) if name[-2].isdigit() else 1)  # as conv2d of more than (C, H, W)
        return operator_norm(lambda h: call.function(h, *call.args[1:], **call.kwargs), h[:1] if batched else h)
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
