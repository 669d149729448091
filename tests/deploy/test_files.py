"""Checks the files around the code: locks, Dockerfiles, compose, settings, make. Needs no engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from aiderm_api.settings import Settings
from aiderm_core.bundle.store import ModelStore

ROOT = Path(__file__).parents[2]
SERVICES = ("api", "trainer", "scorer")
LIBRARIES = ("core", "compute")  # on which the services are built
LOCKS = [*(ROOT / "services" / name / "requirements.lock" for name in SERVICES), ROOT / "tests/requirements.lock"]
DOCKERFILES = [ROOT / "services/Dockerfile", ROOT / "frontend/Dockerfile"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
COMPOSE_ONLY = re.compile(r"\$\{(AIDERM_[A-Z_]+):-([^}]*)\}")


def requirements(lock: Path) -> dict[str, str]:
    """Each pinned requirement with all lines of its entry."""
    pattern = re.compile(r"^([a-z0-9][a-z0-9._-]*)==[^\n]*(?:\n    --hash=[^\n]*)*", re.M)
    blocks = list(pattern.finditer(lock.read_text("utf-8")))
    found = {block[1]: block[0] for block in blocks}
    assert len(found) == len(blocks), f"{lock} pins a package twice"
    return found


def built_on(service: str) -> list[str]:
    """The libraries of this project that a service needs."""
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text("utf-8"))["project"]
    return [name for name in LIBRARIES if f"aiderm-{name}" in project["dependencies"]]


def version(entry: str) -> str:
    return entry.split("==")[1].split()[0]


def environment_example() -> dict[str, str]:
    """The variables in .env.example with the defaults shown there."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    found = [line[1:].split("=", 1) for line in lines if re.match(r"#AIDERM_[A-Z_]+=", line)]
    assert len(found) == len({name for name, _ in found})
    return {name: value for name, value in found}


