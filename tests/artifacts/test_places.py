"""One suite for all places of artifacts, and what a folder promises beyond it."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from goflow.artifacts.base import Artifacts, Refused, opened
from goflow.artifacts.folder import FolderArtifacts
from goflow.core.keys import Item
from goflow.core.result import Artifact
from goflow.errors import ResultLost

ONE, OTHER = "e-1", "e-2"


@pytest.fixture(params=["folder", "bucket"])
def place(request: Any, tmp_path: Path) -> Artifacts:
    root = tmp_path / "artifacts"
    if request.param == "bucket":
        root.mkdir()
        return opened(f"file://{root}", 1000)
    return opened(str(root), 1000)


def files(root: Path) -> list[str]:
    return sorted(str(one.relative_to(root)) for one in root.rglob("*") if one.is_file())


def test_what_is_kept_is_read_again_also_from_another_process(place: Artifacts) -> None:
    kept = place.keep(ONE, "a", b"content")
    assert kept == Artifact("a", 7, hashlib.sha256(b"content").hexdigest())
    assert place.keep(ONE, "b", b"content") == Artifact("b", 7, kept.sha256)
    again = opened(place.address, place.limit)
    assert again.read(ONE, kept) == b"".join(again.chunks(ONE, kept)) == b"content"
    with pytest.raises(ResultLost, match="'a' is not among the artifacts any more"):
        place.read(OTHER, kept)


def test_an_execution_is_forgotten_but_not_what_others_have(place: Artifacts) -> None:
    assert list(place.executions()) == []
    place.forget(ONE)  # it has none
    shared = place.keep(ONE, "a", b"shared")
    own = place.keep(ONE, "b", b"own")
    assert place.keep(OTHER, "c", b"shared").sha256 == shared.sha256
    assert sorted(place.executions()) == [ONE, OTHER]
    place.forget(ONE)
    assert list(place.executions()) == [OTHER]
    assert place.read(OTHER, shared) == b"shared"
    for gone in (shared, own):
        with pytest.raises(ResultLost):
            place.read(ONE, gone)
    place.forget(OTHER)
    assert list(place.executions()) == []
    if isinstance(place, FolderArtifacts):
        assert files(Path(place.address)) == []


def test_files_of_an_attempt_are_collected(place: Artifacts) -> None:
    key = Item("a/../b\n", 3)
    path = place.file(ONE, key, 2, "x.csv")
    path.write_text("x")
    place.file(ONE, key, 2, "y").touch()
    assert place.collect(ONE, key, 1) == place.collect(ONE, "other", 2) == ()
    kept = place.collect(ONE, key, 2)
    assert [(one.name, one.size) for one in kept] == [("x.csv", 1), ("y", 0)]
    assert place.read(ONE, kept[0]) == b"x"
    place.discard(ONE, key, 2)
    assert not path.parent.exists()
    assert place.used == set()
    assert place.collect(ONE, key, 2) == ()


def test_a_large_artifact_is_refused_and_leaves_nothing(place: Artifacts) -> None:
    told = (
        "the artifact 'a' is 1,001 bytes, more than the 1,000 that are allowed \\(max_artifact\\)"
    )
    with pytest.raises(Refused, match=told):
        place.keep(ONE, "a", b"x" * 1001)
    place.file(ONE, "t", 1, "a").write_bytes(b"x" * 1001)
    with pytest.raises(Refused, match=told):
        place.collect(ONE, "t", 1)
    place.discard(ONE, "t", 1)
    assert list(place.executions()) == []


@pytest.mark.parametrize("bad", ["../e", "a/b", "", ".", "e" * 101])
def test_a_place_is_never_outside(place: Artifacts, bad: str) -> None:
    for change in (
        lambda: place.keep(bad, "a", b""),
        lambda: place.forget(bad),
        lambda: place.read(bad, Artifact("a", 0, "0" * 64)),
        lambda: place.read(ONE, Artifact("a", 0, f"../{bad}")),
    ):
        with pytest.raises(ValueError, match="no place of an artifact"):
            change()


def test_many_threads_keep_and_forget_the_same_content(place: Artifacts) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                kept = place.keep(f"e{number}", "a", b"shared")
                assert place.read(f"e{number}", kept) == b"shared"
                place.forget(f"e{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(place.executions()) == []


def folder(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(str(tmp_path / "artifacts"), 1000)


def test_a_folder_has_equal_contents_once(tmp_path: Path) -> None:
    place = folder(tmp_path)
    kept = place.keep(ONE, "a", b"shared")
    place.keep(OTHER, "b", b"shared")
    root = Path(place.address)
    content = root / "objects" / kept.sha256[:2] / kept.sha256
    assert content.stat().st_nlink == 3
    assert files(root / "new") == []
    assert root.stat().st_mode & 0o077 == 0


def test_damage_is_found_and_a_damaged_content_is_not_shared(tmp_path: Path) -> None:
    place = folder(tmp_path)
    kept = place.keep(ONE, "a", b"content")
    content = Path(place.address) / "objects" / kept.sha256[:2] / kept.sha256
    os.truncate(content, 3)
    with pytest.raises(ResultLost, match="'a' is damaged"):
        place.read(ONE, kept)
    assert place.read(OTHER, place.keep(OTHER, "a", b"content")) == b"content"


def test_a_file_system_without_hard_links_keeps_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", link)
    place = folder(tmp_path)
    for execution in (ONE, OTHER):
        kept = place.keep(execution, "a", b"shared")
    place.forget(ONE)
    assert place.read(OTHER, kept) == b"shared"


def test_content_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    sync, link = os.fsync, os.link
    monkeypatch.setattr("os.fsync", lambda fd: (order.append("sync"), sync(fd)))
    monkeypatch.setattr("os.link", lambda *paths: (order.append("link"), link(*paths)))
    place = folder(tmp_path)
    place.keep(ONE, "a", b"first")
    order.clear()
    place.keep(ONE, "b", b"second")
    assert order[0] == "sync"
    assert order[-1] == "sync"
    assert order.count("link") == 2


def test_what_an_earlier_server_left_is_cleared(tmp_path: Path) -> None:
    place = folder(tmp_path)
    kept = place.keep(ONE, "a", b"content")
    left = place.file(ONE, "t", 1, "half")
    left.touch()
    place.clear()
    assert not left.exists()
    assert place.read(ONE, kept) == b"content"
