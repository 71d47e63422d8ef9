"""scripts/import_weights.py: other projects' networks, built here, computed by ours through the file; bad input in one line."""

import hashlib
import json
import os
import pickle
import re
import runpy
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet as LitePackage
from efficientnet_pytorch import EfficientNet
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

import solov2  # noqa: F401, before mmdet

# isort: split
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.logging import HistoryBuffer
from mmengine.utils import get_installed_path
from torchvision.models import resnet18

from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from efficientps.network import EfficientPS, SemanticEfficientPS
from efficientps.official_weights import official_names
from efficientps.weights import sources
from panoptic_fpn.network import NetworkSettings, PanopticFPN
from panoptic_fpn.weights import sources as panoptic_fpn_sources
from runtime.files import InputError, write_json
from solov2.settings import load_config
from solov2.weights import build_network
from training.weights_file import load_weights_file, read_weights

REPOSITORY = Path(__file__).parents[2]
PARITY = REPOSITORY / "tests" / "parity"
SCRIPT = runpy.run_path(str(REPOSITORY / "scripts" / "import_weights.py"))
STREETS = f"solov2:{REPOSITORY}/configs/solov2/streets_r18.py"


@pytest.fixture
def import_weights(monkeypatch, capsys):
    """Run the command; return what it printed."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr("sys.argv", ["import_weights.py", *map(str, arguments)])
        SCRIPT["main"]()
        return capsys.readouterr().out

    return run


def scramble(network: nn.Module) -> None:
    """Trained-like norms: scales of both signs and statistics of some data."""
    generator = torch.Generator().manual_seed(0)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        size = norm.weight.shape
        norm.weight.data = (torch.rand(size, generator=generator) + 0.5) * torch.randn(size, generator=generator).sign()
        norm.bias.data = torch.randn(size, generator=generator)
        norm.running_mean = torch.randn(size, generator=generator)
        norm.running_var = torch.rand(size, generator=generator) + 0.5


@pytest.fixture(scope="module")
def classifier() -> EfficientNet:
    """EfficientNet-B0 of efficientnet_pytorch with random weights; without fixed padding, as the encoder."""
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-b0", image_size=None).eval()
    scramble(network)
    return network


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier's tensors under the names that timm gives them, derived from its architecture."""
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    repeats = (1, 2, 2, 3, 3, 4, 1)  # of B0's stages (Tan & Le, ICML 2019, table 1)
    places = [f"{stage}.{position}" for stage, count in enumerate(repeats) for position in range(count)]
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanding |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    renamed = {}
    for name, tensor in state.items():
        *block, layer, parameter = name.split(".")
        if block:
            layers = (plain if places[int(block[1])].startswith("0.") else expanding) | squeeze
            renamed[f"blocks.{places[int(block[1])]}.{layers[layer]}.{parameter}"] = tensor
        else:
            renamed[f"{ends[layer]}.{parameter}"] = tensor
    return renamed


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("family", ["efficientnet_pytorch", "timm"])
def test_an_imagenet_encoder_normalises_as_the_classifier_did(family, classifier, import_weights, tmp_path):
    state = classifier.state_dict()
    torch.save(state if family == "efficientnet_pytorch" else {"state_dict": timm_names(state)}, tmp_path / "b0.pth")
    printed = import_weights(tmp_path / "b0.pth", "--for", "efficientps-b0", "--output", tmp_path / "b0.safetensors")
    network = SemanticEfficientPS(19, "b0", fpn_channels=8).eval()
    encoder_size = sum(name.startswith("encoder.") for name in network.state_dict())
    assert f"matched: {encoder_size} of {encoder_size} tensors" in printed
    assert ("_blocks 64, _fc 2" if family == "efficientnet_pytorch" else "blocks 64, classifier 2") in printed
    assert f"{encoder_size} tensors of" in load_weights_file(network, tmp_path / "b0.safetensors")[0]

    # Squeeze-and-excitation and swish are gone: stage by stage, what both have, on the same input.
    ours, x = network.encoder.net, torch.randn(2, 3, 32, 64)
    theirs_stem, our_stem = classifier._bn0(classifier._conv_stem(x)), ours._conv_stem(x)
    for norm in (ours._bn0, *(m for block in ours._blocks for m in (block._bn1, block._bn2)), ours._bn1):
        norm.activated = False
    torch.testing.assert_close(ours._bn0(our_stem), theirs_stem, rtol=1e-4, atol=1e-4)
    for mine, other in zip(ours._blocks, classifier._blocks, strict=True):
        for conv, norm in (("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            x = torch.randn(2, getattr(mine, conv).in_channels, 8, 12)
            wanted = getattr(other, norm)(getattr(other, conv)(x))
            torch.testing.assert_close(getattr(mine, norm)(getattr(mine, conv)(x)), wanted, rtol=1e-4, atol=1e-4)
    x = torch.randn(2, 320, 2, 3)
    torch.testing.assert_close(ours._bn1(ours._conv_head(x)), classifier._bn1(classifier._conv_head(x)), rtol=1e-4, atol=1e-4)


def test_timms_names_are_those_of_the_official_backbone():
    rows = (line.split("\t") for line in (PARITY / "efficientps_official_keys.tsv").read_text().splitlines())
    wanted = {name.removeprefix("backbone."): shape for name, shape in rows if name.startswith("backbone.")}
    network = SemanticEfficientPS(19, "b5")
    names = sources(network)[2].names
    shapes = {their: "x".join(map(str, network.state_dict()[our].shape)) or "scalar" for our, their in names.items()}
    assert shapes == wanted


def mmdet_solov2() -> nn.Module:
    """mmdet's own solov2_r50_fpn_1x_coco with random weights."""
    register_all_modules()
    settings = get_config("mmdet::solov2/solov2_r50_fpn_1x_coco.py").model
    settings.backbone.init_cfg = None
    torch.manual_seed(0)
    network = MODELS.build(settings).eval()
    scramble(network)
    return network


def our_config(tmp_path: Path, num_classes: int) -> Path:
    """cityscapes_r50.py with the grids of COCO, on which mmdet's head can be compared."""
    path = tmp_path / f"ours_{num_classes}.py"
    path.write_text(
        f"_base_ = {str(REPOSITORY / 'configs/solov2/cityscapes_r50.py')!r}\n"
        f"model = dict(mask_head=dict(num_classes={num_classes}, num_grids=[40, 36, 24, 16, 12]))\n"
    )
    return path


@pytest.mark.parity
@torch.no_grad()
def test_mmdets_coco_solov2_gives_the_same_outputs_and_fewer_classes_leave_one_layer_out(import_weights, tmp_path):
    theirs = mmdet_solov2()
    history = HistoryBuffer()
    history.update(0.5)
    content = {"meta": {"epoch": 12}, "state_dict": theirs.state_dict(), "message_hub": {"log_scalars": {"train/loss": history}}}
    torch.save(content, tmp_path / "coco.pth")

    total, image = len(theirs.state_dict()), torch.randn(1, 3, 96, 128)
    for num_classes, num_left_out in ((80, 0), (8, 2)):
        config, output = our_config(tmp_path, num_classes), tmp_path / f"{num_classes}.safetensors"
        printed = import_weights(tmp_path / "coco.pth", "--for", f"solov2:{config}", "--output", output)
        ours = build_network(load_config(config).model, "a config").eval()
        summary, _ = load_weights_file(ours, output)
        assert f"matched: {total - num_left_out} of {total} tensors" in printed
        for line in (printed, summary):
            assert ("mask_head.conv_cls.weight, mask_head.conv_cls.bias" in line) == (num_left_out == 2)
        (kernels, classes, masks), wanted = (network(image, None, mode="tensor")[0] for network in (ours, theirs))
        pairs = [*zip(kernels, wanted[0], strict=True), (masks, wanted[2])]
        pairs += zip(classes, wanted[1], strict=True) if num_left_out == 0 else []
        assert all(torch.equal(found, expected) for found, expected in pairs)


@pytest.mark.parity
@torch.no_grad()
def test_a_torchvision_resnet_gives_the_same_features(import_weights, tmp_path):
    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    config = tmp_path / "r18.py"
    config.write_text(
        f"_base_ = {str(REPOSITORY / 'configs/solov2/streets_r18.py')!r}\n"
        "model = dict(backbone=dict(base_channels=64, stem_channels=64), neck=dict(in_channels=[64, 128, 256, 512]))\n"
    )
    printed = import_weights(tmp_path / "resnet18.pth", "--for", f"solov2:{config}", "--output", tmp_path / "r18.safetensors")
    assert "left out of the checkpoint: 2 (fc 2): fc.bias, fc.weight" in printed
    ours = build_network(load_config(config).model, "a config").eval()
    load_weights_file(ours, tmp_path / "r18.safetensors")
    x = image = torch.randn(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for layer, found in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), ours.backbone(image), strict=True):
        x = layer(x)
        torch.testing.assert_close(found, x)


def official_checkpoint(network: nn.Module) -> dict[str, Tensor]:
    """A network's random weights under the official names."""
    state = network.state_dict()
    return {theirs: state[ours].clone() for ours, theirs in official_names(network).items()}


def test_an_official_checkpoint_fills_the_semantic_model_and_names_what_it_leaves_out(import_weights, tmp_path):
    theirs = EfficientPS(19, list(CITYSCAPES.thing_ids), {"box_channels": 1024}, variant="b0", is_separable=False)
    checkpoint = official_checkpoint(theirs)
    torch.save({"meta": {"CLASSES": ("person",)}, "state_dict": checkpoint}, tmp_path / "official.pth")
    semantic = tmp_path / "semantic.safetensors"
    printed = import_weights(tmp_path / "official.pth", "--for", "efficientps-b0", "--output", semantic)
    num_left_out = sum(name.startswith(("rpn_head", "bbox_head", "mask_head")) for name in checkpoint)
    assert f"left out of the checkpoint: {num_left_out} (bbox_head 8, mask_head" in printed
    assert "missing, will stay as initialised: none" in printed
    ours = SemanticEfficientPS(19, "b0", is_separable=False)
    load_weights_file(ours, semantic)
    state = theirs.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    with pytest.raises(InputError, match="is_separable false"):
        load_weights_file(SemanticEfficientPS(19, "b0"), semantic)

    whole = tmp_path / "whole.safetensors"
    printed = import_weights(tmp_path / "official.pth", "--for", "efficientps-instances-b0", "--output", whole)
    assert "left out of the checkpoint: none" in printed
    header, tensors = read_weights(whole)
    assert header["source"] == "official EfficientPS"
    assert tensors.keys() == state.keys()


@pytest.mark.parity
@torch.no_grad()
def test_a_resnet_on_imagenet_starts_the_backbone_of_panoptic_fpn(import_weights, tmp_path):
    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    output = tmp_path / "r18.safetensors"
    printed = import_weights(tmp_path / "resnet18.pth", "--for", "panoptic-fpn-r18", "--output", output)
    assert "left out of the checkpoint: 2 (fc 2): fc.bias, fc.weight" in printed
    config = "configs/panoptic_fpn/coco_r50.yaml"
    command = f"python panoptic_fpn/train.py --config {config} --model.network.backbone resnet18 --model.weights {output}"
    assert printed.endswith(f"train with: {command}\n")
    ours = PanopticFPN(CITYSCAPES.is_thing.tolist(), NetworkSettings("resnet18", norm="bn")).eval()  # without a class layer
    load_weights_file(ours, output)
    x = image = torch.randn(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    found = ours.backbone.levels.body(image).values()
    for layer, features in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), found, strict=True):
        x = layer(x)
        assert torch.equal(features, x)


