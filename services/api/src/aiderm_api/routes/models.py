"""/models: the serving models, their metrics and their cards."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from aiderm_api import schemas
from aiderm_api.errors import problems
from aiderm_api.errors.responses import responses
from aiderm_api.services import ServicesDep
from aiderm_api.serving.registry import LoadedModel

router = APIRouter(tags=["models"])
# The pattern is for clients; a control character in any path is refused before a route is chosen.
Name = Annotated[
    str,
    Path(
        description="name of a model in /models", json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"}
    ),
]
_ONE = responses(problems.MalformedRequest, problems.UnknownModel, problems.NoModel)


def _summary(loaded: LoadedModel, default: str) -> dict[str, Any]:
    manifest = loaded.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "default": manifest.name == default,
        "architecture": manifest.architecture,
        "labels": manifest.labels,
        "decision": loaded.rule,
        "input": manifest.input,
        "novelty": manifest.novelty,
        "calibration": manifest.calibration,
        "thorough": loaded.tta,
    }


@router.get("/models", summary="The serving models", responses=responses())
async def models(services: ServicesDep) -> schemas.ModelList:
    """Empty while no model is served; /health then says why."""
    default = services.registry.default
    serving = services.registry.serving().values()
    return schemas.ModelList(
        default=default, models=[schemas.ModelSummary.model_validate(_summary(loaded, default)) for loaded in serving]
    )


@router.get("/models/{name}", summary="One model, its metrics with confidence intervals and its card", responses=_ONE)
async def model(name: Name, services: ServicesDep) -> schemas.ModelDetail:
    """The card is Markdown."""
    loaded = services.registry.get(name)
    manifest = loaded.manifest
    return schemas.ModelDetail.model_validate(
        {
            **_summary(loaded, services.registry.default),
            "metrics": manifest.metrics,
            "data": manifest.data,
            "intended_use": manifest.intended_use,
            "limitations": manifest.limitations,
            "card": loaded.card,
        }
    )


@router.get(
    "/models/{name}/report",
    summary="The data behind the model's curves",
    response_class=Response,
    responses={
        200: {"description": "report.json of the bundle", "content": {"application/json": {"schema": {"type": "object"}}}},
        **responses(problems.MalformedRequest, problems.UnknownModel, problems.NotFound, problems.NoModel),
    },
)
async def report(name: Name, services: ServicesDep) -> Response:
    """As the trainer wrote it."""
    loaded = services.registry.get(name)
    if loaded.report is None:
        raise problems.NotFound(f"{name} {loaded.manifest.version} has no report.")
    return Response(loaded.report, media_type="application/json")
