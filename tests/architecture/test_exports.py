"""What a package's `__init__` exports is its public surface: complete, typed and documented.

That `__all__` is sorted is ruff's to hold (RUF022: constants, classes, functions).
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("llmperf_core", "llmperf_local", "llmperf_sagemaker")
PACKAGES = sorted(
    ".".join(init.parent.relative_to(ROOT).parts)
    for top in TOPS
    for init in (ROOT / top).rglob("__init__.py")
)


def body_of(package: str) -> list[ast.stmt]:
    """Return the statements of the package's `__init__`."""
    return ast.parse((ROOT / Path(*package.split(".")) / "__init__.py").read_text("utf-8")).body


def imports_of(package: str) -> list[ast.Import | ast.ImportFrom]:
    """Return the import statements of the package's `__init__`."""
    return [node for node in body_of(package) if isinstance(node, ast.Import | ast.ImportFrom)]


WITH_EXPORTS = [package for package in PACKAGES if imports_of(package)]


def public_members(owner: type | ModuleType, names: Iterator[str]) -> Iterator[tuple[str, object]]:
    """Yield the full name and the value of what a user reaches: exports, methods, properties."""
    for name in names:
        member = inspect.getattr_static(owner, name)
        full_name = f"{owner.__name__}.{name}"
        yield full_name, member
        if isinstance(member, type) and member.__module__.startswith(TOPS):
            yield from public_members(member, (key for key in vars(member) if key[0] != "_"))


def function_of(member: object) -> object:
    """Return the function behind a method, a property or a function."""
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)


def untyped(member: object) -> list[str]:
    """Return the names in a signature or a class that have no annotation."""
    if isinstance(member, type):
        fields = attrs.fields(member) if attrs.has(member) else ()
        return [field.name for field in fields if field.type is None]
    function = function_of(member)
    if not inspect.isfunction(function):
        return []
    names = [*inspect.signature(function).parameters, "return"]
    return [n for n in names if n not in {"self", "cls", *function.__annotations__}]


def undocumented(member: object) -> bool:
    """Return whether a class, function, method or property has no docstring of its own."""
    function = function_of(member)
    documentable = isinstance(member, type) or inspect.isfunction(function)
    # The docstring of a class without one is inherited; attrs and Protocol write none.
    return documentable and not (getattr(function, "__doc__", None) or "").strip()


def exported(package: str) -> list[tuple[str, object]]:
    """Return what the package exports, with the members of its classes."""
    module = importlib.import_module(package)
    return list(public_members(module, iter(module.__all__)))


@pytest.mark.parametrize("package", PACKAGES)
def test_init_holds_only_docstring_imports_and_all(package: str) -> None:
    """An `__init__` has no logic: a docstring, imports, and one literal `__all__`."""
    docstring, *rest = body_of(package)
    other = [node for node in rest if not isinstance(node, ast.Import | ast.ImportFrom)]

    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert [ast.unparse(node).partition(" = [")[0] for node in other] in ([], ["__all__"])


@pytest.mark.parametrize("package", WITH_EXPORTS)
def test_all_is_what_is_imported(package: str) -> None:
    """`__all__` lists exactly the names that the `__init__` imports, each once."""
    names = importlib.import_module(package).__all__
    bound = [alias.asname or alias.name for node in imports_of(package) for alias in node.names]

    assert sorted(names) == sorted(bound)


@pytest.mark.parametrize("package", WITH_EXPORTS)
def test_each_export_is_documented(package: str) -> None:
    """Each public class, function, method and property has a docstring."""
    assert [name for name, member in exported(package) if undocumented(member)] == []


@pytest.mark.parametrize("package", WITH_EXPORTS)
def test_each_export_is_typed(package: str) -> None:
    """Each public signature and each field of a public class is annotated in full."""
    assert [(name, untyped(member)) for name, member in exported(package) if untyped(member)] == []


def test_a_missing_docstring_or_type_is_seen() -> None:
    """The checks see what lacks, in a function, a method and a property."""

    class Bare:
        def method(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return value

        @property
        def size(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return 1

    Bare.__module__ = TOPS[0]
    module = ModuleType("module")
    module.__dict__["Bare"] = Bare
    members = dict(public_members(module, iter(["Bare"])))

    assert {name: untyped(member) for name, member in members.items()} == {
        "module.Bare": [],
        "Bare.method": ["value", "return"],
        "Bare.size": ["return"],
    }
    assert [name for name, member in members.items() if undocumented(member)] == list(members)
