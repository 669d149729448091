"""Fine-tunes on another machine, such as one with a GPU: packs all that it needs, and trains there within a time limit.

Here:   python services/trainer/remote_training.py pack --split SPLIT.csv --data DATA --start models/melanoma/VERSION \\
            --weights WEIGHTS.h5 --out parts
There:  KERAS_BACKEND=torch python parts/remote_training.py train --parts parts --work work --minutes 9
Here:   aiderm-train export work/run --name melanoma --version VERSION

The other machine needs Python, Keras with any backend, NumPy, OpenCV, Pillow, scikit-learn, pydantic and rich; no TensorFlow, no
OpenVINO, no network. Called again with the same folders, `train` resumes from its last checkpoint, with a new time limit.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

PART = 60 << 20  # largest size of a part in bytes
SETTINGS = "settings.json"
UNPACKED = "unpacked"  # marker that is written last: without it, unpacking was interrupted
SMALLEST = 112  # side of packed images: the decoder refuses those below 100
QUALITY = 95  # JPEG quality of images that are scaled to the input's size


def pack(arguments: argparse.Namespace) -> None:
    """Writes parts of a tar archive: code, images of the train and validation rows at the input's size, outlines, weights."""
    import aiderm_core
    import aiderm_trainer
    from aiderm_trainer.architectures import build
    from aiderm_trainer.config import TrainConfig
    from aiderm_trainer.data.labels import choose_labels
    from aiderm_trainer.data.split import read_split, write_split
    from aiderm_trainer.training import checkpoint
    from aiderm_trainer.training.run_folder import BEST
    from aiderm_trainer.training.starting_weights import take_over

    rows = read_split(arguments.split)
    rows = [row for row in rows if row.split in ("train", "validation")]
    out: Path = arguments.out
    if any(out.glob("part-*")):
        raise SystemExit(f"{out} holds parts already. Choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(arch=arguments.arch, weights=str(arguments.weights or "none"), size=arguments.size)
    labels = choose_labels([row for row in rows if row.split == "train"])
    network = build(config, len(labels))
    take_over(arguments.start, network)
    side = max(network.size, SMALLEST)
    with tempfile.TemporaryDirectory() as folder, _Parts(out) as parts, tarfile.open(fileobj=parts, mode="w|") as archive:
        staged = Path(folder)
        checkpoint.save(staged / BEST, network.model.variables, {})
        archive.add(staged / BEST, f"start/{BEST}")
        if arguments.weights:
            archive.add(arguments.weights, f"weights/{arguments.weights.name}")
        for package in (aiderm_core, aiderm_trainer):
            source = Path(next(iter(package.__path__)))
            archive.add(source, f"code/{source.name}", filter=_no_caches)
        packed = []
        for row in rows:
            data, scaled = _at_side((arguments.data / row.path).read_bytes(), side)
            packed.append(replace(row, path=f"{row.path}.jpg") if scaled else row)
            _add(archive, f"data/{packed[-1].path}", data)
        if arguments.outlines:
            stems = {Path(row.path).stem for row in rows}
            for file in sorted((arguments.data / arguments.outlines).glob("*.png")):
                if file.stem in stems:
                    archive.add(file, f"data/outlines/{file.name}")
        write_split(staged / "split.csv", packed)
        archive.add(staged / "split.csv", "split.csv")
        settings = {
            "arch": arguments.arch,
            "size": arguments.size,
            "weights": f"weights/{arguments.weights.name}" if arguments.weights else "none",
            "outlines": "outlines" if arguments.outlines else None,
        }
        _add(archive, SETTINGS, json.dumps(settings).encode())
    shutil.copy(__file__, out / "remote_training.py")
    sizes = [part.stat().st_size for part in sorted(out.glob("part-*"))]
    sys.stdout.write(f"wrote {len(sizes)} parts of at most {max(sizes) / 2**20:.0f} MiB to {out}, {len(rows)} images\n")


def _at_side(data: bytes, side: int) -> tuple[bytes, bool]:
    """Returns an image file of ``side`` x ``side`` pixels, and whether it had to be scaled and re-encoded."""
    import cv2

    from aiderm_core.imaging.decode import decode_image
    from aiderm_core.imaging.geometry import to_model_input

    image = decode_image(data).pixels
    if image.shape[:2] == (side, side):
        return data, False
    scaled = cv2.cvtColor(to_model_input(image, side), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes(), True


def train(arguments: argparse.Namespace) -> None:
    """Unpacks the parts, once, and fine-tunes until the time limit."""
    work: Path = arguments.work
    if not (work / UNPACKED).exists():
        work.mkdir(parents=True, exist_ok=True)
        with _Joined(sorted(arguments.parts.glob("part-*"))) as joined, tarfile.open(fileobj=joined, mode="r|") as archive:
            archive.extractall(work, filter="data")
        (work / UNPACKED).touch()
    sys.path.insert(0, str(work / "code"))
    from aiderm_trainer.config import TrainConfig
    from aiderm_trainer.data.split import read_split
    from aiderm_trainer.training.fine_tune import fine_tune

    settings = json.loads((work / SETTINGS).read_text())
    # Paths are relative to the folder: it may be elsewhere in a later call, which must get the same configuration.
    config = TrainConfig(
        **settings,
        start="start",
        teachers=("start",) if arguments.teaching else (),
        teaching=arguments.teaching,
        consistency=arguments.consistency,
        learning_rate=arguments.learning_rate,
        freeze_until=arguments.freeze_until,
        batch=arguments.batch,
        epochs=arguments.epochs,
        minutes=arguments.minutes,
        average=0.99,
        checkpoint_steps=arguments.checkpoint_steps,
    )
    best = fine_tune(config, read_split(work / "split.csv"), work / "data", work / "run", base=work)
    sys.stdout.write(json.dumps(best) + "\n")


class _Parts(io.RawIOBase):
    """Splits the data written to it into files of at most ``PART`` bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.left, self.file = folder, 0, 0, None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            if self.left == 0:
                self._next()
            taken = view[done : done + self.left]
            self.file.write(taken)
            done, self.left = done + len(taken), self.left - len(taken)
        return done

    def _next(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = (self.folder / f"part-{self.count:03d}").open("wb")
        self.count, self.left = self.count + 1, PART

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        super().close()


class _Joined(io.RawIOBase):
    """Reads files one after the other."""

    def __init__(self, files: list[Path]) -> None:
        if not files:
            raise SystemExit("--parts holds no part-NNN")
        self.files = [file.open("rb") for file in files]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = b""
        while self.files and (size < 0 or len(found) < size):
            more = self.files[0].read(size - len(found) if size >= 0 else -1)
            if not more:
                self.files.pop(0).close()
            found += more
        return found

    def close(self) -> None:
        for file in self.files:
            file.close()
        super().close()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _no_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack", help=pack.__doc__)
    packing.set_defaults(call=pack)
    packing.add_argument("--split", type=Path, required=True, help="SPLIT.csv of aiderm-train prepare")
    packing.add_argument("--data", type=Path, required=True, help="folder that its paths are relative to")
    packing.add_argument("--start", type=Path, required=True, help="bundle or run to start from")
    packing.add_argument("--weights", type=Path, help="the pretrained weights that it was trained from, where there are any")
    packing.add_argument("--arch", default="mobilenet_v2", help="its architecture")
    packing.add_argument("--size", type=int, help="side of its input, where it is not the architecture's own")
    packing.add_argument("--outlines", help="folder of lesion outlines in --data")
    packing.add_argument("--out", type=Path, required=True, help="folder of the parts")
    training = commands.add_parser("train", help=train.__doc__)
    training.set_defaults(call=train)
    training.add_argument("--parts", type=Path, required=True, help="folder of the parts")
    training.add_argument("--work", type=Path, required=True, help="folder to unpack to; the run goes to its run/")
    training.add_argument("--minutes", type=float, required=True, help="time limit of the whole training")
    training.add_argument("--teaching", type=float, default=0.7, help="weight of what the start says; 0: none")
    training.add_argument("--consistency", type=float, default=1.0)
    training.add_argument("--learning-rate", type=float, default=1.5e-4)
    training.add_argument("--freeze-until", default=None, help="first layer that is trained")
    training.add_argument("--batch", type=int, default=64)
    training.add_argument("--epochs", type=int, default=12)
    training.add_argument("--checkpoint-steps", type=int, default=100)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
