"""Sessions on their way into files and out of them: exports of codexdb, and rollouts of Codex."""
