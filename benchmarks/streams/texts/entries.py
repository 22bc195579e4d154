"""The data sets that have an entry in clip-benchmark, and how their labels find their words.

Words are matched with labels by name. Three data sets have numbers for labels. Their order is
documented:

- Flowers102: the order of Oxford's labels 1 to 102 (``imagelabels.mat``), from which torchvision
  subtracts 1. The attribute ``classes`` of torchvision's ``Flowers102`` has the same order.
- GTSRB: the class ids 0 to 42 of the benchmark (Stallkamp et al., Neural Networks 2012), which
  name its folders.
- SVHN: the digit itself. torchvision gives the digit 0 the label 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.streams.texts.countries import COUNTRIES


@dataclass(frozen=True)
class Entry:
    """How a data set's labels find their words.

    Attributes:
        key: clip-benchmark's name of the data set.
        classes: number of classes.
        words: ``"own"``: the labels' own names, as in clip-benchmark, which lists none;
            ``"named"``: those that clip-benchmark lists, found by name; ``"ordered"``: those
            that clip-benchmark lists, in order of label.
        renamed: word by label, where the two are no spellings of one name.
        unused: words of clip-benchmark that belong to no label.
        blanks: signs of a label's own name that are blanks in its word, beside ``_``.
    """

    key: str
    classes: int
    words: Literal["own", "named", "ordered"] = "own"
    renamed: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    blanks: str = ""


_CALTECH101 = {
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "flamingo_head": "head of a flamingo",
    "snoopy": "snoopy (cartoon beagle)",
    "yin_yang": "yin and yang symbol",
}
_EUROSAT = {
    "AnnualCrop": "annual crop land",
    "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road",
    "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "SeaLake": "lake or sea",
}
_FER2013 = {"disgust": "disgusted", "fear": "fearful", "surprise": "surprised"}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENTRIES: Mapping[str, Entry] = {
    "CIFAR10": Entry("cifar10", 10),
    "CIFAR100": Entry("cifar100", 100),
    "Caltech101": Entry("caltech101", 101, "named", _CALTECH101, ("background",)),
    "Country211": Entry("country211", 211, "named", COUNTRIES),
    "DTD": Entry("dtd", 47),
    "EuroSAT": Entry("eurosat", 10, "named", _EUROSAT),
    "FER2013": Entry("fer2013", 7, "named", _FER2013),
    "FGVCAircraft": Entry("fgvc_aircraft", 100),
    "Flowers102": Entry("flowers", 102, "ordered"),
    "Food101": Entry("food101", 101),
    "GTSRB": Entry("gtsrb", 43, "ordered"),
    "MNIST": Entry(
        "mnist", 10, "named", {f"{k} - {word}": str(k) for k, word in enumerate(_DIGITS)}
    ),
    "OxfordIIITPet": Entry("pets", 37, "named"),
    "RenderedSST2": Entry("renderedsst2", 2),
    "STL10": Entry("stl10", 10),
    "SUN397": Entry("sun397", 397, blanks="/"),
    "SVHN": Entry("svhn", 10, "ordered"),
    "StanfordCars": Entry("cars", 196),
    "imagenet-r": Entry("imagenet1k", 200),
}
"""Entries by the project's names of the data sets, in order of name."""
