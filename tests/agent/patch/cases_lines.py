"""Where a change finds its place, and what becomes of line ends."""

from patching import Case, Files, patch

A = "1\n2\n3\n4\n5\n"
REPEATED = "a\nx\nb\nx\nc\nx\n"
CODE = "class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n"


def _case(name: str, before: str | bytes, lines: tuple[str, ...], after: str | bytes, said: str | None = None) -> Case:
    files: Files = {"a": after}
    return Case(name, {"a": before}, patch("*** Update File: a", *lines), files, said)


def _fails(name: str, before: str | bytes, lines: tuple[str, ...], why: str) -> Case:
    return Case(name, {"a": before}, patch("*** Update File: a", *lines), f"error: Failed to find {why} in {{cwd}}/a")


def _note(line: int, how: str) -> str:
    return f"M a\nNote: a line {line} did not match exactly: {how}.\n"


PLACES = [
    _case("replace a line", A, ("@@", "-2", "+two"), "1\ntwo\n3\n4\n5\n", "M a\n"),
    _case("replace the first line", A, ("@@", "-1", "+one"), "one\n2\n3\n4\n5\n"),
    _case("replace the last line", A, ("@@", "-5", "+five"), "1\n2\n3\n4\nfive\n"),
    _case("replace everything", A, ("@@", "-1", "-2", "-3", "-4", "-5", "+x"), "x\n"),
    _case("remove a line", A, ("@@", "-3"), "1\n2\n4\n5\n"),
    _case("remove everything", A, ("@@", "-1", "-2", "-3", "-4", "-5"), ""),
    _case("insert between", A, ("@@", " 2", "+x", " 3"), "1\n2\nx\n3\n4\n5\n"),
    _case("insert in front", A, ("@@", "+x", " 1"), "x\n1\n2\n3\n4\n5\n"),
    _case("insert behind", A, ("@@", " 5", "+x"), "1\n2\n3\n4\n5\nx\n"),
    _case("removed and added lines in any order", A, ("@@", " 1", "+x", "-2", "+y", " 3"), "1\nx\ny\n3\n4\n5\n"),
    _case("two changes", A, ("@@", "-2", "+b", "@@", "-4", "+d"), "1\nb\n3\nd\n5\n"),
    _case("two changes with a blank line between", A, ("@@", "-2", "+b", "", "@@", "-4", "+d"), "1\nb\n3\nd\n5\n"),
    _case("a change of context alone", A, ("@@", " 2"), A),
    _fails("changes in the wrong order", A, ("@@", "-4", "+d", "@@", "-2", "+b"), 'expected lines ["2"]'),
    _fails("lines that are not there", A, ("@@", "-zzz", "+y"), 'expected lines ["zzz"]'),
    _fails("lines with a gap", A, ("@@", "-1", "-3"), 'expected lines ["1", "3"]'),
    _fails("more lines than the file has", "1\n", ("@@", " 1", " 2", "-3"), 'expected lines ["1", "2", "3"]'),
    _fails("the one line twice", A, ("@@", "-2", "@@", "-2"), 'expected lines ["2"]'),
    _fails("quotes and backslashes", A, ("@@", '-"\\\t\x1b'), 'expected lines ["\\"\\\\\\t\\u{1b}"]'),
    _fails("long lines are cut", A, ("@@", "-" + "y" * 5_000), f'expected lines ["{"y" * 4_000}…"]'),
    _fails(
        "many lines are cut",
        A,
        ("@@", *["-" + "y" * 96] * 50),
        "expected lines [" + ", ".join([f'"{"y" * 96}"'] * 40) + ", …]",
    ),
    _case("the first of several places", REPEATED, ("@@", "-x", "+y"), "a\ny\nb\nx\nc\nx\n"),
    _case("the next of several places", REPEATED, ("@@", "-x", "+y", "@@", "-x", "+z"), "a\ny\nb\nz\nc\nx\n"),
    _case("context tells the place", REPEATED, ("@@", " b", "-x", "+y"), "a\nx\nb\ny\nc\nx\n"),
    _case("an anchor tells the place", REPEATED, ("@@ b", "-x", "+y"), "a\nx\nb\ny\nc\nx\n"),
    _case(
        "an anchor further up",
        CODE,
        ("@@ class B:", "-        return 1", "+        return 2"),
        CODE[::-1].replace("1", "2", 1)[::-1],
    ),
    _case(
        "an anchor without its indent",
        CODE,
        ("@@ def f(self):", "-        return 1", "+        return 2"),
        CODE.replace("1", "2", 1),
        "M a\n",
    ),
    _case("an anchor that is also the first line", "f\nf\n1\n", ("@@ f", " f", "-1", "+2"), "f\nf\n2\n"),
    _fails("an anchor that is not there", A, ("@@ zzz", "-2"), "context 'zzz'"),
    _fails("an anchor above the last change", A, ("@@", "-3", "@@ 2", "-4"), "context '2'"),
    _fails("lines above their anchor", A, ("@@ 3", "-2"), 'expected lines ["2"]'),
    _fails("the anchor's line itself", A, ("@@ 5", "-5"), 'expected lines ["5"]'),
    _case("lines alone go to the end", A, ("@@", "+x", "+y"), A + "x\ny\n"),
    _case("lines alone with an anchor go below it", A, ("@@ 2", "+x", "+y"), "1\n2\nx\ny\n3\n4\n5\n"),
    _case("lines alone below the last line", A, ("@@ 5", "+x"), A + "x\n"),
    _case("lines at the end, then a change", A, ("@@", "+x", "@@", "-2", "+b"), "1\nb\n3\n4\n5\nx\n"),
    _case("twice lines at the end", A, ("@@", "+x", "@@", "+y"), A + "x\ny\n"),
    _case("lines below an anchor, then a change there", A, ("@@ 2", "+x", "@@", "-3", "+c"), "1\n2\nx\nc\n4\n5\n"),
    _case("lines into an empty file", "", ("@@", "+x"), "x\n"),
    _case("context of an empty line in an empty file", "", ("@@", "", "+x"), "\nx\n"),
    _case("end of file chooses the last place", REPEATED, ("@@", "-x", "+y", "*** End of File"), "a\nx\nb\nx\nc\ny\n"),
    _case("end of file falls back", A, ("@@", "-2", "+b", "*** End of File"), "1\nb\n3\n4\n5\n"),
    _case("end of file with lines alone", A, ("@@", "+x", "*** End of File"), A + "x\n"),
    _case(
        "a change after end of file",
        A + "5\n",
        ("@@", "-4", "+d", "*** End of File", "@@", "-5", "+e"),
        "1\n2\n3\nd\ne\n5\n",
    ),
    _fails("end of file, used up", "x\n", ("@@", "-x", "@@", "-x", "*** End of File"), 'expected lines ["x"]'),
    _case("an empty context line", "a\n\nb\n", ("@@", " a", "", "-b", "+c"), "a\n\nc\n"),
    _case("an empty context line with a blank", "a\n\nb\n", ("@@", " a", " ", "-b", "+c"), "a\n\nc\n"),
    _case("an empty last line that is not there", A, ("@@", "-5", "+five", ""), "1\n2\n3\n4\nfive\n"),
    _case("an empty last line that is to come", A, ("@@", " 5", "", "+6"), A + "\n6\n"),
    _case("an empty last line replaced by one", A, ("@@", " 5", "-", "+"), A),
    _case("an empty last line removed in vain", A, ("@@", "-5", "-", "+x"), "1\n2\n3\n4\nx\n"),
    _case("blank lines at the end stay", "a\n\n\n", ("@@", "-a", "+b"), "b\n\n\n"),
]

