"""The training command of every Lightning system: arguments, checkpoints, going on, and one line for each error."""

import logging
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.drawn.embedded import find_data_set
from data.loading.augmentation import AugmentationSettings
from data.loading.datamodule import PanopticDataModule
from data.network_input import NetworkInput
from runtime.checkpoint_file import read_checkpoint_file
from runtime.command_line import OneLineErrors
from runtime.files import InputError, atomic_path, on_interruption, one_line_errors, remove_partial_files, shorten
from training.callbacks import AveragedWeights, EpochSeeds, FiniteTraining, TrainingLines, check_finite_weights
from training.checkpoints import REPOSITORY, check_learns, find_last, load_start
from training.memory_plan import TrainingPlan, made_up_batch, planned_taxonomy, print_plan
from training.precision import has_bfloat16
from training.processes import all_processes_end
from training.schedule import learning_rate

say = rank_zero_only(print)


class OneLineLightningParser(OneLineErrors, LightningArgumentParser):
    """Lightning's, whose errors are one line."""


class TrainCLI(LightningCLI):
    """LightningCLI with the project's own settings; it builds everything and leaves the fitting to fit().

    The data tells the model its classes and what its input is.
    """

    system = ""

    def add_arguments_to_parser(self, parser) -> None:
        """Add what is the project's own, and hand on what the data set says to the model; see LightningCLI."""
        parser.add_argument("--base", type=str | None, help="the configuration that this one builds on, relative to it")
        parser.add_argument("--data_root", type=str | None, help="the data set's folder")
        parser.add_argument("--output", type=str | None, help=f"default: outputs/{self.system}/<name of the config>")
        parser.add_argument("--resume", type=bool, default=True, help="go on from <output>/last.ckpt where there is one")
        help_every = "write last.ckpt after each N-th epoch, a divisor of all; a kill then loses up to N"
        parser.add_argument("--save_every", type=PositiveInt, default=1, metavar="N", help=help_every)
        help_ema = "validate, save and dump an exponential moving average of the weights, such as 0.999; 0: none"
        parser.add_argument("--ema_decay", type=float | None, help=help_ema)
        parser.link_arguments("data_root", "data.data_root")
        for name in ("taxonomy", "network_input", *self.linked):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    linked: tuple[str, ...] = ()
    """What else the data tells the model."""

    def before_instantiate_classes(self) -> None:
        """The data set that nobody named is the embedded one of the layout."""
        for name in ("data", "model"):
            if not self.config.get(name):
                raise InputError(f"the configuration's `{name}` is empty; leave it out, or give its settings")
        data_set = find_data_set(self.config.data_root, self.config.data.layout)
        self.config.data.data_root = str(data_set.root)
        self.config.data.layout = data_set.layout
        if self.config.data.normalization is None:
            self.config.data.normalization = self._model_class.normalization_of(self.config.model)

    def instantiate_classes(self) -> None:
        """As Lightning's; the model says what it learns from."""
        super().instantiate_classes()
        self.datamodule.has_instances = self.model.needs_instances

    @property
    def output(self) -> Path:
        """Where this run's checkpoints and TensorBoard events go."""
        if self.config.output:
            return Path(self.config.output).expanduser()
        return REPOSITORY / "outputs" / self.system / Path(str(self.config.config[-1])).stem

    def instantiate_trainer(self, **kwargs) -> Trainer:
        """Trainer with this run's checkpoints and logs, and a precision that the device has.

        Raises:
            InputError: for sync_batchnorm, which would replace the activated norms, and where the last epoch would not be saved.
        """
        settings, every = self.config_init.trainer, self.config_init.save_every
        epochs = settings.max_epochs or -1
        if every > 1 and (epochs < 1 or epochs % every or settings.max_steps >= 0):  # the end would not be saved
            needed = "trainer.max_epochs as a multiple of it, and no max_steps"
            raise InputError(f"--save-every is {every}, which needs {needed}; leave it 1")
        checkpoint = {"dirpath": self.output, "enable_version_counter": False, "save_top_k": 1}
        callbacks = [
            ModelCheckpoint(filename="best", monitor=self.model.monitor, mode="max", **checkpoint),
            ModelCheckpoint(filename="last", save_on_train_epoch_end=True, every_n_epochs=every, **checkpoint),
            LearningRateMonitor("step"),
            EpochSeeds(),
            FiniteTraining(),
        ]
        settings.enable_model_summary = bool(settings.enable_model_summary)  # by default Lightning shows one of ten lines
        if not sys.stdout.isatty() and settings.enable_progress_bar is not False:
            settings.enable_progress_bar = False  # it would show nothing before an epoch's end
            callbacks.append(TrainingLines())
        if self.config_init.ema_decay:
            callbacks.append(AveragedWeights(self.config_init.ema_decay))
        # The user's own loggers are taken as they are.
        logger = settings.logger or TensorBoardLogger(self.output, name="", version="tensorboard")
        given = settings.callbacks or []
        callbacks += given if isinstance(given, list) else [given]
        if settings.accumulate_grad_batches < 1:
            raise InputError(f"trainer.accumulate_grad_batches is {settings.accumulate_grad_batches}, but 1 or more is needed")
        if settings.sync_batchnorm:
            raise InputError("trainer.sync_batchnorm would replace the activated norms by plain ones; leave it false")
        if str(settings.precision).startswith("bf16") and not has_bfloat16(str(settings.accelerator)):
            say("no bfloat16 device here: training with precision 32-true", flush=True)
            settings.precision = "32-true"
        if 0 < epochs < (settings.check_val_every_n_epoch or 0):
            settings.check_val_every_n_epoch = epochs  # else a short training would end without validation
        every_val = settings.check_val_every_n_epoch
        if epochs > 0 and every_val and epochs % every_val:
            found = f"validated every {every_val} epochs, not after the last of {epochs}: best.ckpt is an earlier one"
            say(f"note: {found}; give --trainer.check_val_every_n_epoch a divisor, or use last.ckpt", flush=True)
        kwargs |= {"callbacks": callbacks, "logger": logger, "plugins": [AtomicCheckpointIO()]}
        return super().instantiate_trainer(**kwargs)


