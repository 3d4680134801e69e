"""The `tallyroot` command from its first moment: Ctrl-C while its parts are loaded ends it without a traceback."""

import signal


def main() -> None:
    """Loads the commands and runs the one that is asked for: see `deploy.cli.app.main`."""
    may_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if may_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from deploy.cli import app as cli

    if may_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
