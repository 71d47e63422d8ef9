"""Train Pan-SECB in two steps: on crops around objects, then, from what that has learned, on whole images.

    $ python pan_secb/train.py
    $ python pan_secb/generate_crops.py --data-root /path/to/cityscapes
    $ python pan_secb/train.py --config configs/pan_secb/cityscapes.yaml --data-root /path/to/cityscapes
    $ python pan_secb/train.py --config configs/pan_secb/cityscapes_finetune.yaml --data-root /path/to/cityscapes

Without --config it cuts the crops of the embedded data set and does both steps, configs/pan_secb/streets.yaml and
streets_finetune.yaml; --output is then the folder of both. Every setting of the YAML is a flag too
(--model.optimizer.lr 0.001). The same command again goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path

from pan_secb.datamodule import PanSECBDataModule
from pan_secb.module import PanSECBModule
from training.command import REPOSITORY, TrainCLI, has_config, run_training

CONFIGS = REPOSITORY / "configs" / "pan_secb"


class PanSECBCLI(TrainCLI):
    """The data tells the model its classes and how rare each is."""

    system = "pan_secb"

    def add_arguments_to_parser(self, parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.link_arguments("data.taxonomy", "model.taxonomy", apply_on="instantiate")
        parser.link_arguments("data.foreground_weights", "model.foreground_weights", apply_on="instantiate")
        parser.set_defaults({"data.has_instances": True, "data.normalization": "imagenet"})


def main() -> None:
    """The command; see above."""
    first, second = (CONFIGS / f"{step}.yaml" for step in ("streets", "streets_finetune"))
    if has_config(sys.argv):
        run_training(PanSECBCLI, PanSECBModule, __doc__, first, data=PanSECBDataModule)
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "outputs" / PanSECBCLI.system)
    known, given = parser.parse_known_args()
    weights = ("--model.weights", str(known.output / first.stem / "last.ckpt"))
    for config, start in ((first, ()), (second, weights)):
        sys.argv[1:] = ["--config", str(config), "--output", str(known.output / config.stem), *start, *given]
        run_training(PanSECBCLI, PanSECBModule, __doc__, config, data=PanSECBDataModule)


if __name__ == "__main__":
    main()
