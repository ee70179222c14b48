"""The report as JUnit XML: a test for each stage, and for each figure that was compared.

Source: the format as CI servers read it, https://github.com/testmoapp/junitxml.
"""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from llmperf_core.judge import Change
from llmperf_core.load import load_label
from llmperf_core.report.view import ReportView, RunReport
from llmperf_core.show import ComparisonView, StageView
from llmperf_core.show.comparison import figure_label
from llmperf_core.units import percent, s_from_ns

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Source: XML 1.0, section 2.2, production 2."""


def junit(view: ReportView) -> bytes:
    """Return the XML: an invalid stage and a change for the worse are failures."""
    root = Element("testsuites", name="llmperf")
    for run in view.runs:
        _run(root, run)
    if view.comparison is not None:
        _comparison(root, view.comparison)
    for suite in root:
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _run(root: Element, run: RunReport) -> None:
    suite = SubElement(root, "testsuite", name=_text(run.view.target))
    for stage in run.view.stages:
        _stage(suite, run.view.target, stage)


def _stage(suite: Element, target: str, stage: StageView) -> None:
    test = SubElement(
        suite,
        "testcase",
        name=_text(load_label(stage.load)),
        classname=_text(target),
        time=f"{s_from_ns(stage.summary.window.duration_ns):.3f}",
    )
    reasons = stage.verdict.reasons
    said = _text("\n".join(f"{reason.code}: {reason.detail}" for reason in reasons))
    if stage.verdict.status == "invalid":
        SubElement(test, "failure", message="the stage is invalid").text = said
    elif said:
        SubElement(test, "system-out").text = f"{stage.verdict.status}\n{said}"


def _comparison(root: Element, view: ComparisonView) -> None:
    name = _text(f"{view.candidate} against {view.baseline}")
    suite = SubElement(root, "testsuite", name=name)
    for pair in view.pairs:
        for change in pair.changes:
            figure = _text(figure_label(change.figure))
            test = SubElement(suite, "testcase", name=figure, classname=_text(pair.load))
            if change.outcome == "worse":
                SubElement(test, "failure", message=_effect(change))
            elif change.outcome == "cannot tell":
                SubElement(test, "system-out").text = f"cannot tell: {_effect(change)}"
    for left_out in view.left_out:
        test = SubElement(suite, "testcase", name="compared", classname=_text(left_out))
        SubElement(test, "failure", message="not compared, as a stage is invalid")


def _effect(change: Change) -> str:
    if change.effect is None:
        return "the change is not known"
    if change.ci95 is None:
        return f"changed by {percent(change.effect)}"
    low, high = (percent(end) for end in change.ci95)
    return f"changed by {percent(change.effect)}, 95 % interval {low} to {high}"


def _text(text: str) -> str:
    return _NO_XML.sub("�", text)
