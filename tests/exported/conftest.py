"""Exported models: one that is drawn by hand in a few operators, and the tiny networks of tests/systems.py."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from data.taxonomy import Category, Taxonomy
from prediction.exported.model_folder import FORMAT, MODEL, VERSION, classes_digest, write_settings
from prediction.exported.session import CLASSES_KEY

COLORS = Taxonomy("colors", tuple(Category(n, k + 1, k == 2, (0, 0, 0)) for k, n in enumerate(("red", "green", "blue"))))
PRODUCER = "by-hand-1"


def settings_by_hand(taxonomy: Taxonomy = COLORS, **others) -> dict:
    """The YAML of a model that sees images as they are."""
    form = {"size": None, "multiple": 4, "stride": 4, "mean": [0, 0, 0], "std": [1, 1, 1]}
    form["resize"] = {"rule": "shorter_side", "shorter_side": None, "longer_side": None, "trained_sides": None}
    about = {"format": FORMAT, "version": VERSION, "system": "efficientps", "producer": PRODUCER, "taxonomy": taxonomy.name}
    about |= {"precision": "float32", "input": form, "min_score": None, "settings": {"logit_stride": 4}}
    return about | {"categories": taxonomy.to_coco_categories()} | others


def network_by_hand(path: Path, output: str = "semantic_logits", producer: str = PRODUCER) -> Path:
    """A semantic model whose logit of a class is the mean of its colour in each cell of 4x4 pixels."""
    from onnx import TensorProto, helper, save

    pool = helper.make_node("AveragePool", ["image"], [output], kernel_shape=[4, 4], strides=[4, 4])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3, "rows", "columns"])
    model = helper.make_model(
        helper.make_graph([pool], "colors", [image], [logits]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    helper.set_model_props(model, {"producer": producer, CLASSES_KEY: classes_digest("efficientps", COLORS)})
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return path


@pytest.fixture
def by_hand(tmp_path) -> Callable[..., Path]:
    """Write the model; arguments are those that its YAML is to have otherwise."""
    pytest.importorskip("onnxruntime", reason="the extra runtime is not installed")

    def write(**others) -> Path:
        folder = tmp_path / "model"
        network_by_hand(folder / MODEL)
        write_settings(folder, settings_by_hand(**others))
        return folder

    return write


@pytest.fixture(scope="session")
def exported(tmp_path_factory, streets) -> Callable[[str], tuple[Path, Path]]:
    """The checkpoint and the exported folder of a tiny system, by a function's name in tests/systems.py; each is made once."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    root, made = tmp_path_factory.mktemp("exported"), {}

    def export(name: str, is_half: bool = False) -> tuple[Path, Path]:
        if (name, is_half) not in made:
            import torch

            from prediction import onnx_export
            from prediction.models import load_predictor
            from tests import systems

            torch.manual_seed(0)
            checkpoint = MAKERS[name](systems)(streets, root / "checkpoints")
            if name in ("efficientps", "panoptic_fpn"):
                spread_scores(checkpoint, sorted((streets / "leftImg8bit").rglob("*.png"))[:2])
            predictor = load_predictor(checkpoint)
            of = import_module(f"{type(predictor).__module__.partition('.')[0]}.export").export_of
            folder = onnx_export.export(of(predictor), root / f"{name}-{is_half}", is_half=is_half)
            made[name, is_half] = checkpoint, folder.path
        return made[name, is_half]

    return export


def spread_scores(checkpoint: Path, images: list[Path]) -> None:
    """Give a random network's norms the statistics of images, and its detections scores that differ by more than rounding."""
    import torch

    from data.images import read_image
    from prediction.models import load_predictor

    predictor = load_predictor(checkpoint)
    network = predictor.network
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 0.5
    network.train()
    with torch.no_grad():
        for path in images * 3:
            network(predictor.network_input.apply(read_image(path), torch.device("cpu")).tensor)
        head = network.instance_head
        head.rpn.head.cls_logits.weight *= 30
        head.roi.box_predictor.cls_score.weight *= 30
        head.roi.box_predictor.cls_score.bias[0] -= 3  # less is background
        head.roi.mask_predictor.mask_fcn_logits.weight *= 30
        head.roi.mask_predictor.mask_fcn_logits.bias += 0.1  # masks have pixels
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save(content, checkpoint)


MAKERS = {
    "solov2": lambda systems: systems.solov2_checkpoint,
    "semantics": lambda systems: lambda root, folder: systems.efficientps(root, folder, has_head=False),
    "efficientps": lambda systems: systems.efficientps,
    "panoptic_fpn": lambda systems: systems.panoptic_fpn,
    "pan_secb": lambda systems: systems.pan_secb,
}
