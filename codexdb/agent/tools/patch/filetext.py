"""A text file as lines that each know how they end, so that what is not changed stays as it is to the byte."""

from dataclasses import dataclass

_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class FileText:
    """A whole file. `lines` are without their ends; `ends` has one for each: "\\n", "\\r\\n", or "" for the last."""

    bom: bool
    lines: list[str]
    ends: list[str]

    @property
    def newline(self) -> str:
        """How lines of this file end, by majority."""
        crlf = self.ends.count("\r\n")
        return "\r\n" if crlf > self.ends.count("\n") else "\n"

    def encode(self) -> bytes:
        text = "".join([line + end for line, end in zip(self.lines, self.ends, strict=True)])
        return (_BOM + text if self.bom else text).encode()


def decode(content: bytes) -> FileText:
    """The lines of a file.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    text = content.decode()
    bom = text.startswith(_BOM)
    lines = text[len(_BOM) if bom else 0 :].split("\n")
    last = lines.pop()
    ends = ["\r\n" if line.endswith("\r") else "\n" for line in lines]
    lines = [line.removesuffix("\r") for line in lines]
    if last:
        lines.append(last)
        ends.append("")
    return FileText(bom, lines, ends)
