"""The commands that are killed: every one that writes, on the smallest input that makes it write several files."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """A command and its results, which must be equal in the end, however often it was killed."""

    script: str
    """Relative to the repository."""
    arguments: str
    """`{inputs}` is the folder of draw_inputs, `{output}` is where the job may write."""
    results: tuple[str, ...]
    """Files in the output that are compared byte by byte; patterns of Path.glob."""
    weights: tuple[str, ...] = ()
    """Checkpoints in the output, of which every tensor is compared."""
    start: str = ""
    """Folder of the inputs of which the output is a copy at the start; none where it is empty."""
    goes_on: bool = True
    """Whether the command run again uses what an interrupted run has kept, and removes what that had only begun to write."""
    share: int = 3
    """How many kills it gets, in proportion to those of the other jobs."""


LIGHTNING = (
    "--epochs 3 --precision 32 --trainer.limit_val_batches 1 "
    "--trainer.check_val_every_n_epoch 1 --trainer.enable_progress_bar false --data.batch_size 1 --data.val_batch_size 1 "
    "--data.crop_height 64 --data.crop_width 64 "
)
MASKRCNN = "--config configs/efficientps/streets_lite0_maskrcnn.yaml "
HEAD = "box_channels 32,mask_channels 32,num_rois 16,num_proposals_training 50,num_proposals 50,max_detections 10"
SOLOV2 = (
    "--config configs/solov2/streets_r18.py --epochs 3 --cfg-options train_cfg.val_interval=9 train_dataloader.batch_size=2 "
    "model.backbone.base_channels=8 model.backbone.stem_channels=8 model.neck.in_channels=[8,16,32,64]"
)
TRAINED = {"results": (), "share": 1}
PREPARED = ("annotations/*", "gtFine/cityscapes_panoptic_*", "gtFine/cityscapes_panoptic_*/*")
RUN = ("panoptic.json", "panoptic/**/*", "instances/**/*", "semantic/**/*", "overlay/**/*", "scores.json", "results.md")
STREETS = "--data-root {inputs}/streets --output {output} --device cpu "


def head_flags(prefix: str) -> str:
    """The settings of a tiny instance head as flags."""
    return " ".join(f"--{prefix}.instance_head.{setting}" for setting in HEAD.split(","))


JOBS = {
    "draw_streets": Job(
        "scripts/draw_streets.py", "--data-root {output} --height 128 --width 256 --num-train 3 --num-val 2", ("**/*",)
    ),
    "draw_snapshots": Job("scripts/draw_snapshots.py", "--data-root {output} --num-train 5 --num-val 3", ("**/*",)),
    "prepare_cityscapes": Job("scripts/prepare_cityscapes.py", "--data-root {output}", PREPARED, start="bare"),
    "prepare_coco": Job("scripts/prepare_coco.py", "--data-root {output}", ("annotations/**/*",), start="snapshots"),
    "train_solov2": Job("solov2/train.py", STREETS + SOLOV2, weights=("epoch_*.pth",), **TRAINED),
    "train_efficientps": Job(
        "efficientps/train_net.py",
        STREETS + LIGHTNING + "--model.fpn_channels 32 --ema-decay 0.9 --workers 1",
        weights=("*.ckpt",),
        **TRAINED,
    ),
    "train_efficientps_instances": Job(
        "efficientps/train_net.py",
        f"{MASKRCNN}{STREETS}{LIGHTNING}--model.fpn_channels 32 {head_flags('model')}",
        weights=("*.ckpt",),
        **TRAINED,
    ),
    "train_panoptic_fpn": Job(
        "panoptic_fpn/train.py",
        f"{STREETS}{LIGHTNING}--model.network.fpn_channels 32 --model.network.semantic_channels 32 {head_flags('model.network')}",
        weights=("*.ckpt",),
        **TRAINED,
    ),
    "train_pan_secb": Job(
        "pan_secb/train.py",
        STREETS + LIGHTNING + "--data.crops {inputs}/crops --data.crops_per_epoch 2 --model.network.width 0.25",
        weights=("*/*.ckpt",),
        **TRAINED,
    ),
    "dump": Job("solov2/eval.py", STREETS + "--checkpoint {inputs}/solov2.pth", RUN),
    "fuse": Job(
        "fusion/solo_fusion.py",
        STREETS + "--instances {inputs}/dumps --checkpoint {inputs}/efficientps_False.ckpt --save-semantics {output}/kept "
        "--keep panoptic instances overlay --fusion.min_score 0.0 --fusion.min_stuff_area 0",
        (*RUN, "kept/*.safetensors"),
    ),
    "fuse_foreign": Job(
        "fusion/solo_fusion.py",
        STREETS + "--instances {inputs}/foreign/r.json --semantics {inputs}/foreign/ids --keep panoptic instances semantic",
        RUN,
    ),
    "tune": Job(
        "scripts/tune_fusion.py",
        "--data-root {inputs}/streets --instances {inputs}/foreign/r.json --semantics {inputs}/foreign/ids --all "
        "--output {output}/best.yaml",
        ("*",),
        goes_on=False,
    ),
    "import_labels": Job(
        "scripts/import_labels.py",
        "--from labelme --source {inputs}/labelme --output {output} --things car --stuff road --val-share 0.5",
        ("annotations/**/*", "train*/*", "val*/*"),
    ),
    "submit": Job(
        "scripts/submit.py",
        "--to cityscapes-panoptic --run {inputs}/prediction --data-root {inputs}/streets --split val --output {output}/s.zip",
        ("*",),
        goes_on=False,
    ),
    "convert": Job(
        "scripts/convert.py",
        "{inputs}/prediction/panoptic.json --to semantic --output {output}/maps",
        ("maps/*",),
        goes_on=False,
    ),
    "evaluate_panoptic_fpn": Job("panoptic_fpn/evaluate.py", STREETS + "--checkpoint {inputs}/panoptic_fpn.ckpt", RUN),
    "test_pan_secb": Job("pan_secb/test.py", STREETS + "--checkpoint {inputs}/pan_secb.ckpt", (*RUN, "gtFine/**/*")),
    "predict": Job(
        "scripts/predict.py",
        "--images {inputs}/images --instances {inputs}/solov2.pth --semantics {inputs}/efficientps_False.ckpt --output {output} "
        "--min-score 0.0 --device cpu",
        RUN,
    ),
    "evaluate": Job(
        "scripts/evaluate.py",
        "--truth {inputs}/streets/gtFine/cityscapes_panoptic_val.json --prediction {inputs}/prediction/panoptic.json "
        "--images {inputs}/streets/leftImg8bit/val --output {output}/scores.json --report {output}/report "
        "--picture {output}/typical.png",
        ("*",),
        goes_on=False,
    ),
    "crops": Job("pan_secb/generate_crops.py", "--data-root {inputs}/streets --output {output}", ("**/*",)),
    "import": Job(
        "scripts/import_weights.py",
        "{inputs}/b0.pth --for efficientps-b0 --output {output}/b0.safetensors",
        ("*",),
        goes_on=False,
    ),
}
"""Name -> job."""

MODULES = (
    "tests.systems",
    "training.command",
    "pan_secb.datamodule",
    "solov2.trainer",
    "data.drawn.snapshots",
    "data.drawn.streets",
)
MODULES += ("evaluation.report", "prediction.score", "efficientnet_pytorch")
"""What takes long to import, for the zygote; solov2 is the first of tests.systems, as it must be."""


def draw_inputs(folder: Path) -> None:
    """Draw two data sets and images, and write tiny checkpoints, dumps, crops and a prediction of them."""
    import numpy as np
    import torch
    from efficientnet_pytorch import EfficientNet

    from benchmarks.foreign_forms import write_class_maps, write_results
    from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
    from data.drawn.streets import StreetsSettings, ensure_streets
    from data.images import write_image
    from data.layouts.cityscapes import write_panoptic
    from data.layouts.find import open_data_set
    from data.videos import video_writer
    from pan_secb.crop_cutting import CropSettings, generate
    from prediction.models import load_predictor
    from prediction.run import predict_split
    from prediction.sources.truth import Truth
    from tests.label_exports import labelme
    from tests.systems import efficientps, pan_secb, panoptic_fpn, solov2_checkpoint

    torch.manual_seed(0)
    torch.set_num_threads(1)
    streets = folder / "streets"
    for name in ("streets", "bare"):
        ensure_streets(folder / name, StreetsSettings(128, 256, num_train=2, num_val=3))
    write_panoptic(streets, "val")
    ensure_snapshots(folder / "snapshots", SnapshotsSettings(num_train=3, num_val=3))
    for make in (panoptic_fpn, pan_secb):
        make(streets, folder)
    efficientps(streets, folder, has_head=False)
    torch.save(EfficientNet.from_name("efficientnet-b0", image_size=None).state_dict(), folder / "b0.pth")
    data_set = open_data_set(streets)
    solo = load_predictor(solov2_checkpoint(streets, folder))
    predict_split(data_set.split("val"), solo, folder / "dumps", ("instances",))
    predict_split(data_set.split("val"), Truth(data_set.split("val")), folder / "prediction")
    generate(data_set.split("train"), "train", folder / "crops" / "train", CropSettings(64))
    (folder / "foreign").mkdir()
    write_results(folder / "foreign" / "r.json", data_set.split("val"))
    write_class_maps(folder / "foreign" / "ids", data_set.split("val"))
    for k in range(4):
        labelme(folder / "labelme", f"image{k}", k)
    noise = np.random.default_rng(0)
    write_image(folder / "images" / "odd.png", noise.integers(0, 255, (67, 131, 3), dtype=np.uint8))
    with video_writer(folder / "images" / "drive.mp4", 5.0) as write:
        for _ in range(3):
            write(noise.integers(0, 255, (64, 96, 3), dtype=np.uint8))


if __name__ == "__main__":
    draw_inputs(Path(sys.argv[1]))
