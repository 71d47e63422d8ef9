"""Compile what a prediction needs before the first one: numba keeps the machine code beside the sources, for this machine.

    $ python -m prediction.compile_kernels

Without it the first prediction after an installation does the same and is as much slower. A made-up image is fused.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np

from data.images import write_image
from data.instance_dump import from_full_logits, full_masks, write_instances
from data.mask_pasting import to_instance_logits
from data.resizing import argmax_on_image, logits_on_image
from data.semantic_dump import SemanticLogits, write_semantic
from data.taxonomy import CITYSCAPES
from detection.matrix_nms import choose_masks
from fusion import solo_fusion
from fusion.embedding_clusters import EmbeddingMaps, fuse_embeddings
from fusion.settings import RULES

SIZE, STRIDE = (64, 128), 4


def compile_kernels() -> None:
    """Go once through every rule and file of a prediction."""
    logits = np.random.default_rng(0).normal(size=(CITYSCAPES.num_classes, SIZE[0] // STRIDE, SIZE[1] // STRIDE))
    logits = logits.astype(np.float32)
    about = {"image_id": "image", "taxonomy": CITYSCAPES, "producer": "compile_kernels"}
    train_ids, scores = CITYSCAPES.thing_ids[:2], [0.9, 0.8]
    instances = from_full_logits(logits[:2], train_ids, scores, size=SIZE, stride=STRIDE, **about)
    list(full_masks(instances))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "images" / "image.png", np.zeros((*SIZE, 3), dtype=np.uint8), "compile_kernels")
        write_instances(folder / "instances", instances)
        semantic = SemanticLogits("image", *SIZE, STRIDE, CITYSCAPES.name, "compile_kernels", logits)
        write_semantic(folder / "semantic", semantic)
        files = {"--images": "images", "--instances": "instances", "--semantics": "semantic"}
        given = [str(part) for flag, place in files.items() for part in (flag, folder / place)]
        for rule in RULES:
            options = [
                "--rule",
                rule,
                "--device",
                "cpu",
                "--output",
                str(folder / rule),
                "--keep",
                "panoptic",
                "overlay",
                "semantic",
            ]
            options += ["instances"] if rule != "argmax" else []
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                solo_fusion.run(solo_fusion.build_parser().parse_args([*given, *options]))
    for convention in ("torchvision", "detectron2"):
        boxes, masks = np.float32([[3, 4, 40, 30]] * 2), np.ones((2, 28, 28), dtype=np.float32)
        found = np.float32(scores), np.int64(train_ids), masks
        to_instance_logits(boxes, *found, convention=convention, size=SIZE, **about)
    candidates = np.float32(scores), np.int64([0, 0]), np.zeros(2, dtype=np.float32)
    nms = {"mask_thr": 0.5, "nms_pre": 10, "max_per_img": 5, "kernel": "gaussian", "sigma": 2.0, "filter_thr": 0.05}
    choose_masks(logits[:2], *candidates, **nms)
    argmax_on_image(logits, SIZE, SIZE, STRIDE)
    logits_on_image(logits, SIZE, SIZE, STRIDE, STRIDE // 2)
    seeds = np.full((len(CITYSCAPES.thing_ids), *SIZE), 0.9, dtype=np.float32)
    grid = np.stack(np.mgrid[: SIZE[0], : SIZE[1]]).astype(np.float32)
    semantic_map = np.zeros(SIZE, dtype=np.uint8)
    for axes in (1, 2):
        bandwidths = np.full((axes, *SIZE), 0.01, dtype=np.float32)
        fuse_embeddings(EmbeddingMaps("image", *SIZE, CITYSCAPES.name, grid, bandwidths, seeds, semantic_map), CITYSCAPES)


def main() -> None:
    """The command; see above."""
    started = time.perf_counter()
    compile_kernels()
    print(f"compiled in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
