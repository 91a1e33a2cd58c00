"""Tables of numbers and categories, as CSV or Parquet files have them, by pandas."""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
import torch
from attrs.validators import and_, ge, lt
from torch import Tensor
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option, warn
from ganframe.builtin.table_columns import Array, Category, Column, Constant, Number, fitted
from ganframe.builtin.table_scheme import Scheme

if TYPE_CHECKING:
    import pandas

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_warn_once = functools.cache(warn)  # a dataset may be built several times


@attrs.frozen
class Table(Dataset):
    """Rows of a table, CSV or Parquet: numbers standardised, categories in one-hot form; `decode` gives a table back.

    Numbers and times have the mean 0 and the deviation 1 in training. Texts, booleans, pandas' categories, integers of
    two values, and the columns named in `categorical` are categories. Where numbers are missing, a category of two says
    so; missing categories are one more. Columns of one value are no part of x, and are put back by `decode`, which also
    rounds integers and dates, and clips numbers to the range of those trained on.

    The column `label` is y: a class for each of its values. A share `hold_out` of the rows, the same for each run, is
    for judging.
    """

    file: str = option(help="path of the .csv, .tsv (also .gz, .zip) or .parquet")
    label: str | None = option(None, help="name of the column that is y, a category; by default there are no labels")
    leave_out: tuple[str, ...] = option((), help="names of columns that are left out")
    categorical: tuple[str, ...] = option((), help="names of columns that are categories though they look like numbers")
    dates: tuple[str, ...] = option((), help="names of columns of texts that are dates or times")
    separator: str | None = option(None, help='what separates cells; by default "," and in .tsv a tab')
    decimal: Literal[".", ","] = option(".", help="what stands before the decimals of numbers in a text file")
    hold_out: float = option(0.0, help="share of the rows that is held out of training", validator=and_(ge(0), lt(1)))

    def __attrs_post_init__(self) -> None:
        if self.label is not None and self.label in self.leave_out:
            raise ValueError(f"label: the column '{self.label}' is in leave_out too")

    @property
    def spec(self) -> DataSpec:
        columns, y = self._opened().columns, self._opened().y
        widths = tuple(itertools.chain.from_iterable(column.widths for column in columns))
        if y is None:
            return DataSpec((sum(widths),), columns=widths)
        return DataSpec((sum(widths),), len(y.values), columns=widths, class_names=y.names)

    def build(self) -> TensorDataset:
        return self._rows(training=True)

    def held_out(self) -> TensorDataset | None:
        """The share `hold_out` of the rows; None where it is 0."""
        return self._rows(training=False) if self.hold_out else None

    def _rows(self, training: bool) -> TensorDataset:
        own = self._opened()
        rows = own.table[own.training == training]
        x = np.concatenate([column.encode(rows[column.name]) for column in own.columns], axis=1)
        y = np.zeros(len(rows), np.int64) if own.y is None else own.y.codes(rows[own.y.name])
        return TensorDataset(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the columns with their kinds and categories, and of what numbers are scaled by."""
        own = self._opened()
        kinds = [column.told() for column in (*own.columns, *([] if own.y is None else [own.y]))]
        scales = [[f"{c.mean:.6g}", f"{c.deviation:.6g}"] for c in own.columns if isinstance(c, Number)]
        told = {"columns": kinds, "scales of columns": scales}
        return {name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32] for name, value in told.items()}

    def decode(self, x: Tensor, y: Tensor | None = None, scheme: str | None = None) -> pandas.DataFrame:
        """Samples x (N, D) as a pandas DataFrame with the names and types of the columns of the file.

        The column of labels is that of y (N,), and is left out without it. With a `scheme` the file is not needed.
        Raises ValueError for x of another width.
        """
        own = self._scheme() if scheme is None else Scheme.from_json(scheme)
        if x.shape[1:] != (own.width,):
            raise ValueError(f"samples of shape {tuple(x.shape[1:])} are no rows of {self.file}: ({own.width},)")
        return own.decode(x.double().cpu().numpy(), None if y is None else y.cpu().numpy())

    def scheme(self) -> str:
        """The columns' names, types, categories, means and limits."""
        return self._scheme().to_json()

    def _scheme(self) -> Scheme:
        own = self._opened()
        return Scheme(tuple(own.table.columns), tuple(own.columns), own.y)

    def _opened(self) -> _Opened:
        file = Path(self.file).expanduser()
        try:
            stat = file.stat()
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror or error}") from error
        return _opened(self, file, (stat.st_mtime_ns, stat.st_size))


@attrs.frozen(eq=False)
class _Opened:
    """The table as it was read, the columns of x in their order, the column of y, and which rows are for training."""

    table: Any
    columns: Sequence[Column]
    y: Category | None
    training: Array


@functools.lru_cache(maxsize=4)
def _opened(options: Table, file: Path, stamp: tuple[int, int]) -> _Opened:
    """Reads and fits a table. `stamp` is the time and size of the file: where they change, it is read anew."""
    table = _read(options, file)
    for role in ("leave_out", "categorical", "dates"):
        for name in getattr(options, role):
            _refuse_unknown(file, table, role, name)
    if options.label is not None:
        _refuse_unknown(file, table, "label", options.label)
    table = table.drop(columns=list(options.leave_out))
    training = _training_rows(file, len(table), options.hold_out)
    try:
        for name in options.dates:
            table[name] = _dates(name, table[name])
        columns = [
            fitted(name, table[name], training, name in options.categorical)
            for name in table.columns
            if name != options.label
        ]
        y = None if options.label is None else _label(options.label, table[options.label], training)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if all(isinstance(column, Constant) for column in columns):
        raise ValueError(f"{file}: no column has more than one value, so there is nothing to learn")
    for name in table.columns:
        if name != options.label and _counts_rows(table[name]):
            _warn_once(f"{file}: column '{name}' numbers the rows; name it in dataset.leave_out")
    return _Opened(table, columns, y, training)


