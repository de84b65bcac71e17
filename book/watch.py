"""Which functions of the library run? Install this before the library is imported, ask `ran` afterwards.

The modules are compiled with one more line in each function, which notes where it stands: that costs next to nothing, in
all threads, where a profiler would slow everything down. The compiled files are kept in build/, for the next process.
"""
import ast
import importlib.machinery
import sys
from pathlib import Path

PACKAGE, NOTE = "cam_course", "__ran__"
CACHE = Path(__file__).resolve().parents[1]/"build"/"watched"/str(Path(__file__).stat().st_mtime_ns)   # of this very tool
_ran: set[tuple[str, int]] = set()


class _Notes(ast.NodeTransformer):
    "Puts `__ran__.add((module, line))` into each function, behind its docstring, and into each lambda."

    def __init__(self, module: str) -> None: self.module = module

    def _note(self, node: ast.AST) -> ast.Call:
        place = ast.Tuple([ast.Constant(self.module), ast.Constant(node.lineno)], ast.Load())
        return ast.Call(ast.Attribute(ast.Name(NOTE, ast.Load()), "add", ast.Load()), [place], [])

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        first = ast.copy_location(ast.Expr(self._note(node)), node.body[0])
        node.body.insert(ast.get_docstring(node, clean=False) is not None, first)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        self.generic_visit(node)
        both = ast.Tuple([self._note(node), node.body], ast.Load())
        node.body = ast.copy_location(ast.Subscript(both, ast.Constant(1), ast.Load()), node.body)
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    def source_to_code(self, data, path, **options):
        tree = ast.fix_missing_locations(_Notes(self.name).visit(ast.parse(data)))
        return compile(tree, path, "exec", dont_inherit=True)

    def get_code(self, name):
        before = sys.pycache_prefix, sys.dont_write_bytecode
        sys.pycache_prefix, sys.dont_write_bytecode = str(CACHE), False
        try: return super().get_code(name)
        finally: sys.pycache_prefix, sys.dont_write_bytecode = before

    def exec_module(self, module):
        setattr(module, NOTE, _ran)
        super().exec_module(module)


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != PACKAGE: return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.origin and spec.origin.endswith(".py"): spec.loader = _Loader(name, spec.origin)
        return spec


def install() -> None:
    if loaded := [m for m in sys.modules if m.partition(".")[0] == PACKAGE]: raise RuntimeError(f"already imported: {loaded}")
    sys.meta_path.insert(0, _Finder)


def ran() -> list[tuple[str, int]]:
    "(module, line of `def` or `lambda`) of every function that has run."
    return sorted(_ran)