def repository_files() -> list[Path]:
    """The files in a clone, and those that the next commit would add."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_lock_pins_every_line_with_a_checksum(lock: Path) -> None:
    found = requirements(lock)
    assert len(found) > 20
    for name, entry in found.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{name} has no checksum"
    # Any line that is not a pin, a checksum or a comment would be an option, an address or a path.
    for line in lock.read_text("utf-8").splitlines():
        assert re.match(r"^([a-z0-9._-]+==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*|)$", line), line


def test_locks_agree_on_every_version() -> None:
    everything = requirements(LOCKS[-1])
    for lock in LOCKS[:-1]:
        for name, entry in requirements(lock).items():
            assert version(entry) == version(everything[name]), f"{lock}: {name}"


@pytest.mark.parametrize(
    ("lock", "services"),
    [
        *((lock, [*built_on(name), name]) for lock, name in zip(LOCKS, SERVICES, strict=False)),
        (LOCKS[-1], [*LIBRARIES, *SERVICES]),
    ],
    ids=[*SERVICES, "tests"],
)
def test_locks_hold_what_the_services_ask_for(lock: Path, services: list[str]) -> None:
    found = requirements(lock)
    for service in services:
        project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text("utf-8"))
        for wanted in [*project["project"]["dependencies"], *project["build-system"]["requires"]]:
            name = re.match(r"[A-Za-z0-9._-]+", wanted)
            assert name
            if name[0] not in {f"aiderm-{library}" for library in LIBRARIES}:
                assert re.sub(r"[._-]+", "-", name[0]).lower() in found, f"{wanted} of {service} is missing: run `make lock`"


def test_api_lock_is_small_and_nothing_reports_home() -> None:
    assert not {"tensorflow", "keras", "scikit-learn", "matplotlib", "pytest", "ray"} & set(requirements(LOCKS[0]))
    assert not {"tensorflow", "fastapi"} & set(requirements(LOCKS[2]))
    assert "tensorflow" in requirements(LOCKS[1])
    for lock in LOCKS:
        assert "openvino-telemetry" not in requirements(lock)


def test_deployment_files_name_no_host() -> None:
    files = [
        *LOCKS,
        *DOCKERFILES,
        *ROOT.glob("services/*/pyproject.toml"),
        *(
            ROOT / name
            for name in ("docker-compose.yml", ".env.example", "Makefile", "pyproject.toml", ".ci/run", ".dockerignore")
        ),
    ]
    own = {"127.0.0.1", "localhost", "a.example", "b.example", "$$(docker", "{host}"}
    for file in files:
        for host in re.findall(r"[a-z]+://([^/\s:\"'`,)]*)", file.read_text("utf-8")):
            assert host in own, f"{file} names {host}"
        assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|--registry", file.read_text("utf-8")), file


def test_repository_names_no_folder_of_one_machine_and_holds_no_big_file() -> None:
    machine = re.compile(rb"(?<![\w$}.])/(?:work|root|home/\w+|Users/\w+)/(?!space)\w")
    for path in repository_files():
        allowed = 60_000_000 if path.is_relative_to(ROOT / "models") else 20_000_000  # an ensemble's weights
        assert path.stat().st_size <= allowed, f"{path} has {path.stat().st_size} bytes; allowed: {allowed}"
        if path.suffix in {".py", ".md", ".yml", ".toml", ".js", ".html", ".css", ".json", ".csv", ".txt", ""}:
            found = machine.search(path.read_bytes())
            assert not found, f"{path} names {found[0]!r}"


def test_repository_ships_whole_bundles_and_no_left_overs_of_an_export() -> None:
    shipped = [path.relative_to(ROOT).parts for path in repository_files() if path.is_relative_to(ROOT / "models")]
    bundles = {parts[1:3] for parts in shipped if len(parts) > 3}
    for parts in shipped:
        assert not any(part.startswith(".") for part in parts), "/".join(parts)
        assert len(parts) > 3 or parts[2] == "SERVING" or parts[2].endswith(".sha256"), "/".join(parts)
    store = ModelStore(ROOT / "models")
    for name, version in bundles:
        assert store.verified(name, version, promoted=True).version == version


def stages(dockerfile: Path, **arguments: str) -> dict[str, tuple[str, str]]:
    """The base image and the text of each stage of a Dockerfile, by the stage's name or, without one, its 0-based index."""
    text = dockerfile.read_text("utf-8")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.M)) | arguments
    text = re.sub(r"\$\{(\w+)\}", lambda found: arguments.get(found[1], found[0]), text)
    parts = enumerate(re.split(r"^FROM ", text, flags=re.M)[1:])
    found = ((index, *re.fullmatch(r"(\S+)(?: AS (\S+))?\n(.*)", part, re.S).groups()) for index, part in parts)
    return {name or str(index): (base, body) for index, base, name, body in found}


@pytest.mark.parametrize("service", [*SERVICES, "frontend"])
def test_image_is_built_in_stages_for_an_unprivileged_user(service: str) -> None:
    dockerfile = ROOT / ("frontend" if service == "frontend" else "services") / "Dockerfile"
    found = stages(dockerfile, SERVICE=service)
    base = "nginxinc/nginx-unprivileged:1.28-bookworm" if service == "frontend" else "python:3.11-slim-bookworm"
    assert {start for start, _ in found.values()} - found.keys() == {base}
    assert "# syntax" not in dockerfile.read_text("utf-8")
    assert "@sha256" not in dockerfile.read_text("utf-8")
    last, name = "", list(found)[-1]
    while name in found:
        name, body = found[name]
        last = body + last
    assert "COPY --from=" in last
    users = re.findall(r"^USER (\d+):(\d+)$", last, re.M)
    assert len(users) == 1, "the user must be a number, so that orchestrators can check it"
    assert "0" not in users[0]
    assert "HEALTHCHECK" in last
    assert "STOPSIGNAL" in last
    assert "org.opencontainers.image.licenses" in last
    # An ENTRYPOINT resets the CMD of the base image.
    assert "\nCMD " in last[last.rindex("\nENTRYPOINT") if "\nENTRYPOINT" in last else 0 :] or service == "frontend"
    built = COMPOSE["services"][service]["build"]
    assert built["dockerfile"] == str(dockerfile.relative_to(ROOT))
    assert built["labels"].keys() == {"org.opencontainers.image.version", "org.opencontainers.image.revision"}
    assert service == "frontend" or built["args"] == {"SERVICE": service}


