"""Training of stage 1, SOLOv2, through mmdet's Runner; solov2/train.py is the command."""

import warnings
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from mmengine import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from data.drawn.embedded import find_data_set
from runtime.command_line import relative_to_repository
from runtime.files import InputError, on_interruption
from runtime.processes import report_error_once
from runtime.progress import track
from solov2.checkpoints import POINTER, allow_checkpoint_classes, find_last, load_weights, read_checkpoint
from solov2.data_set import prepare_split, use_splits
from solov2.finite_training import FiniteTrainingHook
from solov2.processes import first_process_first, num_processes, say, start_processes
from solov2.progress_display import ShortLogRunner
from solov2.settings import find_config, load_config, output_folder, parse_options
from solov2.trained_settings import TrainedSettings, TrainedSettingsHook, read_settings
from solov2.training_options import apply_training_options
from solov2.weights import StartFromWeights

NEEDED = ("data_root", "model", "train_dataloader", "test_dataloader", "optim_wrapper", "train_cfg")
"""Settings without which nothing can be trained."""


def find_resume(work_dir: Path, settings: TrainedSettings, rate: float | None = None) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Args:
        rate: the learning rate; None where parts of the model have rates of their own.

    Raises:
        InputError: if it was trained on other classes or with another input.
    """
    last = find_last(work_dir)
    if last is None:
        return None, 0
    checkpoint = read_checkpoint(last)
    before = read_settings(checkpoint, last)
    if difference := before.taxonomy.difference(settings.taxonomy):
        raise InputError(
            f"{relative_to_repository(last)}: was trained on other classes, {difference}; give another --output, or --no-resume"
        )
    if different := before.input_differences(settings):
        raise InputError(
            f"{relative_to_repository(last)}: was trained with another input, {different}; give another --output, or --no-resume"
        )
    begun = checkpoint.get("optimizer", {}).get("param_groups", [{}])[0].get("initial_lr", rate)
    if rate is not None and begun != rate:
        advice = "give another --output, or --no-resume"
        raise InputError(
            f"{relative_to_repository(last)}: began with learning rate {begun:g}, and {rate:g} would not be taken; {advice}"
        )
    if before.data_root != settings.data_root:
        place = relative_to_repository(last)
        say(f"note: {place} was trained on {before.data_root}, this is {settings.data_root}; --no-resume starts anew", flush=True)
    return last, int(checkpoint["meta"]["epoch"])


def build_runner(config: Config, resume_from: Path | None, weights: str | None = None) -> Runner:
    """mmdet's Runner with model, data and schedule in place.

    Args:
        weights: to start from where nothing is resumed: packaged ones, a file of scripts/import_weights.py, or RANDOM; None: what
            the configuration loads by mmengine's own settings.

    Raises:
        InputError: if the checkpoint to go on from is of another model.
    """
    if resume_from is not None or weights is not None:
        config.model.backbone.init_cfg = config.load_from = None  # nothing is loaded only to be overwritten
    if resume_from is not None:
        config.load_from, config.resume = str(resume_from), True
    try:
        runner = ShortLogRunner.from_cfg(config)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"{config.filename}: cannot be built ({' '.join(str(error).split())}); correct the config") from error
    if resume_from is not None:
        # mmengine would skip what does not fit, with a warning, and then fail in the optimizer.
        load_weights(getattr(runner.model, "module", runner.model), read_checkpoint(resume_from), resume_from)
    else:
        runner.register_hook(StartFromWeights(weights, config))
    return runner


def _describe_kept(work_dir: Path) -> str:
    last = find_last(work_dir)
    if last is None:
        return f"before the first checkpoint of {relative_to_repository(work_dir)}; the same command starts this training anew"
    return f"{relative_to_repository(last)} is kept; run the same command again to go on from there"


def train(args: Namespace) -> None:
    """Everything that the command does."""
    config_path = find_config(args.config)
    config = load_config(config_path, parse_options(args.cfg_options), NEEDED)
    work_dir = Path(args.output).expanduser().resolve() if args.output else output_folder(config_path)
    config.work_dir, config.launcher = str(work_dir), args.launcher
    start_processes(config)
    with first_process_first():
        data_set = find_data_set(args.data_root, args.layout, args.truth_classes or config.get("truth_classes"))
        root, derived = data_set.root.resolve(), args.derived and args.derived.expanduser().resolve()
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        where = device if num_processes() == 1 else f"{num_processes()} x {device}"
        place = relative_to_repository(root)
        say(f"training SOLOv2: {relative_to_repository(config_path)} on {place} ({where})", flush=True)
        splits = []
        for name, for_training in ((args.train_split, True), (args.split, False)):
            bar = partial(track, description=f"converting {'training' if for_training else 'validation'} labels")
            split, is_written = prepare_split(
                replace(data_set, root=root, derived=derived),
                name,
                for_training=for_training,
                track=lambda items, n, bar=bar: bar(items, total=n),
            )
            splits.append(split)
            if is_written:
                print(f"wrote {relative_to_repository(split.instances_json)}", flush=True)
        work_dir.mkdir(parents=True, exist_ok=True)
        if not args.resume:
            for old in (work_dir / POINTER, *work_dir.glob("epoch_*.pth")):
                old.unlink(missing_ok=True)
    use_splits(config, *splits)
    for line in apply_training_options(config, args, num_processes()):
        say(line, flush=True)
    allow_checkpoint_classes()
    settings = TrainedSettings.of_config(config, splits[0].taxonomy)
    rate = None if "paramwise_cfg" in config.optim_wrapper else config.optim_wrapper.optimizer.lr
    last, num_epochs_done = find_resume(work_dir, settings, rate)
    is_averaged = any(hook["type"] == "EMAHook" for hook in config.get("custom_hooks", []))
    if last is not None and not is_averaged and "ema_state_dict" in read_checkpoint(last):
        raise InputError(
            f"{relative_to_repository(last)}: holds averaged weights, which cannot be trained on; average on, or give --no-resume"
        )
    if num_epochs_done >= config.train_cfg.max_epochs:
        say(f"all {num_epochs_done} epochs are done; --no-resume trains anew")
    else:
        if last is not None:
            place = relative_to_repository(last)
            say(f"going on from {place}, epoch {num_epochs_done} of {config.train_cfg.max_epochs}", flush=True)
        runner = build_runner(config, last, args.weights or (None if config.get("load_from") else config.get("weights")))
        runner.register_hook(TrainedSettingsHook(settings))
        runner.register_hook(FiniteTrainingHook(), "VERY_HIGH")
        with on_interruption(partial(_describe_kept, work_dir)):
            runner.train()
    if is_main_process():  # the checkpoint is its own
        print(f"wrote {relative_to_repository(find_last(work_dir))}")
        print(f"logs of every iteration: {relative_to_repository(work_dir)}/*/*.log")


def run(args: Namespace) -> None:
    """Train, and let one process say what is wrong."""
    # Of mmdet's and mmengine's own calls; nothing that the user could change.
    for message in ("torch.meshgrid", ".*lr_scheduler.step", "Failed to search registry", ".*__array__", ".*_NUM_THREADS"):
        warnings.filterwarnings("ignore", message=message)
    with report_error_once():
        train(args)
