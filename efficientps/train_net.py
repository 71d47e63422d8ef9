"""Train stage 2, the semantic model of EfficientPS, or with a *_maskrcnn configuration the original with its instance head.

    $ python efficientps/train_net.py
    $ python efficientps/train_net.py --config configs/efficientps/cityscapes_b5.yaml --data-root /path/to/cityscapes
    $ python efficientps/train_net.py --config configs/efficientps/streets_lite0_maskrcnn.yaml

Without --config it trains configs/efficientps/streets_lite0.yaml on the embedded data set. Every setting of the YAML is a flag
too (--model.optimizer.lr 0.01, --trainer.max_epochs 20). The same command again goes on where it was stopped.
"""

from runtime.command_line import REPOSITORY
from runtime.files import one_line_errors
from training.arguments import training_arguments

SYSTEM = "efficientps"


def main() -> None:
    """The command; see above."""
    default = REPOSITORY / "configs" / SYSTEM / "streets_lite0.yaml"
    with one_line_errors():
        arguments, args = training_arguments(prog="train_net.py", description=__doc__, system=SYSTEM, default_config=default)
        # Here, since they import torch, which takes seconds, and --help needs it not.
        from efficientps.module import EfficientPSModule
        from training.command import run_training

        run_training(EfficientPSModule, arguments, system=SYSTEM, is_planned=args.plan)


if __name__ == "__main__":
    main()