def detectron2_arrays() -> dict[str, np.ndarray]:
    """panoptic_fpn_R_50 with random weights, by name; its orders are tests/panoptic_fpn/test_weights.py's."""
    network = PanopticFPN(COCO_PANOPTIC.is_thing.tolist(), NetworkSettings("resnet50"))
    (source,) = (s for s in panoptic_fpn_sources(network, COCO_PANOPTIC) if "detectron2" in s.name)
    arrays = {theirs: network.state_dict()[ours].numpy() for ours, theirs in source.names.items()}
    for name, count in (("box_predictor.bbox_pred", 4), ("mask_head.predictor", 1)):  # none of background
        for parameter in ("weight", "bias"):
            arrays[f"roi_heads.{name}.{parameter}"] = arrays[f"roi_heads.{name}.{parameter}"][count:]
    return arrays


def test_a_file_of_detectron2s_zoo_is_read_for_classes_of_ones_own(import_weights, tmp_path, fails_in_one_line):
    arrays = detectron2_arrays()
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    classes = [{"id": 1, "name": "shelf", "isthing": 0, "color": [1, 2, 3]}, {"id": 2, "name": "box", "isthing": 1}]
    write_json(tmp_path / "own.json", {"categories": classes})
    output = tmp_path / "out.safetensors"
    printed = import_weights(tmp_path / "zoo.pkl", "--for", f"panoptic-fpn-r50:{tmp_path}/own.json", "--output", output)
    assert "is detectron2 Panoptic FPN" in printed
    assert f"matched: {len(arrays) - 8} of {len(arrays)} tensors" in printed
    assert "left out of the checkpoint: 8 (roi_heads 6, sem_seg_head 2)" in printed
    assert "--model.network.backbone resnet50 --model.network.has_stride_in_1x1 true --model.weights" in printed
    assert read_weights(output)[0]["network"].endswith("own.json with has_stride_in_1x1 true")
    own = PanopticFPN([False, True], NetworkSettings("resnet50", has_stride_in_1x1=True))
    assert f"{len(arrays) - 8} tensors of detectron2 Panoptic FPN loaded" in load_weights_file(own, output)[0]

    arrays["sem_seg_head.p2.0.weight"] = Code(tmp_path / "executed")
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"model": arrays}))
    arguments = (tmp_path / "code.pkl", "--for", "panoptic-fpn-r50", "--output", tmp_path / "none.safetensors")
    assert "it names posix.mkdir" in fails_in_one_line(SCRIPT["main"], *arguments)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "none.safetensors").exists()


