"""Columns of a table as blocks of numbers, and back: numbers standardised, categories in one-hot form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

if TYPE_CHECKING:
    import pandas

Array = np.ndarray[Any, Any]
FLAGS = 2  # distinct integers up to which a column of them is a category: 0 and 1, no and yes
MOST = 256  # categories of one column
UNITS = r"[%€$£¥\s'’]"  # what stands beside numbers that are read as texts
NEARLY = 0.9  # share of texts that are numbers from which the others are taken for mistakes
KINDS = (
    *("string", "categorical", "boolean", "integer", "floating"),
    *("datetime64", "datetime", "timedelta64", "timedelta", "date", "empty"),
)
"""What pandas calls the values that are read."""


@attrs.frozen
class Constant:
    """A column of one value, or of none: no block. `value` is a series of one row."""

    name: str
    value: Any = attrs.field(eq=False)
    widths: tuple[int, ...] = ()

    def encode(self, column: pandas.Series) -> Array:
        return np.empty((len(column), 0))

    def decode(self, x: Array) -> pandas.Series:
        return self.value.iloc[[0] * len(x)].reset_index(drop=True)

    def told(self) -> list[Any]:
        return [self.name, "constant", str(self.value.iloc[0])]


@attrs.frozen
class Category:
    """A column of K values, K in one-hot form. `values` (K,) is a series, whose last one stands for missing values."""

    name: str
    values: Any = attrs.field(eq=False)
    widths: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The values as texts that differ."""
        texts = [str(value) for value in self.values]
        return tuple(text if texts.count(text) == 1 and text else f"{text} ({i})" for i, text in enumerate(texts))

    def codes(self, column: pandas.Series) -> Array:
        """The number of the value of each row (n,)."""
        import pandas

        known = pandas.Index(self.values.dropna().astype(object))
        codes = known.get_indexer(pandas.Index(column.astype(object)))
        return np.where(codes < 0, len(self.values) - 1, codes).astype(np.int64)

    def encode(self, column: pandas.Series) -> Array:
        return np.eye(len(self.values))[self.codes(column)]

    def decode(self, x: Array) -> pandas.Series:
        return self.of_codes(x.argmax(1))

    def of_codes(self, codes: Array) -> pandas.Series:
        return self.values.iloc[codes].reset_index(drop=True)

    def told(self) -> list[Any]:
        return [self.name, "category", *map(str, self.values)]


@attrs.frozen
class Number:
    """A column of numbers or times, less their mean and over their deviation; `unit` is what they are multiples of.

    Where some are missing they are 0, and a category of two follows: there, and missing. `like` is an empty series of
    the column's type. `low` and `high` are the limits of what is given back, with as many `decimals` as all values have
    at most, if these are few.
    """

    name: str
    like: Any = attrs.field(eq=False)
    mean: float
    deviation: float
    low: float
    high: float
    unit: float | None
    decimals: int | None
    widths: tuple[int, ...]

    def encode(self, column: pandas.Series) -> Array:
        values = (as_floats(column) - self.mean) / self.deviation
        if len(self.widths) == 1:
            return values[:, None]
        missing = np.isnan(values)
        return np.stack([np.where(missing, 0, values), ~missing, missing], axis=1)

    def decode(self, x: Array) -> pandas.Series:
        import pandas

        values = (x[:, 0] * self.deviation + self.mean).clip(self.low, self.high)
        if self.unit is not None:
            values = np.rint(values / self.unit) * self.unit
        if self.decimals is not None:
            values = values.round(self.decimals)
        dtype = self.like.dtype
        if dtype.kind in "Mm":
            zone, unit = getattr(dtype, "tz", None), _counted(dtype)
            times = pandas.Series(values.astype(np.int64).astype(f"{dtype.kind}8[{unit}]"))
            found = times if zone is None else times.dt.tz_localize("UTC").dt.tz_convert(zone)
        elif is_plain(dtype):  # dates of Python, as a Parquet file has them
            found = pandas.Series(values.astype(np.int64).astype("M8[s]")).dt.date
        else:
            found = pandas.Series(values if self.unit is None else values.astype(np.int64)).astype(dtype)
        missing = x[:, 2] > x[:, 1] if len(self.widths) > 1 else np.zeros(len(x), bool)
        return found.mask(missing) if missing.any() else found

    def told(self) -> list[Any]:
        return [self.name, "number", len(self.widths)]


Column = Constant | Category | Number


