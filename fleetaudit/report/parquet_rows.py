"""`parquet` and `parquet-listeners`: the rows of `csv` and `csv-listeners` in typed columns, to be queried.

Written in row groups as hosts pass. Text is as in the CSV files before escaping ("?" is not known, empty is
known to be none); numbers and times are null where they are neither. The run and its denominators are in the
file's own metadata, under `fleetaudit`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import HostAudit, Report, Run
from fleetaudit.report import csv_rows, listener_rows
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.record import encode, run_record, summary_record

_ROWS: Final = 20_000  # of one row group
_NUMBERS: Final = frozenset({"port", "pid", "sockets"})
_TIMES: Final = frozenset({"time", "collected_at"})
_LONGEST: Final = 18  # digits that fit into 64 bits whatever they are

_Rows = Callable[[HostAudit, Run], Iterator[Mapping[str, str]]]


def parquet(_options: RenderOptions) -> Renderer:
    """The renderer of `parquet`; it has no options: passes are always in it. Raises ConfigError."""
    return _renderer("parquet", csv_rows.COLUMNS, csv_rows.rows)


def parquet_listeners(_options: RenderOptions) -> Renderer:
    """The renderer of `parquet-listeners`. Raises ConfigError when pyarrow is not installed."""
    return _renderer("parquet-listeners", listener_rows.COLUMNS, listener_rows.rows)


def _renderer(name: str, columns: Sequence[str], rows: _Rows) -> Renderer:
    try:
        import pyarrow  # noqa: PLC0415  (an extra, imported only when asked for)
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        problem = Problem(f"the format {name} needs pyarrow", hint="pip install 'fleetaudit[parquet]'")
        raise ConfigError(problem) from error

    def render(report: Report) -> Iterator[bytes]:
        sink = _Sink()
        schema = pyarrow.schema([(column, _kind(pyarrow, column)) for column in columns])
        with pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
            held: list[Mapping[str, str]] = []
            for audit in report.audits:
                held += rows(audit, report.run)
                if len(held) >= _ROWS:
                    writer.write_table(_table(pyarrow, schema, held))
                    held = []
                yield sink.taken()
            writer.write_table(_table(pyarrow, schema, held))
            record = {"run": run_record(report.run), "summary": summary_record(report.summary())}
            writer.add_key_value_metadata({"fleetaudit": encode(record).decode("ascii")})
        yield sink.taken()

    return render


class _Sink(io.RawIOBase):
    """What the library writes to: the bytes that were not taken yet, and how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:  # whatever has bytes
        """Add to what can be taken."""
        self._held.append(bytes(data))
        self._size += len(self._held[-1])
        return len(self._held[-1])

    def tell(self) -> int:
        """Bytes written so far, taken or not."""
        return self._size

    def taken(self) -> bytes:
        """What was written since the last time."""
        held, self._held = b"".join(self._held), []
        return held


def _kind(pyarrow: ModuleType, column: str) -> object:
    if column in _NUMBERS:
        return pyarrow.int64()
    return pyarrow.timestamp("ms", tz="UTC") if column in _TIMES else pyarrow.string()


def _table(pyarrow: ModuleType, schema: Any, rows: Sequence[Mapping[str, str]]) -> object:
    columns = [
        pyarrow.array([_value(field.name, row.get(field.name, "")) for row in rows], type=field.type)
        for field in schema
    ]
    return pyarrow.table(columns, schema=schema)


def _value(column: str, text: str) -> object:
    if column in _NUMBERS:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST else None
    if column in _TIMES:
        return _time(text)
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no place in it


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else None
