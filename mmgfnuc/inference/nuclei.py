"""The nuclei of one image: their table, outlines and pictures, and the files that are written of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.errors import UserError
from mmgfnuc.files import write_csv, write_json
from mmgfnuc.visualization.overlay import draw_overlay

from .geojson import Polygon, feature_collection, trace_polygons
from .measurements import MEASURES, Measures, measure_nuclei
from .pixel_size import GIVEN, KNOWN
from .results import FOLDER, NUCLEI_HEADER, TABLES, discard, printable, write_label_map, write_mask, write_png

DECIMALS = 4
UNNAMED = 'image'


class Columns(dict[str, NDArray]):
    """Arrays by the name of their column. The length is that of the columns, as that of a DataFrame is."""

    def __len__(self) -> int:
        return len(next(iter(self.values())))


@dataclass(frozen=True, eq=False, repr=False)
class Nuclei:
    """The N nuclei that a model finds in an image.

    Measures and outlines are made when they are first asked for.

    Attributes:
        labels: the nuclei, from 1 without gaps; 0 = background.
        types: of each nucleus, by number: the class that most of its pixels have, 0 where none has any.
        semantic: class of each pixel, before nuclei are separated: 0 background, 1 nucleus, or its type where the
            model has types.
        foreground: probability that the pixel belongs to a nucleus.
        image: RGB as it was given, before any stain normalisation.
        classes: names, the background first.
        palette: colour (RGB) of each class.
        mpp: micrometres per pixel of the image, known or assumed; None where it is neither.
        name: of the image; that of its files.
        notices: what a reader must know of this prediction, a line each.
        mpp_from: where the size of a pixel comes from; see PixelSize.

    Shape:
        - labels: (H, W) int32
        - types: (N,) int64
        - semantic: (H, W) uint8
        - foreground: (H, W) float32
        - image: (H, W, 3) uint8
    """

    labels: NDArray[np.int32]
    types: NDArray[np.int64]
    semantic: NDArray[np.uint8]
    foreground: NDArray[np.float32]
    image: RGBImage
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    mpp: float | None = None
    name: str = UNNAMED
    notices: tuple[str, ...] = ()
    mpp_from: str = GIVEN

    def __len__(self) -> int:
        return len(self.types)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        assumed = '' if self.known_mpp else ' (assumed)'
        size = 'of unknown size' if self.mpp is None else f'of {self.mpp:.3g} um{assumed}'
        found = f"{len(self)} in '{printable(self.name)}', {width} x {height} pixels {size}"
        counts = np.bincount(self.types, minlength=len(self.classes))
        kinds = zip(counts[1:], self.classes[1:], strict=True) if len(self.classes) > 2 else ()
        return f'<Nuclei: {"; ".join([found, *(f"{count} {kind}" for count, kind in kinds), *self.notices])}>'

    @property
    def known_mpp(self) -> float | None:
        """Micrometres per pixel in which nuclei are measured; None where it is assumed, from nuclei."""
        return self.mpp if self.mpp_from in KNOWN else None

    @cached_property
    def table(self) -> Any:
        """A line for each nucleus, in the columns of nuclei.csv but for `image`: docs/prediction.md explains them.

        It is a pandas DataFrame where pandas is installed, else a dict of arrays, (N,) each, whose length is N too. The
        columns in micrometres are NaN where the size of a pixel is not known.
        """
        unknown = np.full(len(self), np.nan)
        measures = {name: self._measures.get(name, unknown) for name in MEASURES}
        columns = Columns(nucleus=np.arange(1, len(self) + 1), type=self._type_names, **measures)
        try:
            from pandas import DataFrame
        except ImportError:
            return columns
        return DataFrame(dict(columns))

    @cached_property
    def polygons(self) -> dict[int, list[Polygon]]:
        """Outlines by the number of the nucleus, along the edges of its pixels, from the corner of the image.

        A nucleus is a list of polygons, mostly one; a polygon is a list of rings, the outer one and then its holes; a
        ring is a list of corners (x, y), the first one also at the end. See `trace_polygons`.
        """
        return trace_polygons(self.labels)

    def overlay(self) -> RGBImage:
        """Draw a contour inside each nucleus into the image.

        Shape:
            (H, W, 3); higher with a legend, where there are several types: see `draw_overlay`
        """
        return draw_overlay(self.image, self.labels, self.types, self.classes, self.palette)

    def to_geojson(self) -> dict[str, Any]:
        """Give outlines, classes and measures as a FeatureCollection that QuPath opens; see `feature_collection`."""
        lists = {name: values.tolist() for name, values in self._measures.items()}
        measures = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        return feature_collection(printable(self.name), self.polygons, self.types, self.classes, self.palette, measures)

    def rows(self) -> list[tuple[Any, ...]]:
        """Lines of nuclei.csv, empty text where a value is not known."""
        number = len(self)
        measures = [self._measures[name].tolist() if name in self._measures else [''] * number for name in MEASURES]
        names = repeat(printable(self.name), number)
        return list(zip(names, range(1, number + 1), self._type_names.tolist(), *measures, strict=True))

    def save(self, folder: str | Path) -> None:
        """Write labels/, masks/, overlays/ and geojson/ as `mmgfnuc predict` does, and nuclei/<name>.csv.

        Files of an image of the same name are replaced, all others stay.

        Raises:
            UserError: the name is none of a file, the folder is that of a dataset or of `mmgfnuc predict`, or cannot be
                written to.
        """
        out, shown = Path(folder), printable(self.name)
        if not self.name or '\0' in self.name or Path(self.name).name != self.name:
            raise UserError(
                f"name='{shown}' is not the name of a file; give predictor(image, name=...) one without '/'"
            )
        for holds, what in (('meta.json', 'a dataset'), (FOLDER, 'results of mmgfnuc predict')):
            if (out / holds).exists():
                raise UserError(f'{out} holds {what}, whose files would no longer agree; name another folder')
        try:
            self.write_files(out)
            write_csv(out / TABLES / f'{self.name}.csv', NUCLEI_HEADER, self.rows())
        except BaseException as error:
            # All files of an image, or none.
            discard(out, self.name)
            if not isinstance(error, OSError):
                raise
            fix = 'check the name and the permissions'
            raise UserError(f"{out}: the files of '{shown}' cannot be written ({error.strerror}); {fix}") from error

    def write_files(self, out: Path) -> None:
        """Write label map, mask, overlay and outlines of the image into the folders of `out`.

        Raises:
            UserError: see `whole_file`.
            OSError: a file cannot be written.
        """
        # All that can fail but for the writing itself is made before the earlier files go.
        overlay, outlines = self.overlay(), self.to_geojson()
        # After a kill between two of the files no earlier one shall stand beside them.
        discard(out, self.name)
        write_label_map(out / 'labels', self.name, self.labels)
        write_mask(out / 'masks' / f'{self.name}.png', self.semantic, len(self.classes))
        write_png(out / 'overlays' / f'{self.name}.png', overlay)
        write_json(out / 'geojson' / f'{self.name}.geojson', outlines, indent=None)

    @cached_property
    def _measures(self) -> Measures:
        """Those of MEASURES that are known, as they are written."""
        found = measure_nuclei(self.labels, self.foreground, self.image, self.known_mpp)
        return {name: found[name].round(DECIMALS) for name in MEASURES if name in found}

    @property
    def _type_names(self) -> NDArray[np.str_]:
        return np.array(['', *self.classes[1:]])[self.types]
