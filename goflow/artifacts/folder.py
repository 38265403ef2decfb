"""Artifacts in a folder.

    new/                            files that are being written
    work/…/                         folders in which attempts make files
    objects/ab/abcdef…              each content once, by its SHA-256
    executions/ID/abcdef…           a hard link to it for each execution that has it

The rule that must not be broken: content is read through its execution's own link, so it stays
until that execution is forgotten, whatever happens to the others. The number of links says
whether any execution still has a content; nothing else counts.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from goflow.artifacts.base import Artifacts, check_place, lost, pieces
from goflow.core.result import Artifact

ARTIFACTS = ".artifacts"  # ends the name of the folder beside a store


class FolderArtifacts(Artifacts):
    """Implements `Artifacts` in the folder `address`, which is created when it is needed. A
    `temporary` one is removed by `close`."""

    def __init__(self, address: str, limit: int, *, temporary: bool = False) -> None:
        super().__init__(os.path.abspath(address), limit)
        self._root = Path(self.address)
        self._temporary = temporary

    @property
    def work(self) -> Path:
        return self._root / "work"

    def keep(self, execution: str, name: str, body: bytes) -> Artifact:
        self.check_size(name, len(body))
        path = self._new()
        with path.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        sha256 = hashlib.sha256(body).hexdigest()
        self._place(path, execution, sha256)
        return Artifact(name, len(body), sha256)

    def keep_file(self, execution: str, name: str, path: Path) -> Artifact:
        new = self._new()
        os.rename(path, new)
        digest, size = hashlib.sha256(), 0
        with new.open("rb") as file:
            for piece in pieces(file):
                digest.update(piece)
                size += len(piece)
            os.fsync(file.fileno())
        try:
            self.check_size(name, size)
        except BaseException:
            new.unlink()
            raise
        self._place(new, execution, digest.hexdigest())
        return Artifact(name, size, digest.hexdigest())

    def chunks(self, execution: str, artifact: Artifact) -> Iterator[bytes]:
        check_place(execution, artifact.sha256)
        try:
            file = (self._root / "executions" / execution / artifact.sha256).open("rb")
        except OSError:
            raise lost(artifact) from None
        with file:
            yield from pieces(file)

    def executions(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._root / "executions") as found:
            yield from (one.name for one in found)

    def forget(self, execution: str) -> None:
        check_place(execution, "0" * 64)
        folder = self._root / "executions" / execution
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                (folder / name).unlink(missing_ok=True)
                content = self._root / "objects" / name[:2] / name
                with suppress(FileNotFoundError):
                    if content.stat().st_nlink == 1:  # no execution has it
                        content.unlink()
            folder.rmdir()

    def close(self) -> None:
        if self._temporary:
            shutil.rmtree(self._root, ignore_errors=True)

    def _new(self) -> Path:
        """The path of a new file."""
        folder = self._root / "new"
        if not folder.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
            _sync(self._root)
        return folder / os.urandom(16).hex()

    def _place(self, new: Path, execution: str, sha256: str) -> None:
        """Link a synced file to its places; `new` goes away."""
        check_place(execution, sha256)
        own = self._folder_of("executions", execution) / sha256
        content = self._folder_of("objects", sha256[:2]) / sha256
        size = new.stat().st_size
        try:
            with suppress(FileExistsError):  # the execution has it already
                if not _link(content, own, size):
                    with suppress(FileExistsError):
                        os.link(new, content)
                    os.link(new, own)
        except OSError:  # a file system without hard links; the content is not shared then
            os.replace(new, own)
        new.unlink(missing_ok=True)
        _sync(content.parent)
        _sync(own.parent)

    def _folder_of(self, kind: str, name: str) -> Path:
        folder = self._root / kind / name
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _sync(folder.parent)
            _sync(folder.parent.parent)
        return folder


def _link(content: Path, own: Path, size: int) -> bool:
    """Link to a content that is there already; False if it is not, or is damaged."""
    try:
        if content.stat().st_size != size:
            content.unlink(missing_ok=True)
            return False
        os.link(content, own)
    except FileNotFoundError:
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
