"""Command line: ``aiderm assess``, ``aiderm serve`` (page and API) and ``aiderm mlflow`` (export). Research use only."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import aiderm
from aiderm import pyfunc
from aiderm_api import __main__ as api
from aiderm_core.bundle.manifest import ManifestError
from aiderm_core.bundle.self_check import SelfCheckError
from aiderm_core.bundle.store import BundleError
from aiderm_core.imaging.errors import ImageError
from aiderm_core.runtime import RuntimeFailure


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0; 1 if an image has no answer; 2 for arguments, settings or a model that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="aiderm", description=f"Assesses dermoscopic images. {aiderm.DISCLAIMER}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    assess = commands.add_parser("assess", help="assess images")
    assess.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, BMP, TIFF or GIF; - reads standard input")
    assess.add_argument("--json", action="store_true", help="one line of JSON for each image, with the fields of POST /predict")
    assess.add_argument("--explain", action="store_true", help="with --json: also the heatmap")
    assess.set_defaults(run=_assess)
    serve = commands.add_parser("serve", help="serve page and API; AIDERM_* variables configure it")
    serve.add_argument("--host", help="address to listen on; 127.0.0.1 by default")
    serve.add_argument("--port", type=int, help="8000 by default")
    serve.set_defaults(run=_serve)
    mlflow = commands.add_parser("mlflow", help="write the model in the form that mlflow.pyfunc.load_model reads")
    mlflow.add_argument("out", type=Path, help="a new folder")
    mlflow.set_defaults(run=_mlflow)
    for command in (assess, serve, mlflow):
        command.add_argument("--model", default="melanoma", help="name of the model")
        command.add_argument("--models", type=Path, help="folder of the models; by default those of this package")
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


def _assess(parsed: argparse.Namespace) -> int:
    try:
        model = aiderm.load(parsed.model, parsed.models)
    except (BundleError, ManifestError, SelfCheckError, RuntimeFailure, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    status = 0
    for image in parsed.images:
        try:
            data = sys.stdin.buffer.read() if image == "-" else Path(image).read_bytes()
            answer = model.assess(data, explain=parsed.explain)
        except (ImageError, OSError) as error:
            status = 1
            code, detail = (error.code, error.detail) if isinstance(error, ImageError) else ("unreadable", str(error))
            if parsed.json:
                sys.stdout.write(json.dumps({"file": image, "problem": {"code": code, "detail": detail}}) + "\n")
            else:
                sys.stderr.write(f"{image}: {code}: {detail}\n")
            continue
        text = json.dumps({"file": image, **answer.model_dump(mode="json")}) if parsed.json else _text(image, answer)
        sys.stdout.write(f"{text}\n")
    if not parsed.json:
        sys.stdout.write(f"{aiderm.DISCLAIMER} Whatever this says: if a spot worries you, see a doctor.\n")
    return status


def _text(image: str, answer: aiderm.Assessment) -> str:
    lines = [f"{image}: {answer.decision.value.replace('_', ' ')} ({answer.model.name} {answer.model.version})"]
    if (found := answer.malignancy) is not None:
        low, high = found.uncertain
        lines.append(
            f"probability of malignancy {found.probability:.3f}, if {found.prevalence:.1%} of lesions are malignant; "
            f"threshold {found.threshold:.3f}, uncertain from {low:.3f} to {high:.3f}"
        )
    lines += [reason.text for reason in answer.reasons] + [warning.text for warning in answer.quality.warnings]
    return "\n  ".join(lines)


def _mlflow(parsed: argparse.Namespace) -> int:
    try:
        pyfunc.export(aiderm.promoted(parsed.model, parsed.models), parsed.out)
    except (BundleError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _serve(parsed: argparse.Namespace) -> int:
    page = aiderm.PACKAGED / "public"
    chosen = {
        "AIDERM_MODELS_DIR": parsed.models,
        "AIDERM_DEFAULT_MODEL": parsed.model,
        "AIDERM_HOST": parsed.host,
        "AIDERM_PORT": parsed.port,
    }
    defaults = {"AIDERM_MODELS_DIR": aiderm.models_folder(), "AIDERM_FRONTEND_DIR": page if page.is_dir() else None}
    os.environ.update({name: str(value) for name, value in chosen.items() if value is not None})
    for name, value in defaults.items():
        if value is not None:
            os.environ.setdefault(name, str(value))
    return api.serve()


if __name__ == "__main__":
    sys.exit(main())
