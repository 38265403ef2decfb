"""The time zone database: selects a copy of it and finds zones.

The machine has a copy, which may be years old, and the package tzdata has another one. The newer
copy is used. If folders were chosen (by PYTHONTZPATH or `zoneinfo.reset_tzpath`), they come first,
as in `zoneinfo`.

The rule that must not be broken: all code of goflow finds zones here. `zoneinfo.ZoneInfo(name)`
prefers the machine's copy at any age, and changing that would change it for users' code too.
"""

import re
import sysconfig
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from os import pathsep
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "the package tzdata"
UNKNOWN = "unknown"
OLD = 2  # years

Release = tuple[int, int]  # the year, and the number of the release in that year, from 1


def release_of(version: str) -> Release | None:
    """The release that a version names: "2026f", and the package's "2026.6", are (2026, 6)."""
    if packaged := re.match(r"(\d{4})\.(\d+)", version):
        return int(packaged[1]), int(packaged[2])
    # The letter z is followed by za, zb and so on.
    if named := re.match(r"(\d{4})(z*)([a-z])", version):
        return int(named[1]), 26 * len(named[2]) + ord(named[3]) - ord("a") + 1
    return None


class Database:
    """The copy in use. `folders` are the machine's; if `chosen`, they are used at any age."""

    def __init__(self, folders: Sequence[str], *, chosen: bool) -> None:
        self._folders = [Path(folder) for folder in folders if Path(folder).is_dir()]
        folder = self._folders[0] if self._folders else None
        version = None if folder is None else _version_in(folder)
        packaged = release_of(tzdata.__version__)
        # A copy without a version may be of any age, so the package is preferred.
        newer = (release_of(version or "") or (0, 0)) > (packaged or (0, 0))
        self._folders_first = folder is not None and (chosen or newer)
        if self._folders_first:
            self.version = version or UNKNOWN
            self.source = str(folder)
        else:
            self.version = tzdata.__version__
            self.source = PACKAGE
        self._zones: dict[str, ZoneInfo] = {}

    def find(self, name: str) -> ZoneInfo:
        """The zone of that name, the same object each time. Raises `LookupError` if unknown."""
        if (found := self._zones.get(name)) is None:
            with self._open(name) as file:
                # If two threads read the file at once, both get the zone that was stored first.
                found = self._zones.setdefault(name, ZoneInfo.from_file(file, key=name))
        return found

    def _open(self, name: str) -> IO[bytes]:
        # UTC, the common case, does not wait for the list of zones. Other names are looked up in
        # the list, since a name could be a path to any file.
        if name != "UTC" and name not in _names():
            raise LookupError(name)
        places = [folder.joinpath(name) for folder in self._folders]
        packaged = _packaged().joinpath("zoneinfo", *name.split("/"))
        for place in [*places, packaged] if self._folders_first else [packaged, *places]:
            if place.is_file():
                return place.open("rb")
        raise LookupError(name)

    def warning(self, now: datetime) -> str | None:
        """A warning about old data, in one sentence; None if the data is recent."""
        release = release_of(self.version)
        # A version only gives the year, so the release is taken to be from its middle.
        if release is None or now <= datetime(release[0] + OLD, 7, 1, tzinfo=UTC):
            return None
        return (
            f"the time zone data in use, {self.version} of {self.source}, is more than {OLD} years "
            "old: schedules are wrong in zones whose rules have changed since. "
            "Upgrade the package tzdata"
        )


@cache
def _packaged() -> "Traversable":
    """The folder of the package tzdata."""
    folder = Path(tzdata.__file__).parent
    if folder.is_dir():
        return folder
    from importlib import resources  # the package is in a zip file

    return resources.files("tzdata")


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


@cache
def database() -> Database:
    """The copy that this process uses, selected on first use."""
    usual = (sysconfig.get_config_var("TZPATH") or "").split(pathsep)
    folders = zoneinfo.TZPATH
    return Database(folders, chosen=list(folders) != [one for one in usual if one])


def find(name: str) -> ZoneInfo:
    """The zone of that name in the copy in use. Raises `LookupError` if unknown."""
    return database().find(name)


def _version_in(folder: Path) -> str | None:
    """A copy's version, from its file of rules or, on macOS, from the file +VERSION."""
    for name, pattern in (("tzdata.zi", r"# version (\S+)"), ("+VERSION", r"(\S+)")):
        try:
            with folder.joinpath(name).open(encoding="utf-8", errors="replace") as file:
                found = re.match(pattern, file.readline(200))
        except OSError:
            continue
        if found is not None:
            return found[1]
    return None
