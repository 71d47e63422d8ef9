"""What of Pan-SECB is exported: the network, for any batch. The clustering is not in it: its steps depend on the image."""

from dataclasses import asdict

from torch import Tensor, nn

from backbones.constant_padding import with_constant_padding
from pan_secb.erfnet import STRIDE
from pan_secb.network import PanSECB
from pan_secb.predictor import PanSECBPredictor
from prediction.onnx_export import Exportable, facts_of


class EmbeddingGraph(nn.Module):
    """The network, float32 to float32 whatever it computes in."""

    def __init__(self, network: PanSECB):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the four maps of EmbeddingOutput, (B, ., H, W), before any activation."""
        return tuple(values.float() for values in self.network(image.to(next(self.network.parameters()).dtype)))


def export_of(predictor: PanSECBPredictor) -> Exportable:
    """What there is to export."""
    return Exportable(
        system="pan_secb",
        network=EmbeddingGraph(with_constant_padding(predictor.network)),
        stride=STRIDE,
        **facts_of(predictor),
        is_batched=True,
        settings={"pixels_per_unit": predictor.network.pixels_per_unit, "clustering": asdict(predictor.clustering)},
    )
