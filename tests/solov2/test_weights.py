"""Training from a weights file: mmengine neither initialises over it nor downloads anything."""

import torch

from solov2 import train
from solov2.checkpoints import read_checkpoint
from solov2.pooled_views import CandidateHead
from solov2.settings import DEFAULT_CONFIG, load_config, parse_options
from solov2.weights import build_network
from training.weights_file import Match, write_weights

SMALL_CONFIG = DEFAULT_CONFIG.with_name("streets_r18.py")
# A rate of zero and no decay: what is in the checkpoint afterwards is what training began with.
STANDING_STILL = ("optim_wrapper.optimizer.lr=0.0", "train_cfg.max_epochs=1")


def write_start(folder, options):
    """Random weights of the backbone in a file, and a name of a weights file."""
    config = load_config(SMALL_CONFIG, options)
    torch.manual_seed(5)
    network = build_network(config.model, str(SMALL_CONFIG))
    backbone = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("backbone.")}
    (folder / "source.pth").write_bytes(b"")
    path = folder / "backbone.safetensors"
    write_weights(path, Match(backbone, [], []), source="test", checkpoint=folder / "source.pth", network="solov2:streets_r18")
    return path, backbone


def test_training_begins_with_the_files_weights(streets, tiny, tmp_path, monkeypatch, capsys):
    weights, backbone = write_start(tmp_path, parse_options(tiny[3:]))
    # A checkpoint of a server, as cityscapes_r50.py has it, would be downloaded.
    online = "model.backbone.init_cfg={'type':'Pretrained','checkpoint':'torchvision://none'}"
    arguments = ["--data-root", streets, "--output", tmp_path / "run", "--weights", weights, *tiny, *STANDING_STILL, online]
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
    train.main()
    assert f"{len(backbone)} tensors of test loaded; as initialised" in capsys.readouterr().out
    trained = read_checkpoint(tmp_path / "run" / "epoch_1.pth")["state_dict"]
    parameters = [name for name in backbone if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(trained[name], backbone[name]) for name in parameters)
    # To be gone on with needs no download either.
    monkeypatch.setattr("sys.argv", list(map(str, ["train.py", *arguments, "train_cfg.max_epochs=2"])))
    train.main()
    assert (tmp_path / "run" / "epoch_2.pth").exists()


def test_building_a_network_leaves_the_config_as_it_is(tiny_config):
    tiny_config.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "torchvision://none"}
    given = tiny_config.to_dict()
    network = build_network(tiny_config.model, "a config", head=CandidateHead.__name__)
    assert type(network.mask_head) is CandidateHead
    assert tiny_config.to_dict() == given


def test_a_file_for_another_model_is_refused_in_one_line(streets, tiny, tmp_path, fails_in_one_line):
    weights, _ = write_start(tmp_path, {})
    arguments = ("--data-root", streets, "--output", tmp_path / "run", "--weights", weights, *tiny)
    assert "the file is for solov2:streets_r18" in fails_in_one_line(train.main, *arguments)


def test_random_weights_are_not_those_that_the_config_downloads(streets, tiny, tmp_path, fails_in_one_line):
    online = ("model.backbone.init_cfg={'type':'Pretrained','checkpoint':'torchvision://none'}", "model.backbone.frozen_stages=1")
    arguments = ("--data-root", streets, "--output", tmp_path / "run", "--weights", "none", *tiny, *online)
    assert "parts of the network stay as they are, backbone.conv1.weight" in fails_in_one_line(train.main, *arguments)


def test_a_configs_own_weights_give_way_to_load_from(streets, tmp_path, monkeypatch, capsys):
    data = ["--data-root", streets, "--epochs", "1"]
    options = ["--cfg-options", "optim_wrapper.optimizer.lr=0.0", "custom_hooks=[]"]
    for name, more in (("first", ["--weights", "none"]), ("second", [])):
        loads = ["model.backbone.trainable_stages=5"]
        loads += [f"load_from={tmp_path / 'first' / 'epoch_1.pth'}"] if name == "second" else []
        monkeypatch.setattr("sys.argv", list(map(str, ["train.py", *data, "--output", tmp_path / name, *more, *options, *loads])))
        train.main()
    assert "weights lite0" not in capsys.readouterr().out
    first, second = (read_checkpoint(tmp_path / name / "epoch_1.pth")["state_dict"] for name in ("first", "second"))
    parameters = [name for name in first if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in parameters)
