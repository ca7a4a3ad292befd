"""Creates root directories with Debian packages, and with the Rust toolchain and the network
settings of the host, for tests that need a fresh system.

`.ci/fresh` and tests/containers use it. The base systems are cached in target/debian.
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "debian"
SUITES = ["bookworm", "trixie"]
# Environment variables of the host that configure access to the registries of cargo and pip.
NETWORK_VARIABLES = re.compile(
    r"(?i:(http|https|ftp|all|no)_proxy)|SSL_CERT_(FILE|DIR)|(CURL|REQUESTS)_CA_BUNDLE"
    r"|CARGO_(HTTP|NET|SOURCE)_\w+|CARGO_REGISTR(Y|IES)_\w*(INDEX|PROTOCOL|DEFAULT)"
    r"|PIP_(CERT|CONFIG_FILE|DEFAULT_TIMEOUT|(EXTRA_)?INDEX_URL|PROXY|RETRIES|TRUSTED_HOST)"
)
SYSTEM_FILES = ["etc/hosts", "etc/resolv.conf", "etc/pip.conf"]
USER_FILES = [".config/pip/pip.conf", ".pip/pip.conf"]
CERTIFICATES = "usr/local/share/ca-certificates"
# The only tables of cargo's configuration that are copied. Others would change the build.
CARGO_TABLES = ["http", "net", "registries", "registry", "source"]

DEBOOTSTRAP_SECONDS_MAX = 900
COPY_SECONDS_MAX = 300


class Unavailable(Exception):
    """The base system cannot be created. The text contains the reason."""


def read_output(*command):
    """Runs a command and returns its output."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=COPY_SECONDS_MAX)
    if run.returncode != 0:
        raise Unavailable(f"`{shlex.join(command)}` failed: {run.stderr.strip()}")
    return run.stdout


def find_apt_source():
    """Returns suite and mirror of an apt source: the host's own suite, or else bookworm or trixie.
    """
    fields = "$(RELEASE) $(COMPONENT) $(SITE)"
    sources = read_output("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    mirrors = {}
    for line in sources.splitlines():
        suite, component, mirror = line.split(maxsplit=2)
        if component == "main":
            mirrors.setdefault(suite, mirror)
    host = platform.freedesktop_os_release().get("VERSION_CODENAME")
    for suite in [host, *SUITES]:
        if suite in mirrors:
            return suite, mirrors[suite]
    raise Unavailable(f"apt has no source for {host}, {' or '.join(SUITES)}: see /etc/apt/sources.list.d")


def debootstrap_environment():
    """Returns the environment with apt's proxy: debootstrap does not read apt's configuration."""
    proxy = shlex.split(read_output("apt-config", "shell", "proxy", "Acquire::http::Proxy"))
    proxies = {"http_proxy": proxy[0].removeprefix("proxy=")} if proxy else {}
    return {**proxies, **os.environ}


def find_or_create_archive(name, packages, log=None):
    """Returns the path of an archive of a minimal system with `packages`. Creates it if suite,
    mirror or packages have changed. The cache holds one archive for each `name`. Appends the output
    of the programs to `log`.

    Raises `Unavailable` if a package or the mirror is unavailable.
    """
    suite, mirror = find_apt_source()
    key = hashlib.sha256(json.dumps([suite, mirror, platform.machine(), packages]).encode())
    base = CACHE / f"{name}-{suite}-{key.hexdigest()[:12]}.tar"
    if base.exists():
        return base
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{name}-*"):
        # A folder is left if an earlier run was killed.
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=CACHE) as folder:
        root = pathlib.Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, root, mirror]
        run(command, DEBOOTSTRAP_SECONDS_MAX, log, env=debootstrap_environment())
        unfinished = pathlib.Path(folder) / "archive"
        pack = ["tar", "-cpf", unfinished, "--exclude=./var/cache/apt/archives/*.deb"]
        run([*pack, "-C", root, "."], COPY_SECONDS_MAX, log)
        unfinished.rename(base)
    return base


