"""LDIFS as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda.feature_maps import find_feature_maps
from avalanche_proxyfda.feature_source import FeatureSource
from avalanche_proxyfda.losses.ldifs import LDIFSLoss, NormAxis
from avalanche_proxyfda.plugins.base import FeatureOptions, FeaturePlugin, TeacherChoice, check_rows
from avalanche_proxyfda.plugins.reference import Terms
from avalanche_proxyfda.teacher import Values


class LDIFSPlugin(FeaturePlugin, supports_distributed=True):
    """Keeps feature maps along the depth of the encoder (arXiv 2308.13320).

    The maps are read by hooks from the student's one forward, so whatever layout and
    attention the model uses is right; the authors' code runs the blocks again by hand, which
    lets samples attend to each other under a batch-first open_clip. Metric:
    ``LDIFS_distance``.

    Args:
        weight: alpha; the authors use 10.
        taps: names of modules, ``"NAME"`` or ``"NAME:input"``; None takes
            :func:`~avalanche_proxyfda.feature_maps.find_feature_maps`.
        teacher, options: see :class:`FeaturePlugin`.
        normalize: see :class:`~avalanche_proxyfda.losses.ldifs.LDIFSLoss`.
    """

    place_option = "taps"

    def __init__(
        self,
        weight: float = 10.0,
        taps: Sequence[str] | None = None,
        teacher: TeacherChoice = "previous",
        normalize: NormAxis = "auto",
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(None, weight, teacher, **options)
        if isinstance(taps, str) or (taps is not None and not taps):
            raise ValueError(f"taps={taps!r} must be a sequence of module names, or None")
        self.taps = None if taps is None else tuple(FeatureSource.parse(t, "taps") for t in taps)
        self.loss = LDIFSLoss(normalize)

    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """The taps."""
        return self.taps or find_feature_maps(model)

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError when a tap gives no tensor of the whole batch."""
        for source in self.sources:
            value = values[source]
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"taps: {str(source)!r} gives a {type(value).__name__}, not a tensor; name a "
                    "module whose output is one"
                )
            check_rows(len(value), batch, str(source))

    def compare(self, student: Values, teacher: Values) -> Terms:
        """One term, weighted by ``weight``."""
        own, other = ([values[source] for source in self.sources] for values in (student, teacher))
        return {"distance": (self.weight, self.loss(own, other))}
