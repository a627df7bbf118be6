"""How to run the engine in a process of its own, for instance inside a sandbox."""

import sys
from pathlib import Path

import codexdb

_CODE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from codexdb.agent.tools.patch.__main__ import main; sys.exit(main(*sys.argv[1:]))"
)


def argv(run_name: str | None = None) -> tuple[str, ...]:
    """A command that applies the patch on its stdin in its working directory: see `__main__`.

    It reads no module from the working directory, no environment variable, and no site packages: what lies in a
    project cannot take its place. It starts in about 50 ms. Python and this package have to be readable for it.
    """
    package = str(Path(codexdb.__file__).resolve().parents[1])
    return (sys.executable, "-I", "-S", "-c", _CODE, package, *([run_name] if run_name else []))
