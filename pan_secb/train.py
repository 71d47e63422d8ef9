"""Train Pan-SECB in two steps: on crops around objects, then, from what that has learned, on whole images.

    $ python pan_secb/train.py
    $ python pan_secb/generate_crops.py --data-root /path/to/cityscapes
    $ python pan_secb/train.py --config configs/pan_secb/cityscapes.yaml --data-root /path/to/cityscapes
    $ python pan_secb/train.py --config configs/pan_secb/cityscapes_finetune.yaml --data-root /path/to/cityscapes

Without --config it cuts the crops of the data set where they are absent and does both steps, configs/pan_secb/streets.yaml and
streets_finetune.yaml; --output is then the folder of both. Every setting of the YAML is a flag too (--model.optimizer.lr 0.001).
The same command again goes on where it was stopped.
"""

import sys
from pathlib import Path

from runtime.command_line import OUTPUTS, REPOSITORY
from runtime.files import one_line_errors
from training.arguments import lightning_arguments, training_arguments

SYSTEM = "pan_secb"
CONFIGS = REPOSITORY / "configs" / SYSTEM


def main() -> None:
    """The command; see above."""
    first, second = (CONFIGS / f"{step}.yaml" for step in ("streets", "streets_finetune"))
    about = {"prog": "train.py", "description": __doc__, "system": SYSTEM}
    with one_line_errors():
        arguments, args = training_arguments(default_config=first, **about)
        # Here, since they import torch, which takes seconds, and --help needs it not.
        from pan_secb.datamodule import PanSECBDataModule
        from pan_secb.module import PanSECBModule
        from training.command import run_training

        options = {"system": SYSTEM, "data": PanSECBDataModule, "linked": ("foreground_weights",), "is_planned": args.plan}
        if args.config or args.help_all:
            run_training(PanSECBModule, arguments, **options)
            return
        output = Path(args.output).expanduser() if args.output else OUTPUTS / SYSTEM
        for config, start in ((first, []), (second, ["--weights", str(output / first.stem / "last.ckpt")])):
            given = [*sys.argv[1:], *start, "--output", str(output / config.stem)]
            arguments, _ = lightning_arguments(given, default_config=config, **about)
            run_training(PanSECBModule, arguments, **options)


if __name__ == "__main__":
    main()
