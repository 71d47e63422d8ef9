"""Train stage 2, the semantic model of EfficientPS, or with a *_maskrcnn configuration the original with its instance head.

    $ python efficientps/train_net.py
    $ python efficientps/train_net.py --config configs/efficientps/cityscapes_b5.yaml --data-root /path/to/cityscapes
    $ python efficientps/train_net.py --config configs/efficientps/streets_b0_maskrcnn.yaml

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
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.datamodule import CityscapesDataModule
from data.files import InputError, atomic_path, one_line_errors, shorten
from data.weights_file import load_weights_file
from efficientps.module import EfficientPSModule, learning_rate
from efficientps.training import AveragedWeights, EpochSeeds, all_processes_end

say = rank_zero_only(print)
REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_CONFIG = REPOSITORY / "configs" / "efficientps" / "streets_b0.yaml"


class TrainCLI(LightningCLI):
    """LightningCLI with the project's own flags; it builds everything and leaves the fitting to main()."""

    def add_arguments_to_parser(self, parser) -> None:
        parser.add_argument("--data-root", type=str | None, help="Cityscapes folder; else $CITYSCAPES_DATASET, else Streets")
        parser.add_argument("--output", type=str | None, help="default: outputs/efficientps/<name of the config>")
        parser.add_argument("--resume", type=bool, default=True, help="go on from <output>/last.ckpt where there is one")
        help_ema = "validate, save and dump an exponential moving average of the weights, such as 0.999"
        parser.add_argument("--ema-decay", type=float | None, help=help_ema)
        parser.link_arguments("data_root", "data.data_root")
        parser.link_arguments("model.instance_head", "data.has_instances", compute_fn=is_given)

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
            ModelCheckpoint(filename="best", monitor=self.model.monitor, mode="max", **checkpoint),
            ModelCheckpoint(filename="last", save_on_train_epoch_end=True, every_n_epochs=1, **checkpoint),
            LearningRateMonitor("step"),
            EpochSeeds(),
        ]
        if self.config_init.ema_decay is not None:
            callbacks.append(AveragedWeights(self.config_init.ema_decay))
        logger = TensorBoardLogger(self.output, name="", version="tensorboard")
        settings = self.config_init.trainer
        given = settings.callbacks or []
        callbacks += given if isinstance(given, list) else [given]
        if settings.sync_batchnorm:
            raise InputError("trainer.sync_batchnorm would replace the activated norms by plain ones; leave it false")
        # Not emulated, as on older GPUs, where it is slower than 32 bits.
        has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        if str(settings.precision).startswith("bf16") and not has_bfloat16:
            say("no bfloat16 device here: training with precision 32-true", flush=True)
            settings.precision = "32-true"
        kwargs |= {"callbacks": callbacks, "logger": logger, "plugins": [AtomicCheckpointIO()]}
        return super().instantiate_trainer(**kwargs)


def is_given(settings: object) -> bool:
    """Whether an optional group of settings is there."""
    return settings is not None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, also where the temporary folder is on another disk."""

    def save_checkpoint(self, checkpoint: dict, path: str, storage_options: object = None) -> None:
        with atomic_path(Path(path)) as partial:
            torch.save(checkpoint, partial)


def find_last(output: Path, network: dict, is_averaged: bool) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Args:
        network: settings of the network that is to be trained.
        is_averaged: whether an average of its weights is to be kept.

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
    if "averaging_state" in checkpoint and not is_averaged:
        raise InputError(f"{last}: holds averaged weights, which cannot be trained on; give --ema-decay or --resume false")
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
        except ValueError as error:
            # jsonargparse wraps what the check of an optional group of settings says into many lines.
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            raise


def train() -> None:
    """Build what the arguments say, go on or start, and say what was written."""
    cli = TrainCLI(
        EfficientPSModule,
        CityscapesDataModule,
        run=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "train_net.py", "description": __doc__},
    )
    rate = learning_rate(cli.model.optimizer_settings, cli.trainer, cli.datamodule)
    say(f"config {cli.config.config[-1]}, output {cli.output}, learning rate {rate:g}", flush=True)
    if not cli.config.resume:
        for name in ("best.ckpt", "last.ckpt"):
            (cli.output / name).unlink(missing_ok=True)
    last, done = find_last(cli.output, cli.model.hparams["network"], cli.config.ema_decay is not None)
    if 0 <= cli.trainer.max_epochs <= done:
        say(f"all {done} epochs are done; --resume false trains anew")
    else:
        if last is None and cli.model.weights is not None:
            say(load_weights_file(cli.model.network, cli.model.weights), flush=True)
        with all_processes_end(cli.trainer):
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last)
    for checkpoint in sorted(cli.output.glob("*.ckpt")):
        say(f"wrote {checkpoint}")
    say(f"pictures and curves: tensorboard --logdir {cli.output}")


if __name__ == "__main__":
    main()
