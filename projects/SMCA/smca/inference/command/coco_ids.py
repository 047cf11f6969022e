from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from smca.data.sources.coco_json import load_coco_json
from smca.errors import InputError
from smca.text import printable


class CocoIds:
    """Image and category ids of a COCO annotation file, so that predictions can be evaluated against it."""

    def __init__(self, *, images: Mapping[str, int], category_ids: Sequence[int], source: str):
        """
        Args:
            images: file name, as in the annotation file, to image id.
            category_ids: of classes 0 .. K-1.
            source: the annotation file, for messages.
        """
        self.source = source
        self.category_ids = list(category_ids)
        self._by_name = defaultdict(list)
        for name, image_id in images.items():
            parts = PurePosixPath(name.replace("\\", "/")).parts
            self._by_name[parts[-1:]].append((parts, image_id))

    @classmethod
    def from_file(cls, path: str | Path, class_names: Sequence[str] = ()) -> "CocoIds":
        """Read an annotation file. Classes are its categories in the order of their ids, as Detectron2 has them.

        Args:
            path: COCO json with "images" and "categories".
            class_names: of the model, which must be the same; not compared if empty.

        Raises:
            InputError: if it is no such file, or has other classes than the model.
        """
        content = load_coco_json(path, label=str(path))
        try:
            images = {str(image["file_name"]): int(image["id"]) for image in content["images"]}
            categories = sorted((int(c["id"]), str(c["name"])) for c in content["categories"])
        # An id can be infinite: OverflowError.
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                f"{path} is no COCO json with 'images' and 'categories' ({type(error).__name__}: {error})"
            ) from error
        # The model's have been through this when its description was read.
        names = [printable(name) for _, name in categories]
        known = [printable(name) for name in class_names]
        if known and names != known:
            differing = [
                f"{theirs!r} instead of {ours!r}"
                for theirs, ours in zip(names, known, strict=False)
                if theirs != ours
            ]
            difference = f", such as {differing[0]}" if differing else ""
            raise InputError(
                f"{path} has {len(names)} categories, which are not the model's {len(known)} classes"
                f"{difference}"
            )
        return cls(images=images, category_ids=[i for i, _ in categories], source=str(path))

    def image_id(self, path: Path) -> int:
        """Of the image whose file name is the end of ``path``; the longest of several.

        Raises:
            InputError: if there is none.
        """
        parts = path.absolute().parts
        fitting = [
            (len(name), image_id)
            for name, image_id in self._by_name.get(parts[-1:], ())
            if parts[-len(name) :] == name
        ]
        if not fitting:
            raise InputError(f"{path}: {self.source} has no image of that name")
        return max(fitting)[1]

    def category_id(self, class_id: int) -> int:
        """The data set's id of a class of the model.

        Raises:
            InputError: if the model has more classes than the annotation file.
        """
        if class_id >= len(self.category_ids):
            raise InputError(
                f"the model found class {class_id}, but {self.source} has {len(self.category_ids)} categories"
            )
        return self.category_ids[class_id]
