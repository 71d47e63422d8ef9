"""Train stage 2, the semantic model of EfficientPS.

    $ python efficientps/train_net.py
    $ python efficientps/train_net.py --config configs/efficientps/cityscapes_b5.yaml --data-root /path/to/cityscapes

Without --config it trains configs/efficientps/streets_b0.yaml on the embedded data set. Every setting of the YAML is a flag
too (--model.optimizer.lr 0.01, --trainer.max_epochs 20). The same command again goes on where it was stopped.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger

from data.datamodule import CityscapesDataModule
from data.files import InputError, one_line_errors
from efficientps.module import SemanticModule

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_CONFIG = REPOSITORY / "configs" / "efficientps" / "streets_b0.yaml"


class TrainCLI(LightningCLI):
    """LightningCLI with the project's own flags; it builds everything and leaves the fitting to main()."""

    def add_arguments_to_parser(self, parser) -> None:
        parser.add_argument("--data-root", type=str | None, help="Cityscapes folder; else $CITYSCAPES_DATASET, else Streets")
        parser.add_argument("--output", type=str | None, help="default: outputs/efficientps/<name of the config>")
        parser.add_argument("--resume", type=bool, default=True, help="go on from <output>/last.ckpt where there is one")
        parser.link_arguments("data_root", "data.data_root")

    @property
    def output(self) -> Path:
        """Where this run's checkpoints and TensorBoard events go."""
        if self.config.output:
            return Path(self.config.output).expanduser()
        return REPOSITORY / "outputs" / "efficientps" / Path(str(self.config.config[-1])).stem

    def instantiate_trainer(self, **kwargs) -> Trainer:
        checkpoint = {"dirpath": self.output, "enable_version_counter": False, "save_top_k": 1}
        callbacks = [
            ModelCheckpoint(filename="best", monitor="val/miou", mode="max", **checkpoint),
            ModelCheckpoint(filename="last", save_on_train_epoch_end=True, every_n_epochs=1, **checkpoint),
            LearningRateMonitor("step"),
        ]
        logger = TensorBoardLogger(self.output, name="", version="tensorboard")
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)


def find_last(output: Path) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Raises:
        InputError: if it cannot be read.
    """
    last = output / "last.ckpt"
    if not last.exists():
        return None, 0
    try:
        return last, torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1
    except Exception as error:
        raise InputError(f"{last}: cannot be read ({str(error)[:80]}); delete it to start anew") from None


def main() -> None:
    if not any(a == "--config" or a.startswith("--config=") for a in sys.argv[1:]):
        sys.argv[1:1] = ["--config", str(DEFAULT_CONFIG)]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it lists devices that are not there, and adverts
    # Workers decode while the two cores of a small machine compute: more would only take turns.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    torch.set_float32_matmul_precision("high")
    with one_line_errors():
        cli = TrainCLI(
            SemanticModule,
            CityscapesDataModule,
            run=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "train_net.py", "description": __doc__},
        )
        print(f"config {cli.config.config[-1]}, output {cli.output}", flush=True)
        last, done = find_last(cli.output) if cli.config.resume else (None, 0)
        if done >= cli.trainer.max_epochs:
            print(f"all {done} epochs are done; --resume false trains anew")
        else:
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last)
        for checkpoint in sorted(cli.output.glob("*.ckpt")):
            print(f"wrote {checkpoint}")
        print(f"pictures and curves: tensorboard --logdir {cli.output}")


if __name__ == "__main__":
    main()
