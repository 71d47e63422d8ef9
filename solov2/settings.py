"""How a run is set up: the config with the user's changes, and where its results go."""

import inspect
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mmengine import Config, DictAction
from mmengine.runner import Runner

from runtime.command_line import REPOSITORY
from runtime.files import InputError

DEFAULT_CONFIG = REPOSITORY / "configs" / "solov2" / "streets_lite0.py"


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
        known = {*read, *inspect.signature(Runner).parameters, "auto_scale_lr", "sync_bn", "compile"}
        strangers = [name for name in options or {} if name.partition(".")[0] not in known]
        if strangers:
            raise InputError(f"--cfg-options {strangers[0]}: no such setting; {path.name} has {', '.join(sorted(read))}")
        # Else mmengine lays out the config's text anew for each checkpoint and log, which takes a second or more.
        config = Config(read.to_dict(), read.text, read.filename, format_python_code=False)
        config.merge_from_dict(dict(options or {}))
    except InputError:
        raise
    except (SyntaxError, ValueError, KeyError, TypeError, AttributeError, ImportError, NameError, RuntimeError) as error:
        raise InputError(
            f"{path}: cannot be used ({type(error).__name__}: {error}); correct the config or --cfg-options"
        ) from None
    absent = [name for name in needed if name not in config]
    if absent:
        raise InputError(f"{path}: has no {', '.join(absent)}; inherit one of configs/solov2")
    return config


def output_folder(config_path: Path) -> Path:
    """outputs/solov2/<config name>, where checkpoints, logs and dumps of a config go by default."""
    return REPOSITORY / "outputs" / "solov2" / config_path.stem


def parse_options(given: Sequence[str] | dict) -> dict:
    """`a.b=c` of the command line -> dotted name -> value, as mmengine's DictAction reads it.

    Raises:
        InputError: if one has no `=`.
    """
    if isinstance(given, dict):
        return given
    for entry in given:
        if "=" not in entry:
            raise InputError(f"--cfg-options {entry}: a setting and its value are needed, such as model.test_cfg.score_thr=0.2")
    parser = ArgumentParser()
    parser.add_argument("--cfg-options", action=DictAction, nargs="+", default={})
    return parser.parse_args(["--cfg-options", *given]).cfg_options if given else {}