class PlanCLI(TrainCLI):
    """Builds the network of a training, and nothing else: no data set is opened, no device asked for, no weights read."""

    def before_instantiate_classes(self) -> None:
        """What the data would tell the model, a stand-in tells it."""
        for name in ("data", "model"):
            if not self.config.get(name):
                raise InputError(f"the configuration's `{name}` is empty; leave it out, or give its settings")
        self.parser.add_instantiator(PlannedData, self._datamodule_class, subclasses=False, prepend=True)

    def instantiate_trainer(self, **kwargs) -> None:
        """None is needed."""

    @property
    def plan(self) -> TrainingPlan:
        """Of the training that the arguments describe."""
        trainer, data, model = self.config.trainer, self.datamodule, self.model
        is_for_cpu = trainer.accelerator == "cpu"
        return TrainingPlan(
            module=model,
            loss=partial(_loss_of_outputs, model),
            make_batch=lambda num_images: made_up_batch(num_images, data.largest_size, model.taxonomy),
            size=data.largest_size,
            batch_size=data.batch_size,
            accumulate=trainer.accumulate_grad_batches,
            optimizer=model.optimizer_settings.name,
            precision=str(trainer.precision or "32-true"),
            num_averages=int(bool(self.config.ema_decay) and is_for_cpu),  # Lightning keeps the average on the CPU
            is_for_cpu=is_for_cpu,
        )


class PlannedData:
    """Stands for a data module whose data set is not opened; has what a model and a plan ask of it.

    Its classes are those of the data root or the class map that was given, else those of the layout.
    """

    foreground_weights = None

    def __init__(
        self,
        class_type: type,
        data_root: str | None = None,
        layout: str = "auto",
        val_split: str | None = None,
        batch_size: int = 1,
        augmentation: AugmentationSettings = AugmentationSettings(),
        truth_classes: str | None = None,
        **others: object,
    ):
        self.batch_size, self.augmentation = batch_size, augmentation
        self.network_input = NetworkInput()
        self.taxonomy = planned_taxonomy(data_root, layout, val_split, truth_classes)

    @property
    def largest_size(self) -> tuple[int, int]:
        """(height, width) of the crops; where images are resized, of the largest batch, of an upright and a lying image."""
        settings = self.augmentation
        if settings.shorter_sides is None:
            return settings.crop_height, settings.crop_width
        shorter = max(settings.shorter_sides)
        longer = settings.longer_side or 2 * shorter
        height, width = (longer if self.batch_size > 1 else shorter), longer
        return -height // 32 * -32, -width // 32 * -32


