"""A page of Python source that is being written by a program.

Only layout is known here: lines, blocks, fresh names, what global names stand for, and compiling
the whole.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Source:
    """Lines of code, at the current indentation.

    Args:
        names: The global names that the code may use, and what they stand for.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = dict(names)
        self._lines: list[str] = []
        self._indent = ""
        self._counter = 0

    def line(self, text: str) -> None:
        """Add a line."""
        self._lines.append(self._indent + text)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Indent what is added within."""
        outer = self._indent
        self._indent += " "
        before = len(self._lines)
        yield
        if len(self._lines) == before:
            self.line("pass")
        self._indent = outer

    def mark(self) -> tuple[int, str]:
        """A place to insert at later."""
        return len(self._lines), self._indent

    def insert(self, place: tuple[int, str], lines: list[str]) -> None:
        """Insert lines at a place marked before."""
        index, indent = place
        self._lines[index:index] = [indent + line for line in lines]

    def fresh(self, prefix: str = "v") -> str:
        """A name not used before."""
        self._counter += 1
        return f"{prefix}{self._counter}"

    def constant(self, value: object) -> str:
        """The global name of a value; one object has one name."""
        name = f"_g{id(value)}"
        self._names[name] = value
        return name

    def compile(self, entry: str) -> Any:
        """Compile and run, and return what ``entry`` then names."""
        code = compile("\n".join(self._lines), "<candid codec>", "exec", dont_inherit=True)
        exec(code, self._names)  # noqa: S102 - the text is made from types; labels enter as literals only
        return self._names[entry]
