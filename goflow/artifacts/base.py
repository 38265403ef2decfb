"""The contract of places for artifacts.

The rule that must not be broken: when `keep` and `keep_file` return, the content is durable, and
stays until `forget` is called for its execution. So an artifact is there before the fact that
names it, and a read is checked against that fact.

All methods block, and are called from any thread and from the processes of tasks.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from goflow.core.keys import Key, item_of, task_of
from goflow.core.result import Artifact
from goflow.errors import ResultLost
from goflow.shown import shown

CHUNK = 1024 * 1024  # bytes
FILES = 100  # of one attempt
NAME_LIMIT = 200  # bytes of the name of a file
RESULT = "result."  # begins the names of results

_HEX = re.compile("[0-9a-f]{64}")
_EXECUTION = re.compile(r"[\w-]{1,100}", re.ASCII)


class Refused(Exception):
    """An artifact that is not kept; the message says why."""


class Artifacts(ABC):
    """A place for artifacts, and folders in which attempts make files.

    `limit` is the most bytes of one artifact. `address` is what `opened` takes to open the same
    place in another process.
    """

    def __init__(self, address: str, limit: int) -> None:
        self.address = address
        self.limit = limit
        self.used: set[Path] = set()  # the folders of attempts that make files
        self._lock = threading.Lock()

    # -- contents --------------------------------------------------------------------

    @abstractmethod
    def keep(self, execution: str, name: str, body: bytes) -> Artifact:
        """Keep bytes. Raises `Refused` and `OSError`."""

    @abstractmethod
    def keep_file(self, execution: str, name: str, path: Path) -> Artifact:
        """Keep a file, which may be moved. Raises `Refused` and `OSError`."""

    @abstractmethod
    def chunks(self, execution: str, artifact: Artifact) -> Iterator[bytes]:
        """The content in pieces, unchecked; resources are taken with the first one. Raises
        `ResultLost` then."""

    @abstractmethod
    def executions(self) -> Iterator[str]:
        """The executions that have artifacts."""

    @abstractmethod
    def forget(self, execution: str) -> None:
        """Delete the artifacts of an execution, but no content that others have too."""

    def read(self, execution: str, artifact: Artifact) -> bytes:
        """The content, checked against its hash. Raises `ResultLost`."""
        body = b"".join(self.chunks(execution, artifact))
        if hashlib.sha256(body).hexdigest() != artifact.sha256:
            raise ResultLost(f"{artifact.name!r} is damaged; retry from its task on")
        return body

    # -- files of attempts -----------------------------------------------------------

    @property
    @abstractmethod
    def work(self) -> Path:
        """The folder for the folders of attempts."""

    def file(self, execution: str, key: Key, attempt: int, name: str) -> Path:
        """The path at which an attempt makes a file. Raises `ValueError` for an unsafe name."""
        check_name(name)
        folder = self._folder(execution, key, attempt)
        with self._lock:
            if folder not in self.used:
                folder.mkdir(parents=True, exist_ok=True)
                self.used.add(folder)
        return folder / name

    def collect(self, execution: str, key: Key, attempt: int) -> tuple[Artifact, ...]:
        """Keep the files that a successful attempt made. Raises `Refused` and `OSError`."""
        folder = self._folder(execution, key, attempt)
        if folder not in self.used:
            return ()
        names = sorted(os.listdir(folder))
        if len(names) > FILES:
            raise Refused(f"it made {len(names)} files, more than the {FILES} that are kept")
        for name in names:
            found = os.lstat(folder / name)
            if not stat.S_ISREG(found.st_mode):
                raise Refused(f"the artifact {name!r} is no regular file")
            self.check_size(name, found.st_size)
        return tuple(self.keep_file(execution, name, folder / name) for name in names)

    def discard(self, execution: str, key: Key, attempt: int) -> None:
        """Remove the folder of an attempt that has ended, if there is one."""
        folder = self._folder(execution, key, attempt)
        self.used.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove the folders that attempts of an earlier server left."""
        shutil.rmtree(self.work, ignore_errors=True)

    def close(self) -> None:
        """Release resources."""
        return

    def check_size(self, name: str, size: int) -> None:
        """Raises `Refused`."""
        if size > self.limit:
            raise Refused(
                f"the artifact {name!r} is {size:,} bytes, more than the {self.limit:,} that are "
                "allowed (max_artifact)"
            )

    def _folder(self, execution: str, key: Key, attempt: int) -> Path:
        # A task's name may be any text, also one that is no name of a file.
        place = f"{execution}\n{task_of(key)}\n{item_of(key)}\n{attempt}"
        return self.work / hashlib.sha256(place.encode()).hexdigest()[:32]


def check_name(name: object) -> str:
    """Refuse a name that is not that of a file in a folder. Raises `ValueError`."""
    if not isinstance(name, str):
        raise ValueError(f"the name of an artifact must be text, not {shown(name)}")
    unsafe = (
        not name.isprintable()
        or name.startswith(".")
        or name.startswith(RESULT)
        or any(one in name for one in '/\\:"')
        or name != name.strip()
    )
    if not name or unsafe or len(name.encode(errors="replace")) > NAME_LIMIT:
        raise ValueError(
            f"the name of an artifact must be that of a file, such as 'report.csv', of at most "
            f"{NAME_LIMIT} bytes, without slashes and without a dot or {RESULT!r} at the "
            f"beginning; not {shown(name)}"
        )
    return name


def check_place(execution: str, sha256: str) -> None:
    """Refuse what cannot be part of a path. Raises `ValueError`."""
    if not _EXECUTION.fullmatch(execution) or not _HEX.fullmatch(sha256):
        raise ValueError(f"no place of an artifact: {execution[:100]!r}, {sha256[:100]!r}")


def lost(artifact: Artifact) -> ResultLost:
    return ResultLost(f"{artifact.name!r} is not among the artifacts any more; retry from its task")


def pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def temporary_address() -> str:
    """The address of a folder that does not exist yet."""
    token = os.urandom(8).hex()
    return os.path.join(tempfile.gettempdir(), f"goflow-artifacts-{os.getpid()}-{token}")


def opened(address: str, limit: int) -> Artifacts:
    """The place with this address, as it is."""
    if "://" in address:
        from goflow.artifacts.bucket import BucketArtifacts

        return BucketArtifacts(address, limit)
    from goflow.artifacts.folder import FolderArtifacts

    return FolderArtifacts(address, limit)
