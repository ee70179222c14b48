"""The study of recommendations, smaller: fixed seeds, so its counts are the same each time."""

import pytest

from benchmarks.recommendation import WILD, Study, noise_of_servers, study, upper_bound

_STUDIES = 150


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    """Studies of two to fifteen targets, whose best one is known."""
    noise = noise_of_servers(6)
    return [study(seed, noise) for seed in range(_STUDIES)]


def outcomes(studies: list[Study], outcome: str) -> list[Study]:
    """Return those that came out so."""
    return [one for one in studies if one.outcome == outcome]


def test_a_recommendation_is_right_or_abstains(studies: list[Study]) -> None:
    """In 95 % at least: so few wrong ones bound their true share. The best value alone does not."""
    assert upper_bound(len(outcomes(studies, "wrong")), len(studies)) < 0.05
    by_value = sum(one.by_value == "wrong" for one in studies)
    assert by_value > 0.05 * len(studies)


def test_it_abstains_below_the_noise(studies: list[Study]) -> None:
    """Where the best is ahead by nothing, or by half a standard error."""
    within = [one for one in studies if one.gap < 1]
    assert len(within) > 40
    assert len(outcomes(within, "abstained")) >= 0.95 * len(within)


def test_it_does_not_abstain_where_all_is_clear(studies: list[Study]) -> None:
    """One that always abstains would never be wrong, and of no use."""
    clear = [one for one in studies if one.gap == 20]
    assert len(outcomes(clear, "right")) >= 0.9 * len(clear) > 15


def test_repeats_are_believed_and_not_what_is_assumed() -> None:
    """Ten per cent from run to run: with repeats it is seen, and no more are wrong."""
    noise = noise_of_servers(6)
    wild = [study(seed, noise, between=WILD) for seed in range(60)]
    repeated = [one for one in wild if one.runs > 1]
    assert upper_bound(len(outcomes(repeated, "wrong")), len(repeated)) < 0.1


@pytest.mark.parametrize(
    ("wrong", "of", "bound"), [(0, 100, 0.0362), (5, 100, 0.1128), (1, 20, 0.2487)]
)
def test_the_bound_of_a_share(wrong: int, of: int, bound: float) -> None:
    """Clopper's and Pearson's, as tables have it."""
    assert upper_bound(wrong, of) == pytest.approx(bound, abs=1e-4)
