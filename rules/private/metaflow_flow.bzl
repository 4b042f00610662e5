"""metaflow_flow: everything that a flow needs, from its lock to its pushed images."""

load("@mfbazel_locks//:index.bzl", "LOCKS")
load("@rules_python//python:defs.bzl", "py_binary", "py_test")
load(":flow_command.bzl", "flow_command")
load(":flow_images.bzl", "flow_images")
load(":flow_lock_check.bzl", "flow_lock_check")
load(":flow_locking.bzl", "flow_locking")
load(":flow_reading.bzl", "flow_reading")
load(":flow_runtime.bzl", "flow_runtime")
load(":flow_sboms.bzl", "flow_sboms")
load(":flow_shell.bzl", "flow_shell")
load(":flow_signing.bzl", "signing_options", "signing_problem")
load(":flow_spec.bzl", "flow_spec")
load(":flow_step_images.bzl", "flow_step_images")
load(":image_options.bzl", "image_options")
load(":lock_package.bzl", "lock_package")
load(":missing_lock.bzl", "missing_lock")

def metaflow_flow(
        name,
        src,
        base = None,
        bases = {},
        images = {},
        deps = [],
        bake_deps = False,
        repository = None,
        remote_tags = [],
        attach = [],
        sign = None,
        sign_options = {},
        plugins = [],
        python = None,
        metaflow = "metaflow>=2.19.17",
        launcher = [],
        resolver = None,
        glibc = None,
        platforms = [],
        budget = None,
        datastores = ["s3"],
        read = "auto",
        configs = {},
        config_values = {},
        conda_names = {},
        project = None,
        project_lock = None,
        infer = "check",
        imports = {},
        build = [],
        wheels = [],
        advisories = None,
        tags = [],
        visibility = None,
        **options):
    """A Metaflow flow whose steps run in images of their own.

    Args:
        name: name of the flow's binary; the lock is the directory `NAME.lock` beside the BUILD file.
        src: the flow's source file.
        base: any OCI image target for Linux, with bash, tar, gzip and Python. It is built for each of the platforms.
        bases: base images of some steps, by the name of a step or by what it requests: `{"gpu": "@cuda_base", "default": "@python_base"}`. The name of
            a step in the place of an image derives from that step's image: `{"evaluate": "train"}`.
        images: images that steps take as they are, by the name of a step, by "gpu", or by "default", which is for steps without packages of their own.
        deps: first-party py_library targets: other modules beside the flow, libraries of other packages.
        bake_deps: install the modules of `deps` in the images, beside the packages. Otherwise first-party code travels with Metaflow's code package alone.
        repository: where images are pushed to, `registry.example.com/ml/my_flow`. Without it, `.push` starts a registry on this machine. A template: `{flow}`,
            `{step}`, `{lock}` (a hash of the step's packages), `{platform}`, and stamp variables, `{STABLE_GIT_COMMIT}`.
        remote_tags: tags that `.push` gives to every image; templates, as `repository`.
        attach: documents that `.push` attaches to the images as referrers, of "spdx", "cyclonedx" and "provenance" (NAME.sboms; docs/signing.md).
        sign: who signs the images, what is attached, and images.json: "cosign", "notation", or the name of a plug-in (entry point of `mfbazel.signers`).
        sign_options: options of the signer: `{"key": "awskms:///alias/ml"}`. No secrets: they name keys.
        plugins: py_library targets (or wheels) with plug-ins for pushing and verifying, found by their entry points.
        python: version (X.Y) of Python for steps that declare none; default: the Python of the machine that locks.
        metaflow: requirement of Metaflow itself, which the lock pins for the launching machine.
        launcher: requirements that launching needs besides: `["kubernetes"]` for @kubernetes, Argo Workflows and Airflow.
        resolver: "uv", or "pip-tools". Default of this and the next three: what mfbazel.toml says, else "uv", "2.28", `["linux/amd64"]` and 24.
        glibc: oldest glibc that the images have; decides which manylinux wheels are eligible.
        platforms: platforms that are locked, of linux/amd64 and linux/arm64.
        budget: how many layers of packages an image may have, 1 to 100. Beyond it layers are merged, as NAME.explain shows with `-- --layers`.
        datastores: where steps keep their data: "s3", "azure", "gs", "local". Decides what Metaflow itself needs in the images, which is locked like everything else.
        read: how the flow is read: "static", without running anything; "dynamic", by Metaflow itself in a sandbox; "auto", statically where that can be.
        configs: files for the flow's `Config`, by the name of the Config: `{"settings": "settings.json"}`. Locks, images and runs all use them.
        config_values: values (JSON text) for the flow's `Config`, by the name of the Config.
        conda_names: distributions by conda name, for @conda: `{"my-conda-name": "my-distribution"}`; "" leaves the package out.
        project: pyproject.toml whose dependencies every step gets besides its own.
        project_lock: the uv.lock beside it, which pins them.
        infer: what happens to packages that the code imports and nobody declares: "check" makes NAME.imports_test fail, "add" locks them, "off" does nothing.
        imports: distributions by the name that is imported, where it is not known or ambiguous: `{"cv2": "opencv-python-headless"}`.
        build: distributions that are built from source: from their sdists, or as their requirement `name @ git+https://…` says. Building runs their code, without network.
        advisories: file or directory of advisories in the OSV format that NAME.audit compares the lock with.
        wheels: wheels of this workspace, checked-in files or targets (py_wheel and the like, visible to `//visibility:public`): steps that require these distributions take them from nowhere else.
        tags: tags of all targets.
        visibility: visibility of the targets.
        **options: of the images, all optional:
            interpreter: absolute path of the interpreter in the base; `{python}` stands for the step's version, X.Y. Default: `/usr/local/bin/python{python}`.
            files: pkg_files and the like (rules_pkg): first-party files that must be in every image.
            env: additional environment variables.
            labels: labels of the configuration.
            annotations: annotations besides those that mfbazel sets (docs/images.md); values are templates, an empty one takes an annotation away.
            entrypoint: entrypoint, a list. Metaflow's own commands need none.
            user: user that containers run as, `"1000:1000"`.
            workdir: working directory, made writable for any user. Default: `/metaflow`.
            compression, compression_level, bytecode: how layers are compressed ("zstd", "gzip" or "none"), at which level, and whether they have byte code,
                instead of what the build settings of these names in `//rules` say (docs/layers.md).
            stamp: 1: source, revision and time of creation are those of the workspace status, always; 0: never; -1, the default: with --stamp.

    Targets produced by this macro:
        NAME: Metaflow's command line: `bazel run :NAME -- run`.
        NAME.lock: writes the lock directory; `-- --check` only says what would change.
        NAME.lock_test: fails when the lock is stale.
        NAME.imports_test: fails when a step imports a package that it does not declare; not with `infer = "off"`.
        NAME.explain: shows the steps, their packages, and why each is there.
        NAME.audit: lists the licence of every package, and the advisories that apply to it; `-- --layers`: what the images should not hold.
        NAME.spec: what was read of the flow, as JSON (docs/flow_spec.schema.json).
        NAME.<step>: the image of one step, an OCI layout directory; steps with the same packages share it. NAME.<step>.<os>_<architecture>: of one platform, where it has several.
        NAME.images: all of them, and images.json.
        NAME.sboms: what is in each of them (SPDX, CycloneDX) and how it was made (SLSA provenance); output groups spdx, cyclonedx, provenance.
        NAME.shell: a shell in the image of a step: `bazel run :NAME.shell -- train`; `-- --help`.
        NAME.push: pushes them. NAME.promote: copies what was pushed to another repository, by digest.
        NAME.verify: checks what is deployed: digests, signatures, SBOMs, provenance; needs no build of the images. NAME.load: loads them into a container engine of this machine.
    """
    if resolver not in (None, "uv", "pip-tools"):
        fail("metaflow_flow {}: resolver = {} is neither \"uv\" nor \"pip-tools\"".format(name, repr(resolver)))
    if not datastores:
        fail("metaflow_flow {}: datastores is empty: name where the steps keep their data, for example [\"s3\"]".format(name))
    label = "//{}:{}".format(native.package_name(), name)
    problem = signing_problem(label, attach, sign, sign_options)
    if problem:
        fail(problem)
    if infer not in ("off", "check", "add"):
        fail("metaflow_flow {}: infer = {} is none of \"off\", \"check\", \"add\"".format(name, repr(infer)))
    if len({file: None for file in configs.values()}) < len(configs):
        fail("metaflow_flow {}: configs = {} names a file twice: copy it, or let the flow read one Config".format(name, configs))
    common = dict(tags = tags, visibility = visibility)
    hidden = dict(tags = ["manual"] + tags, visibility = ["//visibility:private"])

    reading = "_{}.reading".format(name)
    flow_reading(
        name = reading,
        conda_names = conda_names,
        config_values = config_values,
        configs = {file: config for config, file in configs.items()},
        flow = src,
        project = project,
        project_lock = project_lock,
        python = python,
        read = read,
        deps = deps,
        **hidden
    )
    flow_spec(
        name = name + ".spec",
        reading = reading,
        **common
    )
    lock_files = native.glob([name + ".lock/*"], allow_empty = True)
    _reader(py_binary, name, "explain", "explain", ["@$(rootpath {})".format(reading), "--lock-dir", _path(name + ".lock"), "--label", label], [reading] + lock_files, common)
    locking = "_{}.locking".format(name)
    flow_locking(
        name = locking,
        flow_label = label,
        lock_dir = _path(name + ".lock"),
        options = _lock_options(metaflow, launcher, resolver, glibc, platforms, budget, datastores, infer, imports, build),
        reading = reading,
        wheels = wheels,
        **hidden
    )
    locked = ["@$(rootpath {})".format(locking)]
    _reader(py_binary, name, "lock", "lock", ["flow"] + locked, [locking], common)
    _reader(py_test, name, "lock_test", "lock", ["test"] + locked, [locking] + lock_files, common)
    if infer != "off":
        _reader(py_test, name, "imports_test", "lock", ["imports"] + locked, [locking] + lock_files, common)
    known = ["--advisories", "$(rootpath {})".format(advisories)] if advisories else []
    _reader(py_binary, name, "audit", "audit", ["--lock-dir", _path(name + ".lock"), "--label", label] + known, lock_files + ([advisories] if advisories else []), common)
    promoting = ["promote", "--label", label] + [_quoted(option) for option in signing_options(sign, sign_options)]
    _reader(py_binary, name, "promote", "push", promoting, [], common, plugins)
    package = lock_package(native.package_relative_label(name))
    lock = LOCKS.get(package)
    if lock == None or "unusable" in lock:
        problem = {"reason": lock["unusable"]} if lock else {}
        for target in [name, name + ".images", name + ".sboms", name + ".shell", name + ".push", name + ".verify", name + ".load"]:
            missing_lock(name = target, command = "bazel run {}.lock".format(label), tags = ["manual"] + tags, visibility = visibility, **problem)
        return

    flow_lock_check(
        name = "_{}.lock_check".format(name),
        flow_label = label,
        lock = name + ".lock/flow.json",
        lock_files = lock_files,
        locking = locking,
        **hidden
    )
    launch = _launcher(name, label, src, deps, configs, config_values, package, lock, hidden, common)
    built = flow_step_images(
        name = name,
        base = base,
        bases = bases,
        code = deps if bake_deps else [],
        images = images,
        lock = lock,
        options = image_options(**dict(options, labels = dict({"org.opencontainers.image.title": name}, **options.get("labels", {})))),
        package = package,
        **common
    )
    flow_images(
        name = name + ".images",
        flow_label = label,
        foreign = built.foreign,
        images = {image: ",".join(steps) for image, steps in built.images.items()},
        includes = built.includes,
        lock = name + ".lock/flow.json",
        lock_check = "_{}.lock_check".format(name),
        remote_tags = remote_tags,
        repository = repository or "",
        stamp = options.get("stamp", -1),
        steps = lock["steps"].keys(),
        **common
    )
    flow_sboms(
        name = name + ".sboms",
        flow_images = name + ".images",
        flow_label = label,
        images = {image: ",".join(steps) for image, steps in built.images.items() if steps[0] not in built.foreign},
        includes = built.includes,
        lock = name + ".lock/flow.json",
        lock_files = lock_files,
        platforms = built.platforms,
        stamp = options.get("stamp", -1),
        tags = ["manual"] + tags,  # nobody who builds everything waits for them
        visibility = visibility,
    )
    flow_shell(
        name = name + ".shell",
        arguments = launch.options,
        data = launch.data,
        flow = label,
        images = name + ".images",
        tags = tags,
        visibility = visibility,
        deps = deps,
    )
    documents = dict(attach = attach, sboms = name + ".sboms") if attach else {}
    _images_command(name + ".push", "flow", name, hidden, common, plugins, sign = sign, sign_options = sign_options, **documents)
    _images_command(name + ".load", "load", name, hidden, common)
    verifying = ["--expect=" + kind for kind in attach] + signing_options(sign, sign_options)
    verifying += ["--foreign=" + step for step in built.foreign]
    verifying += ["--includes={}={}".format(step, ",".join(others)) for step, others in built.includes.items()]
    located = ["--label", label, "--lock", "$(rootpath {}.lock/flow.json)".format(name)] + [_quoted(option) for option in verifying]
    _reader(py_binary, name, "verify", "verify", located, [name + ".lock/flow.json"], common, plugins)

