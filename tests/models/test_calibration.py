"""Calibration: it finds the curve that made the rankings, whatever the scale of the scores, and refuses where there is none."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.models.calibration import MIN_GROUPS, Ranked, calibrate, reliability


def rankings(count, seed=0, noise=1.0, answers=2, groups=None, scale=1.0, shift=0.0):
    """Answers with scores of N(0, 1), ranked by score plus logistic noise: Bradley–Terry where `noise` is 1."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        scores = random.normal(0, 1, answers)
        ranks = (-(scores + noise * random.gumbel(size=answers))).argsort().argsort() + 1
        group = str(number % (groups or count))
        made.append(
            Ranked(id=str(number), group=group, source="", scores=tuple((scale * scores + shift).tolist()), ranks=tuple(ranks.tolist()))
        )
    return made


def test_the_middle_score_wins_every_second_time_and_a_high_one_more_often():
    found = calibrate(rankings(4000), 0.5, seed=1)
    assert abs(found.midpoint) < 0.05 and found.low < found.midpoint < found.high and found.log_loss < np.log(2)
    # What the fit says of scores, counted on new rankings: the share that the answer with such a score wins.
    fresh = [(score, rank == 1) for each in rankings(20000, seed=2) for score, rank in zip(each.scores, each.ranks, strict=True)]
    scores, won = map(np.array, zip(*fresh, strict=True))
    for low in (-1.5, -0.5, 0.5, 1.0):
        chosen = (scores > low) & (scores < low + 0.2)
        assert won[chosen].mean() == pytest.approx(float(found.probability(scores[chosen]).mean()), abs=0.04)


def test_a_threshold_is_the_score_of_its_probability():
    found = calibrate(rankings(300), 0.7, seed=1)
    assert float(found.probability(np.array([found.threshold(0.7)]))[0]) == pytest.approx(0.7)
    assert found.low < found.threshold(0.7) < found.high and found.threshold(0.5) == pytest.approx(found.midpoint)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_scale_and_zero_of_the_scores_mean_nothing(scale, shift):
    plain, moved = calibrate(rankings(120), 0.6, 1), calibrate(rankings(120, scale=scale, shift=shift), 0.6, 1)
    assert moved.temperature == pytest.approx(scale * plain.temperature, rel=1e-3)
    assert moved.threshold(0.6) == pytest.approx(scale * plain.threshold(0.6) + shift, abs=1e-3 * scale)


def test_a_ranking_of_many_answers_weighs_as_one_of_two():
    few = rankings(100, answers=2)
    long = Ranked(id="long", group="long", source="", scores=tuple(np.linspace(5, 6, 40).tolist()), ranks=tuple(range(1, 41)))
    assert abs(calibrate([*few, long], 0.5, 1).midpoint - calibrate(few, 0.5, 1).midpoint) < 0.3


def test_scores_that_separate_every_pair_give_a_finite_temperature():
    found = calibrate(rankings(100, noise=0.0), 0.5, 1)
    assert 0 < found.temperature < 1


def test_too_few_groups_are_refused_however_many_pairs():
    with pytest.raises(ValueError, match=f"at least {MIN_GROUPS} groups, the reward stage left 10: raise reward.held_out"):
        calibrate(rankings(500, groups=10), 0.5, 1)


@pytest.mark.parametrize("noise", [-1.0, 1e6])
def test_scores_that_tell_nothing_are_refused(noise):
    made = rankings(80, seed=3, noise=abs(noise))
    if noise < 0:
        made = [Ranked(id=each.id, group=each.group, source="", scores=each.scores, ranks=each.ranks[::-1]) for each in made]
    with pytest.raises(ValueError, match="does not tell better answers from worse ones"):
        calibrate(made, 0.5, 1)


def test_probabilities_that_are_true_have_no_calibration_error_but_chance():
    found = reliability(rankings(6000, seed=4, scale=3.0), seed=1)
    assert found.ece < 0.02 and found.ece == pytest.approx(found.ece_by_chance, abs=0.01)
    assert found.temperature == pytest.approx(3.0, rel=0.1)  # the scores are three times the logits they were drawn from
    said, right, counts = map(np.array, zip(*found.curve, strict=True))
    assert list(said) == sorted(said) and set(counts) == {600} and np.abs(said - right).max() < 0.06


def test_an_error_of_known_size_is_found():
    def pair(number, ahead):
        return Ranked(id=str(number), group=str(number), source="", scores=(ahead, 0.0), ranks=(1, 2))

    # Half of the pairs: always right by a little. The other half: a coin's toss, by much. One slope cannot say both.
    made = [pair(n, 0.1) for n in range(1000)] + [pair(1000 + n, 4.0 if n % 2 else -4.0) for n in range(1000)]
    found = reliability(made, seed=1)
    assert found.ece == pytest.approx(0.25, abs=0.02)  # .5 said of pairs always right, .5 of the coin's tosses
    assert found.ece_by_chance < 0.05 < found.ece


def test_scores_upside_down_have_no_temperature_and_one_group_no_calibration():
    made = [Ranked(id=str(n), group=str(n), source="", scores=(0.0, 1.0), ranks=(1, 2)) for n in range(100)]
    found = reliability(made, seed=1)
    assert found.temperature is None and found.ece == pytest.approx(0.5) and found.facts()["temperature"] is None
    assert reliability([msgspec.structs.replace(each, group="one") for each in made], seed=1) is None
