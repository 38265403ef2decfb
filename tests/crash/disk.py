"""A simulated disk that records its writes, to compute contents after a power cut.

The rule: a cut may keep any subset of the writes since the last sync, complete or torn at a
sector. A created or removed name may be kept or lost until its folder is synced. Synced data is
always there.
"""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512


class File:
    """The synced content, and the changes since, in order."""

    def __init__(self) -> None:
        self.certain = b""
        self.since: list[tuple[int, bytes | None]] = []  # None truncates at the offset

    def sync(self) -> None:
        self.certain = applied(self.certain, self.since)
        self.since = []

    def after_a_cut(self, rng: random.Random) -> bytes:
        """A random possible content after a power cut."""
        luck = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])  # the probability of each change
        kept: list[tuple[int, bytes | None]] = []
        for place, data in self.since:
            if data is not None and rng.random() < 0.3:
                cuts = range(SECTOR - place % SECTOR, len(data), SECTOR)
                edges = [0, *cuts, len(data)]
                pieces = pairwise(edges)
                kept += [(place + a, data[a:b]) for a, b in pieces if rng.random() < luck]
            elif rng.random() < luck:
                kept.append((place, data))
        return applied(self.certain, kept)


def applied(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    result = bytearray(content)
    for place, data in changes:
        if data is None:
            del result[place:]
        else:
            result.extend(bytes(max(0, place - len(result))))
            result[place : place + len(data)] = data
    return bytes(result)


class Disk:
    """The files of one folder, by suffix; `steps` records all operations."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.names: set[str] = set()

    def after_cuts(self, rng: random.Random, every: int) -> Iterator[tuple[int, dict[str, bytes]]]:
        """Possible contents after every `every` steps and around each sync, with the number of
        steps done."""
        now: dict[str, File] = {}
        certain: dict[str, File] = {}
        for done, step in enumerate(self.steps):
            if done % every == 0 or step[0] == "sync" or self.steps[done - 1][0] == "sync":
                yield done, _after_a_cut(rng, now, certain)
            match step:
                case "create", name:
                    now[name] = File()
                case "write", name, place, data:
                    now[name].since.append((place, data))
                case "truncate", name, size:
                    now[name].since.append((size, None))
                case "sync", name:
                    now[name].sync()
                    if name.endswith(("-journal", "-wal")):  # SQLite syncs the folder with them
                        certain = dict(now)
                case "delete", name, folder_too:
                    del now[name]
                    if folder_too:
                        certain = dict(now)
        yield len(self.steps), _after_a_cut(rng, now, certain)


def _after_a_cut(
    rng: random.Random, now: dict[str, File], certain: dict[str, File]
) -> dict[str, bytes]:
    found = {}
    for name in sorted(now.keys() | certain.keys()):
        file = rng.choice([now, certain]).get(name)
        if file is not None:
            found[name] = file.after_a_cut(rng)
    return found


class RecordingVfs(apsw.VFS):  # type: ignore[misc]
    """A VFS that passes SQLite's operations to the real disk, and records them in a `Disk`."""

    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> "RecordingFile":
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path.name not in self._disk.names:  # the store itself has created it, empty
            self._disk.names.add(path.name)
            self._disk.steps.append(("create", path.name))
        return RecordingFile(name, flags, path.name, self._disk)

    def xDelete(self, name: str, folder_too: bool) -> None:
        super().xDelete(name, folder_too)
        self._disk.names.discard(Path(name).name)
        self._disk.steps.append(("delete", Path(name).name, folder_too))


class RecordingFile(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, name: Any, flags: list[int], place: str, disk: Disk) -> None:
        super().__init__("", name, flags)
        self._place = place
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.steps.append(("write", self._place, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._disk.steps.append(("truncate", self._place, size))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.steps.append(("sync", self._place))


class Cursor:
    """Like the standard library's."""

    def __init__(self, connection: apsw.Connection, cursor: apsw.Cursor) -> None:
        self._cursor = cursor
        self.fetchone = cursor.fetchone
        self.fetchall = cursor.fetchall
        self.close = cursor.close
        self.rowcount = connection.changes()
        self.lastrowid = connection.last_insert_rowid()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


class Connection:
    """The part of the standard library's connection that stores use, over a custom VFS."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._connection = apsw.Connection(str(path), vfs=vfs)
        # A custom VFS has no shared memory, so the connection must be exclusive.
        self.execute("PRAGMA locking_mode = EXCLUSIVE")

    def execute(self, statement: str, values: Any = ()) -> Cursor:
        return Cursor(self._connection, self._connection.execute(statement, values))

    def executemany(self, statement: str, values: Any) -> Cursor:
        return Cursor(self._connection, self._connection.executemany(statement, list(values)))

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def close(self) -> None:
        self._connection.close()