def _loss_of_outputs(module: LightningModule, outputs: object, batch: dict) -> torch.Tensor:
    """The loss of a training step whose forward pass has been done."""
    module.forward = lambda image: outputs
    try:
        return module.training_step(batch, 0)
    finally:
        del module.forward


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, also where the temporary folder is on another disk; never one with NaN weights."""

    def save_checkpoint(self, checkpoint: dict, path: str, storage_options: object = None) -> None:
        check_finite_weights(checkpoint["state_dict"])
        with atomic_path(Path(path)) as partial:
            try:
                torch.save(checkpoint, partial)
            except RuntimeError as error:  # torch hides the system's reason, such as a full disk
                raise OSError(f"{path}: cannot be written, perhaps the disk is full ({shorten(error, 80)})") from None


def run_training(
    module: type[LightningModule],
    arguments: Sequence[str],
    *,
    system: str,
    data: type[PanopticDataModule] = PanopticDataModule,
    linked: tuple[str, ...] = (),
    is_planned: bool = False,
) -> None:
    """The whole command.

    Args:
        arguments: of LightningCLI; see training.arguments.
        system: folder of the results.
        linked: properties of the data module that the module is told, beside classes and input.
        is_planned: print how much memory it takes instead of training.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it lists devices that are not there, and adverts
    # Workers decode while the two cores of a small machine compute: more would only take turns.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*args parameter is intended.*")  # they are those of the command line, read once
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # its own logs are there
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning calls a part of torch that will have another name
    warnings.filterwarnings("ignore", ".*LightningCLI's args parameter.*")  # training.arguments has read the command line
    torch.set_float32_matmul_precision("high")
    with one_line_errors():
        try:
            if is_planned:
                print_plan(build_plan(module, arguments, system=system, data=data, linked=linked))
            else:
                fit(_build_cli(TrainCLI, module, arguments, system=system, data=data, linked=linked))
        except MisconfigurationException as error:
            raise InputError(f"trainer settings: {shorten(error)}") from None
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise InputError("batch norms need more than one value a channel; give larger crops or a larger batch") from None
            # jsonargparse wraps what the check of an optional group of settings says into many lines.
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            raise


def build_plan(
    module: type[LightningModule],
    arguments: Sequence[str],
    *,
    system: str,
    data: type[PanopticDataModule] = PanopticDataModule,
    linked: tuple[str, ...] = (),
) -> TrainingPlan:
    """What training.memory_plan counts of the training that some arguments describe; the arguments are run_training's."""
    warnings.filterwarnings("ignore", ".*self.trainer. reference is not registered.*")  # there is no trainer to log with
    return _build_cli(PlanCLI, module, arguments, system=system, data=data, linked=linked).plan


def _build_cli(
    kind: type[TrainCLI], module: type[LightningModule], arguments: Sequence[str], *, system: str, data: type, linked: tuple
) -> TrainCLI:
    cli = type("CLI", (kind,), {"system": system, "linked": linked})
    options = {"run": False, "args": list(arguments), "save_config_kwargs": {"overwrite": True}}
    return cli(module, data, parser_class=OneLineLightningParser, **options)


def fit(cli: TrainCLI) -> None:
    """Go on or start with what the arguments have built, and say what was written."""
    rate = learning_rate(cli.model.optimizer_settings, cli.trainer, cli.datamodule)
    say(f"config {cli.config.config[-1]}, output {cli.output}, learning rate {rate:g}", flush=True)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in cli.model.parameters()]
    total, learning = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    say(f"{total / 1e6:.1f} million parameters, of which {learning / 1e6:.1f} learn", flush=True)
    if cli.trainer.is_global_zero:
        remove_partial_files(cli.output)
    if not cli.config.resume:
        for name in ("best.ckpt", "last.ckpt"):
            (cli.output / name).unlink(missing_ok=True)
    last, done = find_last(cli.output, dict(cli.model.hparams), cli.model.taxonomy, bool(cli.config.ema_decay))
    if 0 <= cli.trainer.max_epochs <= done:
        say(f"all {done} epochs are done; --no-resume trains anew")
    else:
        if last is None:
            line, loaded = load_start(cli.model.network, cli.model.weights) if cli.model.weights is not None else ("", set())
            check_learns(cli.model.network, loaded, cli.model.from_scratch)
            if line:
                say(line, flush=True)
        else:
            epochs = f" of {cli.trainer.max_epochs}" if cli.trainer.max_epochs > 0 else ""
            say(f"going on from {last}, epoch {done}{epochs}", flush=True)
        with on_interruption(partial(_describe_kept, cli.output)), all_processes_end(cli.trainer):
            try:
                cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last)
            except SystemExit as end:  # Lightning's answer to an interruption
                if isinstance(end.__context__, KeyboardInterrupt):
                    raise end.__context__ from None
                raise
    for name in ("best.ckpt", "last.ckpt"):
        if (cli.output / name).exists():
            say(f"wrote {cli.output / name}")
    say(f"images and curves: tensorboard --logdir {cli.output}")


def _describe_kept(output: Path) -> str:
    last = output / "last.ckpt"
    if not last.exists():
        return f"before the first checkpoint of {output}; the same command starts this training anew"
    done = read_checkpoint_file(last, "give --no-resume")["epoch"] + 1
    return f"{last} holds {done} epochs; run the same command again to go on from there"
