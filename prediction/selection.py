"""Which images of a split are done, and what is kept of a prediction; light, so that a parser can name it."""

from typing import NamedTuple

from runtime.files import InputError

KINDS = ("panoptic", "instances", "semantic", "overlay")
"""What can be kept of a prediction."""


class Shard(NamedTuple):
    """The part `number` of `count` of a split, counted from 1; every count-th image belongs to it."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n`.

        Raises:
            InputError: if it is anything else.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InputError(f"--shard {text}, but i/n with 1 <= i <= n is needed, such as 1/4")
        return cls(int(number), int(count))

    @property
    def suffix(self) -> str:
        """Goes behind the name of a file that holds this part alone: `-1-of-4`, nothing where the part is all."""
        return "" if self.count == 1 else f"-{self.number}-of-{self.count}"
