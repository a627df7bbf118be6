"""Which commands nobody has to be asked about, and which ones force a question."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexdb.agent.tools.dangerous import danger
from codexdb.agent.tools.safe import SCRIPT_CHARS_MAX, is_safe, plain_commands

SAFE = """
cat a.txt
cd /
echo -n hi
false
grep -rn needle .
head -n 5 a
ls -la
nl a
pwd
tail -n +3 a
true
wc -l a b
which python
/bin/ls -l
/usr/bin/grep x y
/usr/bin/git status
/bin/true
find . -name x.py
find . -type f -maxdepth 2
find
rg needle
rg -n --hidden needle src
rg --pre-glob x needle
rg --files
git status
git status --short
git log --oneline -5
git log -p a.py
git diff
git diff --stat HEAD~1
git diff --text
git diff --output-indicator-new=x
git show HEAD
git branch
git branch -a
git branch -vv --all
git branch --show-current
git branch --list x
git branch --contains HEAD
git branch --merged main
git branch --sort=-committerdate
sed -n 1p a
sed -n 1,200p src/a.py
""".strip().splitlines()

UNSAFE = """
rm a
touch a
python a.py
/tmp/ls
/usr/local/bin/ls
./ls
bin/ls
../bin/ls
/bin//ls
/usr/bin/../../tmp/ls
LS
ls.exe
[
test -f a
cp a b
mv a b
curl x
find . -delete
find . -exec rm x ;
find . -execdir rm x ;
find . -ok rm x ;
find . -okdir rm x ;
find . -fls out
find . -fprint out
find . -fprint0 out
find . -fprintf out x
rg --pre cat x
rg --pre=cat x
rg --hostname-bin x y
rg --hostname-bin=x y
rg --search-zip x
rg -z x
rg -nz x
git
git -C x status
git -c core.pager=x log
git --exec-path=x status
git commit -m x
git push
git fetch
git checkout x
git stash
git config x y
git log -c
git log --output=x
git log --output x
git diff --outpu=x
git diff --out x
git diff --ext-diff
git diff --ext
git show --textconv
git show --textc
git status --exec-path=x
git branch x
git branch x main
git branch -v x
git branch -d x
git branch -D x
git branch -m x
git branch -M x
git branch -c x
git branch -C x
git branch --delete x
git branch --del x
git branch --move x y
git branch --copy x y
git branch -f x
git branch --force x
git branch -avD x
git branch --list -D x
git branch -u origin/x
git branch --unset-upstream
git branch --edit-description
cargo check
cargo build
sed -n 1p
sed 1p a
sed -n p a
sed -n 1,p a
sed -n 1d a
sed -n 1p a b
sed -n 1,2w a
sed -n 1p -i
sed -n 1p -fscript
sed -n 1e a
sed -i 1p a
sed -n $p a
bash
bash -c
bash script.sh
bash -lc
bash -ic ls
bash -l -c ls
bash -x -c ls
dash -c ls
fish -c ls
/tmp/bash -c ls
/usr/local/bin/bash -c ls
env ls
sudo ls
xargs ls
nohup ls
time ls
""".strip().splitlines()

SAFE_SCRIPTS = [
    "ls",
    "  ls  ",
    "ls -la src",
    "ls;",
    "ls\n",
    "\n\nls\n\n",
    "ls && pwd",
    "ls || true",
    "ls; pwd",
    "ls\npwd",
    "ls;\npwd",
    "ls &&\n pwd",
    "ls |\n\n wc -l",
    "cat a | grep b | wc -l",
    "ls&&pwd||true;wc a|head",
    "echo 'a $b `c` <d> (e) {f} & ! # g'",
    "echo ''",
    'echo "a b"',
    'echo ""',
    r'grep "a\|b\.c" d',
    "grep 'a$' b",
    "ls *.py src/?.py ~/x",
    r"cat a\ b",
    "git status && git diff --stat",
    "sed -n '1,5p' a",
    "sed -n 1,5p src/*.py",
    "find . -name *.py",
    "find . -name '*'",
    "/bin/ls | /usr/bin/wc -l",
    "echo a=b",
    "cat ä.txt",
    "cd /tmp && ls\t-l",
    "rg -n 'def (a|b)' src | head -20",
    "echo a,b:c@d%e+f",
]

UNSAFE_SCRIPTS = [
    "",
    " ",
    "\n",
    ";",
    "ls ;; pwd",
    "; ls",
    "&& ls",
    "| ls",
    "ls &&",
    "ls |",
    "ls ||",
    "ls && && pwd",
    "ls |& wc",
    "ls && ; pwd",
    "ls &&\n; pwd",
    "ls &",
    "ls & pwd",
    "ls > a",
    "ls>a",
    "ls >> a",
    "cat < a",
    "cat << E\nx\nE",
    "cat <<< x",
    "ls 2>/dev/null",
    "ls 2>&1",
    "echo $HOME",
    "echo ${HOME}",
    "echo $(ls)",
    "echo `ls`",
    'echo "$HOME"',
    'echo "`ls`"',
    r'echo "\$x"',
    r'echo "a\"b"',
    r'echo "a\\"',
    'echo "a\\\nb"',
    "(ls)",
    "{ ls; }",
    "echo {a,b}",
    "cat <(ls)",
    "! ls",
    "ls !x",
    "A=b ls",
    "A=b",
    "A='b' ls",
    "PATH+=x ls",
    "if true; then ls; fi",
    "for a in b; do ls; done",
    "while true; do ls; done",
    "case a in a) ls;; esac",
    "function f { ls; }",
    "ls # comment",
    "# comment",
    "ls a#b",
    "echo a'b'",
    "echo 'a'b",
    "echo 'a''b'",
    "echo \"a\"'b'",
    "echo 'a",
    'echo "a',
    "'ls'",
    '"ls"',
    "l\\s",
    "echo a\\;b",
    "echo a\\\nb",
    "echo [a]",
    "[ -f a ]",
    "ls\r\npwd",
    "ls\0",
    "echo 'a\0b'",
    "rm a",
    "ls && rm a",
    "ls | xargs rm",
    "ls | sh",
    "bash -c ls",
    "eval ls",
    "exec ls",
    ". a",
    "source a",
    "l*",
    "*",
    "~/ls",
    "find *",
    "find . -d*",
    "find . '-delete'",
    'find . "-delete"',
    "git diff *",
    "git log --out*",
    "rg x *",
    "rg x -*",
    "sed -n 1p *",
    "sed -n ?p a",
    "git branch -D x",
    "cargo check",
    "ls a^b",
    "echo a" + "a" * SCRIPT_CHARS_MAX,
]


def test_there_are_enough_of_them() -> None:
    assert len(SAFE) + len(UNSAFE) + len(SAFE_SCRIPTS) + len(UNSAFE_SCRIPTS) >= 150


@pytest.mark.parametrize("command", SAFE)
def test_a_command_that_only_reads_is_safe(command: str) -> None:
    assert is_safe(command.split())


@pytest.mark.parametrize("command", UNSAFE)
def test_every_other_command_is_not(command: str) -> None:
    assert not is_safe(command.split())


@pytest.mark.parametrize("argv", [[], [""], ["ls -l"], [" ls"], ["bash", "-lc", "ls", "x"], ["bash", "-lc", ""]])
def test_neither_is_what_is_hardly_a_command(argv: list[str]) -> None:
    assert not is_safe(argv)


@pytest.mark.parametrize("script", SAFE_SCRIPTS)
def test_a_script_of_safe_commands_is_safe(script: str) -> None:
    assert is_safe(["bash", "-lc", script])


@pytest.mark.parametrize("script", UNSAFE_SCRIPTS, ids=lambda script: repr(script[:40]))
def test_every_other_script_is_not(script: str) -> None:
    assert not is_safe(["bash", "-lc", script])


@pytest.mark.parametrize("shell", ["bash", "sh", "zsh", "/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/zsh"])
@pytest.mark.parametrize("flag", ["-c", "-lc"])
def test_every_known_shell_is_looked_into(shell: str, flag: str) -> None:
    assert is_safe([shell, flag, "ls && pwd"])
    assert not is_safe([shell, flag, "ls && rm a"])


def test_words_are_what_the_shell_hands_on() -> None:
    commands = plain_commands(r"""cat a\ b 'c d' "e\.f" """)
    assert commands is not None
    assert [word.text for word in commands[0]] == ["cat", "a b", "c d", r"e\.f"]


# -- nothing that a shell gives a meaning slips through --------------------------------------------------------------

MEANINGFUL = "$`<>(){}&!#"
PLAIN = st.text(alphabet=string.ascii_letters + string.digits + " ./-_\n|;", max_size=12)


@given(before=PLAIN, after=PLAIN, character=st.sampled_from(MEANINGFUL))
def test_no_script_with_a_bare_character_of_meaning_is_safe(before: str, after: str, character: str) -> None:
    script = f"ls {before}{character}{after}"
    assert not is_safe(["bash", "-lc", script])
    assert not is_safe(["bash", "-lc", f"ls {before}x{character}{after}"])
    assert not is_safe(["bash", "-lc", f"ls {before}x {character} {after}"])


@given(before=PLAIN, after=PLAIN, character=st.sampled_from("$`"))
def test_no_script_that_expands_in_double_quotes_is_safe(before: str, after: str, character: str) -> None:
    assert not is_safe(["bash", "-lc", f'echo "{before}{character}{after}"'])


@given(
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*\+?=", fullmatch=True),
    value=PLAIN,
    joint=st.sampled_from([";", "&&", "|", "\n"]),
)
def test_no_script_that_assigns_is_safe(name: str, value: str, joint: str) -> None:
    assert not is_safe(["bash", "-lc", f"{name}{value} ls"])
    assert not is_safe(["bash", "-lc", f"ls {joint} {name}{value}"])


@given(word=st.from_regex(r"[A-Z]{1,5}", fullmatch=True), body=PLAIN, dash=st.sampled_from(["", "-"]))
def test_no_script_with_a_here_document_is_safe(word: str, body: str, dash: str) -> None:
    assert not is_safe(["bash", "-lc", f"cat <<{dash}{word}\n{body}\n{word}"])
    assert not is_safe(["bash", "-lc", f"cat <<{dash}'{word}'\n{body}\n{word}"])


@given(st.text(max_size=60))
def test_any_text_is_judged_without_a_failure(script: str) -> None:
    assert is_safe(["bash", "-lc", script]) in {True, False}
    danger(["bash", "-lc", script])


# -- dangerous ------------------------------------------------------------------------------------------------------

DANGEROUS = """
rm -rf a
rm -fr a
rm -r -f a
rm -Rf a
rm --recursive --force a
rm -vrf a
/bin/rm -rf a
sudo rm -rf /
sudo -n rm -rf /
env A=b rm -rf a
A=b rm -rf a
nohup rm -rf a
timeout 5 rm -rf a
xargs -0 rm -rf
git reset --hard
git reset --hard HEAD~3
git -C x reset --hard
git -c a=b reset --hard
git --no-pager reset --hard
git clean -fdx
git clean --force
git checkout -f
git checkout --force main
git switch --discard-changes main
git branch -D x
git branch -d -f x
git push --force
git push -f origin main
git push --force-with-lease
git push origin +main
git push origin :main
git push --delete origin main
git push --mirror
dd if=a of=/dev/sda
mkfs.ext4 /dev/sda
mkfs /dev/sda
shutdown now
reboot
""".strip().splitlines()

HARMLESS = """
rm a
rm -r a
rm -f a
rm -- -rf
git reset
git reset --soft HEAD~1
git clean -n
git clean -fn
git checkout main
git branch -d x
git push
git push origin main
git
dd if=a of=b
dd if=a of=/dev/null
ls -rf
echo rm -rf a
env
sudo
""".strip().splitlines()


@pytest.mark.parametrize("command", DANGEROUS)
def test_what_cannot_be_brought_back_is_known(command: str) -> None:
    assert danger(command.split()) is not None
    assert danger(["bash", "-lc", command]) is not None
    assert danger(["bash", "-lc", f"cd $x && ({command}) > log || true"]) is not None
    assert danger(["sudo", "sh", "-c", f"bash -c '{command}'"]) is not None
    assert not is_safe(command.split())


@pytest.mark.parametrize("command", HARMLESS)
def test_everything_else_is_not_called_dangerous(command: str) -> None:
    assert danger(command.split()) is None
    assert danger(["bash", "-lc", command]) is None


@pytest.mark.parametrize(
    "script",
    ["if true; then rm -rf a; fi", "{ rm -rf a; }", "for a in b; do rm -rf $a; done", "ls\nrm -rf a", "! rm -rf a"],
)
def test_a_danger_within_a_construct_is_found(script: str) -> None:
    assert danger(["bash", "-lc", script]) is not None


def test_shells_within_shells_are_looked_into_only_so_far() -> None:
    assert danger(["bash"] * 50 + ["-c", "ls"]) is None
    assert danger([]) is None
