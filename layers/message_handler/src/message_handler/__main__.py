"""`python -m message_handler`: see `message_handler.commands`."""

from message_handler.commands import main

raise SystemExit(main())
