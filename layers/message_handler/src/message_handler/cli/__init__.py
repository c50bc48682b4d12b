"""The operators' command line, which works through the HTTP API.

All commands but `safety` need only the API's address and a token, and know only what the API answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from message_handler.cli.client import ApiRefused, Client
from message_handler.cli.connection import NotSignedIn, Unreachable
from message_handler.cli.parser import parse
from message_handler.cli.tables import printable
from message_handler.cli.verbs import Declined, NoTerminal

#: The exit codes. argparse exits with USAGE too.
REFUSED, USAGE, UNREACHABLE, NOT_SIGNED_IN, INTERRUPTED = 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parse(arguments)
    try:
        code = options.run(Client(options.url, os.environ, platform_id=options.platform), options)
        sys.stdout.flush()
    except (ApiRefused, Declined) as error:
        return _failed(error, REFUSED)
    except (NoTerminal, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader of the pipe has closed it. Python would report that again when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return _failed(error, USAGE)
    except Unreachable as error:
        return _failed(error, UNREACHABLE)
    except NotSignedIn as error:
        return _failed(error, NOT_SIGNED_IN)
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(code or 0)


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"message-handler: {printable(str(error))}\n")
    return code
