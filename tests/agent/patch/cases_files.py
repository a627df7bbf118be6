"""Files that come, go and move; several sections; paths of every kind."""

from patching import Case, patch

A = {"a": "1\n2\n3\n"}
MISSING = "No such file or directory (os error 2)"
ISDIR = "Is a directory (os error 21)"
NOTDIR = "Not a directory (os error 20)"


def _add(name: str, *lines: str) -> str:
    return patch(f"*** Add File: {name}", *[f"+{line}" for line in lines])


def _read(name: str, why: str) -> str:
    return f"error: Failed to read file to update {{cwd}}/{name}: {why}"


EDIT = ("@@", "-2", "+two")
EDITED = "1\ntwo\n3\n"

ADDING = [
    Case("add a file", {}, _add("n", "x"), {"n": "x\n"}, said="A n\n"),
    Case("add two lines", {}, _add("n", "x", "y"), {"n": "x\ny\n"}),
    Case("add an empty file", {}, _add("n"), {"n": ""}, said="A n\n"),
    Case("add one empty line", {}, _add("n", ""), {"n": "\n"}),
    Case(
        "added lines may look like anything",
        {},
        _add("n", "+", "-", "*** End Patch", "@@", " "),
        {"n": "+\n-\n*** End Patch\n@@\n \n"},
    ),
    Case("add unicode", {}, _add("ä", "ü€😀"), {"ä": "ü€😀\n"}),
    Case("add in a new folder", {}, _add("p/q/n", "x"), {"p/q/n": "x\n"}, said="A p/q/n\n"),
    Case("add in a folder that is there", {"p/a": "1"}, _add("p/n", "x"), {"p/a": "1", "p/n": "x\n"}),
    Case("add replaces", A, _add("a", "x"), {"a": "x\n"}, said="A a\n"),
    Case("add replaces what is binary", {"a": b"\0\xff"}, _add("a", "x"), {"a": "x\n"}),
    Case("add replaces CRLF as given", {"a": "1\r\n"}, _add("a", "x"), {"a": "x\n"}),
    Case("add an empty file over one", A, _add("a"), {"a": ""}),
    Case("a name with blanks", {}, _add("my file", "x"), {"my file": "x\n"}, said="A my file\n"),
    Case("a name with quotes", {}, _add("\"'", "x"), {"\"'": "x\n"}),
    Case("a name that begins with a dash", {}, _add("-rf", "x"), {"-rf": "x\n"}),
    Case("a dot before the name", {}, _add("./n", "x"), {"n": "x\n"}, said="A ./n\n"),
    Case("through a folder and back", {"p/a": ""}, _add("p/../n", "x"), {"p/a": "", "n": "x\n"}, said="A p/../n\n"),
    Case("add where a folder is", {"d/a": ""}, _add("d", "x"), f"Failed to write file d: {ISDIR}"),
    Case("add a folder's name", {}, _add("d/", "x"), f"Failed to write file d/: {ISDIR}"),
    Case("add the working directory", {}, _add(".", "x"), f"Failed to write file .: {ISDIR}"),
    Case("add below a file", A, _add("a/n", "x"), f"Failed to write file a/n: {NOTDIR}"),
    Case(
        "a name that is too long",
        {},
        _add("n" * 300, "x"),
        f"Failed to write file {'n' * 300}: File name too long (os error 36)",
    ),
    Case(
        "one bad file stops the others",
        {"d/a": ""},
        patch("*** Add File: n", "+x", "*** Add File: d", "+x"),
        f"Failed to write file d: {ISDIR}",
    ),
]

DELETING = [
    Case("delete", A, patch("*** Delete File: a"), {}, said="D a\n"),
    Case("delete one of two", {"a": "1", "b": "2"}, patch("*** Delete File: a"), {"b": "2"}),
    Case("delete what is binary", {"a": b"\0\xff\n"}, patch("*** Delete File: a"), {}),
    Case("delete in a folder", {"p/a": "1", "p/b": ""}, patch("*** Delete File: p/a"), {"p/b": ""}),
    Case("delete what is not there", A, patch("*** Delete File: b"), "Failed to delete file b"),
    Case(
        "delete what is not there, among others",
        A,
        patch("*** Delete File: a", "*** Delete File: b"),
        "Failed to delete file b",
    ),
    Case("delete a folder", {"d/a": ""}, patch("*** Delete File: d"), "Failed to delete file d"),
    Case("delete a folder by its slash", {"d/a": ""}, patch("*** Delete File: d/"), "Failed to delete file d/"),
    Case("delete twice", A, patch("*** Delete File: a", "*** Delete File: a"), "Failed to delete file a"),
    Case("delete below a file", A, patch("*** Delete File: a/b"), "Failed to delete file a/b"),
    Case(
        "nothing is added if a deletion fails",
        {},
        patch("*** Add File: n", "+x", "*** Delete File: b"),
        "Failed to delete file b",
    ),
    Case(
        "a deletion that fails behind an update",
        A,
        patch("*** Update File: a", *EDIT, "*** Delete File: b"),
        "Failed to delete file b",
    ),
]

