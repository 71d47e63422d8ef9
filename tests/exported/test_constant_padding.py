"""A network whose halving layers are written for export does the same."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from backbones.constant_padding import with_constant_padding
from backbones.efficientnet import EfficientNetLite
from efficientps.encoder import Encoder
from pan_secb.erfnet import Encoder as ERFNetEncoder

NETWORKS = {
    "EfficientNet": lambda: Encoder("b0"),
    "EfficientNet-Lite": EfficientNetLite,
    "ResNet": lambda: nn.Sequential(*list(resnet18(weights=None).children())[:-2]),
    "ERFNet": lambda: ERFNetEncoder((8, 16, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_features_stay(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    image = torch.randn(1, 3, 32, 96)
    wanted, found = network(image), with_constant_padding(network)(image)
    for feature, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-6)  # kernels may differ


def test_the_network_itself_stays_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1))
    copy = with_constant_padding(network)
    assert network[0].padding == (1, 1)
    assert network[1].padding == 1
    assert copy[0][1].padding == (0, 0)
    assert copy(torch.zeros(1, 3, 32, 64)).shape == network(torch.zeros(1, 3, 32, 64)).shape == (1, 4, 8, 16)
