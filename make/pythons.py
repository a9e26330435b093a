"""Prints which Pythons from 3.11 on are installed, one of each minor version.

With ``--path 3.12`` it prints where that one is. With another Python's path it leaves that one's
minor version out. Looks on the PATH and where pyenv puts them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)


def candidates() -> list[str]:
    """Programs that may be a Python."""
    names = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 30)]
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python"))
    return [*(name for name in names if name), *map(str, pyenv), sys.executable]


def version(program: str) -> tuple[int, int] | None:
    """Its major and minor version; none where it does not run, or cannot make an environment."""
    # pyenv's own stand-ins are there for versions that are not chosen, and then fail.
    done = subprocess.run(
        [program, "-c", "import sys, venv, sqlite3, ssl; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.fullmatch(r"(\d+) (\d+)\s*", done.stdout)
    return (int(match[1]), int(match[2])) if match and done.returncode == 0 else None


def main() -> None:
    """See the module."""
    found: dict[tuple[int, int], str] = {}
    for program in candidates():
        its = version(program)
        if its is not None and its >= OLDEST:
            found.setdefault(its, program)
    match sys.argv[1:]:
        case ["--path", wanted]:
            where = {f"{major}.{minor}": program for (major, minor), program in found.items()}
            if wanted not in where:
                sys.exit(f"no Python {wanted} is installed; there are: {', '.join(where)}")
            print(where[wanted])
        case [present]:
            found.pop(version(present) or (0, 0), None)
            print(*(f"{major}.{minor}" for major, minor in sorted(found)))
        case _:
            print(*(f"{major}.{minor}" for major, minor in sorted(found)))


if __name__ == "__main__":
    main()
