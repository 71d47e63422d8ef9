"""What of Panoptic FPN is exported: both branches, up to the semantic logits and the detections."""

from dataclasses import asdict

from torch import Tensor, nn

from backbones.constant_padding import with_constant_padding
from detection.exported_head import DetectionGraph
from panoptic_fpn.network import LOGIT_STRIDE, PanopticFPN
from panoptic_fpn.predictor import PanopticFPNPredictor
from prediction.onnx_export import Exportable, facts_of


class WholeGraph(nn.Module):
    """Panoptic FPN of one image."""

    def __init__(self, network: PanopticFPN):
        super().__init__()
        self.network, self.detect = network, DetectionGraph(network.instance_head)

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) and its size without padding -> logits (1, outputs, H / 4, W / 4), and what DetectionGraph gives."""
        pyramid, logits = self.network(image.to(next(self.network.parameters()).dtype))
        return (logits.float(), *self.detect(pyramid, size))


def export_of(predictor: PanopticFPNPredictor) -> Exportable:
    """What there is to export."""
    network = with_constant_padding(predictor.network)
    train_ids = network.train_id_of_output.tolist()
    return Exportable(
        system="panoptic_fpn",
        network=WholeGraph(network),
        stride=LOGIT_STRIDE,
        **facts_of(predictor),
        takes_size=True,
        settings={
            "logit_stride": LOGIT_STRIDE,
            "convention": network.instance_head.convention,
            "num_outputs": len(train_ids),
            "train_id_of_output": train_ids,
            "merging": asdict(predictor.merging),
        },
    )
