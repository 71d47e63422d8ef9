"""The arguments that training commands share, in one spelling, and how LightningCLI is told of them; light, without torch."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt

from runtime.command_line import (
    REPOSITORY,
    add_data_arguments,
    add_switch,
    current_spelling,
    make_parser,
    mark_common,
    relative_to_repository,
)
from runtime.files import InputError, is_plain_name, read_yaml, shorten

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Ours -> Lightning's."""
AS_CONFIGURED = "default: as the configuration says"
RANDOM = "none"
"""As --weights: those that a configuration names are not loaded."""
AUGMENTATION = (
    *("crop_height", "crop_width", "scale_range", "flip_probability", "brightness", "contrast", "saturation", "hue"),
    *("shorter_sides", "longer_side"),
)
"""Settings that were once `--data.NAME`, and are `--data.augmentation.NAME`."""


def add_training_arguments(parser: ArgumentParser, output: str) -> None:
    """All default to what the configuration says.

    Args:
        output: default of --output, for --help.
    """
    group = parser.add_argument_group("training")
    add_data_arguments(group)
    help_output = f"folder of checkpoints and logs; default: {output}"
    group.add_argument("--output", "--work-dir", type=str | None, default=None, metavar="DIR", help=help_output)
    add_switch(group, "--resume", True, "go on from the output's last checkpoint where there is one; --no-resume starts anew")
    help_weights = "to start from where nothing is resumed: packaged ones by name, such as lite0, a file of "
    help_weights += f"scripts/import_weights.py, or none: random ones; {AS_CONFIGURED}"
    group.add_argument("--weights", type=str | None, default=None, metavar="NAME|FILE", help=help_weights)
    group.add_argument("--epochs", type=PositiveInt | None, default=None, help=f"of the whole training; {AS_CONFIGURED}")
    help_precision = f"mixed where the device has it; else 32 bits, and a line that says so; {AS_CONFIGURED}"
    group.add_argument("--precision", "--amp", choices=("32", "bf16", "fp16"), default=None, help=help_precision)
    help_accumulate = f"add up the gradients of N batches before each step; {AS_CONFIGURED}"
    group.add_argument("--accumulate", type=PositiveInt | None, default=None, metavar="N", help=help_accumulate)
    help_ema = "validate, save and dump a moving average of the weights, such as 0.999; 0: the weights themselves; "
    help_ema += AS_CONFIGURED
    group.add_argument("--ema-decay", type=ClosedUnitInterval | None, default=None, help=help_ema)
    help_seed = f"of weights, order and augmentation; {AS_CONFIGURED}"
    group.add_argument("--seed", type=NonNegativeInt | None, default=None, help=help_seed)
    help_device = f"cpu, cuda, cuda:1, ... or auto; {AS_CONFIGURED}"
    group.add_argument("--device", type=str | None, default=None, help=help_device)
    help_workers = f"processes that read and augment; {AS_CONFIGURED}"
    group.add_argument("--workers", type=NonNegativeInt | None, default=None, help=help_workers)
    help_plan = "print parameters and estimated peak memory for several batch sizes, and end; needs no data set and no GPU"
    group.add_argument("--plan", action="store_true", help=help_plan)
    mark_common(group, "--output", "--resume", "--weights", "--epochs", "--precision", "--device", "--workers", "--plan")


def lightning_arguments(
    arguments: Sequence[str], *, prog: str, description: str, system: str, default_config: Path
) -> tuple[list[str], Namespace]:
    """The command line of a Lightning training: what LightningCLI gets, and the project's own arguments.

    `--help` is answered here, at once; `--help-all` here, too, and then by LightningCLI, with every setting of the YAML.

    Args:
        system: folder of configurations and results.
        default_config: taken where no --config is given.
    """
    parser = make_parser(prog, description, has_config=False, beyond="; seconds later, every setting of the YAML")
    shown = relative_to_repository(default_config)
    help_config = f"YAML, of which every setting is a flag, too (--help-all); may be repeated; default: {shown}"
    parser.add_argument("--config", "-c", action="append", default=None, metavar="FILE", help=help_config)
    add_training_arguments(parser, f"outputs/{system}/<name of the config>")
    help_every = f"write last.ckpt after each N-th epoch, a divisor of all; a kill then loses up to N; {AS_CONFIGURED}"
    parser.add_argument("--save-every", type=PositiveInt | None, default=None, metavar="N", help=help_every)
    mark_common(parser, "--config")
    own, others = _split(parser, current_spelling(arguments))
    is_whole = "--help-all" in own
    args = parser.parse_args([argument for argument in own if argument != "--help-all"])
    args.help_all = is_whole
    if is_whole or any(argument.endswith(".help") for argument in others):
        set_parsing_settings(docstring_parse_attribute_docstrings=True)  # of the fields of settings; takes a while
    if is_whole:
        parser.print_whole_help()
        print("\nsettings of the YAML, each of which is a flag, too:\n", flush=True)
        return ["--help"], args
    configs = [config for given in args.config or [str(default_config)] for config in with_bases(Path(given))]
    read = [part for config in configs for part in ("--config", str(config))]
    return [*read, *_to_lightning(args), *map(_to_nested, others)], args


