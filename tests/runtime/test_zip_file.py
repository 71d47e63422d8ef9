"""Zips whose bytes depend on the content alone, and which are there whole or not at all."""

import time
import zipfile

import pytest

from runtime.zip_file import write_zip


def write(path, *, fails=False):
    with write_zip(path) as add:
        add("a/b.png", b"pixels")
        add("c.json", b"{}" * 1000)
        if fails:
            raise ValueError("no more")


def test_the_same_content_gives_the_same_bytes_at_another_time(tmp_path, monkeypatch):
    write(tmp_path / "first.zip")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_members_read_back_and_only_what_is_not_compressed_yet_is(tmp_path):
    write(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("c.json") == b"{}" * 1000
        kinds = {member.filename: member.compress_type for member in archive.infolist()}
    assert kinds == {"a/b.png": zipfile.ZIP_STORED, "c.json": zipfile.ZIP_DEFLATED}


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path):
    write(tmp_path / "a.zip")
    before = (tmp_path / "a.zip").read_bytes()
    with pytest.raises(ValueError, match="no more"):
        write(tmp_path / "a.zip", fails=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == before