def test_build_context_holds_what_is_copied_and_little_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignore
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    copied = [
        source.replace("${SERVICE}", service)
        for file in DOCKERFILES
        for source in re.findall(r"^COPY (?!--from)(\S+) ", file.read_text("utf-8"), re.M)
        for service in SERVICES
    ]
    for source in copied:
        assert any(rule == source or rule.startswith(source + "/") for rule in allowed), f"{source} is not in the build context"
    assert not [rule for rule in allowed if rule.startswith(("models", "tests", "data", "runs", ".git"))]
    # Each entry exists, and some Dockerfile needs it.
    for rule in allowed:
        assert (ROOT / rule).exists(), f".dockerignore names {rule}, which does not exist"
        assert any(rule == source or rule.startswith(source + "/") for source in copied), f"no Dockerfile copies {rule}"


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_compose_hardens_every_service(service: str) -> None:
    entry = COMPOSE["services"][service]
    assert entry["read_only"] is True
    assert entry["cap_drop"] == ["ALL"]
    assert entry["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "logging"} <= set(entry)
    assert {"max-size", "max-file"} <= set(entry["logging"]["options"])
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(entry)
    assert entry.get("network_mode", "none") == "none"
    writes = {
        "keys": {"/keys"},
        "models": {"/models", "/backups"},
        "trainer": {"/workspace/runs", "/workspace/models"},
        "scorer": {"/workspace/scores"},
    }
    binds = [volume for volume in entry.get("volumes", []) if isinstance(volume, dict)]
    for volume in binds:
        assert volume["bind"] == {"create_host_path": False}, "a missing folder must be an error, not a new folder of root's"
    assert {volume["target"] for volume in binds if not volume.get("read_only")} == writes.get(service, set())


def test_compose_publishes_nginx_alone_and_isolates_the_api() -> None:
    services = COMPOSE["services"]
    published = {name: entry["ports"] for name, entry in services.items() if "ports" in entry}
    assert published == {
        "frontend": ["${AIDERM_HTTP_ADDRESS:-127.0.0.1}:${AIDERM_HTTP_PORT:-8080}:8080"],
        "grafana": ["${AIDERM_GRAFANA_ADDRESS:-127.0.0.1}:${AIDERM_GRAFANA_PORT:-3000}:3000"],
    }
    assert {name for name, entry in services.items() if not entry.get("profiles")} == {"api", "frontend"}
    assert services["grafana"]["profiles"] == services["prometheus"]["profiles"] == ["monitoring"]
    assert services["trainer"]["profiles"] == ["train"]
    assert services["scorer"]["profiles"] == ["score"]
    assert services["api"]["networks"] == ["internal"]
    assert services["prometheus"]["networks"] == ["internal", "monitoring"]
    assert COMPOSE["networks"]["internal"] == COMPOSE["networks"]["monitoring"] == {"internal": True}
    # Secrets come as files, never in a container's environment.
    for name, entry in services.items():
        for variable in entry.get("environment", {}):
            assert not re.search(r"PASSWORD$|SECRET|TOKEN|_KEY$", variable), f"{name}: {variable}"


def test_environment_example_shows_every_setting_of_the_api_with_its_default() -> None:
    shown = environment_example()
    for name, field in Settings.model_fields.items():
        variable = f"AIDERM_{name.upper()}"
        assert variable in shown, f".env.example lacks {variable}"
        if variable == "AIDERM_THREADS":
            continue  # its default is in the compose file: see the next test
        parsed = Settings.model_validate({name: shown[variable]} if shown[variable] else {})
        assert getattr(parsed, name) == field.default, f"{variable}: shown {shown[variable]}, default {field.default}"


def test_environment_example_shows_every_variable_of_compose_with_its_default() -> None:
    shown = environment_example()
    in_compose: dict[str, str] = {}
    # The last file takes precedence; other defaults for a swarm are mentioned in the comment in .env.example.
    for name in (
        "deploy/swarm/stack.sh",
        "deploy/swarm/stack.yml",
        "deploy/rollout.sh",
        "deploy/tls/compose.yml",
        "docker-compose.yml",
    ):
        in_compose |= dict(COMPOSE_ONLY.findall((ROOT / name).read_text("utf-8")))
    for variable, default in in_compose.items():
        expected = "auto" if variable == "AIDERM_LOG_FORMAT" else default  # the API's default; that of compose is in the comment
        assert shown.get(variable) == expected, variable
    known = set(in_compose) | {f"AIDERM_{name.upper()}" for name in Settings.model_fields}
    assert set(shown) == known


def test_compose_passes_every_setting_of_the_api() -> None:
    assert set(COMPOSE["services"]["api"]["environment"]) == {f"AIDERM_{name.upper()}" for name in Settings.model_fields}


def test_compose_fills_in_every_variable_of_the_nginx_template() -> None:
    template = (ROOT / "frontend/nginx/default.conf.template").read_text("utf-8")
    wanted = set(re.findall(r"\$\{([A-Z_]+)\}", template))
    assert wanted
    assert wanted <= set(COMPOSE["services"]["frontend"]["environment"])


def test_compose_gives_nginx_longer_than_the_api_and_the_api_longer_than_its_requests() -> None:
    grace = COMPOSE_ONLY.search(COMPOSE["services"]["api"]["stop_grace_period"])
    assert grace
    assert int(grace[2].removesuffix("s")) > Settings.model_fields["drain_seconds"].default


@pytest.fixture
def bare_machine(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the Makefile, and an environment whose PATH has only make, a shell and a few basic tools."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "sh", "cat", "cksum", "tr", "rm", "mkdir", "touch", "sed", "printf", "pwd", "dirname"):
        found = shutil.which(tool)
        assert found, tool
        (tools / tool).symlink_to(found)
    project = tmp_path / "project"
    for name in ("Makefile", *(str(lock.relative_to(ROOT)) for lock in LOCKS)):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    for name in (*LIBRARIES, *SERVICES):
        (project / "services" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "services" / name / "pyproject.toml", project / "services" / name)
    return project, {"PATH": str(tools)}


def make(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=60)


def test_make_says_which_python_is_missing(bare_machine: tuple[Path, dict[str, str]]) -> None:
    project, environment = bare_machine
    old = Path(environment["PATH"]) / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    result = make(project, environment, "run")
    assert result.returncode != 0
    assert "Python 3.11 is needed" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert "apt-get install python3.11" in result.stderr
    assert not (project / ".venv").exists()


def fake_python(environment: dict[str, str]) -> Path:
    """A Python 3.11 that makes real environments in which pip only records its arguments."""
    program = Path(environment["PATH"]) / "python3.11"
    program.write_text(
        f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  cat > "$3/bin/python" <<'EOF'
#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} "$@"
[ "$1 $2" = "-m aiderm_api" ] && {{ echo "serving on $AIDERM_PORT"; exit 0; }}
[ "$3" = --version ] || echo "$*" >> installed
[ -n "$BROKEN" ] && [ "$3" != --version ] && exit 1
exit 0
EOF
  chmod +x "$3/bin/python"
else
  exec {sys.executable} "$@"
fi
"""
    )
    program.chmod(0o755)
    (Path(environment["PATH"]) / "chmod").symlink_to(shutil.which("chmod") or "")
    return program


def test_make_run_installs_once_and_again_after_a_change(bare_machine: tuple[Path, dict[str, str]]) -> None:
    project, environment = bare_machine
    fake_python(environment)
    first = make(project, environment, "run", "AIDERM_PORT=8123")
    assert first.returncode == 0, first.stderr
    assert "serving on 8123" in first.stdout
    lines = (project / "installed").read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert "--require-hashes" in lines[0]
    assert "services/api/requirements.lock" in lines[0]
    assert "-e ./services/core -e ./services/api" in lines[1]
    assert "trainer" not in " ".join(lines)

    assert make(project, environment, "run").returncode == 0
    assert len((project / "installed").read_text("utf-8").splitlines()) == 2, "installed again though nothing has changed"

    with (project / "services/api/requirements.lock").open("a") as lock:
        lock.write("# a change\n")
    assert make(project, environment, "run").returncode == 0
    assert len((project / "installed").read_text("utf-8").splitlines()) == 4


def test_make_run_recovers_from_an_install_that_broke_off(bare_machine: tuple[Path, dict[str, str]]) -> None:
    project, environment = bare_machine
    fake_python(environment)
    assert make(project, environment | {"BROKEN": "1"}, "run").returncode != 0
    (project / ".venv" / "left-over").touch()
    result = make(project, environment, "run")
    assert result.returncode == 0, result.stderr
    assert not (project / ".venv" / "left-over").exists(), "built on what was left"


def test_make_help_names_what_the_readme_uses(bare_machine: tuple[Path, dict[str, str]]) -> None:
    project, environment = bare_machine
    text = make(project, environment, "help").stdout
    for target in (
        "run",
        "test",
        "lint",
        "lock",
        "up",
        "down",
        "rollout",
        "rollback",
        "backup",
        "restore",
        "sbom",
        "audit",
        "screenshots",
        "soak",
    ):
        assert f"make {target} " in text


def test_ci_script_can_be_executed() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)


def test_before_a_commit_runs_what_the_lock_pins() -> None:
    """The hooks run in the project's environment, so that they agree with `make lint`."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    for tool in ("ruff check", "ruff format", "mypy"):
        assert any(f".venv/bin/python -m {tool}" in entry for entry in entries), tool
    for name in re.findall(r"tests/\S+\.py", " ".join(entries)):
        assert (ROOT / name).is_file(), name


def ci(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `.ci/run` in a copy where the programs are replaced by scripts that print how they were called."""
    project = tmp_path / "project"
    for name in (".ci", "deploy/audit", ".venv/bin"):
        (project / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", project / ".ci/run")
    tools = tmp_path / "bin"
    tools.mkdir()
    said = '#!/bin/sh\necho "called: ${0##*/} $*"\n'
    for tool in ("make", "git", "python3.11", "chromium", "nginx", "promtool", "npm", "kustomize", "dpkg-query", "apt-get"):
        (tools / tool).write_text(said)
    (tools / "dpkg-query").write_text("#!/bin/sh\necho install ok installed\n")
    (tools / "docker").write_text('#!/bin/sh\n[ -n "$ENGINE" ]\n')
    (project / "deploy/audit/audit.sh").write_text(f"#!/bin/sh\nexit {environment.pop('audit', '0')}\n")
    (project / ".venv/bin/python").write_text(f"{said}echo '3 passed in 1.00s'\n")
    for program in (*tools.iterdir(), project / "deploy/audit/audit.sh", project / ".venv/bin/python"):
        program.chmod(0o755)
    variables = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "AIDERM_SHARED": str(tmp_path / "nowhere"),
        "HOME": str(tmp_path),
        **environment,
    }
    return subprocess.run([project / ".ci/run"], env=variables, capture_output=True, text=True, timeout=60)


def test_ci_uses_the_engine_that_answers(tmp_path: Path) -> None:
    result = ci(tmp_path, ENGINE="yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "using the Docker engine that answers" in result.stdout
    assert "NOT CHECKED" not in result.stdout
    assert result.stdout.splitlines()[-1] == "3 passed in 1.00s"


def test_ci_says_what_to_do_without_an_engine(tmp_path: Path) -> None:
    result = ci(tmp_path)
    assert result.returncode == 1
    assert "need a Docker engine with Compose v2: install one" in result.stdout
    assert "FAILED (exit 1) in step: engine and base images" in result.stdout


def test_ci_starts_an_engine_where_the_scripts_are(tmp_path: Path) -> None:
    scripts = tmp_path / "shared" / "docker"
    scripts.mkdir(parents=True)
    for name, text in {
        "engine-up": "echo export ENGINE=started",
        "base-images": "echo bases of $ENGINE",
        "engine-down": "echo down",
    }.items():
        (scripts / name).write_text(f"#!/bin/sh\n{text}\n")
        (scripts / name).chmod(0o755)
    result = ci(tmp_path, AIDERM_SHARED=str(tmp_path / "shared"), DOCKER_STATE=str(tmp_path / "state"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "bases of started" in result.stdout
    assert "down" in result.stdout.splitlines()


@pytest.mark.parametrize(("status", "code"), [("3", 0), ("1", 1)])
def test_ci_fails_for_advisories_and_says_where_they_are_unknown(tmp_path: Path, status: str, code: int) -> None:
    result = ci(tmp_path, ENGINE="yes", audit=status)
    assert result.returncode == code, result.stdout
    assert ("ci: advisories were NOT CHECKED" in result.stdout) == (status == "3")
