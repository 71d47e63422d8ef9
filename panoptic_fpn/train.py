"""Train Panoptic FPN on a data set in the Cityscapes or the COCO panoptic layout.

    $ python panoptic_fpn/train.py
    $ python panoptic_fpn/train.py --config configs/panoptic_fpn/cityscapes_r50.yaml --data-root /path/to/cityscapes
    $ python panoptic_fpn/train.py --config configs/panoptic_fpn/coco_r50.yaml --data-root /path/to/coco

Without --config it trains configs/panoptic_fpn/streets_r18.yaml on the embedded data set. Every setting of the YAML is a flag
too (--data.batch_size 8, --model.optimizer.lr 0.01). The same command again goes on where it was stopped.
"""

from runtime.command_line import REPOSITORY
from runtime.files import one_line_errors
from training.arguments import training_arguments

SYSTEM = "panoptic_fpn"


def main() -> None:
    """The command; see above."""
    default = REPOSITORY / "configs" / SYSTEM / "streets_r18.yaml"
    with one_line_errors():
        arguments, args = training_arguments(prog="train.py", description=__doc__, system=SYSTEM, default_config=default)
        # Here, since they import torch, which takes seconds, and --help needs it not.
        from panoptic_fpn.module import PanopticFPNModule
        from training.command import run_training

        run_training(PanopticFPNModule, arguments, system=SYSTEM, is_planned=args.plan)


if __name__ == "__main__":
    main()
