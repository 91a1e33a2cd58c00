"""Devices and processes, by Accelerate, and mixed precision.

Accelerate keeps one precision for the life of a process, which belongs to the program that calls ganframe. So a run's
precision comes from torch directly. Networks, optimisers and data are not handed to `Accelerator.prepare`: the engine
averages gradients itself. Launches that rely on `prepare` are therefore refused.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, GradientState, is_initialized
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    ProjectConfiguration,
    broadcast,
    broadcast_object_list,
    is_bf16_available,
    parse_flag_from_env,
)
from torch import Tensor, nn

from ganframe.data.randomness import kept_random_state
from ganframe.errors import RecipeError, RequestError, did_you_mean, warn
from ganframe.recipes.tables import Recipe

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""Variables by which `accelerate launch` asks for more than data-parallel processes."""

LAUNCHERS = {
    "WORLD_SIZE": "RANK",
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
"""Variables by which torchrun, mpirun and srun say how many processes they started, and which one this is."""

TORCHRUN = {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
"""Variables that torchrun sets, all that processes need to find each other."""


class _ProcessState:
    """State of the whole process, restored when the last run in it ends: runs may be nested, or in threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs = 0
        self.had_state = False
        self.accumulation: dict[str, Any] | None = None

    def enter(self) -> None:
        with self.lock:
            self.runs += 1
            if self.runs == 1:
                self.had_state = is_initialized()
                known = GradientState._shared_state
                self.accumulation = dict(known["plugin_kwargs"]) if "plugin_kwargs" in known else None

    def leave(self) -> None:
        with self.lock:
            self.runs -= 1
            if self.runs:
                return
            if not self.had_state:  # devices and the process group stay: they are those of the launch
                AcceleratorState._reset_state()
            if self.accumulation is not None:
                GradientState._shared_state["plugin_kwargs"] = self.accumulation


_process_state = _ProcessState()


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Restores the state of the process that a run changes: the random state (torch on CPU and CUDA, numpy, Python)
    and Accelerate's."""
    cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if cuda else ()
    _process_state.enter()
    try:
        with torch.random.fork_rng(devices), kept_random_state():
            yield
    finally:
        if not cuda and torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(torch.initial_seed())  # as torch.manual_seed would have left it
        _process_state.leave()


def is_connected() -> bool:
    """Whether this process is connected to the others of a launch."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def leave_process_group() -> None:
    """Ends the connection to the other processes of a launch, as torch asks of a program before it exits.

    Where it is left to the end of the interpreter, gloo sometimes ends the process by an abort.
    """
    if is_connected():
        torch.distributed.destroy_process_group()


def make_accelerator(recipe: Recipe) -> Accelerator:
    """The accelerator of a run. Raises RequestError for a launch or a tracker that cannot be used."""
    for variable, name in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("true", "1", "yes"):
            raise _unsupported(name)
    available = {str(tracker.value): tracker for tracker in get_available_trackers()}
    for tracker in recipe.log.trackers:
        if tracker not in available:
            extra = "; pip install 'ganframe[tensorboard]'" if tracker == "tensorboard" else ""
            raise RecipeError(
                [f"{recipe.title}: log.trackers: '{tracker}' is not installed{extra}{did_you_mean(tracker, available)}"]
            )
    variable, started = launched()
    if started > 1 and not _can_meet(variable):
        raise _apart(variable, started)
    if started > 1:
        # Other parts of torch import this module when they first differentiate. Its functions have the process group
        # as a default argument; where there is one by then, they hold it until the interpreter ends.
        importlib.import_module("torch.distributed.nn.functional")

    def make(cpu: bool = False) -> Accelerator:
        return Accelerator(
            cpu=cpu,
            mixed_precision=None if is_initialized() else "no",  # whatever it is, it is not used
            log_with=list(recipe.log.trackers) or None,
            project_config=ProjectConfiguration(project_dir=".", logging_dir="."),  # the run folder's, once it exists
        )

    known, connected = is_initialized(), is_connected()
    try:
        accelerator = make()
    except (ValueError, RuntimeError) as error:
        if "rendezvous" not in str(error) and "connect" not in str(error):
            raise
        first = str(error).partition("\n")[0]
        raise RequestError(f"the processes of this launch cannot meet: {first}; start with torchrun") from None
    single = started > 1 and accelerator.num_processes == 1
    if single and not known and accelerator.device.type in ("cpu", "mps") and os.environ.keys() >= TORCHRUN:
        # Accelerate lets processes without GPUs train together only where it is asked to use the CPU.
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = make(cpu=True)
    if is_connected() and not connected:
        atexit.register(leave_process_group)
    if started > 1 and accelerator.num_processes == 1:
        raise _apart(variable, started)
    kind = accelerator.distributed_type
    if kind != DistributedType.NO and not kind.value.startswith("MULTI_"):
        raise _unsupported(kind.value)
    if accelerator.is_main_process:
        for line in _ignored(recipe):
            warn(line)
    return accelerator


def launched() -> tuple[str, int]:
    """How many processes the launcher says that it has started, with its variable; ("", 1) without a launcher."""
    for variable in LAUNCHERS:
        value = os.environ.get(variable, "")
        if value.isdecimal() and int(value) > 1:  # 1 may be exported by an image of containers
            return variable, int(value)
    return "", 1


def _can_meet(variable: str) -> bool:
    """Whether the processes of a launcher know what they need to find each other. Without it they wait for ever."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return True
    address = "MASTER_ADDR" in os.environ or (torch.distributed.is_available() and torch.distributed.is_mpi_available())
    return LAUNCHERS[variable] in os.environ and address


def _apart(variable: str, processes: int) -> RequestError:
    return RequestError(
        f"{processes} processes were started ({variable}), and each would train by itself, not together; start them "
        "with torchrun or `accelerate launch`, or unset the variable for a run in one process"
    )


def _unsupported(name: str) -> RequestError:
    return RequestError(
        f"this launch asks for {name}, which ganframe does not support: it trains on one device, or on several as "
        "data-parallel processes; start it with `accelerate launch --multi_gpu` or torchrun"
    )


def _ignored(recipe: Recipe) -> Iterator[str]:
    """What `accelerate launch` was asked for and a run does not do."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "", recipe.train.precision):
        yield f"--mixed_precision {precision} is ignored: the recipe has train.precision = '{recipe.train.precision}'"
    if os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") not in ("1", ""):
        yield "ACCELERATE_GRADIENT_ACCUMULATION_STEPS is ignored: the recipe's train.batch_size is the batch of a step"
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in ("no", ""):
        yield "--dynamo_backend is ignored: nothing is compiled"


def single_device() -> torch.device:
    """The device for work in one process: the GPU, or the CPU without one or where ACCELERATE_USE_CPU asks for it.

    Raises RequestError where a launcher has started several processes, which would all do the same work.
    """
    variable, processes = launched()
    if processes > 1:
        raise RequestError(f"this works in one process, and {processes} were started ({variable}); start one")
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    return torch.device("cpu" if use_cpu else "cuda")


def mixed_precision(
    recipe: Recipe, device: torch.device
) -> tuple[Callable[[], AbstractContextManager[None]], torch.amp.GradScaler | None]:
    """The autocast context of a recipe's precision, and the loss scaler of fp16.

    Raises RecipeError where the device does not have that precision.
    """
    precision = recipe.train.precision
    if precision == "no":
        return nullcontext, None
    if precision == "fp16" and device.type in ("cpu", "mps"):
        problem = f"fp16 needs a GPU, and this runs on {device}; use 'bf16' or 'no'"
        raise RecipeError([f"{recipe.title}: train.precision: {problem}"])
    if precision == "bf16" and device.type != "cpu" and not is_bf16_available(ignore_tpu=True):
        raise RecipeError([f"{recipe.title}: train.precision: {device} does not support bf16; use 'no'"])
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    # No cache of casts: an older torch caches the cast of a power iteration, which has no gradient for σ.
    autocast = functools.partial(torch.autocast, device.type, dtype=dtype, cache_enabled=False)
    return autocast, torch.amp.GradScaler(device.type) if precision == "fp16" else None


# ---------------------------------------------------------------------------------------------------------- processes


def average(accelerator: Accelerator, tensors: list[Tensor]) -> None:
    """Replaces tensors by their means over all processes, in one reduction."""
    _copy_back(accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean"), tensors)


def in_first_process(accelerator: Accelerator, act: Callable[[], object]) -> None:
    """Calls `act` in the first process, while the others wait. A RecipeError is raised in all of them."""
    problems: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            act()
        except RecipeError as error:
            problems = [error.problems]
    found = broadcast_object_list(problems)[0]
    if found is not None:
        raise RecipeError(found)


@torch.no_grad()
def copy_first_process(networks: list[nn.Module]) -> None:
    """Gives the networks of all processes the weights of the first one, whose initialisation drew other numbers."""
    tensors = [t for network in networks for t in network.state_dict().values() if t.is_floating_point()]
    _copy_back(broadcast(torch.cat([tensor.flatten() for tensor in tensors])), tensors)


def _copy_back(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copies one flat tensor into the tensors that it was made of."""
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
