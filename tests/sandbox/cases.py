"""What commands try under a sandbox mode, and in which modes the deed is done.

Modes: r read-only, w workspace-write, n workspace-write with network, d danger-full-access. `done` are those in which
the script has to end with 0; in all others it has to end with something else. A script that never works would be no
proof of anything: most are done in d. `bwrap`, `landlock`, `root` and `user` replace `done` where the backend or the
user make a difference; together they are intersected. What may go either way, by a setting of the machine, is in
`either`.

A script runs in `work`, beside `outside`; what both hold is in `driver.py`. The variables that it gets are there too.
"""

from dataclasses import dataclass
from pathlib import Path

_SWITCH = Path("/proc/sys/kernel/io_uring_disabled")
IO_URING = not _SWITCH.exists() or _SWITCH.read_text().strip() == "0"


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    done: str = ""
    modes: str = "rwd"
    either: str = ""
    bwrap: str | None = None
    landlock: str | None = None
    root: str | None = None
    user: str | None = None

    def expected(self, mode: str, backend: str, user: str) -> bool | None:
        """Whether the deed is done; None: either way."""
        if mode in self.either:
            return None
        given = [each for each in (getattr(self, backend, None), getattr(self, user)) if each is not None]
        return all(mode in each for each in given or [self.done])


def py(name: str, script: str, done: str = "", modes: str = "rwd", **rest: str) -> Case:
    modules = "os, socket, sys" if "socket." in script else "os, sys"
    return Case(name, f"#python\nimport {modules}\n{script}", done, modes, **rest)


INSIDE = [
    Case("make a file", "echo x > new", "wd"),
    Case("append to a file", "echo x >> file", "wd"),
    Case("make a directory", "mkdir new", "wd"),
    Case("remove a file", "rm file", "wd"),
    Case("remove a directory", "rmdir dir", "wd"),
    Case("rename a file", "mv file new", "wd"),
    Case("rename into another directory", "mv file dir/file", "wd"),
    Case("link a file", "ln file new", "wd"),
    Case("make a symlink", "ln -s file new", "wd"),
    Case("change a mode", "chmod 600 file", "wd"),
    Case("change times", "touch -d 2001-01-01 file", "wd"),
    Case("empty a file", "truncate -s 0 file", "wd"),
    Case("make a fifo", "mkfifo new", "wd"),
    Case("make a device", "mknod new c 1 3", root="d", user=""),
    Case("write in a nested repository", "mkdir -p sub/.git && echo x > sub/.git/config", "wd"),
]

