"""Models of other libraries as halves: the same classes, with random weights, against the libraries' own post-processing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
import yaml

from data.class_matching import ForeignClasses, joint_taxonomy
from data.dump_file import grid_size
from data.layouts.find import open_data_set
from data.layouts.image_files import ImageFiles
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from prediction.fused import FusedPredictor, LogitRule
from prediction.run import predict_split
from prediction.sources import onnx_model
from prediction.sources.find import Halves, HalvesSettings
from prediction.sources.live import LOWEST_SCORE, LiveModel
from runtime.files import InputError

SIZE = (96, 160)
IMAGE = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
TRAIN_IDS = [(k + 13) % 19 for k in range(19)]
"""Of the models' classes, which are Cityscapes' in another order."""
CITY_NAMES = {k: CITYSCAPES.categories[train_id].name for k, train_id in enumerate(TRAIN_IDS)}


@pytest.fixture(scope="module")
def split(streets):
    return open_data_set(streets).split()


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the extra `hf` is not installed")


def labels(names: dict[int, str]) -> dict:
    return {"id2label": names, "label2id": {name: k for k, name in names.items()}}


def swin(transformers):
    sizes = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 96}
    return transformers.SwinConfig(**sizes, out_features=["stage1", "stage2", "stage3", "stage4"])


def decided(network: torch.nn.Module) -> torch.nn.Module:
    """The network with larger weights in its class layer, so that each query is sure of one class, as trained ones are."""
    for name, weight in network.named_parameters():
        if name.endswith(("class_predictor.weight", "class_embed.weight")):
            weight.data *= 50
        if name.endswith(("class_predictor.bias", "class_embed.bias")):
            weight.data[0], weight.data[-1] = 30, -50  # a car; no object
    return network


def segformer(t, folder: Path) -> None:
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 1, 1]}
    config = t.SegformerConfig(**sizes, decoder_hidden_size=16, **labels(CITY_NAMES))
    t.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    t.SegformerImageProcessor(size={"height": 64, "width": 96}).save_pretrained(folder)


def maskformer(t, folder: Path) -> None:
    decoder = t.DetrConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=20)
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32, "use_auxiliary_loss": False}
    config = t.MaskFormerConfig(backbone_config=swin(t), decoder_config=decoder, **sizes, **labels(CITY_NAMES))
    decided(t.MaskFormerForInstanceSegmentation(config)).save_pretrained(folder)
    t.MaskFormerImageProcessor(size={"shortest_edge": 80, "longest_edge": 160}, size_divisor=32).save_pretrained(folder)


def mask2former(t, folder: Path) -> None:
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    counts = {"num_queries": 20, "decoder_layers": 2, "encoder_layers": 1, "num_attention_heads": 2}
    config = t.Mask2FormerConfig(backbone_config=swin(t), **sizes, **counts, **labels(CITY_NAMES))
    decided(t.Mask2FormerForUniversalSegmentation(config)).save_pretrained(folder)
    t.Mask2FormerImageProcessor(size={"height": 96, "width": 160}).save_pretrained(folder)


def oneformer(t, folder: Path) -> None:
    sizes = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    sizes |= {"query_dec_layers": 1, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 20}
    text = {"width": 16, "num_layers": 1, "context_length": 16, "vocab_size": 300, "proj_layers": 1, "n_ctx": 4}
    sizes |= {f"text_encoder_{name}": value for name, value in text.items()} | {"task_seq_len": 16, "max_seq_len": 16}
    config = t.OneFormerConfig(backbone_config=swin(t), **sizes, **labels(CITY_NAMES))
    decided(t.OneFormerForUniversalSegmentation(config)).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = t.CLIPTokenizer(vocab={word: k for k, word in enumerate(words)}, merges=[])
    classes = {str(k): {"name": name, "isthing": 1} for k, name in CITY_NAMES.items()}
    (folder / "classes.json").write_text(json.dumps(classes))
    about = {"class_info_file": "classes.json", "repo_path": str(folder), "num_text": 4}
    images = t.OneFormerImageProcessor(size={"height": 96, "width": 160}, **about)
    t.OneFormerProcessor(images, tokenizer, max_seq_length=16, task_seq_length=16).save_pretrained(folder)


def eomt(t, folder: Path, *, splits: bool = False) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 96, "patch_size": 16}
    config = t.EomtConfig(**sizes, num_blocks=2, num_queries=20, num_upscale_blocks=1, **labels(CITY_NAMES))
    decided(t.EomtForUniversalSegmentation(config)).save_pretrained(folder)
    sides = {"shortest_edge": 96} if splits else {"shortest_edge": 96, "longest_edge": 96}
    t.EomtImageProcessor(size=sides, do_split_image=splits, do_pad=not splits).save_pretrained(folder)


def eomt_in_windows(t, folder: Path) -> None:
    eomt(t, folder, splits=True)


MODELS = {
    "SegFormer": segformer,
    "MaskFormer": maskformer,
    "Mask2Former": mask2former,
    "OneFormer": oneformer,
    "EoMT": eomt,
    "EoMT in windows": eomt_in_windows,
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, transformers, tmp_path_factory):
    """(name, folder) of a saved model with random weights."""
    folder = tmp_path_factory.mktemp("hf")
    torch.manual_seed(0)
    MODELS[request.param](transformers, folder)
    return request.param, folder


def outputs_of(transformers, folder: Path, task: str):
    """The library's own processor and outputs for IMAGE."""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    if architecture.startswith("OneFormer"):
        processor = transformers.AutoProcessor.from_pretrained(folder)
        given = processor(images=IMAGE, task_inputs=[task], return_tensors="pt")
    else:
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        given = processor(images=IMAGE, return_tensors="pt")
    with torch.inference_mode():
        network = getattr(transformers, architecture).from_pretrained(folder).eval()
        return processor, network(**dict(given))


