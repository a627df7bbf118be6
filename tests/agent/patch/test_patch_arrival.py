"""Which commands are patches."""

import pytest
from patching import patch

from codexdb.agent.tools.patch.arrival import Arrival, recognise

P = patch("*** Add File: n", "+$HOME `id` \\ 'x' \"y\"").rstrip("\n")

RECOGNISED: list[tuple[list[str], str | None]] = [
    (["apply_patch", P], None),
    (["applypatch", P], None),
    (["bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF"], None),
    (["bash", "-lc", f"apply_patch <<EOF\n{P}\nEOF\n"], None),
    (["bash", "-lc", f'apply_patch <<"EOF"\n{P}\nEOF'], None),
    (["bash", "-lc", f"apply_patch << 'PATCH'\n{P}\nPATCH\n\n"], None),
    (["bash", "-lc", f"applypatch <<'EOF'\n{P}\nEOF"], None),
    (["bash", "-c", f"apply_patch <<'EOF'\n{P}\nEOF"], None),
    (["sh", "-c", f"apply_patch <<'EOF'\n{P}\nEOF"], None),
    (["sh", "-lc", f"\n  apply_patch <<'EOF'\n{P}\nEOF"], None),
    (["zsh", "-lc", f"apply_patch <<'end-of.it'\n{P}\nend-of.it"], None),
    (["/bin/bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF"], None),
    (["/usr/bin/zsh", "-c", f"apply_patch<<'EOF'\n{P}\nEOF"], None),
    (["bash", "-lc", f"cd sub && apply_patch <<'EOF'\n{P}\nEOF"], "sub"),
    (["bash", "-lc", f"cd /a/b.c &&apply_patch <<'EOF'\n{P}\nEOF"], "/a/b.c"),
    (["bash", "-lc", f"cd 'my dir' && apply_patch <<'EOF'\n{P}\nEOF"], "my dir"),
    (["bash", "-lc", f'cd "my dir" && apply_patch <<EOF\n{P}\nEOF'], "my dir"),
    (["bash", "-lc", f"cd ../sub-dir &&\napplypatch <<'EOF'\n{P}\nEOF"], "../sub-dir"),
    (["bash", "-lc", f"cd ü && apply_patch <<'EOF'\n{P}\nEOF"], "ü"),
]

COMMANDS: list[list[str]] = [
    [],
    ["apply_patch"],
    ["apply_patch", P, "x"],
    ["./apply_patch", P],
    ["git", "apply_patch"],
    ["bash", "-lc"],
    ["bash", f"apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-x", f"apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF", "name"],
    ["fish", "-c", f"apply_patch <<'EOF'\n{P}\nEOF"],
    ["./bash", "-c", f"apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch '{P}'"],
    ["bash", "-lc", f"cat p | apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<'EOF' && echo done\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF\necho done"],
    ["bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF\n# done"],
    ["bash", "-lc", f"apply_patch <<'EOF' 2>&1\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<-'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch -v <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"apply_patch <<'EOF'\n{P}\n EOF"],
    ["bash", "-lc", f"apply_patch <<'EOF'\n{P}"],
    ["bash", "-lc", f"apply_patch <<'EOF\n{P}\nEOF"],
    ["bash", "-lc", f"set -e; apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"X=1 apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a; apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a || apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a b && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a && cd b && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd ~ && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd - && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd '-P' && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd $HOME && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f'cd "$HOME" && apply_patch <<EOF\n{P}\nEOF'],
    ["bash", "-lc", f"cd `pwd` && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a* && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd a\\ b && apply_patch <<'EOF'\n{P}\nEOF"],
    ["bash", "-lc", f"cd 'a'b && apply_patch <<'EOF'\n{P}\nEOF"],
]


@pytest.mark.parametrize(("argv", "workdir"), RECOGNISED)
def test_patch_is_recognised_and_its_text_is_what_was_written(argv: list[str], workdir: str | None) -> None:
    assert recognise(argv) == Arrival(P, workdir)


@pytest.mark.parametrize("argv", COMMANDS)
def test_whatever_does_more_or_something_else_stays_a_command(argv: list[str]) -> None:
    assert recognise(argv) is None


def test_what_follows_an_earlier_end_of_the_here_document_is_not_dropped() -> None:
    assert recognise(["bash", "-lc", f"apply_patch <<'EOF'\n{P}\nEOF\nrm -rf /\nEOF"]) is None


def test_a_patch_that_is_none_is_an_arrival_all_the_same() -> None:
    assert recognise(["apply_patch", "garbage"]) == Arrival("garbage", None)


def test_the_directory_is_that_of_the_command_then_that_of_cd() -> None:
    assert Arrival(P, None).directory("/w") == "/w"
    assert Arrival(P, "sub").directory("/w") == "/w/sub"
    assert Arrival(P, "/other").directory("/w") == "/other"


def test_a_hostile_script_is_judged_in_no_time() -> None:
    assert recognise(["bash", "-lc", " " * 1_000_000 + "cd " + "a" * 1_000_000]) is None
    assert recognise(["bash", "-lc", "apply_patch <<E\n" + "E \n" * 300_000]) is None
