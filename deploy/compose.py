"""Finds Docker Compose and Buildx. deploy/validate and tests/containers use them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / ".ci"))

import pinned  # noqa: E402

COMPOSE_VERSION = "v5.5.1"
BUILDX_VERSION = "v0.29.1"


COMPOSE_OLDEST = (2, 24)
BUILDX_OLDEST = (0, 17)


def has_plugin(name, oldest):
    """Returns whether Docker has a plugin of the version `oldest` or newer."""
    return (pinned.version_of("docker", name, "version") or (0,)) >= oldest


def find_compose_command():
    """Returns the command of Docker Compose: the plugin of Docker, or else a build from pinned
    source.
    """
    if has_plugin("compose", COMPOSE_OLDEST):
        return ["docker", "compose"]
    source = "github.com/docker/compose/v5"
    build = pinned.from_go_module(f"{source}/cmd", COMPOSE_VERSION, f"{source}/internal.Version")
    return [
        pinned.find_or_install(
            name="docker-compose",
            variable=None,
            version_arguments=["version"],
            wanted="2.24 or newer",
            usable=lambda version: version >= COMPOSE_OLDEST,
            recipes=[build],
        )
    ]


def find_buildx_plugin():
    """Returns the path of Buildx, which Compose needs to build images, from pinned source, or None
    if Docker has the plugin.
    """
    if has_plugin("buildx", BUILDX_OLDEST):
        return None
    module = "github.com/docker/buildx"
    build = pinned.from_go_source(module, BUILDX_VERSION, "cmd/buildx", f"{module}/version.Version")
    return pinned.find_or_install(
        name="docker-buildx",
        variable=None,
        version_arguments=["version"],
        wanted="0.17 or newer",
        usable=lambda version: version >= BUILDX_OLDEST,
        recipes=[build],
    )
