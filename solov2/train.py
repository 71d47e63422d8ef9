"""Train stage 1, SOLOv2, through mmdet.

    $ cd solov2 && python train.py
    $ python solov2/train.py --config configs/solov2/cityscapes_r50.py --data-root /path/to/cityscapes
    $ python solov2/train.py --cfg-options train_cfg.max_epochs=30 optim_wrapper.optimizer.lr=0.002

Without --config it trains configs/solov2/streets_r18.py on the embedded data set. The same command again goes on where it was
stopped, and says so when all is done. Several GPUs: torchrun --nproc-per-node N solov2/train.py --launcher pytorch ...; a
batch is then one process's, and norm statistics are not shared (--cfg-options sync_bn=torch shares them, on GPUs).
"""

import argparse
import re
import warnings
from functools import partial
from pathlib import Path

import solov2  # noqa: F401, first: it sets what torch reads when it is loaded

# isort: split
import torch
from mmengine import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from data.layouts.cityscapes import data_root, ensure_instances_json, instances_json_path
from runtime.files import InputError, one_line_errors
from runtime.processes import one_voice
from solov2.checkpoints import POINTER, allow_checkpoint_classes, find_last, load_weights, read_checkpoint
from solov2.processes import first_process_first, num_processes, say, start_processes
from solov2.progress_display import ShortLogRunner, track
from solov2.settings import add_arguments, find_config, load_config, output_folder, set_data_root, shown
from solov2.training_options import add_training_arguments, apply_training_options
from solov2.weights import StartFromWeights

NEEDED = ("data_root", "model", "train_dataloader", "optim_wrapper", "train_cfg")
"""Settings without which nothing can be trained."""


def parse_arguments() -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--work-dir", help="gets checkpoints and logs (default: outputs/solov2/<config name>)")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from the work folder's last checkpoint where there is one (default); --no-resume starts anew",
    )
    parser.add_argument("--weights", type=Path, help="file of scripts/import_weights.py to start from, where nothing is resumed")
    parser.add_argument("--launcher", default="none", choices=["none", "pytorch"], help="pytorch under torchrun (default: none)")
    add_training_arguments(parser)
    return parser.parse_args()


def prepare_annotations(root: Path) -> None:
    """Write the COCO instance JSON of train and val where it is absent or older than the labels.

    Raises:
        InputError: if a split is missing, or a label is missing or broken.
    """
    for split in ("train", "val"):
        if ensure_instances_json(root, split, track=partial(track, description=f"converting {split} labels")):
            print(f"wrote {shown(instances_json_path(root, split))}", flush=True)


def find_resume(work_dir: Path, root: Path) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it."""
    last = find_last(work_dir)
    if last is None:
        return None, 0
    meta = read_checkpoint(last)["meta"]
    # The config is Python text: it is searched, never executed.
    named = re.search(r"^data_root = '(.*)'$", str(meta.get("cfg")), re.MULTILINE)
    if named and Path(named[1]) != root:
        say(f"note: {shown(last)} was trained on {named[1]}, this is {root}; --no-resume starts anew", flush=True)
    return last, int(meta["epoch"])


def build_runner(config: Config, resume_from: Path | None, weights: Path | None = None) -> Runner:
    """mmdet's Runner with model, data and schedule in place.

    Args:
        weights: of scripts/import_weights.py, to start from where there is nothing to go on from.

    Raises:
        InputError: if the checkpoint to go on from is of another model.
    """
    if resume_from is not None:
        config.load_from, config.resume = str(resume_from), True
    elif weights is not None:
        config.model.backbone.init_cfg = None  # nothing is downloaded only to be overwritten
    try:
        runner = ShortLogRunner.from_cfg(config)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"{config.filename}: cannot be built ({' '.join(str(error).split())}); correct the config") from error
    if resume_from is not None:
        # mmengine would skip what does not fit, with a warning, and then fail in the optimizer.
        load_weights(getattr(runner.model, "module", runner.model), read_checkpoint(resume_from), resume_from)
    elif weights is not None:
        runner.register_hook(StartFromWeights(weights))
    return runner


def train(args: argparse.Namespace) -> None:
    """Everything that the command does."""
    config_path = find_config(args.config)
    config = load_config(config_path, args.cfg_options, NEEDED)
    work_dir = Path(args.work_dir).expanduser().resolve() if args.work_dir else output_folder(config_path)
    config.work_dir, config.launcher = str(work_dir), args.launcher
    start_processes(config)
    with first_process_first():
        root = data_root(args.data_root).resolve()
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        where = device if num_processes() == 1 else f"{num_processes()} x {device}"
        say(f"training SOLOv2: {shown(config_path)} on {shown(root)} ({where})", flush=True)
        prepare_annotations(root)
        work_dir.mkdir(parents=True, exist_ok=True)
        if not args.resume:
            for old in (work_dir / POINTER, *work_dir.glob("epoch_*.pth")):
                old.unlink(missing_ok=True)
    set_data_root(config, root)
    for line in apply_training_options(config, args, num_processes()):
        say(line, flush=True)
    allow_checkpoint_classes()
    last, num_epochs_done = find_resume(work_dir, root)
    is_averaged = any(hook["type"] == "EMAHook" for hook in config.get("custom_hooks", []))
    if last is not None and not is_averaged and "ema_state_dict" in read_checkpoint(last):
        raise InputError(f"{shown(last)}: holds averaged weights, which cannot be trained on; average on, or give --no-resume")
    if num_epochs_done >= config.train_cfg.max_epochs:
        say(f"all {num_epochs_done} epochs are done; --no-resume trains anew")
    else:
        if last is not None:
            say(f"going on from {shown(last)}, epoch {num_epochs_done} of {config.train_cfg.max_epochs}", flush=True)
        build_runner(config, last, args.weights).train()
    if is_main_process():  # the checkpoint is its own
        print(f"wrote {shown(find_last(work_dir))}\nlogs of every iteration: {shown(work_dir)}/*/*.log")


def main() -> None:
    """The command; see above."""
    args = parse_arguments()
    # Of mmdet's and mmengine's own calls; nothing that the user could change.
    for message in ("torch.meshgrid", ".*lr_scheduler.step", "Failed to search registry", ".*__array__", ".*_NUM_THREADS"):
        warnings.filterwarnings("ignore", message=message)
    with one_line_errors(), one_voice():
        train(args)


if __name__ == "__main__":
    main()
