"""clip-benchmark's class names and prompts, set by set, against the labels of the data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torchvision

from avalanche_proxyfda.streams.files.torchvision_sets import TORCHVISION
from benchmarks.streams.texts import shipped
from benchmarks.streams.texts.entries import ENTRIES
from benchmarks.streams.texts.known import SetTexts, known_templates, known_words
from benchmarks.streams.texts.matching import normalised
from benchmarks.streams.texts.shipped import converted, shipped_names, shipped_templates

PAGE = Path(__file__).parents[3] / "docs" / "class-words.md"


def _installed() -> bool:
    try:
        return bool(distribution("clip-benchmark"))
    except PackageNotFoundError:
        return False


real = pytest.mark.skipif(not _installed(), reason="clip-benchmark is not installed")

CALTECH101_FOLDERS = """Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel
bass beaver binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan
cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile crocodile_head cup
dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu euphonium ewer ferry flamingo
flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog helicopter ibis
inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah
metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino
rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish
stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair
wild_cat windsor_chair wrench yin_yang"""
"""Folders of ``101_ObjectCategories`` without ``BACKGROUND_Google``, as torchvision sorts them."""
EUROSAT_FOLDERS = """AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop
Residential River SeaLake"""
BREEDS = """Abyssinian|American Bulldog|American Pit Bull Terrier|Basset Hound|Beagle|Bengal|Birman|
Bombay|Boxer|British Shorthair|Chihuahua|Egyptian Mau|English Cocker Spaniel|English Setter|
German Shorthaired|Great Pyrenees|Havanese|Japanese Chin|Keeshond|Leonberger|Maine Coon|
Miniature Pinscher|Newfoundland|Persian|Pomeranian|Pug|Ragdoll|Russian Blue|Saint Bernard|Samoyed|
Scottish Terrier|Shiba Inu|Siamese|Sphynx|Staffordshire Bull Terrier|Wheaten Terrier|
Yorkshire Terrier"""
"""torchvision's titles of the breeds, in the order of Oxford's label ids."""
COUNTRY211_FOLDERS = """AD AE AF AG AI AL AM AO AQ AR AT AU AW AX AZ BA BB BD BE BF BG BH BJ BM BN
BO BQ BR BS BT BW BY BZ CA CD CF CH CI CK CL CM CN CO CR CU CV CW CY CZ DE
DK DM DO DZ EC EE EG ES ET FI FJ FK FO FR GA GB GD GE GF GG GH GI GL GM GP
GR GS GT GU GY HK HN HR HT HU ID IE IL IM IN IQ IR IS IT JE JM JO JP KE KG
KH KN KP KR KW KY KZ LA LB LC LI LK LR LT LU LV LY MA MC MD ME MF MG MK ML
MM MN MO MQ MR MT MU MV MW MX MY MZ NA NC NG NI NL NO NP NZ OM PA PE PF PG
PH PK PL PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL
SM SN SO SS SV SX SY SZ TG TH TJ TL TM TN TO TR TT TW TZ UA UG US UY UZ VA
VE VG VI VN VU WS XK YE ZA ZM ZW"""
"""Folders of ``country211/train``, as torchvision sorts them."""
FER2013 = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
CALTECH101, EUROSAT = CALTECH101_FOLDERS.split(), EUROSAT_FOLDERS.split()
COUNTRY211 = COUNTRY211_FOLDERS.split()
PETS = BREEDS.replace("\n", "").split("|")


def numbers(count: int) -> list[str]:
    return [str(k) for k in range(count)]


def known_texts(name: str, labels: list[str]) -> SetTexts:
    return SetTexts(known_words(name, labels), known_templates(name))


def labels_of(name: str) -> list[str]:
    """Labels of a data set as torchvision gives them; made-up ones where the words are they."""
    listed = {"Caltech101": CALTECH101, "EuroSAT": EUROSAT, "OxfordIIITPet": PETS}
    listed |= {"Country211": COUNTRY211, "FER2013": FER2013}
    if name == "MNIST":
        return list(torchvision.datasets.MNIST.classes)
    entry = ENTRIES[name]
    if entry.words == "ordered":
        return numbers(entry.classes)
    return listed.get(name) or [f"some_class/{chr(97 + k // 26)}_{k}" for k in range(entry.classes)]


@pytest.fixture
def fresh() -> Iterator[None]:
    """The files are read anew within a test, and after it."""
    for read in (shipped_names, shipped_templates):
        read.cache_clear()
    yield
    for read in (shipped_names, shipped_templates):
        read.cache_clear()


@real
@pytest.mark.parametrize("name", ENTRIES)
def test_each_set_has_a_word_for_each_label_and_prompts(name: str) -> None:
    labels = labels_of(name)
    texts = known_texts(name, labels)
    assert len(texts.words) == len(set(texts.words)) == len(labels) == ENTRIES[name].classes
    assert all(template.count("{}") == 1 for template in texts.templates)
    assert not any("_" in word for word in texts.words)
    backwards = known_texts(name, labels[::-1]) if ENTRIES[name].words != "ordered" else texts
    assert set(backwards.words) == set(texts.words)
    if ENTRIES[name].words == "named":  # by name, not by place
        assert backwards.words == texts.words[::-1]
    with pytest.raises(ValueError, match=f"^{name}: .*{len(labels) - 1} labels"):
        known_texts(name, labels[1:])


@real
def test_words_that_are_no_spelling_of_the_label() -> None:
    pairs = dict(zip(CALTECH101, known_texts("Caltech101", CALTECH101).words, strict=True))
    assert pairs["Faces"] == "off-center face" and pairs["Faces_easy"] == "centered face"
    assert pairs["car_side"] == "side of a car" and pairs["cougar_face"].startswith("face of a")
    assert {normalised(k) for k in CALTECH101} - {normalised(w) for w in pairs.values()} == {
        normalised(k) for k in ENTRIES["Caltech101"].renamed
    }
    seas = dict(zip(EUROSAT, known_texts("EuroSAT", EUROSAT).words, strict=True))
    assert seas["SeaLake"] == "lake or sea" and seas["River"] == "river"
    assert seas["HerbaceousVegetation"] == "brushland or shrubland"
    assert known_texts("MNIST", labels_of("MNIST")).words == tuple(numbers(10))
    assert known_texts("SVHN", numbers(10)).words[:2] == ("zero", "one")
    faces = dict(zip(FER2013, known_words("FER2013", FER2013), strict=True))
    assert faces["neutral"] == "neutral" and faces["fear"] == "fearful"  # by name, not by place
    lands = known_words("Country211", COUNTRY211)
    assert lands == shipped_names()["country211"]  # the shipped list has the order of the folders
    assert lands[COUNTRY211.index("CH")] == "Switzerland" and lands[-1] == "Zimbabwe"
    signs = known_texts("GTSRB", numbers(43)).words  # class ids of the benchmark
    assert signs[14] == "stop" and "yield" in signs[13] and "traffic circle" in signs[40]


@real
def test_no_code_of_clip_benchmark_is_imported() -> None:
    known_texts("DTD", labels_of("DTD"))
    assert not any(name.partition(".")[0] == "clip_benchmark" for name in sys.modules)


@real
@pytest.mark.skipif(
    not hasattr(torchvision.datasets.Flowers102, "classes"), reason="an older torchvision"
)
def test_the_order_of_flowers_is_torchvisions() -> None:
    theirs = torchvision.datasets.Flowers102.classes
    words = known_texts("Flowers102", numbers(102)).words
    pairs = list(zip(words, theirs, strict=True))
    other = [pair for pair in pairs if normalised(pair[0]) != normalised(pair[1])]
    assert other == [("pink and yellow dahlia", "pink-yellow dahlia?"), ("air plant", "ball moss")]


@real
def test_a_stroke_is_a_blank_in_scenes_alone() -> None:
    scenes = [f"scene_{k}/outdoor" for k in range(397)]
    assert known_texts("SUN397", scenes).words[3] == "scene 3 outdoor"
    variants = ["F/A-18", *numbers(99)]
    assert known_texts("FGVCAircraft", variants).words[0] == "F/A-18"


@real
def test_another_data_set_of_the_same_size_is_refused() -> None:
    labels = [*EUROSAT[:-1], "Desert"]
    with pytest.raises(ValueError, match="EuroSAT: the class names do not match") as refused:
        known_texts("EuroSAT", labels)
    assert "10 class names (annual crop land, forest, brushland" in str(refused.value)
    assert "10 labels (AnnualCrop, Forest, HerbaceousVegetation, High" in str(refused.value)
    with pytest.raises(ValueError, match="EuroSAT: the class names do not match"):
        known_texts("EuroSAT", [*EUROSAT[:-1], "River"])  # one label twice
    with pytest.raises(ValueError, match="GTSRB: the class names do not match"):
        known_texts("GTSRB", [f"sign {k}" for k in range(43)])  # no known order
    with pytest.raises(ValueError, match="KMNIST: clip-benchmark has no prompts"):
        known_texts("KMNIST", numbers(10))


@real
def test_the_page_lists_the_entries() -> None:
    rows = [
        f"| `{name}` | {entry.classes} | {len(shipped_templates()[entry.key])} | `{entry.key}` |"
        for name, entry in ENTRIES.items()
    ]
    page = PAGE.read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == []
    assert page.partition("## The data sets")[2].count("\n| `") == len(rows)


def test_entries_are_of_sets_that_can_be_read() -> None:
    assert set(ENTRIES) - set(TORCHVISION) == {"imagenet-r"}
    assert list(ENTRIES) == sorted(ENTRIES)


def test_prompts_are_converted_or_refused() -> None:
    assert converted('the number: "{c}".', "mnist") == 'the number: "{}".'
    for bad in ("a photo", "{c} and {c}", "{} of {c}", "{c} {d}", "{c} }"):
        with pytest.raises(ValueError, match=r"mnist: the prompt .* must hold {c} once"):
            converted(bad, "mnist")


def test_without_clip_benchmark_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None
) -> None:
    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(shipped, "distribution", absent)
    with pytest.raises(ImportError, match=r"extra 'mtil', or run `pip install --no-deps clip-"):
        known_texts("DTD", labels_of("DTD"))
    for ask in (known_templates, lambda name: known_words(name, ["a"])):
        with pytest.raises(ValueError, match=r"folder:photo: clip-benchmark has no prompts"):
            ask("folder:photo")

    class Installed:
        def locate_file(self, file: str) -> Path:
            return tmp_path / Path(file).name

    monkeypatch.setattr(shipped, "distribution", lambda name: Installed())
    with pytest.raises(ImportError, match=r"has no file clip_benchmark/datasets/en_zeroshot"):
        shipped_templates()
    names, prompts = (tmp_path / Path(file).name for file in (shipped.NAMES, shipped.PROMPTS))
    names.write_text(json.dumps({"flowers": "rose"}), encoding="utf-8")
    with pytest.raises(ValueError, match="'flowers' must be a list of texts"):
        shipped_names()
    names.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="must map names to lists of texts"):
        shipped_names()
    prompts.write_text(json.dumps({"dtd": ["a {c} texture"]}), encoding="utf-8")
    assert known_texts("DTD", labels_of("DTD")).templates == ("a {} texture",)
