"""`codexdb demo`: a turn that survives the death of its server, in front of your eyes and checked."""

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click

from codexdb.cli import screen
from codexdb.cli.story import Story
from codexdb.domain.errors import CodexDBError
from codexdb.domain.item import texts
from codexdb.domain.json import JsonObject, encode
from codexdb.store import queries
from codexdb.store.calls import UNKNOWN
from codexdb.testing.model_script import Answer, Json, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, ServerProcessError, write_config

FIRST_PROMPT = "Write the word durable to notes.txt."
SECOND_PROMPT = "What did I ask you for, and what came of it?"
# It appends, so a second execution would show; and it never comes to its second line, so going on would show too.
SCRIPT = "(echo durable; sleep 20; echo late) >> notes.txt"
LOOK = "cat notes.txt"
WRITTEN = "durable\n"
CUT_OFF = "The server stopped while my command ran, so I look at what came of it."
FIRST_ANSWER = "notes.txt holds the word durable, once."
WAIT_S = 5  # for any one thing; all of them take well under a second
POLL_S = 0.01
READ_WAIT_MS = 1_000  # of one call of conversation_read
ROWS_MAX = 40  # of one table; the demo makes fewer
TABLES = (
    ("sessions", queries.SESSIONS),
    ("turns", queries.TURNS),
    ("transcript", queries.TRANSCRIPT),
    ("events", queries.EVENTS),
    ("calls", queries.CALLS),
)


class PromiseBroken(Exception):  # noqa: N818 - it is what happened, and the summary names it so
    """Something was not as promised; the text says what was found instead."""

    def __init__(self, promise: str, found: str) -> None:
        super().__init__(found)
        self.promise = promise


@dataclass(slots=True)
class Summary:
    """What came of it, for programs."""

    folder: Path
    thread_id: str | None = None
    kept: list[str] = field(default_factory=list[str])
    broken: str | None = None
    found: str | None = None  # instead of what was promised
    rows: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def database(self) -> Path:
        return self.folder / "codexdb.sqlite3"

    def as_json(self, elapsed_ms: int) -> JsonObject:
        return {
            "ok": self.broken is None,
            "folder": str(self.folder),
            "database": str(self.database),
            "thread_id": self.thread_id,
            "promises_kept": self.kept,
            "promise_broken": self.broken,
            "found": self.found,
            "rows": self.rows,
            "elapsed_ms": elapsed_ms,
        }


def run(folder: Path | None, *, as_json: bool) -> int:
    """Play the demo; returns the exit code: 0 if everything was as promised, else 1.

    Raises:
        click.BadParameter: the folder cannot be used.
    """
    summary = Summary(_scratch(folder))
    story = Story(quiet=as_json)
    began = time.monotonic()
    try:
        _Demo(story, summary).play()
    except PromiseBroken as broken:
        summary.broken, summary.found = broken.promise, str(broken)
        story.promise(broken.promise, held=False)
        story.detail(summary.found, error=True)
        story.say(f"\nA promise was not kept: {broken.promise}", "bold red")
        story.say(f"Everything is still in {summary.folder}; please report it.")
    elapsed_ms = round((time.monotonic() - began) * 1000)
    if as_json:
        screen.write(f"{encode(summary.as_json(elapsed_ms))}\n")
    return 0 if summary.broken is None else 1


def _scratch(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="codexdb-demo-")).resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise click.BadParameter(f"{folder} is not empty; name a new folder", param_hint="--dir")
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be used: {error.strerror}", param_hint="--dir") from error
    return folder.resolve()


