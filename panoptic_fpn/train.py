"""Train Panoptic FPN on a data set in the Cityscapes or the COCO panoptic layout.

    $ python panoptic_fpn/train.py
    $ python panoptic_fpn/train.py --config configs/panoptic_fpn/cityscapes_r50.yaml --data-root /path/to/cityscapes
    $ python panoptic_fpn/train.py --config configs/panoptic_fpn/coco_r50.yaml --data-root /path/to/coco

Without --config it trains configs/panoptic_fpn/streets_r18.yaml on the embedded data set. Every setting of the YAML is a flag
too (--data.batch_size 8, --model.optimizer.lr 0.01). The same command again goes on where it was stopped.
"""

from panoptic_fpn.module import PanopticFPNModule
from training.command import REPOSITORY, TrainCLI, run_training


class PanopticFPNCLI(TrainCLI):
    """The data tells the model its classes."""

    system = "panoptic_fpn"

    def add_arguments_to_parser(self, parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.taxonomy", "model.taxonomy", apply_on="instantiate")
        parser.set_defaults({"data.has_instances": True, "data.normalization": "imagenet"})


def main() -> None:
    """The command; see above."""
    default = REPOSITORY / "configs" / "panoptic_fpn" / "streets_r18.yaml"
    run_training(PanopticFPNCLI, PanopticFPNModule, __doc__, default)


if __name__ == "__main__":
    main()