def test_the_settings_that_weights_want_are_settings_of_the_training_command(run_command):
    network = PanopticFPN(COCO_PANOPTIC.is_thing.tolist(), NetworkSettings("resnet50"))
    flags = {k: v for source in panoptic_fpn_sources(network, COCO_PANOPTIC) for k, v in source.settings.items()}
    assert len(flags) == 3
    arguments = [a for name, value in flags.items() for a in (f"--model.network.{name}", value)]
    config = REPOSITORY / "configs" / "panoptic_fpn" / "coco_r50.yaml"
    printed = run_command("panoptic_fpn/train.py", "--config", config, *arguments, "--print_config").stdout
    for name, value in flags.items():
        assert f"{name.rpartition('.')[2]}: {value}\n" in printed


def test_the_same_checkpoint_gives_the_same_bytes(classifier, import_weights, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / "b0.pth")
    for name in ("first", "second"):
        import_weights(tmp_path / "b0.pth", "--for", "efficientps-b0", "--output", tmp_path / f"{name}.safetensors")
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    with safe_open(tmp_path / "first.safetensors", "pt") as file:
        header = json.loads(file.metadata()["header"])
    assert (header["source"], header["file"], header["network"]) == ("efficientnet_pytorch", "b0.pth", "efficientps-b0")


