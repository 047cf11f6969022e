import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from smca.errors import InputError

from ..criterion import MoreOutputs
from ..records import FeatureLevel, Queries, Target


class GroupedQueries(nn.Module):
    """K groups of queries in training, of which prediction has the first only (Group DETR).

    Groups are of one source with parameters of their own, see nobody of another group, and are matched each by itself,
    so that an object teaches K queries while each group still finds it once. Losses are averaged over the groups.
    """

    def __init__(self, *, queries: nn.Module, num_groups: int):
        """
        Args:
            queries: source of one group's queries; the others are copies, each with an initialisation of its own by
                ``reset_parameters``.
            num_groups: K.

        Raises:
            InputError: for less than one group, or a source that cannot be initialised again.
        """
        super().__init__()
        if num_groups < 1:
            raise InputError(f"queries.num_groups must be at least 1, got {num_groups}")
        if num_groups > 1 and not hasattr(queries, "reset_parameters"):
            raise InputError(
                f"queries.queries, a {type(queries).__name__}, has no reset_parameters: its groups would be alike"
            )
        self.groups = nn.ModuleList(
            [queries, *(copy.deepcopy(queries) for _ in range(num_groups - 1))]
        )
        for group in self.groups[1:]:
            group.reset_parameters()

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """Called as :class:`~smca.modeling.LearnedQueries`; K Q queries with targets, else Q."""
        if targets is None:
            return self.groups[0](levels, image_sizes)
        parts = [group(levels, image_sizes, targets) for group in self.groups]
        sizes = [part.content.shape[1] for part in parts]
        # (Q,) number of its group: the mask is block-diagonal.
        like = {"dtype": torch.int64, "device": image_sizes.device}
        group = torch.cat([torch.full((size,), k, **like) for k, size in enumerate(sizes)])
        mask = group[:, None] == group
        start = 0
        for size, part in zip(sizes, parts, strict=True):
            if part.attention_mask is not None:
                mask[start : start + size, start : start + size] = part.attention_mask
            start += size
        references = [part.references for part in parts]
        return Queries(
            content=torch.cat([part.content for part in parts], 1),
            position=torch.cat([part.position for part in parts], 1),
            references=None if references[0] is None else torch.cat(references, 1),
            attention_mask=mask,
            split=_Split(sizes, [part.split for part in parts]),
        )


@dataclass(frozen=True)
class _Split:
    """The first group's outputs, and those of the others as "more", all with the weight 1 / K."""

    sizes: list[int]
    splits: list[Any] = field(repr=False)

    def __call__(self, outputs: dict[str, Any]) -> dict[str, Any]:
        weight = 1 / len(self.sizes)
        groups = []
        start = 0
        for size, split in zip(self.sizes, self.splits, strict=True):
            part = {name: values[:, :, start : start + size] for name, values in outputs.items()}
            groups.append(part if split is None else split(part))
            start += size
        more = {}
        for number, group in enumerate(groups):
            prefix = f"group{number}_" if number else ""
            for name, part in group.pop("more", {}).items():
                more[prefix + name] = replace(part, weight=part.weight * weight)
            if number:
                more[f"group{number}"] = MoreOutputs(group, weight=weight)
        return {**groups[0], "weight": weight, "more": more}
