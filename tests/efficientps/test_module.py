"""The module's settings that reach the network: norms and weights to start from."""

import pytest
import torch

from data.taxonomy import CITYSCAPES
from detection.instance_head import InstanceHeadSettings
from efficientps.module import EfficientPSModule
from efficientps.norm import NormAct
from runtime.files import InputError
from training.weights_file import Match, load_weights_file, write_weights

SMALL = {"variant": "b0", "fpn_channels": 16}


def test_a_weights_file_is_for_the_start_of_training_and_says_what_stays(tmp_path):
    torch.manual_seed(0)
    trained = EfficientPSModule(CITYSCAPES, **SMALL).network
    encoder = {f"encoder.{name}": tensor for name, tensor in trained.encoder.state_dict().items()}
    (tmp_path / "checkpoint.pth").write_bytes(b"what it came from")
    found = Match(tensors=encoder, left_out=[], missing=[])
    write_weights(
        tmp_path / "w.safetensors", found, source="test", checkpoint=tmp_path / "checkpoint.pth", network="efficientps-b0"
    )
    torch.manual_seed(1)
    module = EfficientPSModule(CITYSCAPES, **SMALL, weights=str(tmp_path / "w.safetensors"))
    line, _ = load_weights_file(module.network, module.weights)  # as train_net.py does where nothing is resumed
    for name, tensor in module.network.encoder.state_dict().items():
        assert torch.equal(tensor, encoder[f"encoder.{name}"])
    assert not torch.equal(next(module.network.two_way_fpn.parameters()), next(trained.two_way_fpn.parameters()))
    assert "as initialised: " in line
    assert "weights" not in module.hparams["network"]  # a checkpoint must not need the file


def test_weights_of_another_network_are_refused(tmp_path):
    (tmp_path / "checkpoint.pth").write_bytes(b"")
    found = Match(tensors={"encoder.nothing": torch.zeros(1)}, left_out=[], missing=[])
    path = tmp_path / "w.safetensors"
    write_weights(path, found, source="test", checkpoint=tmp_path / "checkpoint.pth", network="efficientps-b5")
    with pytest.raises(InputError, match="the file is for efficientps-b5"):
        load_weights_file(EfficientPSModule(CITYSCAPES, **SMALL).network, path)


def test_the_norm_reaches_every_layer_but_no_checkpoint():
    pytest.importorskip("inplace_abn", reason="the extra inplace-abn is not installed")
    head = InstanceHeadSettings(box_channels=16, mask_channels=16)
    module = EfficientPSModule(CITYSCAPES, **SMALL, instance_head=head, norm="iabn_sync")

    def forms(part: torch.nn.Module) -> set[str]:
        return {layer.norm for layer in part.modules() if isinstance(layer, NormAct)}

    assert forms(module.network.encoder) == forms(module.network.semantic_head) == {"iabn_sync"}
    assert forms(module.network.instance_head) == {"iabn"}  # its batches are objects, of which a process may have none
    assert "iabn" not in str(module.hparams)
