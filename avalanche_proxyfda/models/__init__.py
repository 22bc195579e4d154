"""Backbones with heads, as models for Avalanche strategies."""

from avalanche_proxyfda.models.backbone import Backbone
from avalanche_proxyfda.models.backbones import load_backbone
from avalanche_proxyfda.models.heads import TaskHeads, TextHeads, UnitHeads
from avalanche_proxyfda.models.layer_depths import layer_depths
from avalanche_proxyfda.models.seen_text_head import SeenTextHead
from avalanche_proxyfda.models.text_head import TEMPLATES, TextHead, text_head
from avalanche_proxyfda.models.text_start import GrowingTextHead, UnitLinear, start_from_texts
from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower
from avalanche_proxyfda.models.trained_texts import TrainedTextHead, TwoTowers, trained_text_head
from avalanche_proxyfda.models.weight_files import parse_weights, read_weights

__all__ = [
    "TEMPLATES",
    "Backbone",
    "GrowingTextHead",
    "SeenTextHead",
    "TaskHeads",
    "TextHead",
    "TextHeads",
    "TextTower",
    "TrainedTextHead",
    "TwoTowers",
    "UnitHeads",
    "UnitLinear",
    "find_text_tower",
    "layer_depths",
    "load_backbone",
    "parse_weights",
    "read_weights",
    "start_from_texts",
    "text_head",
    "trained_text_head",
]
