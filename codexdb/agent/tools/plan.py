"""The `update_plan` tool: the model keeps a list of steps that people can look at."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codexdb.agent.model import ToolSpec
from codexdb.domain.validation import explain

DONE = "Plan updated"

SPEC = ToolSpec(
    name="update_plan",
    description=(
        "Write down the steps of a longer task, or bring them up to date. Send the whole list each time, with at most "
        "one step in progress. It is shown to the user; nothing is run."
    ),
    parameters={
        "type": "object",
        "properties": {
            "explanation": {"type": "string", "description": "Why the plan changed, in a sentence."},
            "plan": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "step": {"type": "string"},
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["step", "status"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["plan"],
        "additionalProperties": False,
    },
)


class StepStatus(StrEnum):
    """How far a step is."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class Step(BaseModel):
    """One step."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    step: str
    status: Annotated[StepStatus, Field(strict=False)]


class Plan(BaseModel):
    """The arguments of the call."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    explanation: str | None = None
    plan: list[Step]


def parse(arguments: str) -> Plan | str:
    """The plan, or what to tell the model where it is none."""
    try:
        return Plan.model_validate_json(arguments)
    except ValidationError as error:
        return f"failed to parse function arguments: {explain(error)}"
