"""Images under the names that docker-compose.yml and the Dockerfile use.

The registries of the real images may be unreachable, so images with the same programs, users and
entry points stand in for them. They contain Debian packages, the pinned nats-server and Jaeger, and
the binaries of this working tree. The one for Grafana only answers the
health check, and there is none for the collector, which is not started by default.
"""

import json
import os
import pathlib
import re
import shutil

import compose
import debian
from engine import Failure, docker, run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# wget is in the real images of nats, nginx, Jaeger and Prometheus, whose health checks use it.
PACKAGES = ["ca-certificates", "wget", "nginx-light", "prometheus", "python3"]
CACHE_NAME = "containers"
# Packages of the image `rust` that the build needs.
COMPILER_PACKAGES = ["ca-certificates", "gcc", "libc6-dev", "make"]
COMPILER_CACHE_NAME = "compiler"
CARGO_HOME = pathlib.Path("/usr/local/cargo")
TOOLCHAIN = pathlib.Path("/usr/local/toolchain")
BUILD_SECONDS_MAX = 3600
# Folders of the base that no program uses, and which are most of its size.
UNUSED = ["var/cache", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/javascript", "usr/share/fonts"]
# Files of the base that the image distroless/cc contains: the C library and the certificates.
LIBRARIES = ["ld-linux*", "libc.so*", "libm.so*", "libgcc_s.so*", "libresolv.so*", "libnss_*", "libdl.so*", "libpthread.so*", "librt.so*"]
DISTROLESS_PATHS = ["lib", "lib64", "usr/lib64", "etc/ssl", "etc/nsswitch.conf", "tmp", "usr/share/ca-certificates"]
SERVICES = {"provision": "wordmill-nats", "gateway": "wordmill-gateway", "worker": "wordmill-worker"}
BASE = "debian-with-programs"
SITE = "site"


def compose_images():
    """Returns the image of each service in docker-compose.yml."""
    text = (ROOT / "docker-compose.yml").read_text()
    return dict(re.findall(r"^  ([\w-]+):\n(?:    .*\n|\n)*?    image: (\S+)\n", text, re.M))


def dockerfile():
    return (ROOT / "Dockerfile").read_text()


def prepare_base():
    """Creates the archive of the base system in the cache, which needs the network of the host."""
    debian.find_or_create_archive(CACHE_NAME, PACKAGES)


def prepare_compiler():
    """Creates the archive of the compiler's stand-in, which needs the network of the host."""
    debian.find_or_create_archive(COMPILER_CACHE_NAME, COMPILER_PACKAGES)


class Builder:
    """Builds images in a folder of its own."""

    def __init__(self, folder, binaries, next_binaries):
        self.folder = folder
        self.binaries = binaries
        self.next_binaries = next_binaries
        self.images = compose_images()

    def import_base(self):
        """Imports the base of the stand-ins, and the stand-in for the base of the services."""
        root = self.folder / "base"
        debian.unpack(root, CACHE_NAME, PACKAGES)
        excluded = [f"--exclude=./{path}" for path in UNUSED]
        import_folder(root, ["."], excluded, BASE)
        users = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
        (root / "etc/passwd").write_text(users)
        libraries = [
            str(path.relative_to(root))
            for pattern in LIBRARIES
            for path in sorted(root.glob(f"usr/lib/*-linux-gnu/{pattern}"))
        ]
        paths = [*(path for path in DISTROLESS_PATHS if os.path.lexists(root / path)), *libraries]
        # `lib` is archived as a link to `usr/lib`, which would add all libraries of the base.
        import_folder(root, [*paths, "etc/passwd"], [], distroless_base(), "USER 65532:65532")
        shutil.rmtree(root)

    def build(self, images, lines, files=()):
        """Builds images from the lines of a Dockerfile and files of the host. `images` maps
        names to options of `docker build`, or is one name without options.
        """
        context = self.folder / "context"
        context.mkdir()
        for source, name in files:
            destination = context / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, destination)
        (context / "Dockerfile").write_text("".join(f"{line}\n" for line in lines))
        # The classic builder needs neither a plugin nor a registry.
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        for tag, options in images.items() if isinstance(images, dict) else [(images, [])]:
            docker("build", "--quiet", "--tag", tag, *options, context, env=environment)
        shutil.rmtree(context)

    def build_stand_ins(self, nats_server, jaeger):
        """Builds the stand-ins for the images of other projects, and the site that jobs fetch from.
        """
        from_line = f"FROM {BASE}"
        copy_line = "COPY program /usr/local/bin/"
        self.build(
            self.images["nats"],
            [from_line, f"{copy_line}nats-server", 'ENTRYPOINT ["nats-server"]'],
            [(nats_server, "program")],
        )
        self.build(
            self.images["jaeger"],
            [from_line, f"{copy_line}jaeger", "USER 10001", 'ENTRYPOINT ["jaeger"]'],
            [(jaeger, "program")],
        )
        # As in the real image, the command keeps nginx in the foreground.
        self.build(self.images["nginx"], [from_line, 'CMD ["nginx", "-g", "daemon off;"]'])
        prometheus = [from_line, "USER 65534", "WORKDIR /prometheus", 'ENTRYPOINT ["prometheus"]']
        self.build(self.images["prometheus"], prometheus)
        health = self.folder / "health"
        health.write_text("ok")
        grafana = ['WORKDIR /www', 'ENTRYPOINT ["python3", "-m", "http.server", "3000"]']
        self.build(self.images["grafana"], [from_line, "COPY health /www/api/health", *grafana], [(health, "health")])
        site = pathlib.Path(__file__).parent / "site.py"
        site_lines = [from_line, "COPY site.py /site.py", "USER 65532", 'ENTRYPOINT ["python3", "-u", "/site.py"]']
        self.build(SITE, site_lines, [(site, "site.py")])

    def import_compiler(self):
        """Imports the stand-in for the image of the compiler: the host's toolchain, with the host's
        settings for access to the registry of crates.
        """
        root = self.folder / "compiler"
        debian.unpack(root, COMPILER_CACHE_NAME, COMPILER_PACKAGES)
        debian.copy_toolchain(root, TOOLCHAIN)
        variables = debian.copy_network_settings(root, pathlib.Path("/root"), CARGO_HOME)
        variables.update(CARGO_HOME=CARGO_HOME, PATH=f"{TOOLCHAIN}/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        changes = [f"ENV {name}={json.dumps(str(value))}" for name, value in variables.items()]
        compiler = re.search(r"^FROM (\S+) AS build$", dockerfile(), re.M)[1]
        import_folder(root, ["."], [], compiler, *changes)
        shutil.rmtree(root)

    def build_dockerfile(self):
        """Builds the images of the services with the Dockerfile, as `make up` does, but in the
        network of the host.
        """
        buildx = compose.find_buildx_plugin()
        if buildx:
            plugins = pathlib.Path(os.environ["DOCKER_CONFIG"]) / "cli-plugins"
            plugins.mkdir(parents=True)
            (plugins / "docker-buildx").symlink_to(buildx)
        override = self.folder / "network.yml"
        lines = ["services:", *(f"  {service}: {{build: {{network: host}}}}" for service in SERVICES)]
        override.write_text("\n".join(lines))
        command = [*compose.find_compose_command(), "--file", "docker-compose.yml", "--file", override]
        command += ["--env-file", "deploy/compose.env.example", "build", *SERVICES]
        run(*command, cwd=ROOT, timeout=BUILD_SECONDS_MAX)

    def build_services(self):
        """Builds the images of the services from the last stages of the Dockerfile and the host's
        binaries.
        """
        self.build_service_images([self.binaries])

    def build_next_services(self):
        """Builds the images of the next version of gateway and worker under the same names. Returns
        their ids.
        """
        self.build_service_images([self.next_binaries, self.binaries])
        return self.service_ids()

    def build_service_images(self, folders):
        stages = re.split(r"^(?=FROM )", dockerfile(), flags=re.M)
        final = [stage for stage in stages if stage.startswith("FROM ") and " AS build" not in stage]
        if len(final) != len(stages) - 2:
            raise Failure("the Dockerfile must have exactly one stage `build`")
        lines = ["FROM scratch AS build", "COPY out /out", *"".join(final).splitlines()]
        # The next version has no binary for provisioning, so the current one is used.
        files = [(next(path / name for path in folders if (path / name).exists()), f"out/{name}") for name in SERVICES.values()]
        targets = {self.images[service]: ["--target", service] for service in SERVICES}
        self.build(targets, lines, files)

    def restore(self, ids):
        """Gives the images with these ids the names of the services again."""
        for service, image_id in ids.items():
            docker("tag", image_id, self.images[service])

    def service_ids(self):
        """Returns the id of the image of each service."""
        images = {service: self.images[service] for service in SERVICES}
        return {service: docker("image", "inspect", "--format", "{{.Id}}", tag).strip() for service, tag in images.items()}


def distroless_base():
    """Returns the name of the image that the services are based on."""
    return re.search(r"^FROM (\S+) AS base$", dockerfile(), re.M)[1]


def import_folder(root, paths, options, tag, *changes):
    """Imports files below `root` as an image with one layer."""
    archive = root.with_suffix(".tar")
    run("tar", "--create", "--file", archive, "--directory", root, *options, *paths)
    docker("import", *(f"--change={change}" for change in changes), archive, tag)
    archive.unlink()
