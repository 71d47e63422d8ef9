"""Downloads against a server of our own that cuts, redirects, refuses and lies."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from runtime import downloads
from runtime.downloads import UNFINISHED, download
from runtime.files import InputError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """`cuts`: after how many bytes each answer's connection breaks; `asked`: the ranges that were asked for, in order."""
    state = SimpleNamespace(cuts=[], asked=[], has_ranges=True, content=CONTENT, total=len(CONTENT))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/file")
                return self.end_headers()
            if self.path == "/loop":
                self.send_response(302)
                self.send_header("Location", "/loop")
                return self.end_headers()
            if self.path == "/429" and len(state.asked) > 1:
                self.path = "/file"  # not busy any more
            if self.path in ("/404", "/503", "/429"):
                return self.send_error(int(self.path[1:]))
            begin = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and state.has_ranges else 0
            if begin >= len(state.content):
                return self.send_error(416)
            body = state.content[begin:]
            self.send_response(206 if asked and state.has_ranges else 200)
            self.send_header("Content-Length", str(len(body)))
            if asked and state.has_ranges:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{state.total}")
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(downloads, "SECONDS_BETWEEN_TRIES", 0.0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    http.server_close()


def fetch(server, path, name="file", sha256=SHA256, largest=10**7) -> bool:
    return download(f"{server.address}/{name}", path, sha256, largest, lambda there, total: None)


def test_a_file_is_fetched_once(server, tmp_path):
    told = []
    path = tmp_path / "deep" / "file"
    assert download(f"{server.address}/file", path, SHA256[:8], 10**7, lambda *pair: told.append(pair))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert not fetch(server, path)
    assert server.asked == [None]
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_redirect_is_followed(server, tmp_path):
    assert fetch(server, tmp_path / "file", "moved")


def test_broken_connections_are_gone_on_with(server, tmp_path):
    server.cuts = [1000, 500_000, 0]
    assert fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=501000-", "bytes=501000-"]


def test_a_range_of_a_file_of_unknown_length_is_one(server, tmp_path):
    server.cuts, server.total = [1000], "*"
    assert fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, tmp_path):
    assert fetch(server, tmp_path / "file", "429")
    assert server.asked == [None, None]


def test_where_the_server_cannot_go_on_it_begins_anew(server, tmp_path):
    server.cuts, server.has_ranges = [700_000], False
    assert fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_was_kept_is_gone_on_with_by_the_next_call(server, tmp_path):
    server.cuts = [100] * 5
    with pytest.raises(
        InputError, match=r"ended after 500 of 1024000 bytes\).* are kept in .*file.download; run the same command"
    ):
        fetch(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert fetch(server, tmp_path / "file")
    assert server.asked[-1] == "bytes=500-"
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_whole_unfinished_file_needs_nothing_more(server, tmp_path):
    (tmp_path / f"file{UNFINISHED}").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_file_is_not_kept(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match=rf"SHA-256 \w{{8}}... came, but {SHA256}... was published; nothing was kept"):
        fetch(server, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_that_is_there_is_not_taken(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="is not what was published"):
        fetch(server, tmp_path / "file")
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("404", "says 404 Not Found; look whether it has moved"),
        ("503", r"says 503 .*try later"),
        ("loop", r"http://127.*/loop: the server says 302 .*look whether it has moved$"),
    ],
)
def test_refusals_are_said(name, words, server, tmp_path):
    with pytest.raises(InputError, match=words):
        fetch(server, tmp_path / "file", name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_is_refused(server, tmp_path):
    with pytest.raises(InputError, match="has 1 MB, but at most 0 were expected"):
        fetch(server, tmp_path / "file", largest=1000)


def test_where_nobody_answers_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS_BETWEEN_TRIES", 0.0)
    with pytest.raises(InputError, match=r"cannot be fetched \(.*refused.*\); try later"):
        download("http://127.0.0.1:1/file", tmp_path / "file", SHA256, 10**7, lambda *_: None)
