"""`python -m message_handler`: see `message_handler.cli`."""

from message_handler.cli import main

raise SystemExit(main())