def test_list_names_every_source(import_weights):
    printed = import_weights("--list")
    for name in (
        "official EfficientPS",
        "efficientnet_pytorch",
        "timm",
        "mmdet",
        "torchvision",
        "detectron2",
        "panoptic-fpn-r50",
    ):
        assert name in printed


class Code:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def write_bad(kind: str, folder: Path, state: dict[str, Tensor]) -> Path:
    """A checkpoint that must be refused."""
    path = folder / f"{kind}.pth"
    nan = {name: tensor.clone() for name, tensor in state.items()}
    nan["_conv_stem.weight"][0] = torch.nan
    wide = dict(state) | {"_conv_head.weight": torch.zeros(1408, 352, 1, 1)}
    contents = {
        "other": {"encoder.layer.0.weight": torch.zeros(3)},
        "half": {name: tensor for name, tensor in state.items() if not name.startswith("_blocks.1")},
        "wider": wide,
        "code": {"state_dict": state, "epoch": Code(folder / "executed")},
        "nan": nan,
        "list": [1, 2],
    }
    if kind in contents:
        torch.save(contents[kind], path)
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "old pickle":
        path.write_bytes(pickle.dumps(Code(folder / "executed")))
    elif kind == "truncated":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "truncated safetensors":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
        path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such checkpoint"),
        ("other", "is needed for efficientps-b0, but it holds 'encoder.layer.0.weight'"),
        ("half", "checkpoint of another model: it lacks"),
        ("wider", r"_conv_head.weight is \(1408, 352, 1, 1\), but \(1280, 320, 1, 1\) was needed"),
        ("code", "unsupported GLOBAL posix.mkdir"),
        ("old pickle", "broken checkpoint"),
        ("nan", "NaN or infinite weights in _conv_stem.weight"),
        ("list", "holds no tensors"),
        ("empty", r"broken checkpoint \(EOFError\)"),
        ("text", "broken checkpoint"),
        ("truncated", "broken checkpoint"),
        ("truncated safetensors", "broken safetensors"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(kind, message, classifier, fails_in_one_line, tmp_path):
    path = write_bad(kind, tmp_path, classifier.state_dict())
    before = set(tmp_path.iterdir())
    arguments = (path, "--for", "efficientps-b0", "--output", tmp_path / "out.safetensors")
    line = fails_in_one_line(SCRIPT["main"], *arguments)
    assert re.search(message, line), line
    assert str(path) in line
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--for", "efficientps-b9"), "no such network"),
        (("--for", "resnet-b0"), "no such network"),
        (("--for", "solov2:none.py"), "no such config"),
        (("--for", STREETS), "mmdet SOLOv2 or torchvision ResNet"),
        (("--for", "panoptic-fpn-r152"), "no such network"),
        (("--for", "panoptic-fpn-r50:nowhere"), "no such classes; give cityscapes"),
        (("--for", "panoptic-fpn-r50:none.json"), "none.json"),
        (("--for", "efficientps-b0:cityscapes"), "no such network"),
        (("--for", "panoptic-fpn-r50"), "torchvision Mask R-CNN or torchvision ResNet is needed for panoptic-fpn-r50"),
        ((), "--for and --output are needed"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message, classifier, fails_in_one_line, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / "b0.pth")
    line = fails_in_one_line(SCRIPT["main"], tmp_path / "b0.pth", "--output", tmp_path / "o.safetensors", *arguments)
    assert message in line
    assert not (tmp_path / "o.safetensors").exists()


def test_a_weights_file_is_checked_before_it_is_loaded(tmp_path):
    network = nn.Conv2d(2, 3, 1)
    save_file({"weight": torch.zeros(3, 2, 1, 1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678{")
    for name, message in (("foreign", "no weights file"), ("broken", "no whole weights file"), ("none", "no such weights file")):
        with pytest.raises(InputError, match=message):
            load_weights_file(network, tmp_path / f"{name}.safetensors")


def serve(folder: Path) -> ThreadingHTTPServer:
    """Files of a folder on the loopback."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return http


def test_a_published_checkpoint_is_fetched_checked_and_made_a_weights_file(import_weights, tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    digits = hashlib.sha256((tmp_path / "resnet18.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "resnet18.pth").rename(tmp_path / f"resnet18-{digits}.pth")
    http = serve(tmp_path)
    published = SCRIPT["PUBLISHED"]["torchvision-resnet18"]
    address = f"http://127.0.0.1:{http.server_port}/resnet18-{digits}.pth"
    monkeypatch.setitem(SCRIPT["PUBLISHED"], published.name, replace(published, address=address))
    monkeypatch.setitem(SCRIPT["find_published"].__globals__, "WEIGHTS", tmp_path / "weights")
    printed = import_weights("--download", published.name)
    assert f"wrote {tmp_path}/weights/downloads/resnet18-{digits}.pth, BSD-3-Clause, from {address}" in printed
    assert f"wrote {tmp_path}/weights/torchvision-resnet18.safetensors; train with:" in printed
    http.shutdown()
    http.server_close()
    assert "was there: " in import_weights("--download", published.name)


def test_each_published_address_names_its_digest_and_its_file_once():
    published = SCRIPT["PUBLISHED"]
    for name, entry in published.items():
        assert name == entry.name
        assert re.fullmatch("[0-9a-f]{8}", entry.sha256)
        assert entry.address.startswith("https://")
    assert len({entry.address for entry in published.values()}) == len(published)


@pytest.mark.parity
def test_addresses_are_those_of_the_installed_libraries():
    weights = [models.ResNet18_Weights, models.ResNet34_Weights, models.ResNet50_Weights, models.ResNet101_Weights]
    listed = {w.IMAGENET1K_V1.url for w in weights} | {models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.url}
    for folder in ("solov2", "panoptic_fpn"):
        metafile = Path(get_installed_path("mmdet"), ".mim", "configs", folder, "metafile.yml")
        listed |= set(re.findall(r"Weights: (\S+)", metafile.read_text()))
    ours = {entry.address for entry in SCRIPT["PUBLISHED"].values() if not entry.listed_in.startswith("timm")}
    assert ours <= listed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--download", "resnet50"), "no such weights; give one of torchvision-resnet50"),
        (("a.pth", "--download", "tf_efficientnet_b0"), "a.pth and --download tf_efficientnet_b0 are given"),
    ],
)
def test_downloads_that_cannot_be_are_refused(arguments, words, fails_in_one_line):
    assert words in fails_in_one_line(SCRIPT["main"], *arguments)


def lite_file(folder: Path) -> Path:
    """EfficientNet-Lite0 as its package has it."""
    torch.manual_seed(0)
    network = LitePackage.from_name("efficientnet-lite0")
    scramble(network)
    torch.save(network.state_dict(), folder / "lite0.pth")
    return folder / "lite0.pth"


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("target", ["efficientps-lite0", "efficientps-instances-lite0", "panoptic-fpn-lite0", "solov2"])
def test_a_lite_file_starts_a_lite_backbone(target, import_weights, tmp_path):
    network = f"solov2:{REPOSITORY}/configs/solov2/streets_lite0.py" if target == "solov2" else target
    printed = import_weights(lite_file(tmp_path), "--for", network, "--output", tmp_path / "w.safetensors")
    assert "lite0.pth is EfficientNet-Lite" in printed
    assert "left out of the checkpoint: 2 (_fc 2)" in printed
    _, tensors = read_weights(tmp_path / "w.safetensors")
    found = {name.partition("lite.")[2]: tensor for name, tensor in tensors.items()}
    expected = {k: v for k, v in torch.load(tmp_path / "lite0.pth").items() if not k.startswith("_fc.")}
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_lite_file_is_not_taken_for_an_efficientnet_nor_the_reverse(classifier, tmp_path, fails_in_one_line):
    line = fails_in_one_line(
        SCRIPT["main"], lite_file(tmp_path), "--for", "efficientps-b0", "--output", tmp_path / "w.safetensors"
    )
    assert "lite0.pth: it is an EfficientNet-Lite, without squeeze-and-excitation" in line
    assert "give a --for of lite0, lite1 or lite2" in line
    torch.save(classifier.state_dict(), tmp_path / "b0.pth")
    arguments = (tmp_path / "b0.pth", "--for", "efficientps-lite0", "--output", tmp_path / "w.safetensors")
    assert "b0.pth: it is an EfficientNet, with squeeze" in fails_in_one_line(SCRIPT["main"], *arguments)


def test_weights_of_an_efficientnet_never_load_into_a_lite(classifier, import_weights, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / "b0.pth")
    printed = import_weights(tmp_path / "b0.pth", "--for", "efficientps-b0", "--output", tmp_path / "w.safetensors")
    assert "train with: python efficientps/train_net.py --model.variant b0 --model.weights" in printed
    with pytest.raises(InputError, match="is not in this network; the file is for efficientps-b0"):
        load_weights_file(SemanticEfficientPS(19, "lite0"), tmp_path / "w.safetensors")
    with pytest.raises(RuntimeError, match=r"encoder\.lite"):
        SemanticEfficientPS(19, "lite0").load_state_dict(SemanticEfficientPS(19, "b0").state_dict())


def test_a_name_of_the_output_is_looked_at_before_anything_is_fetched(fails_in_one_line):
    arguments = ("--download", "tf_efficientnet_b7", "--output", "b7.pth")
    assert "b7.pth: must end in .safetensors" in fails_in_one_line(SCRIPT["main"], *arguments)


def test_an_interrupted_download_says_what_it_has_kept(tmp_path):
    describe = SCRIPT["describe_unfinished"]
    assert "before anything was fetched" in describe(tmp_path / "a.pth")
    (tmp_path / "a.pth.download").write_bytes(bytes(1_500_000))
    assert describe(tmp_path / "a.pth").startswith(f"1.5 MB are kept in {tmp_path}/a.pth.download; run the same command again")


def test_another_target_than_the_listed_one_needs_a_name_of_its_own(fails_in_one_line):
    arguments = ("--download", "torchvision-resnet50", "--for", STREETS)
    assert "is listed for; give --output, too" in fails_in_one_line(SCRIPT["main"], *arguments)


def test_the_command_to_train_with_has_an_instance_head_where_the_weights_have_one(import_weights, classifier, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / "b0.pth")
    printed = import_weights(tmp_path / "b0.pth", "--for", "efficientps-instances-b0", "--output", tmp_path / "w.safetensors")
    assert "train_net.py --config configs/efficientps/cityscapes_b5_maskrcnn.yaml --model.variant b0" in printed


def test_a_network_is_looked_up_before_anything_is_fetched(tmp_path, fails_in_one_line):
    arguments = ("--download", "torchvision-resnet50", "--output", tmp_path / "w.safetensors")
    assert "--for resnet-b0: no such network" in fails_in_one_line(SCRIPT["main"], *arguments, "--for", "resnet-b0")
    assert "nowhere.py" in fails_in_one_line(SCRIPT["main"], *arguments, "--for", "solov2:nowhere.py")
