"""The part of `differences` that is about commands, patches and the questions before them."""

from tests.golden.difference import Difference

CALL_DIFFERENCES = (
    Difference(
        "output-of-failures",
        "tells the model what a failed command wrote to stderr, and nothing of its stdout",
        "tells it both, in the order in which they were written",
        "most programs say on stdout what failed",
    ),
    Difference(
        "timed-out-command",
        "tells the model that a command timed out, and nothing of what it had printed",
        "tells it what was printed until then, and the time that was up",
        "half of a test run is worth reading",
    ),
    Difference(
        "default-timeout",
        "gives a command that names no time-out 10 s",
        "gives it 120 s, or what shell_timeout_ms says",
        "builds and test runs take longer",
    ),
    Difference(
        "whole-group",
        "kills a command that timed out and waits for whatever else still holds its output",
        "kills it with everything that it started",
        "a child in the background must not stall the turn",
    ),
    Difference(
        "true-durations",
        "gives commands that timed out, were denied or did not start a duration of nought",
        "tells how long each took",
        "it is known",
    ),
    Difference(
        "several-calls",
        "runs one call of a chat answer: others that come with it are dropped, or glued to its arguments",
        "runs each, one after another",
        "the model waits for all of them",
    ),
    Difference(
        "text-before-calls",
        "tells of the text of a chat answer after the calls that came with it, and keeps it behind their outputs",
        "tells and keeps it before them",
        "it came first, and says what the calls are for",
    ),
    Difference(
        "tokens-before-waiting",
        "sends token_count after the calls of an answer have run",
        "reads the answer to its end before it waits for a person, so that token_count comes before the call runs",
        "an endpoint does not keep a stream open for as long as people take",
    ),
    Difference(
        "trusted-in-sandbox",
        "runs commands that need no asking without a sandbox",
        "runs them in the sandbox where the mode has one",
        "a list of names is no proof of what a command does",
    ),
    Difference(
        "sandbox-words",
        "a write that the sandbox forbids fails with Permission denied",
        "it fails with the words of the sandbox in use, which may be Read-only file system",
        "they are the kernel's",
    ),
    Difference(
        "question-form",
        "asks with an empty form, and takes an answer that is no answer of the protocol",
        "asks with a form of one field, the decision; the original's answers are taken too",
        "any client can show it",
    ),
    Difference(
        "question-details",
        "a question says nothing of its session, of the reason, or of the directory that a yes for the session opens",
        "adds threadId, codex_reason and codex_grant_root; the event of a patch has grant_root",
        "people should see what they agree to",
    ),
    Difference(
        "standard-answers",
        "takes the protocol's own yes (action: accept) for a no",
        "takes it for a yes, decline for a no and cancel for an abort",
        "it is what clients of the protocol say",
    ),
    Difference(
        "refused-question",
        "waits for ever when the client answers a question with an error",
        "takes it for a no",
        "nobody else is going to answer",
    ),
    Difference(
        "nobody-to-ask",
        "asks also clients that did not say they can be asked",
        "does not ask them: the call is denied, and the model is told why",
        "a question that nobody sees hangs the turn",
    ),
    Difference(
        "withdrawn-question",
        "leaves a question open when its turn is cancelled",
        "takes it back with notifications/cancelled; an answer that comes all the same is passed over",
        "a dialogue about nothing should close",
    ),
    Difference(
        "patch-output",
        "sends what a patch printed as exec_command_output_delta, in pieces, before patch_apply_end",
        "sends it with patch_apply_end alone",
        "it is all there, and no command ran",
    ),
    Difference(
        "diff-when-changed",
        "sends turn_diff after a patch and again after every answer of the model, also when nothing has changed",
        "sends it when it has changed",
        "the same text three times says nothing more",
    ),
    Difference(
        "diff-paths",
        "names files outside a git repository in turn_diff by absolute paths behind a second slash",
        "names them from the working directory",
        "git apply takes them",
    ),
    Difference(
        "patch-order",
        "lists the changes of a patch in a random order, another each time",
        "lists them in the patch's order",
        "people read along",
    ),
    Difference(
        "aborted-calls",
        "forgets a call whose turn was interrupted",
        "keeps it, with an output that says it was stopped or did not begin, and what it had printed",
        "its effects stand, and the model should know",
    ),
    Difference(
        "partial-text",
        "forgets the text of a chat answer that was interrupted, but not that of a responses endpoint",
        "keeps it on both wires",
        "people have read it and refer to it",
    ),
    Difference(
        "abandoned-stream",
        "reads an interrupted chat stream to its end",
        "closes it at once",
        "nobody reads it, and the endpoint may stop counting",
    ),
)
