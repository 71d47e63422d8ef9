"""Files are read with suspicion and written whole; a command's user gets one line."""

import errno
import os
import signal
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from data.images import is_made_by, open_image, path_to_image_id, read_image, read_image_size, write_image
from runtime.files import (
    PARTIAL,
    InputError,
    atomic_path,
    digest_of,
    on_interruption,
    one_line_errors,
    read_json,
    read_yaml,
    remove_partial_files,
    shorten,
    write_json,
)

DEAD = 2**22 + 1
"""No process has this number: Linux ends before."""
FROM_A_WORKER = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback:\nruntime.files.InputError: b.png: cut\n"
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def png_with_header(height: int, width: int) -> bytes:
    """A PNG of a few bytes whose header promises this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_picture_comes_back_as_it_was_written(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)


def test_a_picture_names_what_made_it_and_is_whole_only_with_all_of_its_bytes(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, PICTURE, producer="truth-1")
    assert np.array_equal(read_image(path), PICTURE)
    assert is_made_by(path, "truth-1")
    assert not is_made_by(path, "truth-2")
    path.write_bytes(path.read_bytes()[:-30])
    assert not is_made_by(path, "truth-1")
    path.write_bytes(b"")
    assert not is_made_by(path, "truth-1")
    path.unlink()
    assert not is_made_by(path, "truth-1")
    write_image(path, PICTURE)
    assert not is_made_by(path, "truth-1")


def test_16_bits_of_grey_survive(tmp_path):
    values = np.array([[0, 26001], [65535, 7]], np.uint16)
    write_image(tmp_path / "a.png", values)
    with open_image(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
        assert np.array_equal(np.asarray(image), values)


def test_the_size_is_read_from_the_header_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(png_with_header(4, 6))
    assert read_image_size(tmp_path / "a.png") == (4, 6)
    with pytest.raises(InputError, match="cannot be decoded"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("deep/er/000000000139.jpg", "000000000139"),
        ("ulm_000000_000019_leftImg8bit.png", "ulm_000000_000019"),
        ("ulm_000000_000019_gtFine_leftImg8bit.png", "ulm_000000_000019"),
        ("street.v2.png", "street.v2"),
    ],
)
def test_an_image_id_is_the_name_without_folder_and_suffix(name, image_id):
    assert path_to_image_id(name) == image_id


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_any_8_bit_picture_is_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(PICTURE).convert(mode).save(path)
    assert np.array_equal(read_image(path), np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_picture_of_unknown_range_is_refused(tmp_path, dtype):
    Image.fromarray(PICTURE[..., 0].astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: pixel mode .*, but an 8-bit image was needed"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("size", [(20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_header_is_refused_before_decoding(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_with_header(*size))
    with pytest.raises(InputError, match="more than 268435456"), open_image(tmp_path / "a.png"):
        pass


def test_a_picture_cut_at_any_byte_is_refused_or_lost_no_pixel(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            pixels = read_image(path)
        except InputError:
            continue
        assert np.array_equal(pixels, PICTURE)


def test_half_a_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded .* truncated or no image, copy it again"):
        read_image(path)


def test_a_damaged_header_is_refused(tmp_path):
    whole = bytearray(png_with_header(4, 6))
    whole[11] = 5  # an IHDR chunk of 5 bytes; Pillow raises a bare ValueError
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded"):
        read_image(tmp_path / "a.png")


def test_a_missing_picture_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_an_exception_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:
        partial.write_text(f"ne{1 / 0}")
    assert read_json(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / f"{PARTIAL}{DEAD}-x.png").touch()
    (tmp_path / f"{PARTIAL}{DEAD}-folder" / "data").mkdir(parents=True)
    others = [".partial-another-machine-1-x.png", ".partial-of-another-program", "a.png"]
    for name in others:
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "b.png") as partial:  # of a process that is alive
        partial.touch()
        remove_partial_files(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [*others, "b.png"]


def test_json_that_is_missing_or_broken_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"images": [')
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.png: broken"), "error: a.png: broken"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "error: a.png: No space left on device; "),
        (InputError(FROM_A_WORKER), "error: b.png: cut"),
    ],
)
def test_bad_input_ends_a_command_with_one_line(error, line):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code.startswith(line)
    assert "\n" not in end.value.code


def test_a_digest_changes_with_each_part_and_with_nothing_else():
    assert digest_of("a", (1, 2)) == digest_of("a", (1, 2))
    assert len({digest_of("a", 1), digest_of("a", 2), digest_of("b", 1), digest_of("a1"), digest_of("a", "1")}) == 5


def test_a_long_message_becomes_one_short_line():
    assert shorten("two\n  lines") == "two lines"
    assert shorten("x" * 50, 10) == "x" * 10 + "..."


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_any_encoding_of_unicode(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"a": "ü \\ud83d\\ude00"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "ü 😀"}


HOSTILE_JSON = {
    "lists in lists without end": b"[" * 100_000,
    "a number of 5,000 digits": b"[" + b"9" * 5000 + b"]",
    "half a character": rb'{"file_name": "\ud800.png"}',
    "bytes that are no text": b'{"a": "\xff"}',
    "a mark alone": b"\xef\xbb\xbf",
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_json_that_no_other_program_would_read_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


HOSTILE_YAML = {
    "lists in lists without end": "[" * 100_000,
    "mappings in mappings": "\n".join(f"{' ' * k}a:" for k in range(100)),
    "a number of 5,000 digits": f"workers: {'9' * 5000}",
    "an alias of aliases": "a: &a [x, x]\nb: [*a, *a]",
    "a tab": "a:\n\t- b",
    "two MB": f"a: {'x' * 2**21}",
}


@pytest.mark.parametrize("content", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_yaml_that_is_no_file_of_settings_is_refused(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=r"a\.yaml: ") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_yaml_of_settings_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\ndata: {crop: [64, 128]}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"base": "b.yaml", "data": {"crop": [64, 128]}}


@pytest.fixture(autouse=True)
def hears_interruptions():
    """A shell lets what it starts in the background ignore SIGINT, the tests, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_line_that_says_what_was_kept(number, code, capsys):
    def work() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    with pytest.raises(SystemExit) as end, one_line_errors(), on_interruption(lambda: "2 of 3 images are done"):
        work()
    assert end.value.code == code
    assert capsys.readouterr().err == "interrupted: 2 of 3 images are done\n"


