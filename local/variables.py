"""The environment variables of a function: Lambda's own, then the template's, then the caller's."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from local.intrinsics import REGION
from local.template import Function

# A function sees only these variables of the developer's environment: what Python and outgoing connections need.
_PASSED_ON = (
    *(
        "PATH",
        "LD_LIBRARY_PATH",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
)
_LOOPBACK = "127.0.0.1,localhost"


def function_variables(
    function: Function, overrides: Mapping[str, str], aws: Mapping[str, str], module_path: str
) -> dict[str, str]:
    """All variables of one function.

    `overrides` replace values of the template, and add no variables. `aws` names the AWS endpoint and credentials, and
    `module_path` is the PYTHONPATH.
    """
    direct = os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
    direct = f"{direct},{_LOOPBACK}" if direct else _LOOPBACK
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "NO_PROXY": direct,
        "no_proxy": direct,
        "LANG": "en_US.UTF-8",
        "PYTHONUTF8": "1",
        "TZ": ":UTC",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "LAMBDA_TASK_ROOT": str(function.code),
        "LAMBDA_RUNTIME_DIR": str(Path(sys.executable).parent),
        "_HANDLER": function.handler,
        "PYTHONPATH": module_path,
        **aws,
        **function.environment,
        **{name: value for name, value in overrides.items() if name in function.environment},
    }


def module_folders(function: Function) -> list[Path]:
    """The function's folder, then that of each layer: built (`python`) or in the source tree (`src`)."""
    folders = [function.code]
    for layer in function.layers:
        folders += [folder for folder in (layer / "python", layer / "src") if folder.is_dir()][:1]
    return folders


def simulated_aws(endpoint: str) -> dict[str, str]:
    """Variables for an AWS on loopback. Its credentials are no secret, and hide the developer's own."""
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
    }