def unpack(root, name, packages, log=None):
    """Creates the root directory from the archive that `find_or_create_archive` returns."""
    base = find_or_create_archive(name, packages, log)
    root.mkdir(parents=True)
    run(["tar", "-xpf", base, "-C", root], COPY_SECONDS_MAX, log)


def find_toolchain():
    """Returns the folder of the host's toolchain, which must have the version in
    rust-toolchain.toml.
    """
    path = pathlib.Path(read_output("rustc", "--print", "sysroot").strip())
    pinned = re.search(r'^channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text(), re.M)[1]
    version = read_output("rustc", "--version").split()[1]
    # Toolchains of distributions are installed into /usr, and cannot be copied separately.
    if version != pinned or not (path / "lib" / "rustlib" / "components").exists():
        found = f"rustc is {version} in {path}"
        raise Unavailable(f"{found}: run `rustup toolchain install {pinned}`, and use its rustc")
    return path


def copy_toolchain(root, folder):
    """Copies the host's toolchain to `folder` in the root directory."""
    destination = host_path(root, folder)
    destination.mkdir(parents=True)
    for name in ["bin", "lib"]:
        run(["cp", "-a", find_toolchain() / name, destination], COPY_SECONDS_MAX, None)


def host_path(root, path):
    """Returns an absolute path inside the root directory as a path of the host."""
    return root / str(path).lstrip("/")


def copy(root, source, destination):
    """Copies a file or folder of the host into the root directory, if it exists."""
    destination = host_path(root, destination)
    if source.is_dir():
        shutil.copytree(
            source, destination, dirs_exist_ok=True, ignore_dangling_symlinks=True
        )
    elif source.is_file():
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)


def toml_lines(table, *names):
    """Yields the lines of a parsed table as TOML, one value per line. Writes values as JSON."""
    for name, value in table.items():
        key = [*names, json.dumps(name)]
        if isinstance(value, dict):
            yield from toml_lines(value, *key)
        else:
            yield f"{'.'.join(key)} = {json.dumps(value)}\n"


def copy_cargo_settings(source, destination):
    """Copies the settings of registries from a configuration file of cargo, without tokens."""
    if source.is_file():
        tables = tomllib.loads(source.read_text())
        lines = toml_lines({name: tables[name] for name in CARGO_TABLES if name in tables})
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_text("".join(line for line in lines if '"token"' not in line))


def copy_network_settings(root, home, cargo_home, log=None):
    """Copies the host's settings for access to the registries. `home` is the home of the user in
    the root directory, and `cargo_home` the folder of cargo there. Returns the environment
    variables.
    """
    for name in SYSTEM_FILES:
        copy(root, pathlib.Path("/") / name, name)
    for name in USER_FILES:
        copy(root, pathlib.Path.home() / name, home / name)
    host_cargo_home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    copy_cargo_settings(host_cargo_home / "config.toml", host_path(root, cargo_home) / "config.toml")
    copy(root, pathlib.Path("/") / CERTIFICATES, CERTIFICATES)
    # /etc/ssl is not copied: it belongs to the package ca-certificates, which may be missing.
    if (root / "usr/sbin/update-ca-certificates").exists():
        run(["chroot", root, "update-ca-certificates"], COPY_SECONDS_MAX, log)
    variables = {
        name: value for name, value in os.environ.items() if NETWORK_VARIABLES.fullmatch(name)
    }
    for value in variables.values():
        path = pathlib.Path(value)
        if path.is_absolute() and path.is_file() and not path.is_relative_to("/etc/ssl"):
            copy(root, path, path)
    return variables


def run(command, seconds, log, **options):
    """Runs a command to completion. Its output goes to `log`, or else to the message of the error.
    """
    command = [str(part) for part in command]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, **options
    )
    if log:
        with open(log, "ab") as file:
            file.write(done.stdout)
    if done.returncode != 0:
        lines = done.stdout.decode(errors="replace").splitlines()[-10:]
        raise Unavailable("\n".join([f"{command[0]} failed with exit code {done.returncode}:", *lines]))
