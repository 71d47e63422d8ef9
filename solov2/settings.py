"""How a run is set up: the config with the user's changes and the data's place, and where its results go."""

import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mmengine import Config, DictAction
from mmengine.config import ConfigDict

from runtime.files import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_CONFIG = REPOSITORY / "configs" / "solov2" / "streets_r18.py"


def add_arguments(parser: ArgumentParser) -> None:
    """The options that training and evaluation share."""
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="mmengine config (default: configs/solov2/streets_r18.py)")
    parser.add_argument(
        "--data-root", help="Cityscapes-like data set (default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR, else the embedded Streets)"
    )
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="settings of the config to change, a.b=c")


def find_config(given: str | Path) -> Path:
    """The path of a config, relative to the working directory or to the repository.

    Raises:
        InputError: if there is none.
    """
    for path in (Path(given).expanduser(), REPOSITORY / given):
        if path.is_file():
            return path.resolve()
    there = ", ".join(p.stem for p in sorted(DEFAULT_CONFIG.parent.glob("*.py")))
    raise InputError(f"{given}: no such config; give the path of one, configs/solov2/ holds {there}")


def load_config(path: Path, options: dict | None = None, needed: Sequence[str] = ()) -> Config:
    """Read an mmengine config and apply `options` (dotted name -> value).

    Args:
        needed: settings of its top level that it must have.

    Raises:
        InputError: if it cannot be read, an option does not fit, or a needed setting is absent.
    """
    try:
        with warnings.catch_warnings():
            # mmengine looks for mmdet with it wherever a config inherits mmdet's; nothing that the user could change.
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            read = Config.fromfile(path)
        # Else mmengine lays out the config's text anew for each checkpoint and log, which takes a second or more.
        config = Config(read.to_dict(), read.text, read.filename, format_python_code=False)
        config.merge_from_dict(dict(options or {}))
    except (SyntaxError, ValueError, KeyError, TypeError, AttributeError, ImportError, NameError, RuntimeError) as error:
        raise InputError(
            f"{path}: cannot be used ({type(error).__name__}: {error}); correct the config or --cfg-options"
        ) from None
    absent = [name for name in needed if name not in config]
    if absent:
        raise InputError(f"{path}: has no {', '.join(absent)}; inherit one of configs/solov2")
    return config


def set_data_root(config: Config, root: Path) -> None:
    """Let every path of the config that starts with its `data_root` start with `root` instead."""
    old, new = config.data_root, f"{root}/"

    def moved(value):
        if isinstance(value, str):
            return new + value.removeprefix(old) if value.startswith(old) else value
        if isinstance(value, dict):
            return ConfigDict({key: moved(inner) for key, inner in value.items()})
        if isinstance(value, Sequence):
            return type(value)(moved(inner) for inner in value)
        return value

    for key in list(config):
        config[key] = moved(config[key])


def output_folder(config_path: Path) -> Path:
    """outputs/solov2/<config name>, where checkpoints, logs and dumps of a config go by default."""
    return REPOSITORY / "outputs" / "solov2" / config_path.stem


def shown(path: Path) -> str:
    """A path for the user, relative to the repository where it lies inside."""
    path = Path(path)
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