OUTSIDE = [
    Case("make a file outside", 'echo x > "$OUT/new"', "d"),
    Case("append outside", 'echo x >> "$OUT/kept"', "d"),
    Case("make a directory outside", 'mkdir "$OUT/new"', "d"),
    Case("make a symlink outside", 'ln -s x "$OUT/new"', "d"),
    Case("make a fifo outside", 'mkfifo "$OUT/new"', "d"),
    Case("remove outside", 'rm "$OUT/kept"', "d"),
    Case("remove a directory outside", 'rmdir "$OUT/dir"', "d"),
    Case("rename outside", 'mv "$OUT/kept" "$OUT/new"', "d"),
    Case("move in", 'mv "$OUT/kept" .', "d"),
    Case("move out", 'mv file "$OUT/file"', "d"),
    Case("write through a link to a file outside", 'ln "$OUT/kept" new && echo x >> new', "d"),
    Case("link out", 'ln file "$OUT/new"', "d"),
    Case("write through a symlink to a file", "echo x > link", "d"),
    Case("write through a symlink to a directory", "echo x > dirlink/new", "d"),
    Case("write through a symlink of one's own", 'ln -s "$OUT" s && echo x > s/new', "d"),
    Case("write through dots", "echo x > ../outside/new", "d"),
    Case("write through /proc/self/cwd", "echo x > /proc/self/cwd/../outside/new", "d"),
    Case("write through /proc/self/root", 'echo x > "/proc/self/root$OUT/new"', "d"),
    Case("rename the workspace", 'mv "$OUT/../work" "$OUT/../elsewhere"', "d"),
    Case("empty a file outside", 'truncate -s 0 "$OUT/kept"', "d"),
    py("empty outside without opening", "os.truncate(os.environ['OUT'] + '/kept', 0)", "d"),
    py("empty outside by opening for reading", "os.open(os.environ['OUT'] + '/kept', os.O_RDONLY | os.O_TRUNC)", "d"),
    # Landlock knows no such right; where nothing may be written, seccomp refuses the calls altogether.
    Case("change a mode outside", 'chmod 600 "$OUT/kept"', "d", landlock="wd"),
    Case("change times outside", 'touch -d 2001-01-01 "$OUT/kept"', "d", landlock="wd"),
    Case("write to /etc", "touch /etc/codexdb-test", modes="rw"),
    Case(
        "write to /sys",
        'for f in /sys/block/*/queue/nr_requests; do cat $f > $f || exit 1; done; test -e "$f"',
        "",
        "rw",
    ),
    Case("write to /proc/sys", "cat /proc/sys/kernel/domainname > /proc/sys/kernel/domainname", modes="rw"),
    py(
        "write by a file handle",
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
ctypes.c_uint.from_buffer(handle).value = 128
assert libc.name_to_handle_at(-100, (os.environ["OUT"] + "/kept").encode(), handle, ctypes.byref(mount), 0) == 0
fd = libc.open_by_handle_at(os.open(".", os.O_RDONLY), handle, os.O_WRONLY | os.O_APPEND)
assert fd >= 0
os.write(fd, b"x")
""",
        root="d",
        user="",
    ),
]

PROTECTED = [  # Landlock cannot carve a name out of a root
    Case("write .git/config", "echo x >> .git/config", "d", landlock="wd"),
    Case("add a hook", "echo x > .git/hooks/pre-commit", "d", landlock="wd"),
    Case("rename .git", "mv .git g", "d", landlock="wd"),
    Case("remove .git", "rm -r .git", "d", landlock="wd"),
    Case("write .git through a symlink", "ln -s .git g && echo x >> g/config", "d", landlock="wd"),
    Case("write .git through a link", "ln .git/config c && echo x >> c", "d", landlock="wd"),
    Case("uncover .git", "umount .git; echo x >> .git/config", modes="w", bwrap="", landlock="w"),
    Case("write .codex", "echo x >> .codex/kept", "d", landlock="wd"),
    Case("write .agents", "echo x >> .agents/kept", "d", landlock="wd"),
    Case("commit", "git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x", "d", landlock="wd"),
]

TCP = "socket.create_connection(('127.0.0.1', int(os.environ['TCP'])), 5)"
UNIX = "socket.socket(socket.AF_UNIX).connect(os.environ['SOCK'])"
NETWORK = [
    py("TCP", TCP, "nd", "rwnd"),
    py("TCP over IPv6", "socket.create_connection(('::1', int(os.environ['TCP6'])), 5)", "nd", "rwnd"),
    py(
        "UDP", "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(os.environ['UDP'])))", "nd", "rwnd"
    ),
    py(
        "UDP, connected",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.1', int(os.environ['UDP']))); s.send(b'x')",
        "nd",
        "rwnd",
    ),
    py("listen on TCP", "socket.create_server(('127.0.0.1', 0))", "nd", "rwnd"),
    py("ask the kernel for routes", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "nd", "rwnd"),
    py("a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", modes="rwnd", root="d", user=""),
    py("a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", modes="rwnd", root="d", user=""),
    py("a Unix socket by its path", UNIX, "nd", "rwnd"),
    py(
        "a Unix datagram by path",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', os.environ['DGRAM'])",
        "nd",
        "rwnd",
    ),
    py(
        "an abstract Unix socket",
        "socket.socket(socket.AF_UNIX).connect('\\0' + os.environ['ABSTRACT'])",
        "nd",
        "rwnd",
        landlock="d",
    ),
    py("listen on a Unix socket", "s = socket.socket(socket.AF_UNIX); s.bind('new'); s.listen()", "nd", "rwnd"),
    py(
        "listen on an abstract socket",
        "s = socket.socket(socket.AF_UNIX); s.bind('\\0x%d' % os.getpid())",
        "nd",
        "rwnd",
    ),
    # A known gap: seccomp cannot look into the message. TCP and UDP are not to be had this way.
    py(
        "a Unix datagram by sendmsg",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, os.environ['DGRAM'])",
        "rwnd",
        "rwnd",
    ),
    py(
        "io_uring",
        "import ctypes; sys.exit(ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120)) < 0)",
        "nd",
        "rwnd",
        either="" if IO_URING else "nd",
    ),
    py(
        "ptrace",
        """
import ctypes
child = os.fork()
if child == 0:
    os.read(os.pipe()[0], 1)
traced = ctypes.CDLL(None).ptrace(0x4206, child, 0, 0)
os.kill(child, 9)
sys.exit(traced != 0)
""",
        "nd",
        "rwnd",
    ),
    Case("be told of the network", 'test "$CODEX_SANDBOX_NETWORK_DISABLED" = 1', "rw", "rwnd"),
]

OWN_MOUNT = """
import ctypes
libc = ctypes.CDLL(None)
assert libc.unshare(0x10020000 | {1}) == 0  # a user and a mount namespace, and one more
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
if libc.mount(b"x", b"dir", b"{0}", 0, None) != 0:
    os._exit(1)
name = "dir/{2}"
if os.path.isdir(name):
    os._exit(0)
text = open(name).read()
os._exit(os.write(os.open(name, os.O_WRONLY), text.encode()) != len(text))
"""
PROCESSES = [
    Case("signal the server", 'kill -WINCH "$PID"', "d"),
    Case("signal the server's thread", '/bin/kill -WINCH "$PID"', "d"),
    Case("signal a child", "sleep 60 & kill $! && ! wait $!", "rwd"),
    Case("read the server's environment", 'cat "/proc/$PID/environ" > /dev/null', "d"),
    py("read the server's memory", "os.open('/proc/%s/mem' % os.environ['PID'], os.O_RDONLY)", either="d"),
    py("write the server's memory", "os.open('/proc/%s/mem' % os.environ['PID'], os.O_RDWR)", either="d"),
    Case("write through the server's root", 'echo x > "/proc/$PID/root$OUT/new"', "d"),
    Case("write through the server's directory", 'echo x > "/proc/$PID/cwd/new"', "d"),
    py("see the server's files", "os.readlink('/proc/%s/fd/0' % os.environ['PID'])", "d"),
    Case("mount", "mount -t tmpfs x dir && umount dir", root="d", user=""),
    Case("remount", 'mount -o remount,rw,bind / ; echo x > "$OUT/new"', modes="rw"),
    Case("a mount namespace", "unshare -m true", root="d", user=""),
    Case(
        "remount in a user namespace",
        "unshare -Urm sh -c 'mount -o remount,rw,bind /; echo x > \"$OUT/new\"'",
        modes="rw",
    ),
    Case(
        "cover what is outside in a user namespace",
        'unshare -Urm sh -c \'mount --bind . "$OUT" && umount "$OUT" && echo x > "$OUT/new"\'',
        modes="rw",
    ),
    *(
        py(f"{kind} of one's own", OWN_MOUNT.format(kind, flags, name), "", "rw")
        for kind, flags, name in (
            ("cgroup2", "0x2000000", "cgroup.subtree_control"),
            ("proc", "0x20000000", "sys/kernel/domainname"),
            ("sysfs", "0x40000000", "kernel/uevent_helper"),
            ("tmpfs", "0", ""),
        )
    ),
    Case("enter the server's namespaces", 'nsenter -t "$PID" -m touch "$OUT/new"', root="d", user=""),
    Case("change the root", "chroot / true", root="d", user=""),
    py("name the machine", "socket.sethostname(socket.gethostname())", root="d", user=""),
    py("change the clock", "import time; time.clock_settime(0, time.clock_gettime(0))", modes="rw"),
    Case("become root", "setpriv --reuid 0 true", root="rwd", user=""),
]

DEVICES = [
    Case("write to /dev/null", "echo x > /dev/null", "rwd"),
    Case("read /dev/zero", "head -c 9 /dev/zero > /dev/null", "rwd"),
    Case("read /dev/urandom", "head -c 9 /dev/urandom > /dev/null", "rwd"),
    Case("write to /dev/shm", "f=/dev/shm/codexdb-$$; echo x > $f && rm $f", "wd"),
    Case("make a file in /dev", "f=/dev/codexdb-$$; : > $f && rm $f", modes="r"),
    py(
        "write to a disk",
        "disk = os.listdir('/sys/block')[0]; os.open('/dev/' + disk, os.O_WRONLY)",
        modes="rw",
    ),
    py("a pseudo-terminal", "import pty; pty.openpty()", "rwd", landlock="d"),
]

ORDINARY = [
    Case("read what is inside", "cat file .git/config > /dev/null", "rwd"),
    Case("read what is outside", 'cat "$OUT/kept" /etc/passwd > /dev/null', "rwd"),
    Case("read another user's secrets", "cat /etc/shadow > /dev/null", root="rwd", user=""),
    Case("run a file of the workspace", "./run", "rwd"),
    Case("pipes", 'test "$(echo a | cat | wc -l)" -eq 1', "rwd"),
    Case("git status", "git status --short && git log -1 --oneline 2>/dev/null; git rev-parse --git-dir", "rwd"),
    Case("a temporary file", 'cd "$(mktemp -d -p .)" && : > file', "wd"),
    Case("background jobs", "sleep 0 & wait", "rwd"),
    Case("python", 'test "$("$PY" -c "print(6 * 7)")" = 42', "rwd"),
    py("subprocess", "import subprocess; assert subprocess.check_output(['echo', 'a']) == b'a\\n'", "rwd"),
    py("a pair of sockets", "a, b = socket.socketpair(); a.sendall(b'x'); assert b.recv(1) == b'x'", "rwd"),
    py(
        "asyncio",
        """
import asyncio
async def main():
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await child.communicate(b"x"))[0] == b"x"
    await asyncio.to_thread(os.getpid)
asyncio.run(main())
""",
        "rwd",
    ),
    py(
        "multiprocessing with pipes",
        """
import multiprocessing
there, here = multiprocessing.Pipe()
child = multiprocessing.get_context("fork").Process(target=there.send, args=(1,))
child.start()
assert here.recv() == 1
child.join()
""",
        "rwd",
    ),
    py(
        "multiprocessing with a pool",
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1, 2]) == [1, 2]",
        "wd",
    ),
    py(
        "shared memory",
        "from multiprocessing.shared_memory import SharedMemory\n"
        "s = SharedMemory(create=True, size=9); s.close(); s.unlink()",
        "wd",
    ),
    py("threads", "import threading; t = threading.Thread(target=os.getpid); t.start(); t.join()", "rwd"),
    py("hostname look-up", "assert socket.gethostname()", "rwd"),
]

CASES = [*INSIDE, *OUTSIDE, *PROTECTED, *NETWORK, *PROCESSES, *DEVICES, *ORDINARY]