def _path(file):
    """Path of a file of this package, from the workspace's root."""
    return native.package_name() + "/" + file if native.package_name() else file

def _lock_options(metaflow, launcher, resolver, glibc, platforms, budget, datastores, infer, imports, build):
    """Options of mfbazel.lock that the attributes mean, besides how the flow is read."""
    options = ["--metaflow", metaflow, "--infer", infer]
    for option, value in [("--resolver", resolver), ("--glibc", glibc)]:
        if value:
            options += [option, value]
    if budget != None:
        options += ["--budget", str(budget)]
    for platform in platforms:
        options += ["--platform", platform]
    for datastore in datastores:
        options += ["--datastore", datastore]
    for requirement in launcher:
        options += ["--launcher", requirement]
    for module, distribution in imports.items():
        options += ["--import", "{}={}".format(module, distribution)]
    for distribution in build:
        options += ["--build", distribution]
    return options

def _reader(kind, name, suffix, front, arguments, data, common, plugins = []):
    """A command line of mfbazel, or a test, that reads the flow or its lock."""
    target = "{}.{}".format(name, suffix)
    main = Label("//mfbazel/{}:__main__.py".format(front))
    kind(
        name = target,
        srcs = [main],
        args = arguments,
        data = data,
        env = {"MFBAZEL_TARGET": "//{}:{}".format(native.package_name(), target)},
        legacy_create_init = 0,
        main = main,
        deps = [Label("//mfbazel/{}:lib".format(front))] + plugins,
        **dict(common, **({"size": "small"} if kind == py_test else {}))
    )

