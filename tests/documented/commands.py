"""What the pages and docstrings say can be typed: lines of a shell, the simple commands in them, and blocks of Python.

A page is README.md, CONTRIBUTING.md, SECURITY.md or a Markdown file of docs/; docstrings are those of the modules that are
commands, and the heads of configurations, where a line that begins with `$ ` is one of a shell.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHELLS = ("bash", "sh", "shell", "console")
STARTS = r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:python3?|torchrun|make|pip|cd|for|export) "
"""How the first line of a block without a language begins if the block is one of a shell."""
SEPARATORS = {"&&", "||", ";", "|", "&"}


@dataclass(frozen=True)
class Line:
    """A line of a shell, joined over `\\`, without prompt and comment."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


@dataclass(frozen=True)
class Snippet:
    """A block of Python."""

    page: str
    number: int
    text: str

    @property
    def is_part(self) -> bool:
        """Whether its first line names a file that it goes into: a part of a recipe, which tests/test_recipes.py follows."""
        return re.match(r"# [\w/.]+\.\w+\b", self.text) is not None

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


@dataclass(frozen=True)
class Simple:
    """One program with its arguments, in a folder relative to where the line is typed."""

    folder: str
    words: tuple[str, ...]


def pages() -> list[str]:
    """All pages, relative to the repository."""
    fixed = [name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md") if (REPOSITORY / name).exists()]
    return fixed + sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md"))


def commented() -> list[str]:
    """All modules that are commands, and all configurations, relative to the repository."""
    skipped = {"outputs", "datasets", "weights", "build", "node_modules"}
    found = []
    for folder in sorted(
        path for path in REPOSITORY.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in skipped
    ):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.yaml")]):
            if folder.name == "configs" or (path.suffix == ".py" and '__name__ == "__main__"' in path.read_text()):
                found.append(path.relative_to(REPOSITORY).as_posix())
    return found


def page_content(page: str, text: str | None = None) -> list[Line | Snippet]:
    """The shell lines and the blocks of Python of a page, in its order.

    Args:
        text: of the page; by default what is in the file.
    """
    text = (REPOSITORY / page).read_text() if text is None else text
    content: list[Line | Snippet] = []
    for fence in re.finditer(r"^( *)```(\S*)[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        language, body = fence[2], fence[3]
        first = text.count("\n", 0, fence.start(3)) + 1
        lines = [line.removeprefix(fence[1]) for line in body.splitlines()]
        has_prompts = any(line.startswith("$ ") for line in lines)
        if language == "python":
            content.append(Snippet(page, first, "\n".join(lines) + "\n"))
        elif has_prompts and language in (*SHELLS, "", "text"):  # what has no prompt was printed
            content += join_lines(page, first, lines, prompt="$ ")
        elif language in SHELLS or (not language and lines and re.match(STARTS, lines[0])):
            content += join_lines(page, first, lines)
    return content


def inline_commands(page: str, text: str | None = None) -> list[Line]:
    """Commands in backticks, in the sentences and tables of a page, but for those that are shortened by `...`."""
    text = (REPOSITORY / page).read_text() if text is None else text
    blank = re.sub(r"^ *```.*?^ *```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for quoted in re.finditer(r"(?<!`)`([^`]+)`(?!`)", blank):
        words = " ".join(quoted[1].split())
        if re.match(rf"{STARTS}\S", words) and "..." not in words and not re.match("python <|for ", words):
            found.append(Line(page, blank.count("\n", 0, quoted.start()) + 1, words))
    return found


def docstring_lines(path: str, text: str | None = None) -> list[Line]:
    """The lines that begin with `$ ` in the docstring of a module, or in the head of a configuration."""
    text = (REPOSITORY / path).read_text() if text is None else text
    if path.endswith(".yaml"):
        head = re.match(r"(?:#.*\n)*", text)[0]
        lines = [
            re.sub(" {3,}.*", "", line.removeprefix("#").strip()) for line in head.splitlines()
        ]  # what it does stands beside
    else:
        docstring = re.match(r'(?:#.*\n)*[rR]?"""(.*?)"""', text, re.DOTALL)
        inside = docstring[1].replace("\\\\", "\\") if docstring else ""
        lines = [line.strip() for line in inside.splitlines()]
    return join_lines(path, 1, lines, prompt="$ ")


def join_lines(page: str, first: int, lines: list[str], prompt: str = "") -> list[Line]:
    """Lines of a shell, joined over a `\\` at their end, without comments.

    Args:
        first: number of the first of them in the page.
        prompt: what a line begins with if it is one of a shell.
    """
    found, waiting, number = [], "", 0
    for offset, line in enumerate(lines):
        if not waiting and not line.startswith(prompt):
            continue
        number = number if waiting else first + offset
        part = without_comment(line if waiting else line.removeprefix(prompt)).strip()
        if part.endswith("\\"):
            waiting += part.removesuffix("\\").rstrip() + " "
        elif waiting + part:
            found.append(Line(page, number, waiting + part))
            waiting = ""
    if waiting:
        found.append(Line(page, number, waiting.strip()))
    return found


def without_comment(line: str) -> str:
    """A line up to the first `#` that begins a word outside of quotes."""
    quote = ""
    for k, letter in enumerate(line):
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        elif not quote and letter == "#" and (k == 0 or line[k - 1].isspace()):
            return line[:k]
    return line


def simple_commands(text: str) -> list[Simple]:
    """The programs that a line starts, in order; of a loop its body once, with the first of its values.

    Raises:
        ValueError: if quotes are not closed, or a loop is of another form than `for NAME in WORDS; do ...; done`.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    words, variables, folder, found = [], {}, "", []
    for token in [*lexer, ";"]:
        if token not in SEPARATORS:
            words.append(token)
            continue
        if words[:1] == ["for"]:
            if len(words) < 4 or words[2] != "in":
                raise ValueError("a loop is `for NAME in WORDS; do ...; done`")
            variables[words[1]] = words[3]
            words = []
        words = words[1:] if words[:1] in (["do"], ["done"]) else words
        for name, value in variables.items():
            words = [word.replace(f"${name}", value) for word in words]
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[:1] == ["cd"]:
            folder = (Path(folder) / words[1]).as_posix()
            folder = "" if folder.endswith("..") else folder
        if words:
            found.append(Simple(folder, tuple(words)))
        words = []
    return found


def command_of(simple: Simple) -> tuple[str, list[str]] | None:
    """The script or module that a command runs, by Python or torchrun, and its arguments; None for other programs.

    `python solov2/train.py --epochs 1` in the folder "" -> ("solov2/train.py", ["--epochs", "1"]); a module is ("-m NAME", ...).
    """
    words = list(simple.words)
    program = words.pop(0).rsplit("/", 1)[-1]
    if program == "torchrun":
        while words and not words[0].endswith(".py"):
            words.pop(0)
    elif not re.fullmatch(r"python[\d.]*", program):
        return None
    if words[:1] == ["-m"]:
        return f"-m {words[1]}", words[2:]
    if not words or not words[0].endswith(".py"):
        return None
    return (Path(simple.folder) / words[0]).as_posix(), words[1:]
