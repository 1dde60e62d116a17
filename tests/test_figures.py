"""The look of figures: methods told apart by those who see fewer colours, names beside lines that can be read."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from lib.reporting import figures
from lib.studies.autodeco.scores import NAMES as AUTODECO
from lib.studies.mtad.frontier import KINDS_OF_RULE, LEFT_OUT
from lib.studies.mtad.frontier import Study as Frontier
from lib.studies.mtad.ways import WAYS
from lib.studies.tolerator.cost import METHOD_NAMES as COST
from lib.studies.tolerator.rivals import METHODS as RIVALS
from lib.studies.tolerator.scores import NAMES as TOLERATOR

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as it is seen without one kind of cone.
SEEN = {
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
}


def _distance(a, b, seen: list) -> float:
    """CIE 1976 distance of two colours as they are seen."""

    def lab(colour: str) -> np.ndarray:
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(seen) @ linear, 0, 1)
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
        f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-3))
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    return float(np.linalg.norm(lab(a) - lab(b)))


PANELS = {"AutoDeco": list(AUTODECO.values()), "TOLERATOR": list(TOLERATOR.values())[:4]}
PANELS["cost"] = list(COST.values())
PANELS |= {f"MTAD, {title}": list(names) for title, names in KINDS_OF_RULE.items()}


@pytest.mark.parametrize("panel", PANELS)
def test_lines_of_one_panel_are_told_apart_without_one_kind_of_cone(panel):
    looks = figures.looks(PANELS[panel])
    assert len(looks) <= 8
    for a, b in itertools.combinations(looks.values(), 2):
        apart = min(_distance(a["color"], b["color"], seen) for seen in SEEN.values())
        same_line = a.get("ls") == b.get("ls")
        assert apart > 12 or not same_line, (panel, a, b)
        assert a["marker"] != b["marker"] or not same_line


def test_a_method_has_its_look_wherever_it_stands_and_the_longest_name_decides():
    alone = figures.looks(["TOLERATOR"])["TOLERATOR"]
    assert figures.looks(["vanilla", "TOLERATOR", "WINO"])["TOLERATOR"] == alone
    assert figures.looks(["mild TOLERATOR"])["mild TOLERATOR"] != alone
    assert figures.looks(["MMTAD, greedy"])["MMTAD, greedy"] == figures.looks(["MMTAD"])["MMTAD"]
    assert set(figures.looks(["gamma 2", "gamma 4"])) == {"gamma 2", "gamma 4"}
    assert all(name in figures.METHODS or figures.looks([name]) for name in WAYS)


def test_every_rival_and_way_has_a_look_of_its_own_method():
    unknown = [name for name in (*RIVALS, *WAYS) if figures._look(name) is None]
    assert unknown == []


def test_two_settings_of_one_method_in_a_panel_are_told_apart():
    found = figures.looks(["MTAD", "MTAD, gamma"])
    assert found["MTAD"] != found["MTAD, gamma"]


def test_every_curve_of_the_frontier_has_a_column():
    assert sorted([LEFT_OUT, *sum(map(list, KINDS_OF_RULE.values()), [])]) == sorted(Frontier().curves())


@pytest.mark.parametrize("crowd", [[0.5] * 6, [0.1, 0.11, 0.5, 0.9], [0.9, 0.2, 0.21, 0.22, 0.2]])
def test_names_keep_their_order_and_their_distance(crowd):
    heights = {f"line {i}": at for i, at in enumerate(crowd)}
    found = figures._apart(heights)
    inside = sorted(heights, key=heights.get)
    gaps = np.diff([found[name] for name in inside])
    assert (gaps >= figures.APART - 1e-9).all()
    assert np.mean(list(found.values())) == pytest.approx(np.mean(crowd))  # none pushed farther than it must


@pytest.mark.parametrize("crowd", [[0.0] * 9, [1.0] * 13, [0.5, 1.0, 1.0]])
def test_names_at_an_edge_stay_beside_the_panel(crowd):
    found = sorted(figures._apart({f"line {i}": at for i, at in enumerate(crowd)}).values())
    assert (np.diff(found) >= figures.APART - 1e-9).all() and found[0] >= 0 and found[-1] <= 1 + 1e-9
    assert {0.0, 0.5} & {found[0]} or found[-1] == pytest.approx(1), "as near as that goes to where they were"


def test_a_name_far_from_others_stays_at_its_line():
    assert figures._apart({"a": 0.1, "b": 0.9}) == pytest.approx({"a": 0.1, "b": 0.9})


def test_names_stand_beside_their_lines_though_nothing_asked_for_the_limits():
    """matplotlib sets limits when they are asked for: a name placed before that would be far outside of the panel."""
    figure, axes = figures.panels(["one", "two"])
    for axis in axes:
        figures.curve(axis, "math", [1, 2, 3], [30, 40, 50], color="k", marker="o")
    figures.name_ends(axes)
    (text,) = axes[1].texts
    assert 0.9 < text.get_position()[1] <= 1 and not axes[0].texts
    plt.close(figure)


@pytest.mark.parametrize(
    ("values", "kept"),
    [([1, 1.2, 8], [1, 8]), ([1.0, 1.2, 2, 8], [1, 2, 8]), ([4, 8, 16, 24, 32, 90, 96], [4, 8, 16, 24, 96]),
     ([8, 4], [4, 8]), ([1, 4, 16], [1, 4, 16]), ([5], [5])],
)  # fmt: skip
def test_ticks_keep_both_ends_and_leave_room(values, kept):
    figure, (axis,) = figures.panels(["task"])
    figures.ticks_at(axis, values)
    assert [text.get_text() for text in axis.get_xticklabels()] == [f"{value:g}" for value in kept]
    plt.close(figure)


def test_four_settings_of_one_method_have_four_looks():
    found = figures.looks(["MTAD", "MTAD, gamma", "MTAD, softmax", "MTAD, own"]).values()
    assert len({str(look) for look in found}) == 4


def test_a_forest_is_hollow_where_nothing_is_told_apart_and_full_elsewhere():
    table = pd.DataFrame({"difference": [1.0, 4.0], "low": [-1.0, 2.0], "high": [3.0, 6.0]}, index=["a", "b"])
    for decided in (table, table.assign(verdict=["tied", "higher"])):
        figure = figures.forest({"task": decided}, ["a", "b"])
        faces = {
            tuple(line.get_xdata()): line.get_markerfacecolor()
            for line in figure.axes[0].lines
            if line.get_marker() == "o"
        }
        assert faces == {(1.0,): "white", (4.0,): figures.VERMILION}
        plt.close(figure)


def test_an_interval_that_ends_at_the_point_is_drawn_though_rounding_puts_it_beyond():
    figure, (axis,) = figures.panels(["task"])
    figures.bars(axis, "math", [1, 2], [3.0, 4.0], [3.0000001, 3.5], [3.2, 4.0], color="k", marker="o")
    figures.name_ends([axis])
    assert [text.get_text() for text in axis.texts] == ["math"]
    plt.close(figure)


def test_a_word_in_any_colour_can_be_read_on_white():
    for colour, _ in (figures.METHODS | figures.TASKS).values():
        rgb = np.array(figures._ink(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5, colour  # WCAG 2, AA
