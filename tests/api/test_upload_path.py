"""An upload passes through the packages in one direction, as docs/architecture.md shows."""

import threading
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2] / "services"


@cache
def room_of(file):
    """The package that a source file belongs to, such as ``core/imaging``; None for code outside this project."""
    if not Path(file).is_relative_to(ROOT):
        return None
    package, _, _, *inside = Path(file).relative_to(ROOT).parts
    return package if len(inside) == 1 else f"{package}/{inside[0]}"


def room_of_caller(frame):
    while (frame := frame.f_back) is not None:
        if room := room_of(frame.f_code.co_filename):
            return room
    return None


def test_an_upload_comes_back_to_at_most_two_packages(serve, forms):
    """Records each function's first call if it comes from another package, between the route's function and its response."""
    seen, entered = set(), []

    def watch(frame, event, _):
        code = frame.f_code
        room = room_of(code.co_filename)
        if event != "call" or room is None or code in seen:
            return
        seen.add(code)
        caller = room_of_caller(frame)
        if code.co_name in ("predict", "_respond") or caller not in (None, room):
            entered.append((code.co_name, room))

    threading.setprofile(watch)  # applies to the threads that the server starts
    try:
        service = serve(poll_seconds=60)  # polling for new models must not be recorded
    finally:
        threading.setprofile(None)
    entered.clear()
    seen.clear()
    image = forms.encoded(forms.plain(120, 90, 80, 300, 200), "JPEG")
    assert service.client.post("/predict", files={"file": ("a.jpg", image)}).status_code == 200
    names = [name for name, _ in entered]
    on_the_way = entered[names.index("predict") : names.index("_respond")]
    path = [room for room, _ in groupby(room for _, room in on_the_way)]
    assert {"api/routes", "api/serving", "core", "core/imaging", "core/runtime", "core/quality", "api/telemetry"} <= set(path)
    assert len(set(path)) <= 9
    assert len(path) - len(set(path)) <= 2, path