def _quoted(text):
    """text as one argument of an executable, whose args Bazel expands and splits."""
    return "'{}'".format(text.replace("$", "$$").replace("'", "'\\''"))

def _launcher(name, label, src, deps, configs, config_values, package, lock, hidden, common):
    """The flow's binary; returns the options that describe the flow to mfbazel.launch, and the files that they name."""
    runtime = "_{}.runtime".format(name)
    config_options = []
    for config, file in configs.items():
        config_options += ["--config", "{}=$(rootpath {})".format(config, file)]
    for config, value in config_values.items():
        config_options += ["--config-value", _quoted("{}={}".format(config, value))]
    flow_runtime(
        name = runtime,
        sites = {
            Label("@mfbazel_locks//{}:{}.sites".format(package, environment)): environment
            for environment in lock["pythons"]
        },
        deps = deps,
        **hidden
    )
    options = [
        "--flow",
        "$(rootpath {})".format(src),
        "--lock",
        "$(rootpath {}.lock/flow.json)".format(name),
        "--label",
        label,
        "--sites",
        _path(runtime + ".sites.json"),
        "--first-party",
        _path(runtime + ".first_party.json"),
        "--import-roots",
        _path(runtime + ".import_roots.json"),
    ] + config_options
    data = [src, name + ".lock/flow.json", runtime] + configs.values()
    py_binary(
        name = name,
        srcs = [Label("//mfbazel/launch:__main__.py")],
        args = ["flow"] + options + ["--"],
        data = data,
        legacy_create_init = 0,
        main = Label("//mfbazel/launch:__main__.py"),
        deps = [Label("//mfbazel/launch:lib")] + deps,
        **common
    )
    return struct(data = data, options = options)

def _images_command(target, command, name, hidden, common, plugins = [], **attributes):
    arguments = "_{}.arguments".format(target)
    flow_command(
        name = arguments,
        command = command,
        images = name + ".images",
        **dict(hidden, **attributes)
    )
    py_binary(
        name = target,
        srcs = [Label("//mfbazel/push:__main__.py")],
        args = ["@$(rootpath {})".format(arguments)],
        env = {"MFBAZEL_TARGET": "//{}:{}".format(native.package_name(), target)},
        data = [arguments],
        legacy_create_init = 0,
        main = Label("//mfbazel/push:__main__.py"),
        deps = [Label("//mfbazel/push:lib")] + plugins,
        **common
    )
