"""What README.md promises is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import chatcluster

TEXT = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_code_is_python_and_uses_what_is_exported() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    tree = compile(code, "README.md", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert names <= set(chatcluster.__all__)


def test_every_error_is_in_the_table_with_what_to_do() -> None:
    exported = (getattr(chatcluster, name) for name in chatcluster.__all__)
    classes = (thing for thing in exported if isinstance(thing, type))
    errors = {kind.__name__ for kind in classes if issubclass(kind, chatcluster.ChatError)}
    table = TEXT.split("| Raised |")[1].split("\n\n")[0]
    assert errors - {"ChatError"} == set(re.findall(r"`([A-Z]\w+)`", table))


def test_it_fits_on_one_screen() -> None:
    assert len(TEXT.splitlines()) <= 70