class _Demo:
    """One run, act by act."""

    def __init__(self, story: Story, summary: Summary) -> None:
        self._story = story
        self._summary = summary
        self._home = summary.folder / "home"
        self._work = summary.folder / "work"
        self._notes = self._work / "notes.txt"
        self._last_seq = 0  # of the events that the client has seen

    def play(self) -> None:
        """Raises PromiseBroken at the first thing that is not as promised."""
        self._home.mkdir(mode=0o700)
        self._work.mkdir()
        self._story.title("codexdb demo: a turn that survives kill -9")
        self._story.say(f"Everything happens in {self._summary.folder}, which is kept.")
        try:
            with ScriptedModel(responder=_scripted) as model:
                write_config(self._home, model.base_url, "responses")
                self._story.say(
                    "THE MODEL IS SCRIPTED: a stand-in on this machine gives prepared answers, without a key."
                )
                self._story.say("All else is real: the servers, the MCP client, the command, the kill, the database.")
                thread_id = self._first_life()
                self._second_life(model, thread_id)
        except ServerProcessError as error:
            raise PromiseBroken("the server answers its client", str(error)) from error
        self._look_at_rows()
        self._farewell()

    def _first_life(self) -> str:
        """Returns the session's id, as the client learned it from the events that it was sent."""
        story = self._story
        with ExitStack() as stack:
            with story.step("A server starts, an MCP client calls the tool codex, and the model asks for a command."):
                server = stack.enter_context(self._server())
                story.detail(f"server: codexdb serve, pid {server.pid}")
                server.initialize()
                story.detail(f"prompt: {FIRST_PROMPT}")
                server.start_tool("codex", {"prompt": FIRST_PROMPT, "cwd": str(self._work)})
                begun = server.wait_event("exec_command_begin")
                thread_id = self._summary.thread_id = str(begun["_meta"]["conversationId"])
                self._last_seq = int(begun["_meta"]["seq"])
                story.detail(f"thread: {thread_id}")
                story.detail(f"command: {SCRIPT}")
                self._wait_for(lambda: self._written() is not None or _command_ended(server))
                self._check("the command runs in the scratch folder", self._written() == WRITTEN, self._whats_written())
            with story.step("kill -9 for the server, in the middle of that command."):
                pid = self._pid_of_command()
                server.kill()
                story.detail(f"pid {server.pid} is gone; it had no chance to save anything")
                code = server.returncode
                self._check("the server died of the signal", code == -signal.SIGKILL, f"its exit code is {code}")
                died = self._wait_for(lambda: not _runs(pid)) and self._written() == WRITTEN
                self._check("the command died with it", died, f"process {pid} runs on, or {self._whats_written()}")
        return thread_id

    def _second_life(self, model: ScriptedModel, thread_id: str) -> None:
        story = self._story
        with ExitStack() as stack:
            with story.step("A new server opens the same database. The client asks for nothing; it only reads on."):
                server = stack.enter_context(self._server())
                story.detail(f"server: codexdb serve, pid {server.pid}")
                server.initialize()
                page = self._read_to_the_end(server, thread_id)
                ended = page["last_turn"]["state"] if page["status"] == "idle" else page["status"]
                self._check("the turn went on by itself, to its end", ended == "completed", f"it is {ended}")
                told = [request for request in model.requests if UNKNOWN in json.dumps(request.body)]
                self._check(
                    "the model was told that the outcome is unknown", bool(told), f"{len(model.requests)} requests"
                )
            with story.step("The client goes on with codex-reply."):
                story.detail(f"prompt: {SECOND_PROMPT}")
                answer = self._call(server, "codex-reply", {"threadId": thread_id, "prompt": SECOND_PROMPT})
                story.detail(f"answer: {answer['content']}")
                self._check("the session goes on under the same thread", answer["threadId"] == thread_id, str(answer))
                sent = json.dumps((model.requests[-1].body or {}).get("input"))
                missing = [piece for piece in (FIRST_PROMPT, SCRIPT, LOOK, FIRST_ANSWER) if piece not in sent]
                self._check("the model was told the whole first turn", not missing, f"it was not told {missing}")

    def _read_to_the_end(self, server: ServerProcess, thread_id: str) -> Message:
        """Show every event that the client has not seen, as it comes, until no turn runs; the last page."""
        deadline = time.monotonic() + WAIT_S
        while True:
            arguments: Json = {"conversation_id": thread_id, "after_seq": self._last_seq, "wait_ms": READ_WAIT_MS}
            page = self._call(server, "conversation_read", arguments)
            for event in page["events"]:
                self._story.detail(f"event {event['seq']}: {_shown(event['msg'])}")
            self._last_seq = int(page["next_seq"])
            if page["status"] == "idle" or time.monotonic() > deadline:
                return page

    def _look_at_rows(self) -> None:
        story, summary = self._story, self._summary
        with story.step("What is in the database, asked by SQL."):
            tables = {name: self._ask(query) for name, query in TABLES}
            numbering = self._ask(queries.NUMBERING).rows
        for name, answer in tables.items():
            summary.rows[name] = len(answer.rows)
            story.rows(name, answer)
        story.say()
        states = [row[1] for row in tables["turns"].rows]
        self._check("both turns are there, completed", states == ["completed", "completed"], str(states))
        tried = self._ask(queries.ATTEMPTS).rows
        twice = tried == [(2, 1), (1, 1)]
        self._check("the first turn took two attempts and ended once", twice, f"attempts and ends: {tried}")
        calls = [row[1] for row in tables["calls"].rows]
        once = calls == ["unknown", "succeeded"] and self._written() == WRITTEN
        self._check("the command was started exactly once", once, f"calls {calls}; {self._whats_written()}")
        gapless = [events == last == following - 1 for _, events, last, following in numbering] == [True]  # pyright: ignore[reportOperatorIssue]
        self._check("the events are numbered without a gap", gapless, str(numbering))

    def _farewell(self) -> None:
        story, database = self._story, shlex.quote(str(self._summary.database))
        story.say(f"\nAll {len(self._summary.kept)} promises were kept.", "bold green")
        story.say("Look for yourself:")
        story.commands(
            [
                f"{screen.program()} db sql --db {database} {shlex.quote(queries.LOOK_AT_EVENTS)}",
                f"rm -r {shlex.quote(str(self._summary.folder))}",
            ]
        )

    # -- what the acts are made of -------------------------------------------------------------------------------------

    def _server(self) -> ServerProcess:
        return ServerProcess(self._home, "--db", str(self._summary.database), cwd=self._work)

    def _call(self, server: ServerProcess, tool: str, arguments: Json) -> Message:
        """The structured answer of a tool call."""
        result = server.call_tool(tool, arguments)
        if result.get("isError"):
            raise PromiseBroken(f"{tool} gives an answer", json.dumps(result))
        answer: Message = result["structuredContent"]
        return answer

    def _ask(self, query: str) -> queries.Answer:
        try:
            return queries.ask(self._summary.database, query, ROWS_MAX)
        except CodexDBError as error:
            raise PromiseBroken("the database can be read by SQL", error.message) from error

    def _pid_of_command(self) -> int:
        """Of the process that runs the command, as it is on record."""
        self._wait_for(lambda: bool(self._ask(queries.RUNNING).rows))
        rows = self._ask(queries.RUNNING).rows
        if not rows:
            raise PromiseBroken("a running command is on record", "no call is started and has a pid")
        pid = cast("int", rows[0][0])
        self._story.detail(f"command: pid {pid}, on record as started")
        return pid

    def _wait_for(self, happened: Callable[[], bool]) -> bool:
        """Whether it happened within `WAIT_S`."""
        deadline = time.monotonic() + WAIT_S
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _check(self, promise: str, held: bool, found: str) -> None:  # noqa: FBT001 - always an expression
        if not held:
            raise PromiseBroken(promise, found)
        self._summary.kept.append(promise)
        self._story.promise(promise, held=True)

    def _written(self) -> str | None:
        return self._notes.read_text(encoding="utf-8") if self._notes.exists() else None

    def _whats_written(self) -> str:
        return f"{self._notes} is not there" if self._written() is None else f"{self._notes} holds {self._written()!r}"


