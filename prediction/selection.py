"""Which images of a split are done, and what is kept of a prediction; light, so that a parser can name it."""

import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

from runtime.files import InputError

KINDS = ("panoptic", "instances", "semantic", "overlay")
"""What can be kept of a prediction."""


class Shard(NamedTuple):
    """The part `number` of `count`, counted from 1, of any images: each belongs to the part that its id says."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n`.

        Raises:
            InputError: if it is anything else.
        """
        number, _, count = text.partition("/")
        if not (_is_whole(number) and _is_whole(count) and 1 <= int(number) <= int(count)):
            raise InputError(f"--shard {text}, but i/n with 1 <= i <= n is needed, such as 1/4")
        return cls(int(number), int(count))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> tuple["Shard", str]:
        """What a scheduler says of this process, and where it says it: a task of a SLURM array, or a rank, as torchrun's.

        A process of neither is the whole, and the place is empty.

        Raises:
            InputError: if the variables do not fit each other.
        """
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
        if all(name in environment for name in names):
            task, count, first, step = (
                _number(environment, name, default)
                for name, default in ((*names[:1], None), (*names[1:], None), (FIRST, None), (STEP, 1))
            )
            number = (task - first) // max(step, 1) + 1
        else:
            names = ("RANK", "WORLD_SIZE")
            if not all(name in environment for name in names):
                return cls(), ""
            rank, count = (_number(environment, name, None) for name in names)
            number = rank + 1
        if not 1 <= number <= count:
            said = " ".join(f"{name}={environment[name]}" for name in (*names, FIRST, STEP) if name in environment)
            raise InputError(f"{said}: is no part of a whole; give --shard i/n")
        return cls(number, count), " and ".join(names)

    def holds(self, image_id: str) -> bool:
        """Whether an image belongs to this part; that never depends on what other images there are."""
        if self.count == 1:
            return True
        digest = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


FIRST, STEP = "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not _is_whole(text):
        raise InputError(f"{name} is {text!r}, but a whole number is needed; give --shard i/n")
    return int(text)
