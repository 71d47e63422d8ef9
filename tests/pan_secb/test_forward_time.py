"""forward_time.py: a part's time is counted where it is spent; ideal embeddings are the scene's; bad input is one line."""

import sys
from argparse import ArgumentTypeError
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.drawn.streets import StreetsSettings, draw_scene
from data.images import write_image
from data.layouts.cityscapes import instance_ids_to_panoptic
from data.taxonomy import CITYSCAPES
from fusion.embedding_clusters import fuse_embeddings
from fusion.settings import ClusterSettings
from pan_secb import forward_time
from pan_secb.forward_time import Form, Subject, load_subject, parse_size, summarize, time_parts
from pan_secb.network import PanSECB
from runtime.files import read_json

SECONDS = {"to_embedding_maps": 1, "cluster": 2, "to_panoptic": 4, "read_image": 8, "write_panoptic_png": 16}
"""How long each function takes by the test's clock."""


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that stands still, except that each function takes SECONDS."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(forward_time.time, "perf_counter", lambda: clock.now)

    def slowed(function, seconds):
        def call(*args, **kwargs):
            clock.now += seconds
            return function(*args, **kwargs)

        return call

    for name, seconds in SECONDS.items():
        monkeypatch.setattr(forward_time, name, slowed(getattr(forward_time, name), seconds))


def small_subject() -> Subject:
    args = SimpleNamespace(checkpoint=None, image_path=None, width=0.25)
    return load_subject(args, (128, 256), "cpu")


def test_each_part_has_the_time_that_it_takes(slow_clock):
    taken = time_parts(small_subject(), Form("cpu"), seconds=0)
    expected = {"network": 1000, "clustering": 2000, "merging": 4000, "read": 8000, "write": 16000}
    assert taken == {part: [milliseconds] * 3 for part, milliseconds in expected.items()}


def test_a_batch_counts_by_the_picture(slow_clock):
    taken = time_parts(small_subject(), Form("cpu", batch=2), seconds=0)
    assert taken["network"] == [1000] * 3  # two pictures in two seconds


def test_repeats_go_on_until_the_time_is_up(slow_clock):
    # All parts together take 31 seconds: the fourth repeat starts after 93, the fifth would after 124.
    assert len(time_parts(small_subject(), Form("cpu"), seconds=100)["network"]) == 4


def test_sums_are_of_single_repeats():
    taken = {"network": [1.0, 3, 2], "clustering": [5.0, 1, 1], "merging": [0.0] * 3, "read": [1.0] * 3, "write": [1.0] * 3}
    summary = summarize(taken)
    assert summary["network"] == {"median": 2, "p95": pytest.approx(2.9), "min": 1}
    assert summary["pixels to segments"] == {"median": 4, "p95": pytest.approx(5.8), "min": 3}  # of 6, 4, 3
    assert summary["PNG to PNG"]["median"] == 6


def test_ideal_embeddings_give_the_segments_of_the_drawn_scene():
    subject = small_subject()
    scene = draw_scene(StreetsSettings(128, 256, num_val=1), "val", 0)
    assert np.array_equal(subject.picture, scene.image)
    found = fuse_embeddings(subject.ideal, CITYSCAPES, ClusterSettings(min_pixels=0))
    truth = instance_ids_to_panoptic(scene.instance_ids)
    wanted = [s.category_id for s in truth.segments if s.segment_id >= 1000]
    assert sorted(s.category_id for s in found.segments if s.score is not None) == sorted(wanted)
    assert len(wanted) > 2


@pytest.mark.parametrize("form", [Form("cpu", 2, "bf16", is_channels_last=True), Form("cpu", 1, "fp32")])
def test_the_network_runs_in_the_form_that_is_timed(form):
    seen = []

    class Spy(PanSECB):
        def forward(self, image):
            is_last = image.is_contiguous(memory_format=torch.channels_last)
            seen.append((tuple(image.shape), image.dtype, is_last, next(self.parameters()).dtype))
            return super().forward(image)

    subject = small_subject()
    network = Spy(CITYSCAPES.num_classes, len(CITYSCAPES.thing_ids), 0.25).eval()
    time_parts(Subject(network, subject.taxonomy, subject.clustering, subject.picture, None), form, seconds=0)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[form.precision]
    assert set(seen) == {((form.batch, 3, 128, 256), dtype, form.is_channels_last, dtype)}


def test_the_command_times_a_trained_network_on_a_picture_and_writes_all_numbers(checkpoint, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "street.png"
    write_image(picture, np.random.default_rng(0).integers(0, 256, (100, 180, 3), dtype=np.uint8))
    arguments = ["--sizes", "64x96", "128x96", "--checkpoint", checkpoint, "--image-path", picture, "--device", "cpu"]
    arguments += ["--precision", "fp32", "bf16", "--seconds", "0", "--json", tmp_path / "times.json"]
    monkeypatch.setattr(sys, "argv", ["forward_time.py", *map(str, arguments)])
    forward_time.main()
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}" in printed.splitlines()[0]
    content = read_json(tmp_path / "times.json")
    rows = [(row["size"], row["precision"], row["repeats"]) for row in content["rows"]]
    assert rows == [("64x96", "fp32", 3), ("64x96", "bf16", 3), ("128x96", "fp32", 3), ("128x96", "bf16", 3)]
    for row in content["rows"]:
        total = row["milliseconds"]["pixels to segments"]["median"]
        assert row["images_per_second"] == pytest.approx(1000 / total)
        assert f"{total:.2f}" in printed
        assert all(0 < t["min"] <= t["median"] <= t["p95"] for t in row["milliseconds"].values())


def test_what_cannot_be_compiled_here_is_one_line(monkeypatch, fails_in_one_line):
    def refuse(image):
        raise torch._dynamo.exc.TorchDynamoException("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", lambda network, mode: refuse)
    line = fails_in_one_line(forward_time.main, *("--device", "cpu", "--sizes", "128x256", "--width", "0.25", "--compile"))
    assert "torch.compile fails here (no compiler here); leave --compile out" in line


def test_sizes_are_read_and_checked():
    assert parse_size("512x1024") == (512, 1024)
    for bad, words in (("512", "no size"), ("axb", "no size"), ("511x1024", "multiples of 8"), ("0x8", "multiples of 8")):
        with pytest.raises(ArgumentTypeError, match=words):
            parse_size(bad)


def test_bad_input_is_one_line(checkpoint, tmp_path, fails_in_one_line):
    def fails(*arguments) -> str:
        return fails_in_one_line(forward_time.main, "--device", "cpu", "--sizes", "128x256", *arguments)

    assert "at least 1 and 0" in fails("--batch", "0")
    assert "device 'abacus'" in fails("--device", "abacus")
    assert "can be drawn" in fails("--sizes", "128x128")
    assert "needs --checkpoint" in fails("--image-path", tmp_path / "a.png")
    assert "no such file" in fails("--checkpoint", checkpoint, "--image-path", tmp_path / "a.png")
    assert "no such checkpoint" in fails("--checkpoint", tmp_path / "none.ckpt")
