"""Combinations of values, and what is made of each: the matrix of a study."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from string import Formatter
from typing import TypeAlias

from attrs import field, frozen
from attrs.validators import min_len

from llmperf_core.target import Json

Combination: TypeAlias = Mapping[str, str]
"""A value for each axis."""


@frozen(kw_only=True)
class Matrix:
    """Every combination of the values of some axes, with exceptions.

    Raises:
        ValueError: an axis has no value, or an exception names an axis or a value that is not
            there.
    """

    axes: Mapping[str, Sequence[str]] = field(validator=min_len(1))
    exclude: Sequence[Combination] = ()
    """Leave out the combinations that have these values."""
    include: Sequence[Combination] = ()
    """Add these combinations, which must have a value for each axis."""

    def __attrs_post_init__(self) -> None:
        for name, values in self.axes.items():
            if not values:
                raise ValueError(f"axis {name!r} has no value")
        for given in self.exclude:
            self._check_values(given)
        for given in self.include:
            if missing := set(self.axes) - set(given):
                raise ValueError(f"'include' needs a value for {', '.join(sorted(missing))}")
            self.check_axes(given)

    def check_axes(self, given: Combination) -> None:
        """Check that there are such axes.

        Raises:
            ValueError: there is one that is not.
        """
        if unknown := set(given) - set(self.axes):
            known = ", ".join(self.axes)
            raise ValueError(f"there is no axis {min(unknown)!r}; there are {known}")

    def _check_values(self, given: Combination) -> None:
        self.check_axes(given)
        for name, value in given.items():
            if value not in self.axes[name]:
                values = ", ".join(self.axes[name])
                raise ValueError(f"'exclude' fits nothing: {name!r} is {values}, never {value!r}")

    def combinations(self) -> Iterator[Combination]:
        """Yield the combinations, the last axis changing fastest, and then what is included."""
        for values in product(*self.axes.values()):
            combination = dict(zip(self.axes, values, strict=True))
            if not any(fits(combination, given) for given in self.exclude):
                yield combination
        yield from self.include


def fits(combination: Combination, given: Combination) -> bool:
    """Return whether a combination has these values."""
    return all(combination.get(name) == value for name, value in given.items())


def filled(template: Json, combination: Combination) -> Json:
    """Return a template with the combination's values in place of `{axis}` in its strings.

    Raises:
        ValueError: a string names an axis that is not there, or is no template.
    """
    if isinstance(template, str):
        return _filled_text(template, combination)
    if isinstance(template, Mapping):
        return {name: filled(value, combination) for name, value in template.items()}
    if isinstance(template, Sequence):
        return [filled(value, combination) for value in template]
    return template


def _filled_text(template: str, combination: Combination) -> str:
    """Fill in names alone: a template must not reach into a value, as `str.format` would."""
    pieces = []
    for literal, name, spec, conversion in Formatter().parse(template):
        pieces.append(literal)
        if name is None:
            continue
        if name not in combination or spec or conversion:
            known = ", ".join(f"{{{axis}}}" for axis in combination)
            raise ValueError(f"{template!r} may hold {known}; write {{{{ for a brace")
        pieces.append(combination[name])
    return "".join(pieces)