def with_bases(config: Path) -> list[Path]:
    """A configuration after those that it builds on: its `base`, relative to it, says so, and it says only what differs.

    Raises:
        InputError: if a file is missing, no YAML, or builds on itself.
    """
    chain: list[Path] = []
    while config is not None:
        path = config if config.is_file() or config.is_absolute() else REPOSITORY / config
        if path.resolve() in map(Path.resolve, chain):
            raise InputError(f"{path}: builds on itself; correct its `base`")
        if not path.exists():
            raise InputError(f"{config}: no such configuration; give the path of a YAML, such as those in configs/")
        content = read_yaml(path)
        chain.insert(0, path)
        base = content.get("base") if isinstance(content, dict) else None
        if base is not None and not (isinstance(base, str) and is_plain_name(base)):
            raise InputError(f"{path}: builds on {shorten(repr(base), 40)}, but the path of a YAML is needed; correct its `base`")
        config = path.parent / base if base else None
    return chain


def _split(parser: ArgumentParser, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments that the parser knows, and all others, which are LightningCLI's."""
    flags = {flag for action in parser._actions for flag in action.option_strings}
    own, others, target = [], [], None
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            target = own if argument.partition("=")[0] in flags else others
        (others if target is None else target).append(argument)
    return own, others


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _to_lightning(args: Namespace) -> list[str]:
    """The project's flags in LightningCLI's words."""
    accelerator, number = (None, "") if args.device is None else read_device(args.device)
    devices = f"[{number}]" if number else None
    pairs = {
        "--trainer.max_epochs": args.epochs,
        "--trainer.precision": PRECISIONS.get(args.precision),
        "--trainer.accumulate_grad_batches": args.accumulate,
        "--trainer.accelerator": accelerator,
        "--trainer.devices": devices,
        "--seed_everything": args.seed,
        "--data.num_workers": args.workers,
        "--model.weights": "null" if args.weights == RANDOM else args.weights,
        "--output": args.output,
        "--data_root": args.data_root,
        "--data.truth_classes": args.truth_classes,
        "--ema_decay": args.ema_decay,
        "--save_every": args.save_every,
    }
    read = [part for flag, value in pairs.items() if value is not None for part in (flag, str(value))]
    return read + (["--data.layout", args.layout] if args.layout != "auto" else []) + ["--resume", str(args.resume).lower()]


def read_device(text: str) -> tuple[str, str]:
    """`cuda:1` -> ("cuda", "1"), `cpu` -> ("cpu", "").

    Raises:
        InputError: if it is none of ACCELERATORS, or has no number after the colon.
    """
    kind, colon, number = text.partition(":")
    if kind not in ACCELERATORS or bool(colon) != number.isdecimal():
        raise InputError(f"--device {text} is unknown; give one of {', '.join(ACCELERATORS)}, or cuda:1")
    return kind, number


def _to_nested(argument: str) -> str:
    """`--data.crop_height` -> `--data.augmentation.crop_height`, and Panoptic FPN's `--model.input_size` -> the data's."""
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--data.")
    if flag.startswith("--data.") and name in AUGMENTATION:
        flag = f"--data.augmentation.{name}"
    elif flag.startswith("--model.input_size"):
        flag = flag.replace("--model.", "--data.")
    return f"{flag}{equals}{value}"


def training_arguments(**about: object) -> tuple[list[str], Namespace]:
    """lightning_arguments of this process's own command line."""
    return lightning_arguments(sys.argv[1:], **about)
