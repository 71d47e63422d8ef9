"""Train stage 2, the semantic model of EfficientPS, or with a *_maskrcnn configuration the original with its instance head.

    $ python efficientps/train_net.py
    $ python efficientps/train_net.py --config configs/efficientps/cityscapes_b5.yaml --data-root /path/to/cityscapes
    $ python efficientps/train_net.py --config configs/efficientps/streets_b0_maskrcnn.yaml

Without --config it trains configs/efficientps/streets_b0.yaml on the embedded data set. Every setting of the YAML is a flag
too (--model.optimizer.lr 0.01, --trainer.max_epochs 20). The same command again goes on where it was stopped.
"""

from efficientps.module import EfficientPSModule
from training.command import REPOSITORY, TrainCLI, run_training


class EfficientPSCLI(TrainCLI):
    """The instance head of the model decides whether the data holds instances."""

    system = "efficientps"

    def add_arguments_to_parser(self, parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.link_arguments("model.instance_head", "data.has_instances", compute_fn=is_given)


def is_given(settings: object) -> bool:
    """Whether an optional group of settings is there."""
    return settings is not None


def main() -> None:
    """The command; see above."""
    default = REPOSITORY / "configs" / "efficientps" / "streets_b0.yaml"
    run_training(EfficientPSCLI, EfficientPSModule, __doc__, default, prog="train_net.py")


if __name__ == "__main__":
    main()
