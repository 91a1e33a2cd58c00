"""Samples as rows of a table, as the dataset of their run decodes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ganframe.analysis.trained import TrainedGenerator
from ganframe.errors import RequestError
from ganframe.recipes.reading import load_recipe
from ganframe.storage import checkpoints, run_folder
from ganframe.storage.files import write_atomically

TABLES = (".csv", ".parquet")


def rows_of(run: str | Path, G: TrainedGenerator, x: Tensor, y: Tensor) -> Any:
    """Samples x (n, *shape) with their y as a pandas DataFrame, by `decode` of the run's dataset, which is opened.

    Raises RequestError where the data is not there or has changed since, or where its samples are no rows.
    """
    folder = run_folder.existing(run)
    dataset = load_recipe(folder.recipe, registry=G.registry).dataset
    try:
        spec, now = dataset.spec, dataset.fingerprint()
        if spec.shape != G.spec.shape or spec.columns != G.spec.columns:
            raise ValueError("its columns are others than those that the run was trained on")
        saved = folder.checkpoints()
        then = (checkpoints.read_manifest(saved[-1]).get("data") or {}) if saved else {}
        changed = [name for name, value in now.items() if then.get(name, value) != value]
        if changed:
            raise ValueError(f"the data is not that which the run was trained on ({', '.join(changed)} differ)")
        rows = dataset.decode(x, y if G.heeds_y else None)
    except (ValueError, OSError) as error:
        raise RequestError(f"{run}: rows need the data of its recipe: dataset: {error}") from error
    if isinstance(rows, Tensor):
        raise RequestError(f"{run}: its samples are no rows of a table; write them with --out samples.npy")
    try:
        import pandas

        return rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(rows)
    except ImportError as error:
        raise RequestError(f"tables need pandas and pyarrow: pip install 'ganframe[table]' ({error})") from error
    except (ValueError, TypeError) as error:
        kind = type(rows).__name__
        raise RequestError(
            f"{run}: decode of its dataset gave {kind}, of which no table can be made: {error}"
        ) from error


def write_rows(file: Path, rows: Any) -> None:
    """Writes a DataFrame to a .csv or .parquet, atomically. Raises OSError."""
    if file.suffix.lower() == ".csv":
        write_atomically(file, lambda partial: rows.to_csv(partial, index=False))
    else:
        write_atomically(file, lambda partial: rows.to_parquet(partial, index=False))