def open_half(split, half: str, name: str):
    given = {"instances": "none", "semantics": "truth"} | {half: name}
    instances, semantics = Halves(split, given["instances"], given["semantics"], HalvesSettings()).find()
    return instances if half == "instances" else semantics


@pytest.mark.parity
def test_semantics_are_those_of_the_librarys_post_processing(model, transformers, split):
    name, folder = model
    processor, outputs = outputs_of(transformers, folder, "semantic")
    found = open_half(split, "semantics", f"hf:{folder}").predict("a", IMAGE).semantic
    grid = grid_size(*SIZE, 4)
    assert found.logits.shape == (19, *grid)
    if name == "EoMT":  # its function for semantics keeps the padding; that for panoptic maps takes it off
        masks = F.interpolate(outputs.masks_queries_logits, (96, 96), mode="bilinear")
        masks = F.interpolate(processor.unpad_image(masks, [SIZE], processor.size)[0][None], grid, mode="bilinear")[0]
        shares = outputs.class_queries_logits[0].softmax(-1)[:, :-1]
        theirs = torch.einsum("qc,qhw->chw", shares, masks.sigmoid()).argmax(0)
    else:
        sizes = [SIZE if "windows" in name else grid]
        theirs = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0]
    theirs = torch.tensor(TRAIN_IDS)[theirs]
    if "windows" in name:
        ours = F.interpolate(torch.from_numpy(found.logits)[None], SIZE, mode="bilinear")[0].argmax(0)
    else:
        ours = torch.from_numpy(found.logits).argmax(0)
    # The library brings Mask2Former's to 384x384 first, and adds up before it resizes.
    assert (ours == theirs).float().mean() > (0.999 if name == "SegFormer" else 0.9)


