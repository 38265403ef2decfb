"""The newer copy of the time zone data is used and reported."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tzdata
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore, Schedule, zones
from goflow.zones import Database, release_of
from tests.web.conftest import until

PACKAGED = Path(tzdata.__file__).parent / "zoneinfo"
WINTER = datetime(2026, 12, 1, tzinfo=UTC)  # Vancouver has stayed at seven hours behind UTC
HOUR = timedelta(hours=1)

Copy = Callable[..., str]


@pytest.fixture
def a_copy(tmp_path: Path) -> Copy:
    """Creates a folder of zones with a version file. In it, Vancouver still has the offset of Los
    Angeles, eight hours behind UTC in winter."""

    def make(version: str | None, file: str = "tzdata.zi", text: str = "# version {}\n") -> str:
        folder = tmp_path / f"zoneinfo {len(list(tmp_path.iterdir()))}"
        (folder / "America").mkdir(parents=True)
        for name in ("America/Vancouver", "America/Los_Angeles"):
            shutil.copy(PACKAGED / "America" / "Los_Angeles", folder / name)
        shutil.copy(PACKAGED / "UTC", folder / "UTC")
        if version is not None:
            (folder / file).write_text(text.format(version) + "# more\n")
        return str(folder)

    return make


def behind(database: Database, zone: str = "America/Vancouver") -> timedelta:
    offset = WINTER.astimezone(database.find(zone)).utcoffset()
    assert offset is not None
    return -offset


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2025b", "2026.6"),
        ("2025b", "2025c"),
        ("2025z", "2025za"),
        ("2025zz", "2026a"),
        ("2026a", "2026.2"),
        ("2026.1", "2026b"),
        ("2026.9", "2026.10"),
        ("2026.9", "2026j"),
        ("2025.3.post1", "2025d"),
        ("2025b-dirty", "2025c-5-gabcdef"),
    ],
)
def test_versions_are_compared_as_releases(older: str, newer: str) -> None:
    assert (a := release_of(older)) is not None
    assert (b := release_of(newer)) is not None
    assert a < b


def test_names_of_one_release_compare_equal() -> None:
    assert release_of("2026f") == release_of("2026.6") == (2026, 6)
    assert release_of(tzdata.__version__) == release_of(tzdata.IANA_VERSION)
    for text in ("", "unknown", "f2026", "26f", "2026", "2026F"):
        assert release_of(text) is None


@pytest.mark.parametrize("version", ["2025b", "1999a", "2026a", "soon", "", None])
def test_the_package_is_used_if_the_systems_copy_is_older(
    a_copy: Copy, version: str | None
) -> None:
    database = Database([a_copy(version)], chosen=False)
    assert (database.version, database.source) == (tzdata.__version__, "the package tzdata")
    assert behind(database) == 7 * HOUR
    assert behind(database, "America/Los_Angeles") == 8 * HOUR


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [("2099a", "tzdata.zi", "# version {}\n"), ("2099za", "+VERSION", "{}\n")],
)
def test_a_newer_copy_of_the_system_is_used(
    a_copy: Copy, version: str, file: str, text: str
) -> None:
    folder = a_copy(version, file, text)
    database = Database([folder], chosen=False)
    assert (database.version, database.source) == (version, folder)
    assert behind(database) == 8 * HOUR
    assert database.find("Europe/Berlin").key == "Europe/Berlin"  # only the package has it


def test_configured_folders_are_used_at_any_age(a_copy: Copy) -> None:
    folder = a_copy("1999a")
    database = Database([f"{folder}/none", folder], chosen=True)
    assert (database.version, database.source) == ("1999a", folder)
    assert behind(database) == 8 * HOUR
    nameless = Database([a_copy(None)], chosen=True)
    assert nameless.version == "unknown"
    assert nameless.warning(WINTER) is None


@pytest.mark.parametrize("folders", [(), ("/there/is/none",)])
def test_without_a_copy_of_the_system_the_package_is_used(folders: tuple[str, ...]) -> None:
    for chosen in (False, True):
        database = Database(folders, chosen=chosen)
        assert database.source == "the package tzdata"
        assert behind(database) == 7 * HOUR


def test_schedules_follow_the_copy_in_use(a_copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database([a_copy("2025b")], chosen=False)
    monkeypatch.setattr(zones, "database", lambda: database)
    due = Schedule("0 9 * * *", "America/Vancouver").next(WINTER)
    assert due == WINTER + 16 * HOUR


@pytest.mark.parametrize(
    "name", ["", "Nowhere", "Europe", "../UTC", "/etc/passwd", "UTC/", "utc", "tzdata.zi", "a\0b"]
)
def test_other_files_are_not_zones(a_copy: Copy, name: str) -> None:
    for database in (zones.database(), Database([a_copy("2099a")], chosen=True)):
        with pytest.raises(LookupError):
            database.find(name)


def test_a_zone_is_the_same_object_each_time() -> None:
    assert zones.find("Asia/Tokyo") is zones.find("Asia/Tokyo")


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_a_schedule_can_be_copied_and_pickled(again: Callable[[Schedule], Schedule]) -> None:
    for schedule in (
        Schedule("0 9 * * *", "America/Vancouver"),
        Schedule("TZ=Asia/Tokyo */5 9 * * * *", "Europe/Berlin", with_seconds=True),
        Schedule("@every 90s"),
    ):
        copied = again(schedule)
        assert copied == schedule
        assert copied.next(WINTER) == schedule.next(WINTER)


@pytest.mark.parametrize(
    ("version", "now", "old"),
    [
        ("2025b", datetime(2026, 11, 28, tzinfo=UTC), False),
        ("2024b", datetime(2026, 11, 28, tzinfo=UTC), True),
        ("2020a", datetime(2026, 11, 28, tzinfo=UTC), True),
        ("2020a", datetime(2021, 11, 28, tzinfo=UTC), False),
    ],
)
def test_data_older_than_two_years_causes_a_warning(
    a_copy: Copy, version: str, now: datetime, old: bool
) -> None:
    folder = a_copy(version)
    warning = Database([folder], chosen=True).warning(now)
    assert (warning is not None) is old
    if warning:
        assert version in warning
        assert folder in warning
        assert "tzdata" in warning


def test_the_server_reports_its_data_and_warns_about_old_data(
    a_copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_copy("2001a")
    monkeypatch.setattr(zones, "database", lambda: Database([folder], chosen=True))
    with TestClient(Goflow(MemoryStore(), ui_path=None), base_url="http://localhost") as client:
        health = until(lambda: client.get("/api/health").json())
        system = client.get("/api/system").json()
    assert (health["tzdata"], health["tzdata_source"]) == ("2001a", folder)
    assert system["versions"]["tzdata"] == f"2001a, {folder}"
    [notice] = health["notices"]
    assert "more than 2 years old" in notice["text"]


def test_zoneinfo_of_python_is_unchanged() -> None:
    """An import of goflow does not change zoneinfo for the user's code."""
    code = (
        "import zoneinfo; before = zoneinfo.TZPATH, zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "import goflow; goflow.Schedule('@daily', 'Europe/Berlin')\n"
        "assert before == (zoneinfo.TZPATH, zoneinfo.ZoneInfo('Europe/Berlin'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("version", ["1999a", None])
def test_pythontzpath_is_honoured(a_copy: Copy, version: str | None) -> None:
    folder = a_copy(version)
    code = (
        "from datetime import datetime, UTC; from goflow import Schedule, zones\n"
        "print(zones.database().version, zones.database().source, sep='|')\n"
        "print(Schedule('0 9 * * *', 'America/Vancouver').next(datetime(2026, 12, 1, tzinfo=UTC)))"
    )
    for chosen, expected in (
        (folder, [f"{version or 'unknown'}|{folder}", "2026-12-01 17:00:00+00:00"]),
        ("", [f"{tzdata.__version__}|the package tzdata", "2026-12-01 16:00:00+00:00"]),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONTZPATH": chosen},
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stdout.splitlines() == expected


def test_folders_set_by_the_program_are_honoured(
    a_copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_copy("1999a")
    before = zoneinfo.TZPATH
    zones.database.cache_clear()
    try:
        zoneinfo.reset_tzpath([folder])
        assert zones.database().source == folder
    finally:
        zoneinfo.reset_tzpath(before)
        zones.database.cache_clear()