def _read(options: Table, file: Path) -> pandas.DataFrame:
    """The table with types that know missing values. Raises ValueError, in one line."""
    if file.is_dir():
        raise ValueError(f"{file}: is a folder, not a table")
    packed = file.suffix.lower() in (".parquet", ".pq")
    if packed and (options.separator is not None or options.decimal != "."):
        raise ValueError(f"separator and decimal are of text files, and {file} is none; remove them")
    try:
        import pandas
        import pyarrow  # type: ignore[import-untyped]  # noqa: F401  (for the types of columns that a run keeps, too)

        if packed:
            table = pandas.read_parquet(file, dtype_backend="numpy_nullable")
        else:
            named = [_SEPARATORS[suffix] for suffix in map(str.lower, file.suffixes) if suffix in _SEPARATORS]
            separator = options.separator or (named[-1] if named else ",")
            table = pandas.read_csv(
                file, sep=separator, decimal=options.decimal, dtype_backend="numpy_nullable", low_memory=False
            )
    except ImportError as error:
        raise ValueError(
            f"dataset 'table' needs pandas and pyarrow: pip install 'ganframe[table]' ({error})"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not in UTF-8, see byte {error.start:,}; save it as UTF-8") from error
    except pandas.errors.EmptyDataError as error:
        raise ValueError(f"{file}: is empty") from error
    except Exception as error:  # pandas and pyarrow raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file}: cannot be read as a table: {reason}") from error
    table.columns = [str(name) for name in table.columns]
    twice = sorted({name for name in table.columns if [*table.columns].count(name) > 1})
    if twice:
        raise ValueError(f"{file}: several columns are called {twice[0]!r}; rename them")
    if not len(table):
        raise ValueError(f"{file}: the table has no rows")
    other = next((mark for mark in ";\t|" if len(table.columns) == 1 and mark in table.columns[0]), None)
    if other is not None:
        told = table.columns[0] if len(table.columns[0]) <= 60 else f"{table.columns[0][:60]}…"
        raise ValueError(f"{file}: one column, '{told}'; set separator = {json.dumps(other)}")
    return table


def _refuse_unknown(file: Path, table: pandas.DataFrame, role: str, name: str) -> None:
    if name in table.columns:
        return
    close = difflib.get_close_matches(name, table.columns, n=1)
    listed = ", ".join(table.columns[:12]) + (", …" if len(table.columns) > 12 else "")
    raise ValueError(
        f"{role}: {file} has no column '{name}'" + (f"; did you mean '{close[0]}'?" if close else f"; it has {listed}")
    )


def _training_rows(file: Path, count: int, share: float) -> Array:
    """Whether each row is for training (n,): the same rows in each run."""
    held_out = round(share * count)
    if share and not 0 < held_out < count:
        raise ValueError(f"hold_out: a share of {share} of {count} rows of {file} leaves one part empty")
    training = np.ones(count, bool)
    training[np.random.RandomState(0).permutation(count)[:held_out]] = False
    return training


def _dates(name: str, column: pandas.Series) -> pandas.Series:
    """A column of texts as dates. Raises ValueError where it can be read in two ways, as 03/04/2024 can."""
    import pandas

    if pandas.api.types.is_numeric_dtype(column):  # as 20240229, which are no nanoseconds since 1970
        column = column.astype("string")
    year_first = column.dropna().astype(str).str.match(r"\s*\d{4}(\D|\d{4}$)").all()
    found, reasons = [], []
    for day_first in (False,) if year_first else (False, True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a format is read as day first, or row by row
                found.append(pandas.to_datetime(column, dayfirst=day_first))
        except (ValueError, TypeError, OverflowError) as error:
            reasons.append(str(error).splitlines()[0])
    if not found:
        raise ValueError(f"column '{name}' is in dates, and cannot be read as dates: {reasons[0]}")
    differ = (found[0] != found[-1]) & found[0].notna()
    if differ.any():
        raise ValueError(
            f"column '{name}' is in dates: {column[differ].iloc[0]!r} may have the day or the month first; write dates "
            "as 2024-02-29"
        )
    return found[0]


def _label(name: str, column: pandas.Series, training: Array) -> Category:
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(f"label: {missing} of {len(column)} rows have no '{name}'; remove them or fill it")
    found = fitted(name, column, training, categorical=True)
    if not isinstance(found, Category):
        raise ValueError(f"label: column '{name}' has one value; choose another column, or leave label out")
    return found


def _counts_rows(column: pandas.Series) -> bool:
    """Whether a column is 0, 1, 2, … or 1, 2, 3, …, as an index that was written with the table."""
    if column.dtype.kind not in "iu" or column.isna().any() or len(column) < 10:
        return False
    return bool((np.diff(column.to_numpy(np.int64)) == 1).all())
