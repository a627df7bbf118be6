"""What is no patch, and what is one although it looks odd."""

from patching import Case, patch

FIRST = "error: invalid patch: The first line of the patch must be '*** Begin Patch'"
LAST = "error: invalid patch: The last line of the patch must be '*** End Patch'"
HEADERS = (
    "is not a valid hunk header. Valid hunk headers: '*** Add File: {path}', '*** Delete File: {path}', "
    "'*** Update File: {path}'"
)
SIGNS = "Every line should start with ' ' (context line), '+' (added line), or '-' (removed line)"
A = {"a": "1\n2\n3\n"}
B = {"a": "1\ntwo\n3\n"}
UPDATE = ("*** Update File: a", "@@", "-2", "+two")
HEREDOC_BODY = "*** Begin Patch\n*** Add File: n\n+x\n*** End Patch"


def _hunk(line: int, why: str) -> str:
    return f"error: invalid hunk at line {line}, {why}"


CASES = [
    Case("no text", {}, "", FIRST),
    Case("blank text", {}, " \n\t\n", FIRST),
    Case("prose", {}, "please change a", FIRST),
    Case("only the first marker", {}, "*** Begin Patch", LAST),
    Case("only the last marker", {}, "*** End Patch", FIRST),
    Case("no last marker", {}, "*** Begin Patch\n*** Add File: n\n+x\n", LAST),
    Case("text before the first marker", {}, "Here:\n" + HEREDOC_BODY, FIRST),
    Case("text after the last marker", {}, HEREDOC_BODY + "\nDone.", LAST),
    Case("an indented first marker is trimmed with the text", {}, "  " + HEREDOC_BODY, {"n": "x\n"}),
    Case("an indented last marker is refused", {}, HEREDOC_BODY.replace("*** End", " *** End"), LAST),
    Case("a longer first marker", {}, HEREDOC_BODY.replace("Begin Patch", "Begin Patch v2"), FIRST),
    Case("a last marker in lower case", {}, HEREDOC_BODY.replace("End", "end"), LAST),
    Case("blank lines around everything", {}, f"\n\n{HEREDOC_BODY}\n\n", {"n": "x\n"}),
    Case("no final line end", {}, HEREDOC_BODY, {"n": "x\n"}),
    Case("CRLF throughout", {}, HEREDOC_BODY.replace("\n", "\r\n"), {"n": "x\n"}),
    Case("here-document with a bare tag", {}, f"<<EOF\n{HEREDOC_BODY}\nEOF", {"n": "x\n"}),
    Case("here-document with a single-quoted tag", {}, f"<<'EOF'\n{HEREDOC_BODY}\nEOF\n", {"n": "x\n"}),
    Case("here-document with a double-quoted tag", {}, f'<<"EOF"\n{HEREDOC_BODY}\nEOF', {"n": "x\n"}),
    Case("here-document with another tag", {}, f"<<PATCH\n{HEREDOC_BODY}\nPATCH", {"n": "x\n"}),
    Case("here-document with two kinds of quotes", {}, f"<<'EOF\"\n{HEREDOC_BODY}\nEOF", FIRST),
    Case("here-document without its end", {}, f"<<EOF\n{HEREDOC_BODY}", FIRST),
    Case("here-document around a patch without an end", {}, "<<EOF\n*** Begin Patch\n*** Add File: n\n+x\nEOF", LAST),
    Case("here-document around nothing", {}, "<<EOF\nEOF", FIRST),
    Case("nothing between the markers", {}, patch(), "patch rejected: empty patch"),
    Case("garbage", {}, patch("garbage"), _hunk(2, f"'garbage' {HEADERS}")),
    Case("a blank line as the only line", {}, patch(""), _hunk(2, f"'' {HEADERS}")),
    Case("garbage after a section", {}, patch("*** Add File: n", "+x", "y"), _hunk(4, f"'y' {HEADERS}")),
    Case("garbage after a deletion", A, patch("*** Delete File: a", "-1"), _hunk(3, f"'-1' {HEADERS}")),
    Case("a header without a path", {}, patch("*** Add File: ", "+x"), _hunk(2, f"'*** Add File:' {HEADERS}")),
    Case("an unknown header", {}, patch("*** Copy File: a"), _hunk(2, f"'*** Copy File: a' {HEADERS}")),
    Case("headers are case-sensitive", {}, patch("*** add file: n"), _hunk(2, f"'*** add file: n' {HEADERS}")),
    Case("an indented header is trimmed", {}, patch("   *** Add File: n  ", "+x"), {"n": "x\n"}),
    Case("a move without an update", A, patch("*** Move to: b"), _hunk(2, f"'*** Move to: b' {HEADERS}")),
    Case("an empty update", A, patch("*** Update File: a"), _hunk(2, "Update file hunk for path 'a' is empty")),
    Case(
        "an update of blank lines alone",
        A,
        patch("*** Add File: n", "+x", "*** Update File: a", "", " "),
        _hunk(4, "Update file hunk for path 'a' is empty"),
    ),
    Case(
        "an anchor without lines",
        A,
        patch("*** Update File: a", "@@"),
        _hunk(4, "Update hunk does not contain any lines"),
    ),
    Case(
        "end of file without lines",
        A,
        patch("*** Update File: a", "@@", "*** End of File"),
        _hunk(4, "Update hunk does not contain any lines"),
    ),
    Case(
        "two anchors in a row",
        A,
        patch("*** Update File: a", "@@ 1", "@@ 2", "-3"),
        _hunk(4, f"Unexpected line found in update hunk: '@@ 2'. {SIGNS}"),
    ),
    Case(
        "a line without a sign",
        A,
        patch("*** Update File: a", "@@", "2", "-2"),
        _hunk(4, f"Unexpected line found in update hunk: '2'. {SIGNS}"),
    ),
    Case(
        "a section directly below an anchor",
        A,
        patch("*** Update File: a", "@@", "*** Delete File: a"),
        _hunk(4, f"Unexpected line found in update hunk: '*** Delete File: a'. {SIGNS}"),
    ),
    Case(
        "a second change without its @@",
        A,
        patch(*UPDATE, "three"),
        _hunk(6, "Expected update hunk to start with a @@ context marker, got: 'three'"),
    ),
    Case(
        "an anchor without a blank",
        A,
        patch("*** Update File: a", "@@1", "-2"),
        _hunk(3, f"Unexpected line found in update hunk: '@@1'. {SIGNS}").replace("line 3", "line 4"),
    ),
    Case("the first change may omit @@", A, patch("*** Update File: a", "-2", "+two"), B),
    Case("blanks after @@", A, patch("*** Update File: a", "@@  ", "-2", "+two"), B),
    Case("blank lines before the first change", A, patch("*** Update File: a", "", "@@", "-2", "+two"), B),
    Case("CRLF in the patch, LF in the file", A, patch(*UPDATE).replace("\n", "\r\n"), B),
    Case(
        "NUL in the patch",
        {},
        patch("*** Add File: n", "+\0"),
        "error: invalid patch: The patch must not contain NUL characters",
    ),
    Case(
        "half a character in the patch",
        {},
        patch("*** Add File: n", "+\ud800"),
        "error: invalid patch: The patch must be valid Unicode text",
    ),
    Case(
        "a patch of two megabytes",
        {},
        patch("*** Add File: n", "+" + "x" * 2 * 1024 * 1024),
        "error: invalid patch: The patch must not be larger than 2097152 bytes",
    ),
    Case(
        "two megabytes in characters of two bytes",
        {},
        patch("*** Add File: n", "+" + "ä" * 1024 * 1024),
        "error: invalid patch: The patch must not be larger than 2097152 bytes",
    ),
    Case(
        "501 files",
        {},
        patch(*[f"*** Add File: n{number}" for number in range(501)]),
        "error: invalid patch: The patch must not have more than 500 files",
    ),
    Case("500 files", {}, patch(*[f"*** Add File: n{n}" for n in range(500)]), {f"n{n}": "" for n in range(500)}),
    Case(
        "a long line is quoted in part",
        {},
        patch("y" * 5_000),
        _hunk(2, f"'{'y' * 4_000}…' {HEADERS}"),
    ),
]
