"""Files are written whole, through no link; pipes are not waited for."""

import os

import pytest

from c2al.plain_files import read_regular, whole_file, write_whole


def test_a_link_in_the_place_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_text("keep")
    for name in ("a", "a.partial"):
        (tmp_path / name).symlink_to("mine")
    write_whole(tmp_path / "a", "é")
    assert (tmp_path / "a").read_bytes() == "é".encode()
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "mine").read_text() == "keep"


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    write_whole(tmp_path / "a", "old")
    with pytest.raises(TypeError), whole_file(tmp_path / "a") as file:
        file.writelines([b"new", None])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_only_regular_files_of_a_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "pipe")
    (tmp_path / "a").write_text("xxx")
    assert read_regular(tmp_path / "a", most=3) == b"xxx"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_regular(tmp_path / "a", most=2)
