from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from moesaic.errors import ArgumentError, OutputExistsError
from moesaic.files import atomic_file, atomic_write, refuse_existing

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_the_bytes_and_leaves_nothing_beside(tmp_path):
    atomic_write(tmp_path / "a.moe", b"\x00abc")
    assert (tmp_path / "a.moe").read_bytes() == b"\x00abc"
    assert names(tmp_path) == ["a.moe"]


def test_takes_a_path_as_text(tmp_path):
    atomic_write(str(tmp_path / "a"), b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    place = tmp_path / "a"
    place.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="force"):
        atomic_write(place, b"new")
    assert place.read_bytes() == b"old"
    atomic_write(place, b"new", force=True)
    assert place.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_refuses_a_folder_and_a_missing_folder(tmp_path):
    with pytest.raises(ArgumentError, match="is a folder"):
        atomic_write(tmp_path, b"", force=True)
    with pytest.raises(ArgumentError, match="there is no folder"):
        atomic_write(tmp_path / "none" / "a", b"")
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="there is no folder"):
        atomic_write(tmp_path / "file" / "a", b"")


@pytest.mark.parametrize("name", ["n" * 300, "null\0character"])
def test_a_name_that_the_system_refuses_is_an_argument_error(tmp_path, name):
    for force in (False, True):
        with pytest.raises(ArgumentError, match="cannot write"):
            atomic_write(tmp_path / name, b"", force=force)
    assert names(tmp_path) == []


def test_a_long_name_that_the_system_takes_is_written(tmp_path):
    atomic_write(tmp_path / ("n" * 250), b"1")  # the name beside it must not be longer
    assert names(tmp_path) == ["n" * 250]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
@pytest.mark.parametrize("existing", [None, b"old"])
def test_an_interruption_leaves_the_folder_as_it_was(tmp_path, monkeypatch, error, existing):
    place = tmp_path / "a"
    if existing:
        place.write_bytes(existing)

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    expected = ArgumentError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        atomic_write(place, b"new", force=existing is not None)
    assert names(tmp_path) == (["a"] if existing else [])
    if existing:
        assert place.read_bytes() == existing


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((os.fstat(descriptor).st_size, names(tmp_path))))
    atomic_write(tmp_path / "a", b"12345")
    [(size, before)] = seen
    assert size == 5
    assert "a" not in before


def test_without_hard_links_it_still_refuses_and_still_writes(tmp_path, monkeypatch):
    def unsupported(self, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    atomic_write(tmp_path / "a", b"1")
    with pytest.raises(OutputExistsError):
        atomic_write(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert names(tmp_path) == ["a"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    place = tmp_path / "a"
    monkeypatch.setattr(os, "fsync", lambda descriptor: place.write_bytes(b"other"))
    with pytest.raises(OutputExistsError):
        atomic_write(place, b"mine")
    assert place.read_bytes() == b"other"
    assert names(tmp_path) == ["a"]


def test_of_many_writers_exactly_one_wins(tmp_path):
    place, won, barrier = tmp_path / "a", [], threading.Barrier(8)

    def write(number):
        barrier.wait()
        try:
            atomic_write(place, bytes([number]) * 1000)
        except OutputExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert place.read_bytes() == bytes(won) * 1000


@posix
def test_permissions_follow_the_umask_and_survive_replacement(tmp_path):
    place = tmp_path / "a"
    before = os.umask(0o027)
    try:
        atomic_write(place, b"1")
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o640
    place.chmod(0o604)
    atomic_write(place, b"2", force=True)
    assert place.stat().st_mode & 0o777 == 0o604


@posix
def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    atomic_write(link, b"new", force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_refuse_existing_changes_nothing(tmp_path):
    refuse_existing(tmp_path / "a")
    assert names(tmp_path) == []
    (tmp_path / "a").touch()
    refuse_existing(tmp_path / "a", force=True)
    with pytest.raises(OutputExistsError):
        refuse_existing(tmp_path / "a")


def test_a_file_in_parts_is_there_when_it_is_whole(tmp_path):
    place = tmp_path / "a"
    with atomic_file(place) as write:
        write(b"one, ")
        assert not place.exists()
        write(b"two")
    assert place.read_bytes() == b"one, two"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_nothing_of_a_file_in_parts(tmp_path):
    def fails(error):
        with atomic_file(tmp_path / "a") as write:
            write(b"one, ")
            raise error

    for error in (ValueError("own"), OSError(28, "own"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised:
            fails(error)
        assert raised.value is error  # the work's own errors are none of writing
        assert not list(tmp_path.iterdir())
