"""Builds the clients' view of the change between two images of one lesion. Independent of HTTP and queues."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_api import schemas
from aiderm_api.serving.answers import png_uri, points_of
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.change import LesionChange
from aiderm_core.decision import Decision, Reason
from aiderm_core.imaging.geometry import Region

OVERLAY_SIDE: Final = 448
"""Largest side, in pixels, of the overlay of the later image on the earlier one."""
SAME_FILE: Final = Reason(
    "same_file", "Both pictures are the same file. Choose two pictures of the spot that were taken at different times."
)
NO_CHANGE: Final = Reason("no_change", "No change was found that goes beyond what pictures of an unchanged spot differ by.")
SEE_A_DOCTOR: Final = "Show this spot to a doctor."
SUSPICIOUS_ALONE: Final = "At least one of the pictures is suspicious on its own, whatever the comparison says."
# No sentence may reassure: a change that two images do not show may still be there.
ADVICE: Final = {
    "changed": SEE_A_DOCTOR,
    "no_change_found": "That no change was found does not mean that the spot is harmless: a melanoma need not grow or change its "
    "colour between two pictures. Show it to a doctor if it worries you, or if it itches, bleeds or hurts.",
    "not_comparable": "Take the picture again as the earlier one was taken: the same spot, from the same distance, in the same "
    "light, and in focus. If the spot worries you or seems to have changed, show it to a doctor instead.",
}


def describe_comparison(
    change: LesionChange | None,
    images: tuple[schemas.Assessment, schemas.Assessment],
    overlay: str | None,
    manifest: Manifest,
) -> schemas.Comparison:
    """Describes the comparison of two images of one lesion for clients.

    Args:
        change: what was found; None if both images are the same file.
        images: the description of each image, the earlier first.
        overlay: see ``overlay_uri``.
        manifest: the model's manifest.
    """
    obstacles = (SAME_FILE,) if change is None else change.obstacles
    shown = None if obstacles else change
    answer = schemas.Comparison(
        request_id=images[0].request_id,
        model=schemas.ModelRef(name=manifest.name, version=manifest.version),
        result="not_comparable" if shown is None else "changed" if shown.changed else "no_change_found",
        reasons=[schemas.ReasonOut(code=reason.code, text=reason.text) for reason in obstacles or _findings(change)],
        advice="",
        growth=None,
        colour_change=None,
        colours=None,
        registration=None,
        outlines=None,
        overlay=overlay,
        overlay_region=None if overlay is None else images[0].region,
        images=images,
    )
    answer.advice = _advice(answer)
    if shown is not None:
        _add_numbers(answer, shown)
    return answer


def overlay_uri(change: LesionChange, later: NDArray[np.uint8], earlier_region: Region, later_region: Region) -> str | None:
    """Aligns the assessed part of the later image with that of the earlier one, as the data URI of an RGBA PNG.

    Args:
        change: holds the registration of the two images.
        later: uint8 ``[S, S, 3]``, the later image's assessed part at any size.
        earlier_region, later_region: the assessed parts, in pixels of the upright images.

    Returns:
        None if there is no registration, or the images cannot be compared.
    """
    if change.matrix is None or change.obstacles:
        return None
    side = min(OVERLAY_SIDE, earlier_region.width)
    onto = np.vstack([change.matrix, (0.0, 0.0, 1.0)])
    whole = _to_square(earlier_region, side) @ onto @ np.linalg.inv(_to_square(later_region, len(later)))
    opaque = np.dstack([cv2.cvtColor(later, cv2.COLOR_RGB2BGR), np.full(later.shape[:2], 255, np.uint8)])
    return png_uri(cv2.warpAffine(opaque, whole[:2], (side, side), flags=cv2.INTER_LINEAR))


def _to_square(region: Region, side: int) -> NDArray[np.float64]:
    """The matrix from coordinates in an upright image, as in outlines, to pixels of its region scaled to ``side``.

    In outlines the corners of pixels have whole coordinates; in OpenCV their centres do.
    """
    x, y = side / region.width, side / region.height
    return np.array([[x, 0.0, -x * region.x - 0.5], [0.0, y, -y * region.y - 0.5], [0.0, 0.0, 1.0]])


def _add_numbers(answer: schemas.Comparison, change: LesionChange) -> None:
    if change.growth is not None:
        answer.growth = schemas.MeasureOut(**change.growth._asdict())
    if change.colour is not None:
        answer.colour_change = schemas.MeasureOut(**change.colour._asdict())
    answer.colours = schemas.ColoursOut.model_validate({"appeared": change.appeared, "vanished": change.vanished})
    if change.outlines is not None:
        earlier, later = change.outlines
        answer.outlines = schemas.OutlinesOut(earlier=points_of(earlier), later=points_of(later))
    if change.matrix is not None:
        fields = {"matrix": change.matrix.tolist(), "scale": change.scale, "rotation": change.rotation}
        answer.registration = schemas.RegistrationOut.model_validate(fields | {"based_on": change.matched})


def _findings(change: LesionChange | None) -> list[Reason]:
    if change is None or not change.changed:
        return [NO_CHANGE]
    reasons = []
    if change.growth is not None and not change.growth.low <= 0 <= change.growth.high:
        value, *bounds = change.growth
        low, high = sorted(abs(bound) for bound in bounds)
        text = f"The spot covers {abs(value):.0f}% {'less' if value < 0 else 'more'} skin than before"
        reasons.append(Reason("growth", f"{text} (95% interval: {low:.0f}% to {high:.0f}%)."))
    if not reasons or (change.colour is not None and change.colour.low > 0):
        named = [
            f" Colours that {how}: {', '.join(name.replace('_', '-') for name in names)}."
            for how, names in (("appeared", change.appeared), ("vanished", change.vanished))
            if names
        ]
        reasons.append(Reason("colour", "The colour of the spot has changed against the skin around it." + "".join(named)))
    return reasons


def _advice(answer: schemas.Comparison) -> str:
    suspicious = any(image.decision is Decision.SUSPICIOUS for image in answer.images)
    if not suspicious:
        return ADVICE[answer.result]
    return f"{SUSPICIOUS_ALONE} {SEE_A_DOCTOR}"