class InterruptedWhileBuilt:
    def __init__(self, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)
        self.handle = 1

    def __del__(self) -> None:
        assert self.handle


class InterruptedWhileFreed:
    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(10)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("work", [InterruptedWhileBuilt, InterruptedWhileFreed])
def test_an_interruption_holds_around_finalisers_which_say_nothing(work, number, code, capsys, monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    def command() -> None:
        work(number)
        time.sleep(10)

    with pytest.raises(SystemExit) as end, one_line_errors():
        command()
    end.value.__context__ = end.value.__traceback__ = None
    assert (end.value.code, len(capsys.readouterr().err.splitlines())) == (code, 1)
    assert said == []


def test_commands_that_call_others_keep_finalisers_quiet_too(capsys, monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    def command() -> None:
        with one_line_errors():
            InterruptedWhileBuilt(signal.SIGTERM)

    with pytest.raises(SystemExit) as end, one_line_errors():
        command()
    end.value.__context__ = end.value.__traceback__ = None
    assert (end.value.code, len(capsys.readouterr().err.splitlines()), said) == (143, 1, [])


def test_an_error_of_a_finaliser_is_shown_where_nothing_was_interrupted(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_type))
    broken = type("Broken", (), {"__del__": lambda self: 1 / 0})
    with one_line_errors():
        broken()
    assert said == [ZeroDivisionError]


def test_an_interruption_of_which_nobody_says_more_promises_nothing(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted: nothing half-written was kept; run the same command again\n"


def test_of_several_processes_one_says_that_they_were_interrupted(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit), one_line_errors():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_sigterm_does_what_it_did_before_once_a_command_has_ended():
    before = signal.getsignal(signal.SIGTERM)
    with one_line_errors():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
