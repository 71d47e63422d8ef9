"""What of EfficientPS is exported: the semantic model, or with the instance head all up to the detections."""

import torch
from torch import Tensor, nn

from backbones.constant_padding import with_constant_padding
from detection.exported_head import DetectionGraph
from efficientps.network import LOGIT_STRIDE, EfficientPS, SemanticEfficientPS
from efficientps.norm import LEAKY_SLOPE, NormAct
from efficientps.predictor import EfficientPSPredictor
from prediction.onnx_export import Exportable, facts_of


class SemanticGraph(nn.Module):
    """The semantic model, float32 to float32 whatever it computes in."""

    def __init__(self, network: SemanticEfficientPS):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 4, W / 4) logits."""
        return self.network(image.to(next(self.network.parameters()).dtype)).float()


class WholeGraph(nn.Module):
    """EfficientPS with its instance head, of one image."""

    def __init__(self, network: EfficientPS):
        super().__init__()
        self.network, self.detect = network, DetectionGraph(network.instance_head)

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) and its size without padding -> logits (1, C, H / 4, W / 4), and what DetectionGraph gives."""
        pyramid = self.network.pyramid(image.to(next(self.network.parameters()).dtype))
        return (self.network.semantic_head(pyramid).float(), *self.detect(pyramid, size))


def export_of(predictor: EfficientPSPredictor) -> Exportable:
    """What there is to export."""
    network = with_plain_norms(with_constant_padding(predictor.network))
    has_head = isinstance(network, EfficientPS)
    settings = {"logit_stride": LOGIT_STRIDE}
    return Exportable(
        system="efficientps-maskrcnn" if has_head else "efficientps",
        network=WholeGraph(network) if has_head else SemanticGraph(network),
        stride=LOGIT_STRIDE,
        **facts_of(predictor),
        takes_size=has_head,
        is_batched=not has_head,
        settings=settings | ({"convention": network.instance_head.convention} if has_head else {}),
    )


@torch.no_grad()
def with_plain_norms(network: nn.Module) -> nn.Module:
    """The network, changed in place, with batch norms of torch for its activated norms: they fold into convolutions."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NormAct):
                plain = nn.BatchNorm2d(child.num_features, eps=child.eps)
                plain.weight.copy_(child.weight.abs() + child.eps)
                plain.bias.copy_(child.bias)
                plain.running_mean.copy_(child.running_mean)
                plain.running_var.copy_(child.running_var)
                is_activated = child.activated
                setattr(module, name, nn.Sequential(plain, nn.LeakyReLU(LEAKY_SLOPE)) if is_activated else plain)
    return network.eval()
