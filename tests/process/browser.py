"""A real browser without a window, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

_TIMEOUT_S = 60
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")


def dom(address: str, profile: Path) -> str:
    """What the browser has made of the page at the end. Skips the test where no browser is installed."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no chromium to look at the page with")
    argv = [
        found,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *_QUIET,
        f"--user-data-dir={profile}",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    return subprocess.run([*argv, address], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