@pytest.mark.parity
def test_instances_are_those_of_the_librarys_post_processing(model, transformers, split):
    name, folder = model
    if name in ("SegFormer", "EoMT in windows"):
        words = "tells no objects apart" if name == "SegFormer" else "in windows, which cut objects apart"
        with pytest.raises(InputError, match=words):
            open_half(split, "instances", f"hf:{folder}").predict("a", IMAGE)
        return
    processor, outputs = outputs_of(transformers, folder, "instance")
    things = [k for k, is_thing in enumerate(CITYSCAPES.is_thing) if is_thing]
    shares, best = outputs.class_queries_logits[0].softmax(-1)[:, :-1].max(-1)
    found = open_half(split, "instances", f"hf:{folder}").predict("a", IMAGE).instances
    masks = F.interpolate(outputs.masks_queries_logits, grid_size(*SIZE, 4), mode="bilinear")[0]
    expected = [
        (TRAIN_IDS[label], float(share * mask[mask > 0].sigmoid().mean()))
        for share, label, mask in zip(shares, best, masks)
        if TRAIN_IDS[label] in things and share >= LOWEST_SCORE and (mask > 0).any()
    ]
    assert len(found) > 0
    if name != "EoMT":  # which is padded here: the mean of its masks is another
        assert sorted(found.train_ids.tolist()) == sorted(label for label, _ in expected)
        np.testing.assert_allclose(sorted(found.scores), sorted(score for _, score in expected), atol=0.01)
    threshold = float(np.sort(found.scores)[0]) * 0.9
    theirs = processor.post_process_instance_segmentation(outputs, threshold=threshold, target_sizes=[SIZE])[0]
    scored = [(TRAIN_IDS[info["label_id"]], round(info["score"], 1)) for info in theirs["segments_info"]]
    scores = {(train_id, score) for train_id, score in scored if train_id in things}
    assert scores <= {(int(k), round(float(v) + d, 1)) for k, v in zip(found.train_ids, found.scores) for d in (-0.05, 0, 0.05)}


def test_one_model_of_both_halves_runs_once_an_image(transformers, split, tmp_path, monkeypatch):
    torch.manual_seed(0)
    mask2former(transformers, tmp_path)
    both = Halves(split, f"hf:{tmp_path}", f"hf:{tmp_path}", HalvesSettings()).find()
    network, calls = both[0].source.model, []
    assert network is both[1].source.model
    run = type(network).run
    monkeypatch.setattr(type(network), "run", lambda self, image: calls.append(1) or run(self, image))
    fused = FusedPredictor(*both, LogitRule())
    image = split.image(0)
    fused.predict(split.image_id(0), image)
    assert len(calls) == 1
    assert fused.fingerprint("a") == fused.fingerprint("b")


def test_two_models_of_other_classes_are_joined_for_images_without_truth(transformers, tmp_path):
    for name, make in (("s", segformer), ("m", mask2former)):
        torch.manual_seed(0)
        make(transformers, tmp_path / name)
    (tmp_path / "images").mkdir()
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "images/a.png")
    halves = Halves(ImageFiles(tmp_path / "images"), f"hf:{tmp_path}/m", f"hf:{tmp_path}/s", HalvesSettings())
    fused = FusedPredictor(*halves.find(), LogitRule())
    assert fused.taxonomy is CITYSCAPES
    run = predict_split(halves.split, fused, tmp_path / "run", ("panoptic", "instances", "semantic"))
    assert run.panoptic("a").segment_ids.shape == SIZE


