"""The `apply_patch` tool: a patch text becomes changed files, all of them or none.

Owns the grammar, the ways a patch arrives, how the place of a change is found, and how files are replaced. Synchronous,
and without rows: the caller decides whether a patch may run and where. Everything but `spec` sees the standard library
only, since a sandboxed child runs it as a program (`program`).

    sections = grammar.parse(text)              # or what to tell the model
    plan = verify.verify(sections, cwd)         # reads, writes nothing; or what to tell the model
    events.changes(plan)                        # what events show, while somebody is asked
    outcome = apply.apply(plan)                 # all or nothing
"""
