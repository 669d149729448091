"""Two kept pictures of one spot, and a server's response to their comparison."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Locator, Page, Route, expect

COMPARE = "**/api/compare**"
WIDTH, HEIGHT = 600, 450
REGION = {"x": 75, "y": 0, "width": 450, "height": 450}
EARLIER, LATER = (300, 225, 90), (300, 225, 100)
# Puts two pictures of one spot into the history, the later one first.
PUT = """async (files) => {
  const { turnOn, write } = await import(new URL('js/history/store.js', location.href));
  await turnOn();
  const bytes = (encoded) => Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const moles = [{ id: 'spot', label: '', site: 'neck', createdAt: 1 }];
  await write({ moles, pictures: files.map((encoded, at) => ({
    id: `picture${at}`, mole: 'spot', takenAt: Date.UTC(2026, at * 3, 2, 12), decision: 'uncertain', model: 'm 1',
    picture: new Blob([bytes(encoded)], { type: 'image/png' }) })) });
  location.hash = 'check'; // anew, where the history is open already
  location.hash = 'history';
}"""


def lesion(x: float, y: float, radius: float) -> bytes:
    """A dark disc on skin."""
    picture = np.full((HEIGHT, WIDTH, 3), (150, 175, 215), np.uint8)
    cv2.circle(picture, (round(x), round(y)), round(radius), (40, 60, 95), -1, cv2.LINE_AA)
    done, data = cv2.imencode(".png", picture)
    assert done
    return data.tobytes()


def circle(x: float, y: float, radius: float) -> list[list[float]]:
    return [[x + radius * np.cos(a), y + radius * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 48, endpoint=False)]


def overlay() -> str:
    """The later picture's square, with its first columns transparent."""
    x, y, side = REGION["x"], REGION["y"], REGION["width"]
    picture = cv2.imdecode(np.frombuffer(lesion(*LATER), np.uint8), cv2.IMREAD_COLOR)[y : y + side, x : x + side]
    cover = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    cover[:, :20, 3] = 0
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", cover)[1].tobytes()).decode()


def comparison(result: str = "changed", *codes: str, decisions: tuple[str, str] = ("uncertain", "uncertain"), **more: Any) -> str:
    """The server's response to a comparison."""
    image = {"image": {"width": WIDTH, "height": HEIGHT}, "region": REGION}
    empty = dict.fromkeys(("growth", "colour_change", "colours", "registration", "outlines", "overlay", "overlay_region"))
    found = {
        "growth": {"value": 12.2, "low": 6.4, "high": 17.9},
        "colour_change": {"value": 6.1, "low": 3.2, "high": 9.4},
        "colours": {"appeared": ["black", "blue_grey"], "vanished": ["red"]},
        "registration": {"matrix": [[1, 0, 0], [0, 1, 0]], "scale": 1.0, "rotation": 0.0, "based_on": "texture"},
        "outlines": {"earlier": circle(*EARLIER), "later": circle(*LATER)},
        "overlay": overlay(),
        "overlay_region": REGION,
    }
    return json.dumps(
        {
            "request_id": "r",
            "model": {"name": "melanoma", "version": "6"},
            "result": result,
            "reasons": [{"code": code, "text": f"The server's words on {code}."} for code in codes],
            "advice": "The server's advice.",
            **(empty if result == "not_comparable" else found),
            "images": [{**image, "decision": decision} for decision in decisions],
            **more,
        }
    )


def answering(body: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=body, content_type="application/json")


def open_comparison(page: Page, *pictures: bytes) -> Locator:
    """Keeps two pictures of a spot and opens the dialog that compares them."""
    page.evaluate(PUT, [base64.b64encode(data).decode() for data in pictures or (lesion(*EARLIER), lesion(*LATER))])
    page.locator(".card:has(.dates > li + li) .button.primary").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".pair img")).to_have_count(2)
    return dialog
