"""Commands that make and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from aiderm_trainer.commands.common import DataRoot, Seed, console, plain_errors, suggest, warn

Weights = Annotated[
    str | None, typer.Option(help="MobileNetV2 weights (a file, or imagenet) for finding zoomed and rotated copies.")
]


def prepare(
    data: Annotated[Path, typer.Argument(help="A folder with split/class/*.jpg or class/*.jpg, or a CSV table.")],
    out: Annotated[Path, typer.Option(help="SPLIT.csv to write.")],
    path: Annotated[str | None, typer.Option(help="Column with the path of the image.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the class or diagnosis.")] = None,
    malignant: Annotated[str | None, typer.Option(help="Column that says whether the lesion is malignant.")] = None,
    group: Annotated[str | None, typer.Option(help="Column with the lesion or patient, which is never divided.")] = None,
    source: Annotated[str | None, typer.Option(help="Column with the data set.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="Column with the camera, clinic or collection; estimated from the image where it is empty.")
    ] = None,
    biopsied: Annotated[str | None, typer.Option(help="Column that says how the label was made, such as histo.")] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="Classes that count as malignant, separated by commas; all others are benign."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    near_duplicates: Annotated[bool, typer.Option(help="Keep near-duplicate images on one side.")] = True,
    weights: Weights = None,
) -> None:
    """Indexes labelled images, finds duplicates and unreadable files, and splits them by lesion."""
    from aiderm_trainer.data import prepare as preparing
    from aiderm_trainer.data.sources.index import Columns

    with plain_errors():
        report = preparing.prepare(
            data,
            out,
            Columns(path=path, label=label, malignant=malignant, group=group, source=source, domain=domain, biopsied=biopsied),
            positive=[name for name in (positive or "").split(",") if name.strip()],
            seed=seed,
            near_duplicates=near_duplicates,
            embed=_embedding(weights),
        )
    console.print(report)
    suggest(f"check-leaks {out} --data {data}")


def check_leaks(
    split: Annotated[Path, typer.Argument(help="SPLIT.csv, as `aiderm-train prepare` writes it.")],
    data: DataRoot = Path("data"),
    weights: Weights = None,
    repair: Annotated[
        Path | None,
        typer.Option(help="File for a split without the leaks: images that belong together move to one side."),
    ] = None,
) -> None:
    """Checks that no lesion, file or near-duplicate is on two sides of a split. Reads all images again."""
    from aiderm_trainer.data.leaks import check_images, find_leaks, repaired
    from aiderm_trainer.data.split import read_split, write_split

    with plain_errors():
        rows = read_split(split)
        if repair is not None:
            at = {row.path: position for position, row in enumerate(rows)}
            leaks = find_leaks(rows, data, embed=_embedding(weights))
            write_split(repair, repaired(rows, [(at[leak.first.path], at[leak.second.path]) for leak in leaks]))
            console.print(f"{len(leaks)} pair(s) of images were on two sides; wrote {repair} without them", soft_wrap=True)
            suggest(f"train --split {repair} --data {data} --arch mobilenet_v2 --out runs/first")
            return
        check_images(rows, data, embed=_embedding(weights))
    console.print(f"{split}: no lesion, file or near-duplicate among {len(rows)} images is on two sides", soft_wrap=True)
    suggest(f"train --split {split} --data {data} --arch mobilenet_v2 --out runs/first")


def isic(
    out: Annotated[Path, typer.Argument(help="Folder to write to; an interrupted download is resumed.")],
    collection: Annotated[list[str] | None, typer.Option(help="Number or name of a collection; may be repeated.")] = None,
    query: Annotated[str, typer.Option(help="Query in the archive's search language, such as 'age_approx:[20 TO 40]'.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of images.")] = None,
    licence: Annotated[str, typer.Option(help="Allowed licences, separated by commas.")] = "CC-0,CC-BY,CC-BY-NC",
    size: Annotated[str, typer.Option(help="Size of the images: thumbnail (256 pixels) or full.")] = "full",
    api: Annotated[str, typer.Option(help="Address of the API.")] = "https://api.isic-archive.com/api/v2",
    workers: Annotated[int, typer.Option(min=1, max=16, help="Parallel downloads.")] = 4,
) -> None:
    """Downloads dermoscopic images of the ISIC Archive, with resume and checksums, and writes a table for prepare."""
    from aiderm_trainer.data.sources.isic import ArchiveQuery, Size, fetch

    with plain_errors():
        licences = tuple(part.strip().upper() for part in licence.split(",") if part.strip())
        request = ArchiveQuery(tuple(collection or ()), query, licences, cast(Size, size), limit)
        report = fetch(out, request, api=api, workers=workers)
    console.print(f"{report.rows} images in {report.table}: {report.fetched} fetched, {report.kept} there already")
    for reason, count in report.skipped.items():
        console.print(f"left out, {reason}: {count}")
    for isic_id, why in list(report.failed.items())[:10]:
        warn(f"{isic_id}: {why}", label="failed:")
    if report.failed:
        warn(f"{len(report.failed)} images could not be fetched. Run the same command again to retry them.")
        raise typer.Exit(1)
    suggest(f"prepare {report.table} --out split.csv")


def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 600,
    size: Annotated[int, typer.Option(min=100, max=2048, help="Side in pixels.")] = 224,
    seed: Seed = 0,
    outlines: Annotated[Path | None, typer.Option(help="Folder to write the lesions' outlines to.")] = None,
) -> None:
    """Draws synthetic lesions in the layout split/class/*.png, to try the trainer without data."""
    from aiderm_trainer.data.synthetic import dataset

    with plain_errors():
        dataset(out, count, seed, size, outlines)
    console.print(f"{count} synthetic lesions in {out}")
    suggest(f"prepare {out} --out split.csv")


def _embedding(weights: str | None) -> Any:
    if weights is None:
        return None
    from aiderm_trainer.data.embedding import load_embedding

    return load_embedding(weights)
