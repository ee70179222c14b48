"""The presets reproduce the published study as well as they say."""

import re

import pytest

from benchmarks.fit_presets import CAVEATS, PAGE, read_study, table, worst
from llmperf_core.errors import UsageError
from llmperf_local.sim import Fit, Preset, preset, presets
from llmperf_local.sim.published import LOADS, run_study

MISSES = {"llama-2-70b-gptq@ml.g5.48xlarge"}
"""The presets that do not reach the tolerances at every load, by name."""


def test_there_is_one_for_each_deployment() -> None:
    """They carry the figures of the study's 60 rows."""
    study = {deployment.name: deployment for deployment in read_study()}

    assert len(study) == 15
    assert sorted(presets()) == sorted(study)
    for name, found in presets().items():
        assert (found.model_id, found.instance) == (study[name].model_id, study[name].instance)
        assert [fit.concurrency for fit in found.fits] == list(LOADS)
        for fit in found.fits:
            row = study[name].rows[fit.concurrency]
            assert fit.published_requests == row.requests
            assert fit.published_ms_per_token == pytest.approx(row.ms_per_token, rel=1e-3)
        assert found.caveat == CAVEATS.get(name)


@pytest.mark.parametrize("found", presets().values(), ids=list(presets()))
def test_a_run_is_what_the_preset_says(found: Preset) -> None:
    """The study's loads, run now in virtual time, come to what is stored beside the preset."""
    for fit in found.fits:
        got = run_study(
            found.hardware,
            options=found.options,
            overhead_ns=found.overhead_ns,
            concurrency=fit.concurrency,
        )
        assert got.requests == fit.simulated_requests
        assert got.ms_per_token == pytest.approx(fit.simulated_ms_per_token, rel=1e-3)


def test_the_fits_are_within_the_tolerances() -> None:
    """10 % of the median ms/token and 15 % of the requests, at each load."""
    assert {name for name, found in presets().items() if worst(found.fits) > 1} == MISSES


def test_an_error_is_relative_to_what_was_published() -> None:
    """Too many is above zero."""
    fit = Fit(
        concurrency=1,
        published_ms_per_token=10.0,
        simulated_ms_per_token=9.0,
        published_requests=100,
        simulated_requests=115,
    )

    assert (fit.ms_per_token_error, fit.requests_error) == pytest.approx((-0.1, 0.15))
    assert worst([fit]) == pytest.approx(1)


def test_the_page_has_the_table() -> None:
    """What the documentation says of the fit is what the presets say."""
    page = PAGE.read_text("utf-8")

    (shown,) = re.findall(r"<!-- fit -->\n(.*?)<!-- end of fit -->", page, flags=re.DOTALL)
    assert shown == table(presets().values())


def test_an_unknown_preset_is_an_error_that_lists_them() -> None:
    """The message says what there is."""
    assert preset("llama-2-7b@ml.g5.2xlarge").tensor_parallel == 1
    with pytest.raises(UsageError, match=re.escape("llama-2-7b@ml.g5.2xlarge")):
        preset("llama-3")
