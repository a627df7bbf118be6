"""`codexdb …` and `python -m codexdb …`.

Serving is recognised here with the standard library alone, so that `initialize` is answered before anything heavy is
imported.
"""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from codexdb.cli.serve_options import parse

    options = parse(sys.argv[1:])
    if options is not None:
        from codexdb.protocol.handshake import open_wire

        opening = open_wire()

        from codexdb.cli.serve import serve

        sys.exit(serve(options, opening))
    try:
        from codexdb.cli.commands import codexdb
    except KeyboardInterrupt:
        sys.exit(130)
    codexdb(prog_name="codexdb")


if __name__ == "__main__":
    main()
