"""forward_time.py: a part's time is counted where it is spent; ideal embeddings are the scene's; bad input is one line."""

import sys
from dataclasses import replace
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
from pan_secb import forward_time, part_times
from pan_secb.erfnet import STRIDE
from pan_secb.forward_time import parse_size
from pan_secb.network import PanSECB
from pan_secb.part_times import Form, Subject, load_subject, random_subject, summarize, time_parts
from runtime.files import InputError, read_json

SECONDS = {"to_embedding_maps": 1, "cluster": 2, "to_panoptic": 4, "read_image": 8, "write_panoptic_png": 16}
"""How long each function takes by the test's clock."""


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that stands still, except that each function takes SECONDS."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(part_times.time, "perf_counter", lambda: clock.now)

    def slowed(function, seconds):
        def call(*args, **kwargs):
            clock.now += seconds
            return function(*args, **kwargs)

        return call

    for name, seconds in SECONDS.items():
        monkeypatch.setattr(part_times, name, slowed(getattr(part_times, name), seconds))


def small_subject() -> Subject:
    return random_subject((128, 256), 0.25, "cpu")


def test_each_part_has_the_time_that_it_takes(slow_clock):
    taken = time_parts(small_subject(), Form("cpu"), seconds=0)
    expected = {"network": 1000, "clustering": 2000, "merging": 4000, "read": 8000, "write": 16000}
    assert taken == {part: [milliseconds] * 3 for part, milliseconds in expected.items()}


def test_a_batch_counts_by_the_image(slow_clock):
    taken = time_parts(small_subject(), Form("cpu", batch=2), seconds=0)
    assert taken["network"] == [1000] * 3  # two images in two seconds


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
    assert np.array_equal(subject.image, scene.image)
    found = fuse_embeddings(subject.ideal, CITYSCAPES, ClusterSettings(min_pixels=0))
    truth = instance_ids_to_panoptic(scene.instance_ids)
    wanted = [s.category_id for s in truth.segments if s.segment_id >= 1000]
    assert sorted(s.category_id for s in found.segments if s.score is not None) == sorted(wanted)
    assert len(wanted) > 2


@pytest.mark.parametrize("form", [Form("cpu", 2, "bf16", is_channels_last=True), Form("cpu", 1, "32")])
def test_the_network_runs_in_the_form_that_is_timed(form):
    seen = []

    class Spy(PanSECB):
        def forward(self, image):
            is_last = image.is_contiguous(memory_format=torch.channels_last)
            seen.append((tuple(image.shape), image.dtype, is_last, next(self.parameters()).dtype))
            return super().forward(image)

    subject = small_subject()
    network = Spy(CITYSCAPES.num_classes, len(CITYSCAPES.thing_ids), 0.25).eval()
    time_parts(replace(subject, network=network, ideal=None), form, seconds=0)
    dtype = {"bf16": torch.bfloat16, "32": torch.float32}[form.precision]
    assert set(seen) == {((form.batch, 3, 128, 256), dtype, form.is_channels_last, dtype)}


def test_the_command_times_a_trained_network_on_an_image_and_writes_all_numbers(checkpoint, tmp_path, monkeypatch, capsys):
    image = tmp_path / "street.png"
    write_image(image, np.random.default_rng(0).integers(0, 256, (100, 180, 3), dtype=np.uint8))
    arguments = ["--sizes", "64x96", "128x96", "--checkpoint", checkpoint, "--images", image, "--device", "cpu"]
    arguments += ["--precision", "32", "bf16", "--seconds", "0", "--output", tmp_path / "times.json"]
    monkeypatch.setattr(sys, "argv", ["forward_time.py", *map(str, arguments)])
    forward_time.main()
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}" in printed.splitlines()[0]
    content = read_json(tmp_path / "times.json")
    rows = [(row["size"], row["precision"], row["repeats"]) for row in content["rows"]]
    assert rows == [("64x96", "32", 3), ("64x96", "bf16", 3), ("128x96", "32", 3), ("128x96", "bf16", 3)]
    for row in content["rows"]:
        total = row["milliseconds"]["pixels to segments"]["median"]
        assert row["images_per_second"] == pytest.approx(1000 / total)
        assert f"{total:.2f}" in printed
        assert all(0 < t["min"] <= t["median"] <= t["p95"] for t in row["milliseconds"].values())


def test_older_spellings_still_work(checkpoint, tmp_path, monkeypatch):
    write_image(tmp_path / "street.png", np.zeros((64, 96, 3), np.uint8))
    arguments = ["--checkpoint", checkpoint, "--image-path", tmp_path / "street.png", "--precision", "fp32", "--seconds", "0"]
    arguments += ["--device", "cpu", "--json", tmp_path / "times.json"]
    monkeypatch.setattr(sys, "argv", ["forward_time.py", *map(str, arguments)])
    forward_time.main()
    (row,) = read_json(tmp_path / "times.json")["rows"]
    assert (row["size"], row["precision"]) == ("64x96", "32")


def test_a_checkpoint_says_at_which_size_and_how_normalised_an_image_is_seen(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["input_size"]["shorter_side"] = 64
    content["hyper_parameters"]["normalization"] = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    torch.save(content, tmp_path / "small.ckpt")
    write_image(tmp_path / "street.png", np.zeros((128, 192, 3), np.uint8))
    own, asked = (load_subject(tmp_path / "small.ckpt", str(tmp_path / "street.png"), size, "cpu") for size in (None, (32, 40)))
    assert own.seen_size == (64, 96)
    assert own.image.shape == (128, 192, 3)
    assert asked.seen_size == asked.image.shape[:2] == (32, 40)
    for subject in (own, asked):
        seen = subject.network_input.apply(subject.image, torch.device("cpu")).tensor
        assert seen[0, :, 0, 0].tolist() == pytest.approx([-1 / 4, -2 / 5, -3 / 6])


def test_what_cannot_be_compiled_here_is_one_line(monkeypatch, fails_in_one_line):
    def refuse(image):
        raise torch._dynamo.exc.TorchDynamoException("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", lambda network, mode: refuse)
    line = fails_in_one_line(forward_time.main, *("--device", "cpu", "--sizes", "128x256", "--width", "0.25", "--compile"))
    assert "torch.compile fails here (no compiler here); leave --compile out" in line


def test_sizes_are_read_and_checked():
    assert parse_size("512x1024") == (512, 1024)
    for bad, words in (("512", "no size"), ("axb", "no size"), ("511x1024", "multiples of 8"), ("0x8", "multiples of 8")):
        with pytest.raises(InputError, match=words):
            parse_size(bad)
    assert forward_time.STRIDE == STRIDE


def test_bad_input_is_one_line(checkpoint, tmp_path, fails_in_one_line):
    def fails(*arguments) -> str:
        return fails_in_one_line(forward_time.main, "--device", "cpu", "--sizes", "128x256", *arguments)

    assert "device 'abacus'" in fails("--device", "abacus")
    assert "can be drawn" in fails("--sizes", "128x128")
    assert "multiples of 8" in fails("--sizes", "100x128")
    assert "needs --checkpoint" in fails("--images", tmp_path / "a.png")
    assert "no images there" in fails("--checkpoint", checkpoint, "--images", tmp_path / "a.png")
    assert "no such checkpoint" in fails("--checkpoint", tmp_path / "none.ckpt")
