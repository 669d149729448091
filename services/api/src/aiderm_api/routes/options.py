"""The options of an assessment: the query parameters of /predict, the paths below it, and /compare."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from aiderm_api.auth.access_policy import caller_of
from aiderm_api.errors.problems import request_id_of
from aiderm_api.services import ServicesDep
from aiderm_api.serving.service import AssessmentRequest

ModelQuery = Annotated[str | None, Query(description="name of a model in /models; the default model when absent")]
ExplainQuery = Annotated[bool, Query(description="also draw the heatmap and the lesion's outline, with measurements")]
TtaQuery = Annotated[
    bool,
    Query(
        description="test-time augmentation: average over eight orientations of the image, where /models says that the model "
        "offers it; takes longer"
    ),
]
ThoroughQuery = Annotated[bool, Query(deprecated=True, description="the former name of `tta`, which replaces it")]


async def parse_options(
    request: Request,
    services: ServicesDep,
    model: ModelQuery = None,
    explain: ExplainQuery = False,
    tta: TtaQuery = False,
    thorough: ThoroughQuery = False,
) -> AssessmentRequest:
    """Converts a request's options to the form that the service takes.

    Raises:
        UnknownModelError, ModelUnavailableError: no such model is served.
        OptionNotOfferedError: the model does not offer test-time augmentation.
    """
    return AssessmentRequest(
        services.registry.get(model), explain, tta or thorough, request_id_of(request), caller_of(request.scope).key_id
    )


OptionsDep = Annotated[AssessmentRequest, Depends(parse_options)]
