"""Plots: declarative, in SVG or PNG without a browser, each with its figures in words."""

from llmperf_core.show.plots.menu import (
    ComparisonPlots,
    RecommendationPlots,
    RunPlots,
    StagePlots,
)
from llmperf_core.show.plots.plot import Plot
from llmperf_core.show.plots.subject import Subject

__all__ = ["ComparisonPlots", "Plot", "RecommendationPlots", "RunPlots", "StagePlots", "Subject"]
