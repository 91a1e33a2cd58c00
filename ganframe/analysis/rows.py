"""Samples as rows of a table, as the dataset of their run decodes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ganframe.analysis.trained import TrainedGenerator
from ganframe.components import Dataset
from ganframe.errors import RequestError
from ganframe.recipes.reading import load_recipe
from ganframe.storage import checkpoints, run_folder
from ganframe.storage.files import write_atomically
from ganframe.storage.run_folder import RunFolder

TABLES = (".csv", ".parquet")
NEEDS = "tables need pandas and pyarrow: pip install 'ganframe[table]' ({})"


def rows_of(run: str | Path, G: TrainedGenerator, x: Tensor, y: Tensor) -> Any:
    """Samples x (n, *shape) with their y as a pandas DataFrame, by `decode` of the run's dataset.

    Without scheme.json the data is opened. Raises RequestError where it is not there or has changed since, where
    scheme.json is damaged, or where the samples are no rows.
    """
    folder = run_folder.existing(run)
    dataset = load_recipe(folder.recipe, registry=G.registry).dataset
    given = y if G.heeds_y else None
    try:
        if folder.scheme.is_file():
            rows = dataset.decode(x, given, folder.scheme.read_text(encoding="utf-8"))  # type: ignore[call-arg]
        else:
            _refuse_other_data(dataset, folder, G)
            rows = dataset.decode(x, given)
    except ImportError as error:
        raise RequestError(NEEDS.format(error)) from error
    except (ValueError, OSError) as error:
        needed = folder.scheme if folder.scheme.is_file() else "rows need the data of its recipe"
        raise RequestError(f"{run}: {needed}: dataset: {error}") from error
    if isinstance(rows, Tensor):
        raise RequestError(f"{run}: its samples are no rows of a table; write them with --out samples.npy")
    try:
        import pandas

        return rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(rows)
    except ImportError as error:
        raise RequestError(NEEDS.format(error)) from error
    except (ValueError, TypeError) as error:
        kind = type(rows).__name__
        raise RequestError(
            f"{run}: decode of its dataset gave {kind}, of which no table can be made: {error}"
        ) from error


def _refuse_other_data(dataset: Dataset, folder: RunFolder, G: TrainedGenerator) -> None:
    """Raises ValueError where the data is not that which the run was trained on."""
    spec, now = dataset.spec, dataset.fingerprint()
    if spec.shape != G.spec.shape or spec.columns != G.spec.columns:
        raise ValueError("its columns are others than those that the run was trained on")
    saved = folder.checkpoints()
    then = (checkpoints.read_manifest(saved[-1]).get("data") or {}) if saved else {}
    changed = [name for name, value in now.items() if then.get(name, value) != value]
    if changed:
        raise ValueError(f"the data is not that which the run was trained on ({', '.join(changed)} differ)")


def write_rows(file: Path, rows: Any) -> None:
    """Writes a DataFrame to a .csv or .parquet, atomically. Raises OSError."""
    if file.suffix.lower() == ".csv":
        write_atomically(file, lambda partial: rows.to_csv(partial, index=False))
    else:
        write_atomically(file, lambda partial: rows.to_parquet(partial, index=False))
