"""Tables of a study's file, each made into a value of ours. A file names none of its own to run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from attrs import evolve, fields, frozen

from llmperf_core.errors import LLMPerfError, StudyFileError

T = TypeVar("T")


@frozen
class Place:
    """A value in a file, and where it is there."""

    path: Path
    where: str
    value: object

    def wrong(self, reason: str) -> StudyFileError:
        """Return the error that says what is wrong here."""
        return StudyFileError(self.path, self.where, reason)

    def table(self, known: Iterable[str]) -> Mapping[str, "Place"]:
        """Return what a table holds, by its keys.

        Raises:
            StudyFileError: it is none, or has a key that is not known.
        """
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"a table is expected, not {_shown(self.value)}")
        possible = list(known)
        for key in self.value:
            if key not in possible:
                close = get_close_matches(str(key), possible, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {_listed(possible)}"
                raise self.at(str(key)).wrong(f"there is no such key; {hint}")
        return {str(key): self.at(str(key)) for key in self.value}

    def items(self) -> Sequence["Place"]:
        """Return what a list holds, in order.

        Raises:
            StudyFileError: it is none.
        """
        if not isinstance(self.value, list):
            raise self.wrong(f"a list is expected, not {_shown(self.value)}")
        return [
            evolve(self, where=f"{self.where}[{number}]", value=value)
            for number, value in enumerate(self.value)
        ]

    def at(self, key: str) -> "Place":
        """Return what a table holds under a key."""
        assert isinstance(self.value, Mapping)  # noqa: S101 -- whoever asks has looked
        where = f"{self.where}.{key}" if self.where else key
        return evolve(self, where=where, value=self.value.get(key))

    def as_a(self, kind: Any) -> Any:  # noqa: ANN401 -- a type, and a value of it
        """Return the value as one of that type.

        Raises:
            StudyFileError: it is of another.
        """
        try:
            return msgspec.convert(self.value, kind)
        except msgspec.ValidationError as error:
            raise self.wrong(str(error)) from error

    def checked(self, make: Callable[[], T]) -> T:
        """Return what is made of the value; whatever is wrong with it is said to be wrong here.

        Raises:
            StudyFileError: it cannot be made.
        """
        try:
            return make()
        except StudyFileError:
            raise
        except (ValueError, TypeError, LLMPerfError) as error:
            raise self.wrong(str(error.args[0]) if error.args else str(error)) from error


Reader = Callable[[Place], object]
"""Makes a value of a place in the file."""


def made(kind: type[T], place: Place, readers: Mapping[str, Reader] | None = None) -> T:
    """Return a value of a class of ours, whose fields a table says.

    Args:
        kind: an attrs class.
        place: where the table is.
        readers: make the value of a field, by its name; others are as the class says.

    Raises:
        StudyFileError: the table has a key that is none of the fields, lacks one, or a value is
            not what the class takes.
    """
    known = fields(kind)  # type: ignore[arg-type]  # T is an attrs class
    of_kind = {field.name: field for field in known if field.init and field.name[0] != "_"}
    given: dict[str, object] = {}
    for name, at in place.table(of_kind).items():
        reader = (readers or {}).get(name)
        given[name] = at.as_a(of_kind[name].type) if reader is None else reader(at)
    return place.checked(lambda: kind(**given))


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r}" if isinstance(value, str | int | float) else "none"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