MOVING = [
    Case("move alone", A, patch("*** Update File: a", "*** Move to: b"), {"b": A["a"]}, said="M b\n"),
    Case("move and change", A, patch("*** Update File: a", "*** Move to: b", *EDIT), {"b": EDITED}, said="M b\n"),
    Case("move into a new folder", A, patch("*** Update File: a", "*** Move to: p/q/b"), {"p/q/b": A["a"]}),
    Case("an indented move", A, patch("*** Update File: a", "  *** Move to: b "), {"b": A["a"]}),
    Case(
        "move keeps bytes that no text has",
        {"a": b"\xff\0\r"},
        patch("*** Update File: a", "*** Move to: b"),
        {"b": b"\xff\0\r"},
    ),
    Case("move keeps a missing line end", {"a": "1"}, patch("*** Update File: a", "*** Move to: b"), {"b": "1"}),
    Case("move over another", {"a": "1\n", "b": "2\n"}, patch("*** Update File: a", "*** Move to: b"), {"b": "1\n"}),
    Case("move to itself", A, patch("*** Update File: a", "*** Move to: a", *EDIT), {"a": EDITED}, said="M a\n"),
    Case("move to itself by another name", A, patch("*** Update File: a", "*** Move to: ./a"), A, said="M ./a\n"),
    Case("move what is not there", {}, patch("*** Update File: a", "*** Move to: b"), _read("a", MISSING)),
    Case(
        "move onto a folder",
        {"a": "1", "d/x": ""},
        patch("*** Update File: a", "*** Move to: d"),
        f"Failed to write file d: {ISDIR}",
    ),
    Case(
        "move into a folder by its name",
        {"a": "1", "d/x": ""},
        patch("*** Update File: a", "*** Move to: d/"),
        f"Failed to write file d/: {ISDIR}",
    ),
    Case("move a folder", {"d/x": ""}, patch("*** Update File: d", "*** Move to: e"), _read("d", ISDIR)),
    Case(
        "move below a file",
        {"a": "1", "b": ""},
        patch("*** Update File: a", "*** Move to: b/c"),
        f"Failed to write file b/c: {NOTDIR}",
    ),
    Case(
        "move below itself", A, patch("*** Update File: a", "*** Move to: a/b"), f"Failed to write file a/b: {NOTDIR}"
    ),
    Case(
        "move with a change that has no place",
        A,
        patch("*** Update File: a", "*** Move to: b", "@@", "-9"),
        'error: Failed to find expected lines ["9"] in {cwd}/a',
    ),
    Case(
        "move, then change the new one",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Update File: b", *EDIT),
        {"b": EDITED},
        said="M b\n",
    ),
    Case(
        "move on and on",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Update File: b", "*** Move to: c"),
        {"c": A["a"]},
        said="M b\nM c\n",
    ),
    Case(
        "move there and back",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Update File: b", "*** Move to: a"),
        A,
    ),
    Case(
        "swap",
        {"a": "1", "b": "2"},
        patch(
            "*** Update File: a",
            "*** Move to: t",
            "*** Update File: b",
            "*** Move to: a",
            "*** Update File: t",
            "*** Move to: b",
        ),
        {"a": "2", "b": "1"},
    ),
    Case(
        "move away and add anew",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Add File: a", "+x"),
        {"a": "x\n", "b": A["a"]},
        said="A a\nM b\n",
    ),
    Case(
        "change what was moved away",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Update File: a", *EDIT),
        _read("a", MISSING),
    ),
    Case(
        "delete what was moved away",
        A,
        patch("*** Update File: a", "*** Move to: b", "*** Delete File: a"),
        "Failed to delete file a",
    ),
]

