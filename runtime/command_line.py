"""One spelling for one wish: parsers that all commands build on, and the older spellings that still work.

Nothing here, and nothing that a parser is built from, imports torch: `--help` is there at once.
"""

import dataclasses
import re
import sys
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace

from runtime.files import InputError, is_plain_name, read_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUTS = REPOSITORY / "outputs"
OLDER = {
    "--tta-scales": "--tta.scales",
    "--tta-flip": "--tta.flip",
    "--image-path": "--images",
    "--work-dir": "--output",
    "--amp": "--precision",
    "--again": "--no-resume",
    "--input.shorter_side": "--input_size.shorter_side",
    "--input.longer_side": "--input_size.longer_side",
}
"""Older spelling -> the one of today."""


class ConfigFile(ActionConfigFile):
    """The YAML of --config, looked at before jsonargparse's loader, which a deep one would crash."""

    def __call__(self, parser: ArgumentParser, cfg: Namespace, values: object, option_string: str | None = None) -> None:
        """As jsonargparse's."""
        if isinstance(values, str) and is_plain_name(values) and Path(values).is_file():
            read_yaml(Path(values))
        super().__call__(parser, cfg, values, option_string)


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of a command's docstring, whose examples are to be copied, and names a default where there is one."""

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        is_said = "default" in text or default is None or default is SUPPRESS or default == []
        return text if is_said else f"{text} (default: {str(default).lower() if isinstance(default, bool) else default})"


class OneLineErrors:
    """Goes before a jsonargparse parser: what it says of a wrong argument becomes one line, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """As jsonargparse's."""
        if not self.exit_on_error:  # it asks itself whether a value fits
            super().error(message, ex)
        sys.exit(f"error: {self._in_one_line(message)}; see --help")

    def _in_one_line(self, message: str) -> str:
        key = re.search('Parser key "(.*?)"', message)
        reason = re.search(r"Not of type \w+: (.*)|Expected an? (.*?)(?:\. Got value.*)?$", message, re.MULTILINE)
        if not (key and reason):
            return " ".join(message.split())
        flag = next((action.option_strings[0] for action in self._actions if action.dest == key[1]), f"--{key[1]}")
        value = re.search("(?:Given|Got) value: (.*)", message)
        given = f"{flag} {value[1]}" if value else flag
        if reason[1]:
            return f"{given}: {reason[1]}"
        needed = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", reason[2])
        needed = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", needed)
        return f"{given}: {needed} is needed"


class OneLineParser(OneLineErrors, ArgumentParser):
    """A parser whose errors are one line, as all errors of the commands, and whose numbers are plain ones."""

    def parse_args(self, *args: object, **kwargs: object) -> Namespace:
        """As jsonargparse's, but a PositiveInt is an int: in a checkpoint its own type would keep the file from being read."""
        found = super().parse_args(*args, **kwargs)
        for name, value in list(found.items()):
            for plain in (int, float):
                if isinstance(value, plain) and type(value) not in (plain, bool):
                    found[name] = plain(value)
        return found


def make_parser(prog: str, description: str, *, has_config: bool = True) -> ArgumentParser:
    """A parser whose arguments can also stand in the YAML of --config.

    Args:
        description: of --help; a module's docstring.
        has_config: whether there is such a YAML.
    """
    parser = OneLineParser(prog=prog, description=description, formatter_class=HelpFormatter)
    if has_config:
        parser.add_argument("--config", action=ConfigFile, help="YAML with any of the arguments below")
    return parser


def add_data_arguments(group: ArgumentParser) -> None:
    """Which data set: `--data-root` and `--layout`.

    Args:
        group: a parser, or a group of its arguments.
    """
    help_root = "a data set's folder; else $CITYSCAPES_DATASET, $CITYSCAPES_DIR or $COCO_DATASET, else an embedded one"
    group.add_argument("--data-root", type=str | None, default=None, metavar="DIR", help=help_root)
    help_layout = "of the data set: cityscapes, coco, or auto, which recognises the folder, and takes Streets where there is none"
    group.add_argument("--layout", default="auto", help=help_layout)
    help_classes = "class map that the truth goes through: coco-supercategories, or a YAML file (docs/formats.md)"
    group.add_argument("--truth-classes", type=str | None, default=None, metavar="NAME|FILE", help=help_classes)


def add_derived_argument(parser: ArgumentParser) -> None:
    """`--derived`, of commands that write what they make from a data set's truth."""
    help_derived = (
        "where what is made from the truth goes, for a data set that cannot be written to; default: the data set's folder"
    )
    parser.add_argument("--derived", type=Path | None, default=None, metavar="DIR", help=help_derived)


def add_settings(parser: ArgumentParser, name: str, settings: type, title: str, short: Mapping[str, str] | None = None) -> None:
    """A flag `--name.field` for each field of a dataclass of settings, whose default is None: not given.

    Args:
        title: of the group in --help, with what is taken where a flag is not given.
        short: field -> another spelling of its flag.
    """
    words = {p.arg_name: p.description for p in parse_from_object(settings).params}
    types, group = get_type_hints(settings), parser.add_argument_group(title)
    for field in dataclasses.fields(settings):
        flags = [f"--{name}.{field.name}", *([short[field.name]] if field.name in (short or {}) else [])]
        group.add_argument(*flags, type=types[field.name] | None, default=None, help=words.get(field.name))


def given_settings(group: Namespace | Mapping) -> dict:
    """The settings of add_settings that were given, by field."""
    return {name: value for name, value in vars(group).items() if value is not None}


def add_switch(parser: ArgumentParser, flag: str, default: bool, help: str) -> None:
    """`--flag` and `--no-flag`."""
    parser.add_argument(flag, action=ActionYesNo(no_prefix="no-"), default=default, help=help)


def current_spelling(arguments: Sequence[str]) -> list[str]:
    """Arguments with older spellings replaced by today's; also `--tta.scales 1 2`, `--tta.flip` and `--resume false`."""
    read: list[str] = []
    waiting = list(arguments)
    while waiting:
        flag, equals, value = waiting.pop(0).partition("=")
        if not (flag or equals) or (equals and not value):
            before = flag or (read[-1] if read else "an argument")
            raise InputError(f"{before} is given empty text; give a value, or leave it out (is a variable unset?)")
        flag = OLDER.get(flag, flag)
        if flag == "--tta.scales":
            values = [value] if equals else []
            while waiting and not waiting[0].startswith("--"):
                values.append(waiting.pop(0))
            numbers = re.findall(r"[^\s,\[\]()]+", " ".join(values))
            read += [flag, f"[{','.join(numbers)}]"]
        elif flag == "--tta.flip" and not equals:
            is_said = bool(waiting) and waiting[0].lower() in ("true", "false")
            read += [flag, waiting.pop(0).lower() if is_said else "true"]
        elif flag == "--resume" and (equals or (waiting and waiting[0].lower() in ("true", "false"))):
            said = value if equals else waiting.pop(0)
            read.append("--no-resume" if said.lower() == "false" else "--resume")
        else:
            read.append(f"{flag}={value}" if equals else flag)
    return read


def relative_to_repository(path: Path) -> str:
    """A path for the user, relative to the repository where it lies inside."""
    path = Path(path)
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
