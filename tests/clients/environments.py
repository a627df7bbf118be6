"""Which foreign clients are tested, and how each is installed into a folder that later runs find again.

The Python SDK 2 is not among them: it is a dependency of the tests, so it is there already.
"""

import json
import shutil
import sys
from pathlib import Path

from tests.installing import UnavailableError, build_once, run

PYTHON_SDK_1 = "mcp>=1.26,<2"
NODE_PACKAGES = {
    "@modelcontextprotocol/sdk": "^1.25.0",
    "@modelcontextprotocol/client": "^2.0.0",
    "@modelcontextprotocol/inspector": "~0.15.0",  # the last one that runs on Node 20
}
NODE_MAJOR_MIN = 20


def python_sdk_1(cache: Path) -> Path:
    """The interpreter of an environment with the Python SDK 1, which cannot live beside version 2."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "python-sdk-1"

    def build() -> None:
        run([sys.executable, "-m", "venv", folder], cache)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--retries", "2", PYTHON_SDK_1], cache)

    build_once(folder, {"python": python, "base": sys.base_prefix, "requires": PYTHON_SDK_1}, build)
    return folder / "bin" / "python"


def node_packages(cache: Path) -> tuple[Path, Path]:
    """The node executable, and a folder whose `node_modules` holds the TypeScript clients."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise UnavailableError("there is no node and npm")
    version = run([node, "--version"], cache).strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        raise UnavailableError(f"node is {version}, the clients need {NODE_MAJOR_MIN} or newer")
    folder = cache / "node-packages"

    def build() -> None:
        folder.mkdir(parents=True)
        package = {"private": True, "dependencies": NODE_PACKAGES}
        (folder / "package.json").write_text(json.dumps(package), encoding="utf-8")
        quietly = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--logs-max=0")
        run([npm, "install", *quietly, "--fetch-retries=1"], folder)

    build_once(folder, {"requires": NODE_PACKAGES}, build)
    return Path(node), folder
