"""One spelling for one wish: parsers that all commands build on, and the older spellings that still work.

Nothing here, and nothing that a parser is built from, imports torch: `--help` is there at once.
"""

import dataclasses
import re
import shutil
import sys
import textwrap
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace

from runtime.files import InputError, is_plain_name, read_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
if not (REPOSITORY / "pyproject.toml").is_file():  # installed as a copy: the commands are called in a clone
    REPOSITORY = Path.cwd()
OUTPUTS = REPOSITORY / "outputs"
HELP_COLUMNS = 100
"""Of --help, at most."""
OLDER = {
    "--tta-scales": "--tta.scales",
    "--tta-flip": "--tta.flip",
    "--image-path": "--images",
    "--image": "--images",
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
    """The text of --help-all: a command's whole docstring, and all options in their groups, each with its default."""

    def __init__(self, *args: object, **kwargs: object):
        width = min(HELP_COLUMNS, shutil.get_terminal_size().columns)
        super().__init__(*args, **{"width": width, "max_help_position": 28} | kwargs)

    def _format_usage(self, usage: str | None, actions: Iterable[Action], *args: object) -> str:
        program = relative_to_repository(Path(sys.argv[0]).resolve())
        words = [program if Path(program).name == self._prog else self._prog]
        for action in filter(_is_needed, actions):
            is_choice = action.option_strings and action.choices  # which are shown below
            invocation = f"{action.option_strings[0]} {action.dest.upper()}" if is_choice else None
            words.append(invocation or self._format_action_invocation(action))
        return f"usage: python {' '.join(words)} [options]\n\n"

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            name = str(action.metavar or action.dest)
            return f"[{name}]" if action.nargs == "?" else name
        value = "" if action.nargs == 0 else self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(self._shown_names(action))} {value}".rstrip()

    def _shown_names(self, action: Action) -> Sequence[str]:
        return action.option_strings

    def _format_args(self, action: Action, default_metavar: str) -> str:
        if action.nargs == "+":  # argparse's "{a,b} [{a,b} ...]" fills a line
            return f"{self._metavar_formatter(action, default_metavar)(1)[0]} ..."
        return super()._format_args(action, default_metavar)

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        if action.required:
            return f"{text} (required)"
        if re.search(r"\bdefaults?\b", text, re.IGNORECASE) or default is SUPPRESS:
            return text
        if isinstance(default, (list, tuple)):
            default = " ".join(map(str, default)) or None
        if default is None or isinstance(default, bool):
            default = str(default).lower()
        return f"{text} (default: {str(default).removeprefix(f'{REPOSITORY}/')})"


class SettingsHelpFormatter(HelpFormatter):
    """The options of LightningCLI alone, whose usage and description say nothing more."""

    def add_usage(self, usage: str | None, actions: Iterable[Action], *args: object, **kwargs: object) -> None:
        """Nothing is added."""

    def add_text(self, text: str | None) -> None:
        """Nothing is added."""


class CommonHelpFormatter(HelpFormatter):
    """The text of --help: a docstring's first paragraph and its examples, then the common options, without older spellings."""

    def add_usage(self, usage: str | None, actions: Iterable[Action], *args: object, **kwargs: object) -> None:
        """As argparse's, which gives all options here, before their groups."""
        super().add_usage(usage, actions, *args, **kwargs)
        self._whole = next(action for action in actions if isinstance(action, ShowAll))
        hidden = ("help", self._whole.dest)
        self._options = [action for action in actions if action.dest not in hidden and action.help != SUPPRESS]
        is_marked = any(map(_is_common, self._options))
        self._shown = [action for action in self._options if _is_common(action) or _is_needed(action) or not is_marked]

    def add_text(self, text: str | None) -> None:
        """As argparse's, of a command's docstring."""
        super().add_text(text and _short_description(text, self._width))

    def add_argument(self, action: Action) -> None:
        """As argparse's."""
        if action in self._shown:
            super().add_argument(action)

    def format_help(self) -> str:
        """As argparse's."""
        everything = f"all {len(self._options)} options and the whole description{self._whole.beyond}"
        return f"{super().format_help()}\n--help-all: {everything}\n"

    def _shown_names(self, action: Action) -> Sequence[str]:
        return action.option_strings if isinstance(action, ActionYesNo) else action.option_strings[:1]


def _is_common(action: Action) -> bool:
    return getattr(action, "is_common", False)


def _is_needed(action: Action) -> bool:
    return action.required or not action.option_strings


def _short_description(text: str, width: int) -> str:
    """The first paragraph of a docstring, and the examples if they follow."""
    first, *others = text.split("\n\n")
    paragraphs = [textwrap.fill(" ".join(first.split()), width)]
    if others and others[0].lstrip().startswith("$ "):
        paragraphs.append("\n".join(_wrap_command(line, width) for line in others[0].splitlines()))
    return "\n\n".join(paragraphs)


