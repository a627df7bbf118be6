"""What a model is told about patches: the `apply_patch` tool, or a manual where it has none."""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from codexdb.agent import prompts
from codexdb.agent.model import ToolSpec
from codexdb.domain.validation import explain

_BY_COMMAND = (
    "To change files, call `shell` with the command `apply_patch` and the patch as its only argument: "
    '`["apply_patch", "*** Begin Patch\\n…\\n*** End Patch"]`.'
)


class PatchCall(BaseModel):
    """The arguments of the call."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)
    input: str


@cache
def _grammar() -> str:
    return (Path(prompts.__file__).with_name("apply_patch.md")).read_text(encoding="utf-8").strip()


@cache
def spec() -> ToolSpec:
    """The tool as it is offered."""
    return ToolSpec(
        name="apply_patch",
        description=f"Add, change, move and delete text files with one patch.\n\n{_grammar()}",
        parameters={
            "type": "object",
            "properties": {"input": {"type": "string", "description": "The whole patch, both markers included."}},
            "required": ["input"],
            "additionalProperties": False,
        },
    )


@cache
def manual() -> str:
    """For the instructions of a model that is not offered the tool."""
    return f"{_BY_COMMAND}\n\n{_grammar()}"


def parse(arguments: str) -> PatchCall | str:
    """The patch text that the model's JSON holds, unchecked, or what to tell the model where it holds none."""
    try:
        return PatchCall.model_validate_json(arguments)
    except ValidationError as error:
        return f"failed to parse function arguments: {explain(error)}"
