"""Finds Docker Compose. deploy/validate and tests/containers use it."""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / ".ci"))

import pinned  # noqa: E402

VERSION = "v5.5.1"


def command():
    """Returns the command of Docker Compose: the plugin of Docker, or else a build from pinned
    source.
    """
    try:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    except OSError:
        pass
    source = "github.com/docker/compose/v5"
    build = pinned.from_go_module(f"{source}/cmd", VERSION, f"{source}/internal.Version")
    return [
        pinned.find_or_install(
            name="docker-compose",
            variable=None,
            version_arguments=["version"],
            wanted="2.24 or newer",
            usable=lambda version: version >= (2, 24),
            recipes=[build],
        )
    ]