def is_plain(dtype: Any) -> bool:
    """Whether a column holds objects of Python, as dates."""
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def as_floats(column: pandas.Series) -> Array:
    """Numbers as float64, NaN where one is missing; times in their own unit, dates of Python in seconds."""
    import pandas

    if is_plain(column.dtype):
        column = pandas.to_datetime(column).astype("M8[s]")
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if column.dtype.kind in "Mm":
        return np.where(column.isna(), np.nan, column.to_numpy().astype(np.int64).astype(np.float64))
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def fitted(name: str, column: pandas.Series, training: Array, categorical: bool) -> Column:
    """The column fitted to a table. Categories are those of all rows, means and deviations of the `training` rows.

    Raises ValueError where its values are neither numbers, times nor categories.
    """
    import pandas

    present = column.dropna()
    missing = len(present) < len(column)
    kind = pandas.api.types.infer_dtype(present, skipna=True) if len(present) else "empty"
    if kind not in KINDS or (is_plain(column.dtype) and kind not in ("string", "date", "empty")):
        found = type(present.iloc[0]).__name__
        raise ValueError(f"column '{name}' holds {kind} values ({found}): make them numbers or texts, or leave it out")
    distinct = present.nunique()
    if distinct + missing <= 1:
        return Constant(name, column.iloc[:1].reset_index(drop=True))
    if kind == "string" and not categorical:
        _refuse_numbers_as_texts(name, present)
    texts = kind in ("string", "categorical", "boolean")
    flags = kind == "integer" and distinct <= FLAGS
    if texts or categorical or flags:
        return _category(name, column, present, missing)
    values = as_floats(column)
    if np.isinf(values).any():
        raise ValueError(f"column '{name}' has infinite values; replace or remove them")
    seen = values[training] if not np.isnan(values[training]).all() else values
    low, high, mean, deviation = (float(of(seen)) for of in (np.nanmin, np.nanmax, np.nanmean, np.nanstd))
    unit = 1.0 if kind == "integer" else None
    if column.dtype.kind in "Mm" or kind == "date":
        unit = _unit_of_times(column.dtype, values)
    widths = (1, 2) if missing else (1,)
    decimals = None if unit is not None else _decimals(values[~np.isnan(values)])
    return Number(name, column.iloc[:0], mean, deviation or 1.0, low, high, unit, decimals, widths)


def _refuse_numbers_as_texts(name: str, present: pandas.Series) -> None:
    """Raises ValueError for texts that are numbers with a decimal comma, or nearly all numbers."""
    import pandas

    def all_numbers(texts: pandas.Series) -> bool:
        return bool(pandas.to_numeric(texts, errors="coerce").notna().all())

    texts = present.astype(str).str.strip()
    numbers = pandas.to_numeric(texts, errors="coerce").notna()
    if numbers.all():
        return  # texts on purpose, as postal codes in a Parquet file
    example, other = texts[~numbers].iloc[0], "or name the column in categorical"
    bare = texts.str.replace(UNITS, "", regex=True)
    if all_numbers(bare):
        raise ValueError(f"column '{name}' has numbers with units or spaces, as {example}; remove these, {other}")
    decimal = bare.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    if all_numbers(decimal) or all_numbers(bare.str.replace(",", "", regex=False)):
        raise ValueError(
            f"column '{name}' has numbers with commas, as {example}: set decimal = \",\" where they stand before "
            f"decimals, remove them where they group thousands, {other}"
        )
    if numbers.mean() >= NEARLY:
        row, cell = next(iter(present[~numbers].items()))
        raise ValueError(
            f"column '{name}' has numbers, and {cell!r} in row {row + 1}; correct it, leave it empty, {other}"
        )


def _decimals(values: Array) -> int | None:
    """The fewest decimals, up to six, with which all values can be written; None where that needs more."""
    return next((d for d in range(7) if np.array_equal(values.round(d), values)), None)


def _category(name: str, column: pandas.Series, present: pandas.Series, missing: bool) -> Category:
    import pandas

    distinct = [*present.unique()]
    if isinstance(column.dtype, pandas.CategoricalDtype):
        distinct = [value for value in column.cat.categories if value in {*distinct}]
    else:
        distinct.sort()
    values = pandas.Series(distinct, dtype=column.dtype)
    if missing:
        values = pandas.concat([values, column[column.isna()].iloc[:1]])
    if len(values) > MOST:
        raise ValueError(
            f"column '{name}' has {len(values):,} categories of {len(column):,} rows, and {MOST} are the most: name it "
            "in leave_out, or in dates if these are dates, or join rare ones"
        )
    return Category(name, values.reset_index(drop=True), (len(values),))


def _counted(dtype: Any) -> str:
    """The unit of times, "s", "ms", "us" or "ns"."""
    return getattr(dtype, "unit", None) or np.datetime_data(dtype)[0]


def _unit_of_times(dtype: Any, values: Array) -> float:
    """What times are rounded to: a day where all are at midnight, else a second, in the unit of the column."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}["s" if is_plain(dtype) else _counted(dtype)]
    day = 86_400 * per_second
    midnight = getattr(dtype, "tz", None) is None and not np.any(values[~np.isnan(values)] % day)
    return float(day if midnight else per_second)