PASSES = [
    _case(
        "trailing blanks in the file",
        "a  \nb\n",
        ("@@", "-a", "+x", " b"),
        "x\nb\n",
        _note(1, "trailing blanks were ignored"),
    ),
    _case(
        "trailing blanks in the patch",
        "a\nb\n",
        ("@@", "-b \t", "+x"),
        "a\nx\n",
        _note(2, "trailing blanks were ignored"),
    ),
    _case("kept lines stay as the file has them", "a  \nb\n", ("@@", " a", "-b", "+x"), "a  \nx\n"),
    _case(
        "another indent",
        "  a\n    b\n",
        ("@@", "-a", "+x"),
        "x\n    b\n",
        _note(1, "leading and trailing blanks were ignored"),
    ),
    _case(
        "tabs for blanks",
        "\ta\n",
        ("@@", "-    a", "+\tx"),
        "\tx\n",
        _note(1, "leading and trailing blanks were ignored"),
    ),
    _case(
        "typographic dash",
        "a \u2013 b\n",
        ("@@", "-a - b", "+x"),
        "x\n",
        _note(1, "blanks and typographic characters were ignored"),
    ),
    _case("typographic quotes", "\u201cit\u2019s\u201d\n", ("@@", '-"it\'s"', "+x"), "x\n"),
    _case("no-break blank", "a\u00a0b\n", ("@@", "-a b", "+x"), "x\n"),
    _case("ideographic blank", "a\u3000b\n", ("@@", "-a b", "+x"), "x\n"),
    _case("minus sign", "\u22121\n", ("@@", "--1", "+x"), "x\n"),
    _case("typographic in the patch", 'say "hi"\n', ("@@", "-say \u201ehi\u201f", "+x"), "x\n"),
    _case("kept lines keep their dashes", "a \u2014 b\n1\n", ("@@", " a - b", "-1", "+2"), "a \u2014 b\n2\n"),
    _case("an exact place wins over a loose one above", " x\nx\n", ("@@", "-x", "+y"), " x\ny\n", "M a\n"),
    _case("trailing blanks win over an indent above", " x\nx \n", ("@@", "-x", "+y"), " x\ny\n"),
    _case("an indent wins over a dash above", "\u2010\n -\n", ("@@", "--", "+y"), "\u2010\ny\n"),
    _case("blanks within a line count", "a b\na  b\n", ("@@", "-a  b", "+x"), "a b\nx\n", "M a\n"),
    _fails("blanks within a line are not ignored", "a  b\n", ("@@", "-a b"), 'expected lines ["a b"]'),
    _fails("case is not ignored", "A\n", ("@@", "-a"), 'expected lines ["a"]'),
    _fails("accents are not ignored", "é\n", ("@@", "-e"), 'expected lines ["e"]'),
    _case(
        "end of file, loosely",
        "x\nx \n",
        ("@@", "-x", "+y", "*** End of File"),
        "x\ny\n",
        _note(2, "trailing blanks were ignored"),
    ),
    _case("a line of blanks as an empty one", "a\n  \nb\n", ("@@", " a", "", "-b", "+c"), "a\n  \nc\n"),
    _case("an anchor of blanks is none", "1\n\n2\n1\n", ("@@ ", "-1", "+x"), "x\n\n2\n1\n"),
    _case(
        "two loose places",
        "a \nb \n",
        ("@@", "-a", "+x", "@@", "-b", "+y"),
        "x\ny\n",
        _note(1, "trailing blanks were ignored") + _note(2, "trailing blanks were ignored").removeprefix("M a\n"),
    ),
]

