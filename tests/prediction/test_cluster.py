"""A cluster of one machine: the bytes of a single process, whoever dies, and whatever was done before."""

import json
import os
import signal
import tarfile
import threading
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install '.[ray]'")

from data.drawn.streets import StreetsSettings, ensure_streets
from data.images import read_png_text
from data.layouts.image_files import ImageFiles
from prediction.cluster import (
    ClusterModel,
    ClusterSettings,
    find_manifest,
    predict_on_cluster,
    read_manifest,
    write_manifest,
)
from prediction.run import predict_split
from runtime.files import InputError
from tests.systems import efficientps, panoptic_fpn, solov2_checkpoint

NUM_IMAGES = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return ensure_streets(tmp_path_factory.mktemp("s"), StreetsSettings(128, 256, num_train=1, num_val=NUM_IMAGES))


@pytest.fixture(scope="module")
def images(root) -> Path:
    return root / "leftImg8bit" / "val"


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests; else each starts its own."""
    import ray

    ray.init(address="local", num_cpus=9, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def one_stage(root, tmp_path_factory) -> ClusterModel:
    torch.manual_seed(0)
    return ClusterModel(str(panoptic_fpn(root, tmp_path_factory.mktemp("w"))))


@pytest.fixture(scope="module")
def two_stages(root, tmp_path_factory) -> ClusterModel:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("w")
    halves = str(solov2_checkpoint(root, folder)), str(efficientps(root, folder, has_head=False))
    return ClusterModel(None, *halves, settings={"min_score": 0.0, "min_stuff_area": 0})


def predict_alone(images: Path, model: ClusterModel, output: Path) -> dict[str, bytes]:
    """The maps of a single process, with as many threads as an actor has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        predict_split(ImageFiles(images), model.load("cpu"), output, workers=1)
    finally:
        torch.set_num_threads(before)
    return maps(output)


def maps(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes() for path in [output / "panoptic.json", *output.glob("panoptic/*.png")]
    }


@pytest.mark.slow
def test_one_stage_gives_the_bytes_of_one_process_and_files_of_predictions_are_refused(images, one_stage, tmp_path, cluster):
    with pytest.raises(InputError, match="for files fusion/solo_fusion"):
        ClusterModel(semantics=str(tmp_path))
    write_manifest(find_manifest(str(images)), tmp_path / "images.parquet")
    predict_on_cluster(read_manifest(str(tmp_path / "images.parquet")), one_stage, str(tmp_path / "run"))
    assert maps(tmp_path / "run") == predict_alone(images, one_stage, tmp_path / "alone")


def test_a_manifest_names_what_it_lacks(tmp_path):
    table = tmp_path / "images.csv"
    table.write_text("file\na.png\n")
    with pytest.raises(InputError, match="column `path` was needed"):
        read_manifest(str(table))
    table.write_text("path,image_id\na.png,x\nb.png,X\n")
    with pytest.raises(InputError, match="1 image ids occur twice"):
        read_manifest(str(table))
    table.write_text("path\ns3://bucket/a/1.png\ns3://bucket/b/1.png\n")
    assert read_manifest(str(table))["image_id"].to_pylist() == ["a/1", "b/1"]


def kill_a_stage(output: Path, victim: int, found: list[int]) -> None:
    """Once the first PNG is there, end one of the processes of this Ray in which a stage runs."""
    while not list(output.glob("panoptic/*.png")):
        time.sleep(0.01)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            grandparent = (Path("/proc") / parent / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if command.startswith(b"ray::MapWorker(MapBatches(Stage") and int(grandparent) == os.getpid():
            found.append(int(process.name))
    os.kill(sorted(found)[victim], signal.SIGKILL)


@pytest.mark.everything
@pytest.mark.parametrize("victim", [0, -1])
def test_two_actors_a_stage_one_of_them_killed_give_the_bytes_of_one_process(images, two_stages, tmp_path, cluster, victim):
    manifest, output = find_manifest(str(images)), tmp_path / "run"
    found: list[int] = []
    killer = threading.Thread(target=kill_a_stage, args=(output, victim, found), daemon=True)
    killer.start()
    predict_on_cluster(manifest, two_stages, str(output), ClusterSettings(stage1_actors=2, stage2_actors=2))
    killer.join(timeout=1)
    assert len(found) == 4
    assert maps(output) == predict_alone(images, two_stages, tmp_path / "alone")


@pytest.mark.everything
def test_what_the_checkpoint_knows_counts_only_where_the_output_is_of_this_model_and_image(
    images, one_stage, tmp_path, cluster, capsys
):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(images.rglob("*.png")):
        (folder / path.name).write_bytes(path.read_bytes())
    manifest, output = find_manifest(str(folder)), tmp_path / "run"
    paths = manifest["path"].to_pylist()
    predict_on_cluster(manifest, one_stage, str(output))
    whole = maps(output)
    pngs = sorted((output / "panoptic").glob("*.png"))
    ages = {path: path.stat().st_mtime_ns for path in pngs}
    pngs[0].unlink()
    pngs[1].write_bytes(pngs[2].read_bytes())  # of another image
    Path(paths[3]).write_bytes(Path(paths[4]).read_bytes())
    predict_on_cluster(manifest, one_stage, str(output))
    new = {path.name for path in pngs if path.stat().st_mtime_ns != ages[path]}
    assert new == {pngs[k].name for k in (0, 1, 3)}
    Path(paths[3]).write_bytes(b"no image")
    with pytest.raises(InputError, match=f"1 of {NUM_IMAGES} images were left out"):
        predict_on_cluster(manifest, one_stage, str(output))
    (failure,) = map(json.loads, (output / "failures.jsonl").read_text().splitlines())
    assert (failure["index"], paths[3] in failure["reason"]) == (3, True)
    with pytest.raises(InputError, match="1 images were left out, more than --max-failures 0"):
        predict_on_cluster(manifest, one_stage, str(output), ClusterSettings(max_failures=0))
    Path(paths[3]).write_bytes((images / next(images.rglob(Path(paths[3]).name))).read_bytes())
    predict_on_cluster(manifest, one_stage, str(output))
    assert maps(output) == whole


@pytest.mark.everything
def test_tars_hold_the_bytes_of_one_process_and_are_not_done_twice(images, one_stage, tmp_path, cluster):
    manifest, output = find_manifest(str(images)), tmp_path / "run"
    settings = ClusterSettings(form="tar", images_per_tar=3)
    for _ in range(2):
        predict_on_cluster(manifest, one_stage, f"file://{output}", settings)
    tars = sorted((output / "panoptic").glob("*.tar"))
    ages = [path.stat().st_mtime_ns for path in tars]
    assert len(tars) == 3
    predict_on_cluster(manifest, one_stage, str(output), settings)
    assert [path.stat().st_mtime_ns for path in tars] == ages
    for path in tars:
        lines = [json.loads(line) for line in Path(f"{path}.index.jsonl").read_text().splitlines()]
        with tarfile.open(path) as tar:
            tar.extractall(output / "panoptic")
        for line in lines:
            content = path.read_bytes()[line["offset"] : line["offset"] + line["size"]]
            assert content == (output / "panoptic" / line["file_name"]).read_bytes()
            assert read_png_text(output / "panoptic" / line["file_name"])["producer"] == line["producer"]
    assert maps(output) == predict_alone(images, one_stage, tmp_path / "alone")
