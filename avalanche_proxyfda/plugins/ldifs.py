"""LDIFS as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda.features.maps import find_feature_maps
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.losses.ldifs import LDIFSLoss, NormAxis
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.features import FeaturePlugin, TeacherOptions, check_rows
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.teacher.teacher import Values


class LDIFSPlugin(FeaturePlugin, supports_distributed=True):
    """Keeps feature maps at several depths of the encoder (arXiv 2308.13320).

    Hooks read the maps in the student's one forward, so they are right for any layout and
    attention of the model. The authors' code runs the blocks again by hand, and samples attend
    to each other there under a batch-first open_clip. Metric: ``LDIFS_distance``.

    Args:
        weight: alpha, coefficient of the distance, or ``"auto"``; the authors use 10.
        taps: names of modules, ``"NAME"`` or ``"NAME:input"``; ``"NAME[1]"`` is entry 1 of an
            output that is a tuple, ``"NAME:channels_last"`` a map [B, H, W, C]. None takes
            :func:`~avalanche_proxyfda.features.maps.find_feature_maps`.
        normalize: the axis of the norm that divides each map. ``"token"`` takes one norm for
            each channel, over the positions, as the official code does for ViTs. ``"channel"``
            takes one norm for each position. ``"auto"`` takes ``"token"`` for tokens and
            ``"channel"`` for maps of convolutions.
        options: see :class:`FeaturePlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import LDIFSPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = LDIFSPlugin(weight=10.0, taps=["0", "1:input"])
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> [str(tap) for tap in plugin.taps]
        ['0', '1:input']
    """

    place_option = "taps"
    auto_rule = "drift"
    usual_delta = 1.0  # the unit is the term at the drift; there is no tolerance
    usual_drift = 0.12
    least_unit = torch.finfo(torch.float32).tiny  # computed from norms, so nothing is rounded

    def __init__(
        self,
        weight: Weight = 10.0,
        *,
        taps: Sequence[str] | None = None,
        normalize: NormAxis = "auto",
        **options: Unpack[TeacherOptions],
    ) -> None:
        super().__init__(weight, feature_module=None, **options)
        if isinstance(taps, str) or (taps is not None and not taps):
            raise ValueError(f"taps={taps!r} must be a sequence of module names, or None")
        self.taps = None if taps is None else tuple(FeatureSource.parse(t, "taps") for t in taps)
        self.loss = LDIFSLoss(normalize)

    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return the taps."""
        return self.taps or find_feature_maps(model)

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError unless each tap gives a tensor with a row for each sample."""
        for source in self.sources:
            value = values[source]
            if not isinstance(value, Tensor):
                entries = isinstance(value, (tuple, list)) and len(value) > 0
                raise ValueError(
                    f"taps: {str(source)!r} gives {named_kind(value)}, not a tensor; name "
                    + (f"an entry of it, '{source}[0]', or " if entries else "")
                    + "a module whose output is a tensor"
                )
            check_rows(len(value), batch, str(source))

    def at_drift(self, compare: Any, teacher: Sequence[Tensor]) -> Tensor:
        """Return the distance at a drift of each map by the share ``drift`` of its norms.

        The value is that of LDIFS's own distance. A class that overrides ``compare`` overrides
        this method too.
        """
        assert self.auto_weight.drift is not None
        return self.auto_weight.drift**2 * self.loss.size(teacher)

    def read(self, values: Values) -> list[Tensor]:
        """Return the maps in the order of the taps."""
        return [values[source] for source in self.sources]

    def compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Terms:
        """Return the term ``distance``; both inputs hold one map for each tap."""
        return {"distance": (self.weight, self.loss(student, teacher))}