ENDS = [
    _case("CRLF stays", "1\r\n2\r\n3\r\n", ("@@", " 1", "-2", "+two", "+more"), "1\r\ntwo\r\nmore\r\n3\r\n", "M a\n"),
    _case("CRLF stays if the end is CRLF-less", "1\r\n2\r\n3", ("@@", "-2", "+b"), "1\r\nb\r\n3\r\n"),
    _case("mostly CRLF", "1\r\n2\n3\r\n", ("@@", "-3", "+c"), "1\r\n2\nc\r\n"),
    _case("mostly LF", "1\n2\r\n3\n", ("@@", "-3", "+c"), "1\n2\r\nc\n"),
    _case("kept lines keep their ends", "1\r\n2\n3\r\n", ("@@", " 1", " 2", "+x", " 3"), "1\r\n2\nx\r\n3\r\n"),
    _case("as many of each", "1\r\n2\n", ("@@", "+x"), "1\r\n2\nx\n"),
    _case("CRLF, lines at the end", "1\r\n", ("@@", "+x"), "1\r\nx\r\n"),
    _case("a lone CR is a character", "1\r2\n3\n", ("@@", "-1\r2", "+x"), "x\n3\n"),
    _case("other separators are characters", "1\u20282\x0c3\x85\n4\n", ("@@", "-4", "+x"), "1\u20282\x0c3\x85\nx\n"),
    _case("no final line end becomes one", "1\n2", ("@@", "-1", "+x"), "x\n2\n"),
    _case("no final line end, last line replaced", "1\n2", ("@@", "-2", "+x"), "1\nx\n"),
    _case("no final line end, lines at the end", "1\n2", ("@@", "+x"), "1\n2\nx\n"),
    _case("no final line end, last line removed", "1\n2", ("@@", "-2"), "1\n"),
    _case("no final line end, CRLF", "1\r\n2", ("@@", "+x"), "1\r\n2\r\nx\r\n"),
    _case("one line without an end", "1", ("@@", "-1", "+x"), "x\n"),
    _case("a BOM stays", "\ufeff1\n2\n", ("@@", "-2", "+x"), "\ufeff1\nx\n"),
    _case("a BOM does not hide the first line", "\ufeff1\n2\n", ("@@", "-1", "+x"), "\ufeffx\n2\n", "M a\n"),
    _case("a BOM alone", "\ufeff", ("@@", "+x"), "\ufeffx\n"),
    _case("a BOM with CRLF", "\ufeff1\r\n2\r\n", ("@@", "-2", "+x"), "\ufeff1\r\nx\r\n"),
    _case("an added blank line stays", "1\n", ("@@", " 1", "+"), "1\n\n"),
    _case("added trailing blanks stay", "1\n", ("@@", " 1", "+x  "), "1\nx  \n"),
    _case("unicode stays", "ä\n😀\n", ("@@", "-ä", "+ö"), "ö\n😀\n"),
    _case("combining characters are not composed", "e\u0301\n", ("@@", "-e\u0301", "+x"), "x\n"),
]

CASES = [*PLACES, *PASSES, *ENDS]
