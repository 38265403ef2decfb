"""The default store: one SQLite file beside the jobs, for one server at a time.

- `schema` has the tables and the migrations; `codec` says how values are kept in them.
- `writes`, `purge`, `reads`, `logs` and `results` have the statements; `tables` combines them.
- `file` is the store in a file, `lock` its locks, `files` its look at the disk, `backup` its copy.
"""

from goflow.stores.sqlite.file import SqliteStore

__all__ = ["SqliteStore"]
