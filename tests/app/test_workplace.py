"""The folder of a server: its own, gone with it, and never somebody else's."""

from __future__ import annotations

import os
import tempfile

import pytest

from moesaic.app.workplace import workplace
from moesaic.errors import ArgumentError


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_temporary_one_goes_with_its_server(places):
    with workplace(None) as place:
        (place / "jobs" / "x").mkdir(parents=True)
        assert place.stat().st_mode & 0o077 == 0
    assert list(places.iterdir()) == []


def test_what_a_killed_server_left_is_removed_and_what_a_living_one_has_is_not(places):
    left = places / "moesaic-serve-left"
    (left / "jobs" / "x").mkdir(parents=True)
    (left / ".lock").write_text("1")
    with workplace(None) as living:
        (living / "jobs").mkdir()
        assert not left.exists()
        with workplace(None) as second:
            assert (living / "jobs").exists()
            assert second != living


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="links of Unix")
def test_links_and_folders_of_others_are_left_alone(places, monkeypatch):
    precious = places / "precious"
    (precious / "jobs").mkdir(parents=True)
    (precious / "jobs" / "a").write_text("a")
    (places / "moesaic-serve-link").symlink_to(precious, target_is_directory=True)
    inner = places / "moesaic-serve-inner"
    inner.mkdir()
    (inner / "jobs").symlink_to(precious / "jobs", target_is_directory=True)
    with workplace(None):
        pass
    other = places / "moesaic-serve-other"
    (other / "jobs").mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with workplace(None):
        pass
    assert (precious / "jobs" / "a").read_text() == "a"
    assert not (precious / ".lock").exists()
    assert (other / "jobs").is_dir()


def test_a_folder_that_is_named_stays(tmp_path):
    with workplace(tmp_path / "a") as place:
        (place / "jobs").mkdir()
        with pytest.raises(ArgumentError, match="another server works in"), workplace(tmp_path / "a"):
            pass
    assert (tmp_path / "a" / "jobs").is_dir()
