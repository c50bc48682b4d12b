"""`python -m local.invoke FUNCTION EVENT`: run a *built* function with an event. `make invoke` calls it.

The function runs in a process of the AWS runtime client. As in Lambda, the process has only the built folder, the built
layer and the runtime's own packages. So a dependency that the layer lacks is missing here too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from local.errors import HostError, StartError
from local.logs import FunctionLog
from local.pool import Pool
from local.stack import WITHOUT_AWS
from local.template import Function, TemplateSource
from local.variables import function_variables, module_folders

BUILT = Path(".aws-sam/build/template.yaml")
_RUNTIME_PACKAGES = ("awslambdaric", "boto3")  # the packages in Lambda's Python runtime


def main(arguments: list[str] | None = None) -> int:
    """Print the result on stdout, the logs on stderr. Returns 0, 1 if the function failed, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m local.invoke", description="Run a built function with an event.")
    parser.add_argument("function", help="the function's name in the template, such as IntakeFunction")
    parser.add_argument("event", type=Path, help="a JSON file with the event, such as those in events/")
    parser.add_argument("--template", type=Path, default=BUILT, help="a built template (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        function = built_function(options.template, options.function)
        return _invoke(function, _read_event(options.event))
    except HostError as error:
        print(f"invoke: {error}", file=sys.stderr)
        return 2


def built_function(template: Path, name: str) -> Function:
    """The built function. Raises HostError."""
    if not template.is_file():
        raise StartError(f"{template} is missing: run `make build` first")
    functions = TemplateSource(template).resolve(WITHOUT_AWS, queue_url_prefix="").functions
    if name not in functions:
        raise StartError(f"there is no function {name}; choose one of {', '.join(sorted(functions))}")
    return functions[name]


def _read_event(path: Path) -> bytes:
    try:
        event = path.read_bytes()
        json.loads(event)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StartError(f"{path} isn't JSON: {error}") from error
    return event


def _invoke(function: Function, event: bytes) -> int:
    with tempfile.TemporaryDirectory(prefix="message-handler-") as temporary:
        log = FunctionLog(Path(temporary) / "log", sys.stderr, notable_only=False)
        runtime = runtime_packages(Path(temporary) / "runtime")
        path = os.pathsep.join(map(str, [*module_folders(function), runtime]))
        variables = function_variables(function, os.environ, _callers_aws(os.environ), path)
        # As under `sam local invoke`: there is no gateway that checks a token.
        variables["AUTH_REQUIRED"] = os.environ.get("AUTH_REQUIRED", "false")
        # As samconfig.toml says for `sam local`: a first bot has no emergency contacts yet, and no AI.
        variables["REQUIRE_SAFETY"] = os.environ.get("REQUIRE_SAFETY", "false")
        variables["SIMULATED_AI"] = os.environ.get("SIMULATED_AI", "true")
        pool = Pool(function, variables, 1, log, isolated=True)
        try:
            outcome = pool.submit(event).result()
        finally:
            pool.stop(grace_seconds=0)
            log.close()
    sys.stdout.flush()
    sys.stdout.buffer.write(outcome.payload + b"\n")  # JSON is UTF-8, whatever the terminal's encoding is
    sys.stdout.buffer.flush()
    return 1 if outcome.failed else 0


def _callers_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's own AWS variables; without credentials, made-up ones, because clients need some."""
    found = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    if "AWS_ACCESS_KEY_ID" in found or "AWS_PROFILE" in found:
        return found
    return {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", **found}


def runtime_packages(folder: Path) -> Path:
    """Fill a folder with links to the runtime's packages only, not to others that are installed here."""
    folder.mkdir()
    seen: set[str] = set()
    wanted = list(_RUNTIME_PACKAGES)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        found = _installed(name)
        if found is None:
            continue
        for entry in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            (folder / entry).symlink_to(Path(str(found.locate_file(entry))))
        requirements = [text for text in found.requires or [] if "extra ==" not in text]
        wanted += [match[0] for text in requirements if (match := re.match(r"[\w.-]+", text))]
    return folder


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # a requirement for another platform or Python version
        return None


if __name__ == "__main__":
    sys.exit(main())
