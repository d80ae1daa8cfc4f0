"""Imports go one way, and importing the package changes nothing and brings in no more than it says."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import safety_align

ROOT = pathlib.Path(safety_align.__file__).parent


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text("utf-8"))
    return found


class _Imports(ast.NodeVisitor):
    """What a module imports of the package, in functions too; not what it imports for type checkers alone."""

    def __init__(self, known):
        self.known, self.found = known, set()

    def visit_If(self, node):
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names if alias.name in self.known}

    def visit_ImportFrom(self, node):
        assert not node.level, "a relative import"
        for alias in node.names:  # a module of a package, or a name in a module
            inner = f"{node.module}.{alias.name}"
            self.found |= {name for name in (inner if inner in self.known else node.module,) if name in self.known}


def graph() -> dict[str, set[str]]:
    found = {}
    trees = modules()
    for name, tree in trees.items():
        imports = _Imports(trees)
        imports.visit(tree)
        found[name] = imports.found - {name}
    return found


def test_no_two_modules_import_each_other():
    """However far around. The package's own `__init__` imports nothing before it is asked."""
    found = graph()
    assert len(found) > 100 and not found["safety_align"]
    assert "safety_align.training.step" in found["safety_align.training.loop"]
    assert "safety_align.data.builders" in found["safety_align.data.sources"]  # within a function
    graphlib.TopologicalSorter(found).prepare()  # raises CycleError, which names them


HEAVY = (
    "tokenizers", "transformers", "sentencepiece", "jinja2", "matplotlib", "tensorflow", "tensorflow_datasets", "grain",
    "orbax", "torch", "tensorboardX", "ml_collections",
)  # fmt: skip

IMPORT = f"""
import os, sys
import jax  # which sets variables of its own
before, values = dict(os.environ), dict(jax.config.values)
import safety_align
assert dict(jax.config.values) == values
for name in ("SafetyTransformer", "TransformerConfig", "RoutingConfig", "Segment", "Batch", "Objective"):
    getattr(safety_align, name)
changed = {{name for name, value in jax.config.values.items() if values.get(name) != value}}
assert not changed, changed
assert dict(os.environ) == before
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""


def test_the_modules_alone_bring_in_no_tokenizer_no_data_and_no_state():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == []


def test_the_package_alone_needs_no_jax():
    code = "import sys, safety_align; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