def test_classes_between_two_models_are_the_semantics_and_things_what_the_instances_know():
    semantics = ForeignClasses("s", {0: "floor", 1: "Dining_Table", 2: "cat"}, "places")
    taxonomy = joint_taxonomy(semantics, ForeignClasses("i", {1: "dining table", 2: "dog", 3: "cat"}, "places"))
    assert [(c.dataset_id, c.name, c.is_thing) for c in taxonomy.categories] == [
        (1, "floor", False), (2, "Dining_Table", True), (3, "cat", True),
    ]  # fmt: skip
    known = ForeignClasses("s", {k: c.name for k, c in enumerate(COCO_PANOPTIC.categories)}, "places")
    assert joint_taxonomy(known, None) is COCO_PANOPTIC
    with pytest.raises(InputError, match="none of its classes, floor, Dining_Table, cat, is one of i, dog"):
        joint_taxonomy(semantics, ForeignClasses("i", {1: "dog"}, "places"))
    with pytest.raises(InputError, match="no names"):
        joint_taxonomy(ForeignClasses("s", {0: None}, "places"), None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"123"), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "cannot be loaded"),
    ],
)
def test_a_broken_model_is_one_line(damage, words, transformers, split, tmp_path):
    segformer(transformers, tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        open_half(split, "semantics", f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_model_without_masks_is_refused(transformers, split, tmp_path):
    transformers.ResNetForImageClassification(transformers.ResNetConfig(hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(
        tmp_path
    )
    with pytest.raises(InputError, match="ResNetForImageClassification, which gives no masks"):
        open_half(split, "semantics", f"hf:{tmp_path}")


@pytest.mark.parity
def test_torchvisions_mask_rcnn_gives_its_own_masks(split, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=91).eval()
    torch.save(network.state_dict(), tmp_path / "m.pth")
    halves = Halves(
        split,
        f"torchvision:maskrcnn_resnet50_fpn@{tmp_path}/m.pth",
        "truth",
        HalvesSettings(instances_classes="coco-to-cityscapes"),
    )
    instances, _ = halves.find()
    source = instances.source
    monkey = {"masks": torch.zeros(2, 1, *SIZE), "scores": torch.tensor([0.9, 0.01]), "labels": torch.tensor([3, 1])}
    monkey["masks"][0, 0, 10:20, 30:60] = 0.75
    source.model.network = lambda images: [monkey]
    found = instances.predict("a", IMAGE).instances
    assert [CITYSCAPES.categories[k].name for k in found.train_ids] == ["car"]
    assert found.boxes.tolist() == [[30, 10, 60, 20]]
    np.testing.assert_allclose(found.crops[0].astype(np.float32)[1:-1, 1:-1], np.log(3), atol=1e-3)
    assert found.crops[0][0, 0] < -10


@pytest.mark.parity
def test_torchvisions_semantics_are_its_logits_without_the_background(split, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=21
    ).eval()
    torch.save(network.state_dict(), tmp_path / "m.pth")
    halves = Halves(
        split, "none", f"torchvision:lraspp_mobilenet_v3_large@{tmp_path}/m.pth", HalvesSettings(semantics_classes="names")
    )
    _, semantics = halves.find()
    with torch.inference_mode():
        transform = torchvision.models.get_model_weights("lraspp_mobilenet_v3_large").DEFAULT.transforms()
        theirs = network(transform(torch.from_numpy(IMAGE).permute(2, 0, 1))[None])["out"]
    theirs = F.interpolate(theirs, grid_size(*SIZE, 4), mode="bilinear")[0]
    found = semantics.predict("a", IMAGE).semantic.logits
    person = next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == "person")
    np.testing.assert_allclose(found[person], theirs[15], atol=1e-5)
    assert any("16 of 20 classes are left out" in text or "classes are left out" in text for text in semantics.notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:maskrcnn", "no such detection model with masks; give one of maskrcnn_resnet50_fpn"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no such detection model with masks"),
        ("torchvision:maskrcnn_resnet50_fpn@/nowhere.pth", "no such checkpoint"),
        ("onnx:/nowhere.onnx", "no such file"),
        ("hf:/nowhere/at/all", "cannot be loaded"),
    ],
)
def test_models_that_are_not_there_are_refused_in_one_line(name, words, split, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=words) as caught:
        open_half(split, "instances", name)
    assert "\n" not in str(caught.value)


class TinyNetwork(torch.nn.Module):
    """Classes from pixels: channel k is brightest where red is near k / 3; two objects, one of them where green is."""

    def forward(self, image):
        red = F.avg_pool2d(image[:, :1], 4)
        semantic = torch.cat([-((red - k / 3) ** 2) * 20 for k in range(4)], 1)
        masks = torch.stack([image[0, 1] - 0.5, 0.25 - image[0, 2]])
        return semantic, masks, torch.tensor([0.9, 0.4]), torch.tensor([1, 3])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    names = ["semantic", "masks", "scores", "labels"]
    axes = {"image": {2: "h", 3: "w"}, "semantic": {2: "a", 3: "b"}, "masks": {1: "h", 2: "w"}}
    torch.onnx.export(
        TinyNetwork(),
        (torch.rand(1, 3, 64, 96),),
        path,
        input_names=["image"],
        output_names=names,
        dynamic_axes=axes,
        dynamo=False,
    )
    about = {
        "classes": ["road", "car", None, "person"],
        "input": {"multiple": 32, "std": 255},
        "semantic": {"name": "semantic", "form": "logits"},
        "instances": {"masks": "masks", "form": "logits", "scores": "scores", "labels": "labels"},
    }
    path.with_suffix(".yaml").write_text(yaml.safe_dump(about))
    return path


def test_an_onnx_file_is_either_half(onnx_file, split):
    instances, semantics = Halves(
        split, f"onnx:{onnx_file}", f"onnx:{onnx_file}", HalvesSettings(semantics_classes="names")
    ).find()
    image = IMAGE[:90, :150]  # no multiple of 32: it is padded, and the padding goes again
    pixels = F.pad(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255, (0, 10, 0, 6))
    expected = TinyNetwork()(pixels)
    found = semantics.predict("a", image).semantic.logits
    assert found.shape == (19, *grid_size(90, 150, 4))
    road, car, person = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == n) for n in ("road", "car", "person"))
    for train_id, channel in ((road, 0), (car, 1), (person, 3)):
        difference = np.abs(found[train_id] - expected[0][0, channel].numpy()[: found.shape[1], : found.shape[2]])
        assert difference.max() < 1e-4
    objects = instances.predict("a", image).instances
    assert objects.train_ids.tolist() == [car, person]
    np.testing.assert_allclose(objects.scores, [0.9, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": None}, "needs `classes`"),
        ({"classes": [1]}, "must be names"),
        ({"input": {"size": [0, 1]}}, "`input` needs `size`"),
        ({"semantic": {"name": "semantic"}}, "`form` of `semantic` must be"),
        ({"semantic": {"form": "logits"}}, "`semantic` needs name"),
        ({"semantic": {"name": "other", "form": "logits"}}, "names output other, but"),
        ({"classes": ["road"]}, r"gives \(4, "),
    ],
)
def test_a_yaml_that_does_not_fit_the_onnx_file_is_refused(change, words, onnx_file, split, tmp_path):
    (tmp_path / "a.onnx").write_bytes(onnx_file.read_bytes())
    about = yaml.safe_load(onnx_file.with_suffix(".yaml").read_text()) | change
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(InputError, match=words):
        Halves(split, "none", f"onnx:{tmp_path}/a.onnx", HalvesSettings(semantics_classes="names")).find()[1].predict("a", IMAGE)


