"""Collects what is wrong with the parts of a recipe, so that all of it is reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from multiprocessing import get_start_method
from typing import Any

import torch

from ganframe.errors import RecipeError, RequestError, RunError
from ganframe.plugins.registry import STRICT_VARIABLE


class Problems:
    """The problems found so far in the recipe called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """`text` begins with the place in the recipe. What is there already is not added again."""
        problem = f"{self.name}: {text}"
        if problem not in self.found:
            self.found.append(problem)

    def attempt(self, place: str, build: Callable[[], Any]) -> Any:
        """What `build` returns, or None and one more problem.

        With GANFRAME_STRICT=1 an exception that no component should raise is raised again.
        """
        try:
            return build()
        except RecipeError as error:  # it names the places itself
            self.found += [problem for problem in error.problems if problem not in self.found]
        except (ValueError, OSError, RequestError, RunError) as error:
            self.add(f"{place}: {error}")
        except Exception as error:
            if is_out_of_memory(error):
                self.add(f"{place}: there is not enough memory for it")
            else:
                self.add(f"{place}: {unexpected(error)}")
        return None

    def raise_any(self) -> None:
        """Raises RecipeError if there is a problem."""
        if self.found:
            raise RecipeError(self.found)


def unexpected(error: Exception) -> str:
    """One line for an exception that a component should not raise; with GANFRAME_STRICT=1 it is raised again."""
    if os.environ.get(STRICT_VARIABLE) == "1":
        raise error
    text = str(error).partition("\n")[0]
    return f"raised {type(error).__name__}{text and ': '}{text}; {STRICT_VARIABLE}=1 shows where"


def no_memory(batch_size: int) -> str:
    """The message for a recipe with this batch size that needs more memory than there is."""
    smaller = "smaller networks" if batch_size == 1 else "a smaller train.batch_size or smaller networks"
    return f"there is not enough memory to train this; use {smaller}"


def lost_worker(error: Exception) -> str | None:
    """The message where a process that reads data has died or has no shared memory; None for other errors."""
    text = " ".join(f"{error.__cause__ or ''} {error}".split())  # the cause has the signal
    died = re.search(r"DataLoader worker \(pid.*?(killed by signal: \w+|exited)", text)
    if died is None and "shared memory" not in text and "file </torch_" not in text:
        return None
    if died is not None and died[1] == "exited" and get_start_method() != "fork":
        return (
            "a process that reads data ended as it started; its own message is above. It imports the script and the "
            "dataset's module: put the run under if __name__ == '__main__': and the dataset in a module, or set "
            "train.workers = 0"
        )
    what = "has no shared memory" if died is None else "ended" if died[1] == "exited" else f"was {died[1]}"
    return (
        f"a process that reads data {what}, as where memory or shared memory (/dev/shm) is short; use fewer "
        "train.workers (0 reads in the run's own process), or give it more"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or its device ran out of memory. torch has several messages for it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
