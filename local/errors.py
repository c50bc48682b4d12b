"""What can go wrong while the host starts, in a sentence each.

HostError                  one clear line for the person at the terminal; exit code 2
├── TemplateError          the template is missing, broken, or uses something that the host can't run
├── StoreUnavailableError  no server program for this platform: start degraded and say so
├── StoreStartError        our own server didn't come up, or the one that a URL names isn't reachable
├── StartError             a function, the migration or the front couldn't start
└── StartInterruptedError  it was asked to stop before it was up: no failure
"""


class HostError(RuntimeError):
    """The message is one line and holds no credential."""


class TemplateError(HostError):
    """Fix the template, or run it where it can run."""


class StoreUnavailableError(HostError):
    """There is no server program that can run here."""


class StoreStartError(HostError):
    """A store was asked for and doesn't answer."""


class StartError(HostError):
    """A part of the host itself didn't start."""


class StartInterruptedError(HostError):
    """Stopping was asked for while the host started."""
