"""The errors of a start.

HostError                  one line for the person at the terminal; exit code 2
├── TemplateError          the template is missing or broken, or uses something that the host can't run
├── StoreUnavailableError  there is no server program for this platform: start degraded and say so
├── StoreStartError        the host's own store did not start, or the store of a URL can't be reached
├── StartError             a function, the migration or the front did not start
└── StartInterruptedError  a signal asked to stop during the start: not a failure
"""


class HostError(RuntimeError):
    """The message is one line and holds no credential."""


class TemplateError(HostError):
    """The template must be changed before this host can run it."""


class StoreUnavailableError(HostError):
    """This machine has no program for a store."""


class StoreStartError(HostError):
    """A store does not answer."""


class StartError(HostError):
    """A part of the host did not start."""


class StartInterruptedError(HostError):
    """The host was asked to stop while it started."""
