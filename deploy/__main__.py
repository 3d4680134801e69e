"""The `tallyroot` command from its first moment: Ctrl-C while its parts are loaded ends it without a traceback.

What it writes only its user may read (keys, readings, who is paid what), and no process that it starts inherits a key.
"""

import os
import signal


def main() -> None:
    """Loads the commands and runs the one that is asked for: see `deploy.cli.app.main`."""
    may_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if may_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    from deploy.cli import app as cli
    from deploy.config import keep_secrets

    keep_secrets()
    if may_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