def _scripted(request: Json) -> Answer:
    """The stand-in for a model. Like every model it remembers nothing: what it tells, it takes from this request."""
    items = cast("list[Json]", request["input"])
    outputs = [str(item["output"]) for item in items if item["type"] == "function_call_output"]
    prompts = [text for item in items if item.get("role") == "user" for text in texts(item)][
        1:
    ]  # after the environment
    if SECOND_PROMPT in prompts:
        unknown = sum(output == UNKNOWN for output in outputs)
        return say(
            "You asked: ", prompts[0], f" {unknown} command was cut off; notes.txt holds: {_printed(outputs[-1])}"
        )
    if not outputs:
        return call_tools(("call_1", "shell", json.dumps({"command": ["sh", "-c", SCRIPT]})))
    if len(outputs) == 1:
        return call_tools(("call_2", "shell", json.dumps({"command": ["sh", "-c", LOOK]})), text=CUT_OFF)
    return say(FIRST_ANSWER)


def _printed(output: str) -> str:
    """What a command printed, out of what the model is told of it; refusals come as they are."""
    return str(json.loads(output)["output"]) if output.startswith("{") else output


def _shown(msg: Message) -> str:
    """An event in one line: its type, and what a person wants to know of it."""
    told = msg.get("message") or (msg.get("command") or [""])[-1] or msg.get("stdout", "").strip()
    return f"{msg['type']}: {told}" if told else str(msg["type"])


def _command_ended(server: ServerProcess) -> bool:
    return any(event["msg"]["type"] == "exec_command_end" for event in server.events(transient=False))


def _runs(pid: int) -> bool:
    """Whether that process does anything yet; a dead one whose exit code nobody has fetched does not."""
    try:
        os.kill(pid, 0)
        if sys.platform == "linux":
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True
