"""The formats of results that are no JSON: `pickle`, and `arrow` for data frames.

The rule that must not be broken: a value becomes bytes in the task's own thread or process, and is
made of them again in that of the task that receives it, since both run users' code.
"""

import pickle
from typing import Any

import msgspec

from goflow.core.result import Format
from goflow.errors import TaskFailed
from goflow.operators import pickling
from goflow.shown import kind, reason

COLUMNS_SHOWN = 30
COLUMN_SHOWN = 20  # characters
_KIND = b"goflow"  # in the metadata of an Arrow file: what the table was


def encode(value: Any, given: str) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a value, and its description as JSON. Raises `TaskFailed`."""
    about: dict[str, Any] = {"format": given, "type": _name(value)}
    if given == Format.PICKLE:
        try:
            return pickling.dump_by_value(value), about
        except BaseException as error:  # users' classes may raise anything when pickled
            raise TaskFailed(
                f"the result, of type {kind(value)}, cannot be pickled: {reason(error)}"
            ) from error
    body, table = _arrow(value)
    return body, about | {
        "rows": table.num_rows,
        "columns": [str(name)[:COLUMN_SHOWN] for name in table.column_names[:COLUMNS_SHOWN]],
    }


def decode(body: bytes, given: str) -> Any:
    """The value that `encode` made bytes of. Raises whatever the users' classes raise."""
    return pickle.loads(body) if given == Format.PICKLE else _of_arrow(body)


def described(about: dict[str, Any], size: int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(about | {"bytes": size}))


def _name(value: Any) -> str:
    made = type(value)
    return f"{made.__module__}.{made.__qualname__}"[:200]


# -- Arrow ---------------------------------------------------------------------------


def _arrow(value: Any) -> tuple[bytes, Any]:
    import pyarrow as pa

    package = type(value).__module__.partition(".")[0]
    try:
        if isinstance(value, pa.Table):
            table, made_by = value, ""
        elif isinstance(value, pa.RecordBatch):
            table, made_by = pa.Table.from_batches([value]), ""
        elif package == "pandas" and kind(value) == "DataFrame":
            table, made_by = pa.Table.from_pandas(value), package
        elif package == "polars" and kind(value) == "DataFrame":
            table, made_by = value.to_arrow(), package
        else:
            raise TaskFailed(
                f"the result must be a data frame of pandas or polars, or a pyarrow.Table, for "
                f'result="arrow", not of type {kind(value)}; "pickle" takes any object'
            )
        marked = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), _KIND: made_by.encode()}
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, marked.schema) as writer:
            writer.write_table(marked)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise TaskFailed(
            f"the result, of type {kind(value)}, cannot be an Arrow table: {reason(error)}"
        ) from error
    return sink.getvalue().to_pybytes(), table


def _of_arrow(body: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_file(pa.BufferReader(body)) as reader:
        table = reader.read_all()
    metadata = dict(table.schema.metadata or {})
    made_by = metadata.pop(_KIND, b"")
    table = table.replace_schema_metadata(metadata or None)
    if made_by == b"pandas":
        return table.to_pandas()
    if made_by == b"polars":
        import polars

        return polars.from_arrow(table)
    return table
