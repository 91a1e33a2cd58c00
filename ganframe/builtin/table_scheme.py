"""What a run keeps of a table, so that samples become its rows without it."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ganframe.builtin.table_columns import Array, Category, Column, Constant, Number

if TYPE_CHECKING:
    import pandas


@attrs.frozen
class Scheme:
    """All that rows are made with: the names of columns in their order, the columns of x, and that of y."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    y: Category | None

    @property
    def width(self) -> int:
        return sum(sum(column.widths) for column in self.columns)

    def decode(self, x: Array, y: Array | None) -> pandas.DataFrame:
        """Rows of x (n, width), and of y (n,), without which its column is left out."""
        import pandas

        blocks = np.split(x, np.cumsum([sum(column.widths) for column in self.columns])[:-1], axis=1)
        found = {column.name: column.decode(block) for column, block in zip(self.columns, blocks, strict=True)}
        if self.y is not None and y is not None:
            found[self.y.name] = self.y.of_codes(y)
        return pandas.DataFrame({name: found[name] for name in self.names if name in found})

    def to_json(self) -> str:
        columns = [_as_json(column) for column in self.columns]
        whole = {"names": self.names, "columns": columns, "y": None if self.y is None else _as_json(self.y)}
        return json.dumps(whole, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Scheme:
        """Raises ValueError where `text` is not from `to_json`."""
        try:
            whole = json.loads(text)
            y = None if whole["y"] is None else _of_json(whole["y"])
            assert y is None or isinstance(y, Category)
            return cls(tuple(whole["names"]), tuple(map(_of_json, whole["columns"])), y)
        except Exception as error:  # pyarrow raises many kinds
            raise ValueError(f"the scheme of the table is damaged: {error}") from error


_KINDS = {"constant": Constant, "category": Category, "number": Number}


def _as_json(column: Column) -> dict[str, Any]:
    """A column, its series of values or types as Parquet in base64: so they keep their types, as those of dates."""
    import pandas

    kind = next(name for name, of in _KINDS.items() if isinstance(column, of))
    fields = {field: getattr(column, field) for field in attrs.fields_dict(type(column))}
    return {"kind": kind, **{k: _packed(v) if isinstance(v, pandas.Series) else v for k, v in fields.items()}}


def _of_json(values: dict[str, Any]) -> Column:
    fields = {k: _unpacked(v["parquet"]) if isinstance(v, dict) else v for k, v in values.items() if k != "kind"}
    made: Column = _KINDS[values["kind"]](**{**fields, "widths": tuple(fields["widths"])})
    return made


def _packed(series: pandas.Series) -> dict[str, str]:
    packed = io.BytesIO()
    series.to_frame("values").to_parquet(packed, index=False)
    return {"parquet": base64.b64encode(packed.getvalue()).decode()}


def _unpacked(text: str) -> pandas.Series:
    import pandas

    packed = io.BytesIO(base64.b64decode(text, validate=True))
    return pandas.read_parquet(packed, dtype_backend="numpy_nullable")["values"]