TOGETHER = [
    Case(
        "letters stand in groups",
        {**A, "b": "", "c": ""},
        patch("*** Delete File: c", "*** Update File: a", *EDIT, "*** Add File: n", "+x", "*** Delete File: b"),
        {"a": EDITED, "n": "x\n"},
        said="A n\nM a\nD c\nD b\n",
    ),
    Case(
        "the second section sees the first",
        A,
        patch("*** Update File: a", *EDIT, "*** Update File: a", "@@", "-two", "+zwei"),
        {"a": "1\nzwei\n3\n"},
        said="M a\n",
    ),
    Case(
        "the second section does not see what is gone",
        A,
        patch("*** Update File: a", *EDIT, "*** Update File: a", *EDIT),
        'error: Failed to find expected lines ["2"] in {cwd}/a',
    ),
    Case(
        "the second section may go back up",
        A,
        patch("*** Update File: a", "@@", "-3", "+c", "*** Update File: a", "@@", "-1", "+a"),
        {"a": "a\n2\nc\n"},
    ),
    Case(
        "add, then change",
        {},
        patch("*** Add File: n", "+2", "*** Update File: n", *EDIT),
        {"n": "two\n"},
        said="A n\nM n\n",
    ),
    Case("add, then add", {}, patch("*** Add File: n", "+1", "*** Add File: n", "+2"), {"n": "2\n"}, said="A n\n"),
    Case(
        "add, then move",
        {},
        patch("*** Add File: n", "+1", "*** Update File: n", "*** Move to: m"),
        {"m": "1\n"},
        said="A n\nM m\n",
    ),
    Case("add, then delete", {}, patch("*** Add File: n", "+1", "*** Delete File: n"), {}, said="A n\nD n\n"),
    Case("delete, then add", A, patch("*** Delete File: a", "*** Add File: a", "+x"), {"a": "x\n"}, said="A a\nD a\n"),
    Case("delete, then change", A, patch("*** Delete File: a", "*** Update File: a", *EDIT), _read("a", MISSING)),
    Case("change, then delete", A, patch("*** Update File: a", *EDIT, "*** Delete File: a"), {}, said="M a\nD a\n"),
    Case(
        "one file under two names",
        A,
        patch("*** Update File: a", *EDIT, "*** Update File: ./a", "@@", "-two", "+2"),
        A,
        said="M a\nM ./a\n",
    ),
    Case(
        "the first failing section is told",
        A,
        patch("*** Update File: x", *EDIT, "*** Update File: y", *EDIT),
        _read("x", MISSING),
    ),
    Case(
        "a failing last section stops all",
        A,
        patch("*** Update File: a", *EDIT, "*** Update File: y", *EDIT),
        _read("y", MISSING),
    ),
    Case(
        "a file where a folder is to be",
        {},
        patch("*** Add File: n", "+x", "*** Add File: n/m", "+x"),
        f"Failed to create parent directories for n/m: {NOTDIR}",
    ),
    Case("update what is not there", {}, patch("*** Update File: a", *EDIT), _read("a", MISSING)),
    Case("update a folder", {"d/a": ""}, patch("*** Update File: d", *EDIT), _read("d", ISDIR)),
    Case("update below a file", A, patch("*** Update File: a/b", *EDIT), _read("a/b", NOTDIR)),
    Case(
        "update what is no UTF-8",
        {"a": b"1\n2\n\xff\n"},
        patch("*** Update File: a", *EDIT),
        _read("a", "stream did not contain valid UTF-8"),
    ),
    Case(
        "update UTF-16",
        {"a": "1\n2\n".encode("utf-16")},
        patch("*** Update File: a", *EDIT),
        _read("a", "it contains NUL bytes and is no text"),
    ),
    Case(
        "update what has a NUL",
        {"a": "1\n2\n\0"},
        patch("*** Update File: a", *EDIT),
        _read("a", "it contains NUL bytes and is no text"),
    ),
    Case(
        "update what is huge",
        {"a": b"2\n" * (4 * 1024 * 1024 + 1)},
        patch("*** Update File: a", *EDIT),
        _read("a", "it is larger than 8388608 bytes"),
    ),
    Case("delete what is huge", {"a": b"x" * (8 * 1024 * 1024 + 1)}, patch("*** Delete File: a"), {}),
    Case("replace what is huge", {"a": b"x" * (8 * 1024 * 1024 + 1)}, _add("a", "x"), {"a": "x\n"}),
]

CASES = [*ADDING, *DELETING, *MOVING, *TOGETHER]
