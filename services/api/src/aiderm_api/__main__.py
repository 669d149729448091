"""``aiderm-api`` serves, ``aiderm-api keys`` manages keys; ``AIDERM_*`` variables configure both, see aiderm_api.settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aiderm_api.process_limits import bound_arenas
from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.settings import SettingsError, load_settings
from aiderm_core.bundle.store import ModelStore


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 2 for settings or arguments that cannot be used."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments in ([], ["serve"]):
        return serve()  # at once: the service starts sooner without the imports of the other commands
    import argparse

    from aiderm_api.auth import keys_command

    parser = argparse.ArgumentParser(prog="aiderm-api", description="The HTTP API; without a command it serves.")
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    keys_command.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return keys_command.run(parsed) if getattr(parsed, "run", None) else serve()


def serve() -> int:
    """Serves until SIGTERM or SIGINT. The rest of the program is imported while the model is loaded."""
    bound_arenas()
    try:
        settings = load_settings()
        store = ModelStore(settings.models_dir)
        early = EarlyRuntime(store, settings.default_model, settings.runtime, settings.threads, settings.precision)
        from aiderm_api import server

        return server.serve(settings, early)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