def test_a_broken_onnx_file_is_refused(onnx_file, split, tmp_path):
    (tmp_path / "a.onnx").write_bytes(onnx_file.read_bytes()[:100])
    (tmp_path / "a.yaml").write_text(onnx_file.with_suffix(".yaml").read_text())
    with pytest.raises(InputError, match="is no network that onnxruntime reads") as caught:
        open_half(split, "semantics", f"onnx:{tmp_path}/a.onnx")
    assert "\n" not in str(caught.value)
    (tmp_path / "a.yaml").unlink()
    with pytest.raises(InputError, match=r"a\.yaml: no such file"):
        onnx_model.OnnxModel(tmp_path / "a.onnx", "cpu")


def test_each_image_is_seen_anew_also_in_a_buffer_that_is_used_again():
    class Brightness(LiveModel):
        def run(self, image):
            return int(image.max())

    model = Brightness("b", "b", {0: "car"})
    model.halves |= {"instances", "semantics"}
    buffer, found = np.zeros((4, 4, 3), np.uint8), []
    for value in (7, 11, 21):
        buffer[:] = value
        found.append(model.result(buffer))
    assert found == [7, 11, 21]


def test_a_checkpoint_behind_a_class_map_does_not_name_the_classes(write_checkpoint, tmp_path):
    """Its 19 classes become two, also of images without truth."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images/a.png")
    path = write_checkpoint(tmp_path / "c.ckpt")
    names = {c.name: "ground" if c.name == "road" else "rest" for c in CITYSCAPES.categories}
    classes = [{"id": 1, "name": "ground", "isthing": 0}, {"id": 2, "name": "rest", "isthing": 0}]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"classes": classes, "map": names}))
    settings = HalvesSettings(semantics_classes=str(tmp_path / "two.yaml"))
    _, semantics = Halves(ImageFiles(tmp_path / "images"), "none", str(path), settings).find()
    assert semantics.predict("a", IMAGE).semantic.logits.shape[0] == semantics.taxonomy.num_classes == 2
