"""Where outputs go, and which clashes are refused before any work."""

from __future__ import annotations

import pytest

from moesaic.cli.places import change_told, refuse_clashes, settle
from moesaic.errors import ArgumentError


@pytest.fixture
def tree(tmp_path):
    """A folder of pictures with a hidden file, a foreign one and a folder inside."""
    for name in ("in/a.png", "in/b.jpg", "in/.hidden.png", "in/notes.txt", "in/deep/c.png", "in/.cache/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def _settle(inputs, output=None, *, recursive=False):
    jobs = settle(
        inputs,
        None if output is None else str(output),
        name=lambda path: f"{path.stem}.moe",
        accepts=lambda path: path.suffix in (".png", ".jpg"),
        recursive=recursive,
    )
    return {job.source: job.output for job in jobs}


def test_without_an_output_it_stands_beside_the_input(tree):
    a = tree / "in/a.png"
    assert _settle([a]) == {a: tree / "in/a.moe"}


def test_one_input_takes_the_output_as_a_file(tree):
    a = tree / "in/a.png"
    assert _settle([a], tree / "other.moe") == {a: tree / "other.moe"}


@pytest.mark.parametrize("ends", ["", "/"])
def test_one_input_goes_into_a_folder_that_exists(tree, ends):
    a = tree / "in/a.png"
    (tree / "out").mkdir()
    assert _settle([a], f"{tree / 'out'}{ends}") == {a: tree / "out/a.moe"}


def test_a_slash_names_a_folder_that_does_not_exist_yet(tree):
    a = tree / "in/a.png"
    assert _settle([a], f"{tree}/new/") == {a: tree / "new/a.moe"}


def test_a_folder_gives_its_pictures_and_leaves_hidden_and_foreign_files(tree):
    found = _settle([tree / "in"], tree / "out")
    assert found == {tree / "in/a.png": tree / "out/a.moe", tree / "in/b.jpg": tree / "out/b.moe"}


def test_recursive_mirrors_the_tree_and_leaves_hidden_folders(tree):
    found = _settle([tree / "in"], tree / "out", recursive=True)
    assert found[tree / "in/deep/c.png"] == tree / "out/deep/c.moe"
    assert len(found) == 3


def test_recursive_without_an_output_stays_in_place(tree):
    assert _settle([tree / "in"], recursive=True)[tree / "in/deep/c.png"] == tree / "in/deep/c.moe"


def test_a_folder_without_inputs_is_named_and_those_below_it_are_hinted_at(tree):
    (tree / "in/a.png").unlink()
    (tree / "in/b.jpg").unlink()
    with pytest.raises(ArgumentError, match=r"nothing to do: no input .* is in .*in; folders below .* --recursive"):
        _settle([tree / "in"])
    assert list(_settle([tree / "in"], recursive=True)) == [tree / "in/deep/c.png"]
    (tree / "in/deep/c.png").unlink()
    for recursive in (False, True):
        with pytest.raises(ArgumentError, match=r"is in .*in$"):
            _settle([tree / "in"], recursive=recursive)


def test_a_hidden_file_that_is_named_is_taken(tree):
    hidden = tree / "in/.hidden.png"
    assert list(_settle([hidden])) == [hidden]


def test_the_same_file_is_taken_once(tree):
    a = tree / "in/a.png"
    assert list(_settle([a, tree / "in/../in/a.png", tree / "in"])) == [a, tree / "in/b.jpg"]


@pytest.mark.parametrize("output", ["out.moe", "in/a.png"])
def test_several_inputs_refuse_a_file_as_output(tree, output):
    with pytest.raises(ArgumentError, match="is no folder"):
        _settle([tree / "in/a.png", tree / "in/b.jpg"], tree / output)


def test_two_inputs_with_one_output_are_refused_by_name(tree):
    (tree / "in/a.jpg").touch()
    with pytest.raises(ArgumentError, match=r"a\.jpg and .*a\.png would both become .*a\.moe"):
        _settle([tree / "in"])


def test_two_folders_that_meet_in_one_output_are_refused(tree):
    (tree / "in/deep/a.png").touch()
    with pytest.raises(ArgumentError, match="would both become"):
        _settle([tree / "in", tree / "in/deep"], tree / "out")


def test_an_output_that_is_an_input_is_refused(tree):
    with pytest.raises(ArgumentError, match="is an input"):
        _settle([tree / "in/a.png"], tree / "in/deep/../a.png")


def test_an_output_that_the_run_also_reads_is_refused(tree):
    jobs = settle([tree / "in/a.png"], str(tree / "x.png"), name=lambda path: "y.png", accepts=lambda path: True)
    refuse_clashes(jobs)
    with pytest.raises(ArgumentError, match="is an input"):
        refuse_clashes(jobs, also=[tree / "x.png"])


def test_a_verb_that_writes_nothing_has_no_outputs(tree):
    jobs = settle([tree / "in"], None, name=None, accepts=lambda path: True)
    assert [job.output for job in jobs] == [None, None, None]


def test_a_loop_of_links_ends(tree):
    (tree / "in/deep/loop").symlink_to(tree / "in", target_is_directory=True)
    assert len(_settle([tree / "in"], tree / "out", recursive=True)) == 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, ""),
        ({"scale": 1.0}, ""),
        ({"scale": 4.0}, ".x4"),
        ({"scale": 0.5}, ".x0.5"),
        ({"size": (640, 480)}, ".640x480"),
        ({"region": (0, 0.5, 32, 24), "scale": 2.0}, ".region0,0.5,32,24.x2"),
        ({"layers": 3}, ".layers3"),
    ],
)
def test_names_tell_how_a_picture_was_decoded(asked, told):
    assert change_told(**{"scale": None, "size": None, "region": None, "layers": None} | asked) == told
