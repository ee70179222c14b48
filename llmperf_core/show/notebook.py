"""A line under a notebook's cell that is written anew while things go on, and then goes away.

Jupyter and VS Code are told by IPython's display protocol, marimo by its own. Neither is imported:
where one of them runs a cell, it is loaded already.
"""

import sys
from collections.abc import Callable
from html import escape
from typing import Any, TypeAlias

Shown: TypeAlias = Callable[[str], None]
"""Takes HTML, which replaces what was shown before."""


def notebook_line() -> Shown | None:
    """Return what shows HTML under the cell that runs; None where no notebook runs one."""
    return _ipython_line() or _marimo_line()


def progress_html(title: str, state: str, share: float | None) -> str:
    """Return a line with a bar; without one where nobody knows when it ends.

    Args:
        title: what goes on.
        state: how it stands.
        share: how much of it is done, 0 to 1.
    """
    bar = "" if share is None else f'<progress value="{min(share, 1):.3f}" max="1"></progress> '
    return f"<div>{bar}<strong>{escape(title)}</strong> {escape(state)}</div>"


def _ipython_line() -> Shown | None:
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # A terminal's IPython has no kernel, and is a terminal like any other.
    if getattr(shell, "kernel", None) is None:
        return None
    html_of, display = ipython.display.HTML, ipython.display.display
    handle = display(html_of(""), display_id=True)

    def shown(html: str) -> None:
        handle.update(html_of(html))

    return shown


def _marimo_line() -> Shown | None:
    """Return marimo's output. It reaches its page only from the cell's own thread.

    So `await abench(…)` shows its progress there, and `bench(…)` its result alone.
    """
    marimo: Any = sys.modules.get("marimo")
    if marimo is None or not marimo.running_in_notebook():
        return None

    def shown(html: str) -> None:
        if html:
            marimo.output.replace(marimo.Html(html))
        else:
            marimo.output.clear()

    return shown