def _wrap_command(line: str, width: int) -> str:
    """A line of a shell, broken before flags where it is too long, so that it can still be copied."""
    lines = [""]
    for part in re.split(r" (?=--)", line):
        longer = f"{lines[-1]} {part}" if lines[-1] else part
        if len(longer) > width - 2 and longer != part:
            lines[-1] += " \\"
            lines.append(" " * 10 + part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


class ShowAll(Action):
    """`--help-all`."""

    beyond = ""
    """What it shows beside the options, in the last line of --help."""

    def __call__(self, parser: "OneLineParser", *args: object) -> NoReturn:
        """As argparse's of --help."""
        parser.print_whole_help()
        parser.exit()


def mark_common(group: ArgumentParser, *flags: str) -> None:
    """Show options in --help, and not in --help-all alone; a command that marks none shows all in both.

    Args:
        group: a parser, or a group of its arguments, that has them.
    """
    for flag in flags:
        group._option_string_actions[flag].is_common = True


class OneLineErrors:
    """Goes before a jsonargparse parser: what it says of a wrong argument becomes one line, and its help is the project's."""

    def __init__(self, *args: object, **kwargs: object):
        super().__init__(*args, **{"formatter_class": SettingsHelpFormatter} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """As jsonargparse's."""
        if not self.exit_on_error:  # it asks itself whether a value fits
            super().error(message, ex)
        sys.exit(f"error: {self._in_one_line(message)}; see --help")

    def _in_one_line(self, message: str) -> str:
        key = re.search('Parser key "(.*?)"', message)
        reason = re.search(r"Not of type \w+: (.*)|Expected an? (.*?)(?:\. Got value.*)?$", message, re.MULTILINE)
        if not (key and reason):
            if (absent := re.fullmatch(r"the following arguments are required: (.*)", message.strip())) is not None:
                return f"the following arguments are required: {', '.join(map(self._flag_of, absent[1].split(', ')))}"
            return " ".join(message.split())
        flag = self._flag_of(key[1])
        value = re.search("(?:Given|Got) value: (.*)", message)
        given = f"{flag} {value[1]}" if value else flag
        if reason[1]:
            return f"{given}: {reason[1]}"
        needed = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", reason[2])
        needed = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", needed)
        return f"{given}: {needed} is needed"

    def _flag_of(self, dest: str) -> str:
        """How an argument is typed: `output` -> `--output`; one without dashes is called as in the usage."""
        for action in self._actions:
            if action.dest == dest:
                return action.option_strings[0] if action.option_strings else str(action.metavar or dest)
        return f"--{dest}"


class OneLineParser(OneLineErrors, ArgumentParser):
    """A parser whose errors are one line, as all errors of the commands, and whose numbers are plain ones."""

    def print_whole_help(self) -> None:
        """What --help-all shows."""
        self.formatter_class = HelpFormatter
        self.print_help()

    def parse_args(self, *args: object, **kwargs: object) -> Namespace:
        """As jsonargparse's, but a PositiveInt is an int: in a checkpoint its own type would keep the file from being read."""
        found = super().parse_args(*args, **kwargs)
        for name, value in list(found.items()):
            for plain in (int, float):
                if isinstance(value, plain) and type(value) not in (plain, bool):
                    found[name] = plain(value)
        return found


def make_parser(prog: str, description: str, *, has_config: bool = True, beyond: str = "") -> OneLineParser:
    """A parser whose arguments can also stand in the YAML of --config.

    `--help` shows the options of mark_common, `--help-all` all.

    Args:
        description: of --help-all, and its first two paragraphs of --help; a module's docstring.
        has_config: whether there is such a YAML.
        beyond: what --help-all shows beside the options, for the last line of --help.
    """
    parser = OneLineParser(prog=prog, description=description, formatter_class=CommonHelpFormatter)
    parser._option_string_actions["--help"].help = "show the common options, and end"
    whole = parser.add_argument("--help-all", action=ShowAll, nargs=0, default=SUPPRESS, help="show all options, and end")
    whole.beyond = beyond
    if has_config:
        parser.add_argument("--config", action=ConfigFile, help="YAML with any of the arguments below; default: none")
    return parser


def add_data_arguments(group: ArgumentParser) -> None:
    """Which data set: `--data-root` and `--layout`.

    Args:
        group: a parser, or a group of its arguments.
    """
    help_root = "a data set's folder; default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR or $COCO_DATASET, else an embedded one"
    group.add_argument("--data-root", type=str | None, default=None, metavar="DIR", help=help_root)
    help_layout = "of the data set: cityscapes, coco, or auto, which recognises the folder, and takes Streets where there is none"
    group.add_argument("--layout", default="auto", help=help_layout)
    help_classes = "class map that the truth goes through: coco-supercategories, a YAML file (docs/formats.md), or none; "
    help_classes += "default: as a configuration says, else none"
    group.add_argument("--truth-classes", type=str | None, default=None, metavar="NAME|FILE", help=help_classes)
    mark_common(group, "--data-root", "--truth-classes")


def add_derived_argument(parser: ArgumentParser) -> None:
    """`--derived`, of commands that write what they make from a data set's truth."""
    help_derived = (
        "where what is made from the truth goes, for a data set that cannot be written to; default: the data set's folder"
    )
    parser.add_argument("--derived", type=Path | None, default=None, metavar="DIR", help=help_derived)


def add_settings(
    parser: ArgumentParser,
    name: str,
    settings: type,
    title: str,
    short: Mapping[str, str] | None = None,
    default: str | None = None,
) -> None:
    """A flag `--name.field` for each field of a dataclass of settings, whose default is None: not given.

    Args:
        title: of the group in --help.
        short: field -> another spelling of its flag.
        default: words for what is taken where a flag is not given; None: the dataclass's own defaults.
    """
    words = {p.arg_name: p.description for p in parse_from_object(settings).params}
    types, group = get_type_hints(settings), parser.add_argument_group(title)
    for field in dataclasses.fields(settings):
        flags = [f"--{name}.{field.name}", *([short[field.name]] if field.name in (short or {}) else [])]
        shown = "none" if field.default is None else field.default
        help_field = f"{words[field.name]} (default: {default or shown})"
        group.add_argument(*flags, type=types[field.name] | None, default=None, help=help_field)


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
