"""Train stage 1, SOLOv2, through mmdet.

    $ cd solov2 && python train.py
    $ python solov2/train.py --config configs/solov2/cityscapes_r50.py --data-root /path/to/cityscapes
    $ python solov2/train.py --data-root /path/to/coco
    $ python solov2/train.py --epochs 30 --cfg-options optim_wrapper.optimizer.lr=0.002

Without --config it trains configs/solov2/streets_lite0.py on the embedded data set; the classes are the data set's things. The
same command again goes on where it was stopped, and says so when all is done. Several GPUs: torchrun --nproc-per-node N
solov2/train.py --launcher pytorch ...; a batch is then one process's, and norm statistics are not shared (--cfg-options
sync_bn=torch shares them, on GPUs).
"""

import os
import sys

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import add_derived_argument, add_switch, current_spelling, make_parser, mark_common
from runtime.files import one_line_errors
from training.arguments import add_training_arguments, read_device


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("train.py", __doc__, has_config=False)
    parser.add_argument("--config", default="configs/solov2/streets_lite0.py", help="mmengine config")
    help_options = "settings of the config to change, such as optim_wrapper.optimizer.lr=0.002"
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="NAME=VALUE", help=help_options)
    add_training_arguments(parser, "outputs/solov2/<config name>")
    group = parser.add_argument_group("SOLOv2 alone")
    group.add_argument("--split", type=str | None, default=None, help="to validate on; default: val or val2017")
    add_derived_argument(group)
    group.add_argument("--train-split", type=str | None, default=None, help="default: train or train2017")
    launchers = ("none", "pytorch")
    group.add_argument("--launcher", choices=launchers, default="none", help="pytorch under torchrun")
    help_scale = "learning rate in proportion to the images a step; the config's rate is for auto_scale_lr.base_batch_size"
    add_switch(group, "--scale-lr", None, f"{help_scale}; default: as the configuration says")
    mark_common(parser, "--config", "--split", "--cfg-options")
    return parser


def run(args: Namespace) -> None:
    """Everything that the command does."""
    kind, number = read_device(args.device or "auto")
    if kind == "cpu" or number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number  # mmengine takes a GPU where it sees one
    # First: it sets what torch reads when it is loaded.
    import solov2  # noqa: F401

    if args.plan:
        from solov2.memory_plan import build_plan
        from training.memory_plan import print_plan

        print_plan(build_plan(args))
        return
    from runtime.device import check_device
    from solov2.trainer import run as train

    if kind in ("cuda", "mps"):
        check_device(kind)
    train(args)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
