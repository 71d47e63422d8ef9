"""Train stage 2, the semantic model of EfficientPS.

    $ python efficientps/train_net.py
    $ python efficientps/train_net.py --config configs/efficientps/cityscapes_b5.yaml --data-root /path/to/cityscapes

Without --config it trains configs/efficientps/streets_b0.yaml on the embedded data set. Every setting of the YAML is a flag
too (--model.optimizer.lr 0.01, --trainer.max_epochs 20). The same command again goes on where it was stopped.
"""

import logging
import pickle
import sys
import warnings
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.datamodule import CityscapesDataModule
from data.files import InputError, atomic_path, one_line_errors, shorten
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
        """Trainer with this run's checkpoints and logs, and a precision that the device has.

        Raises:
            InputError: for sync_batchnorm, which would replace the activated norms.
        """
        checkpoint = {"dirpath": self.output, "enable_version_counter": False, "save_top_k": 1}
        callbacks = [
            ModelCheckpoint(filename="best", monitor="val/miou", mode="max", **checkpoint),
            ModelCheckpoint(filename="last", save_on_train_epoch_end=True, every_n_epochs=1, **checkpoint),
            LearningRateMonitor("step"),
        ]
        logger = TensorBoardLogger(self.output, name="", version="tensorboard")
        settings = self.config_init.trainer
        if settings.sync_batchnorm:
            raise InputError("trainer.sync_batchnorm would replace the activated norms by plain ones; leave it false")
        if str(settings.precision).startswith("bf16") and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
            print("no bfloat16 device here: training with precision 32-true", flush=True)
            settings.precision = "32-true"
        kwargs |= {"callbacks": callbacks, "logger": logger, "plugins": [AtomicCheckpointIO()]}
        return super().instantiate_trainer(**kwargs)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, also where the temporary folder is on another disk."""

    def save_checkpoint(self, checkpoint: dict, path: str, storage_options: object = None) -> None:
        with atomic_path(Path(path)) as partial:
            torch.save(checkpoint, partial)


def find_last(output: Path, network: dict) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Args:
        network: settings of the network that is to be trained.

    Raises:
        InputError: if it cannot be read, or is of another network.
    """
    last = output / "last.ckpt"
    if not last.exists():
        return None, 0
    try:
        checkpoint = torch.load(last, map_location="cpu", weights_only=True)
        done, trained = checkpoint["epoch"] + 1, checkpoint["hyper_parameters"]["network"]
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{last}: cannot be read ({shorten(error, 80)}); --resume false starts anew") from None
    if trained != network:
        different = {name: (trained.get(name), value) for name, value in network.items() if trained.get(name) != value}
        raise InputError(f"{last}: is of another model, (there, here): {different}; give another --output or --resume false")
    return last, done


def main() -> None:
    if not any(a in ("--config", "-c") or a.startswith(("--config=", "-c=")) for a in sys.argv[1:]):
        sys.argv[1:1] = ["--config", str(DEFAULT_CONFIG)]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it lists devices that are not there, and adverts
    # Workers decode while the two cores of a small machine compute: more would only take turns.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    torch.set_float32_matmul_precision("high")
    with one_line_errors():
        try:
            train()
        except MisconfigurationException as error:
            raise InputError(f"trainer settings: {shorten(error)}") from None


def train() -> None:
    """Build what the arguments say, go on or start, and say what was written."""
    cli = TrainCLI(
        SemanticModule,
        CityscapesDataModule,
        run=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "train_net.py", "description": __doc__},
    )
    print(f"config {cli.config.config[-1]}, output {cli.output}", flush=True)
    if not cli.config.resume:
        for name in ("best.ckpt", "last.ckpt"):
            (cli.output / name).unlink(missing_ok=True)
    last, done = find_last(cli.output, cli.model.hparams["network"])
    if 0 <= cli.trainer.max_epochs <= done:
        print(f"all {done} epochs are done; --resume false trains anew")
    else:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last)
    for checkpoint in sorted(cli.output.glob("*.ckpt")):
        print(f"wrote {checkpoint}")
    print(f"pictures and curves: tensorboard --logdir {cli.output}")


if __name__ == "__main__":
    main()
