"""Law → C source → shared library."""

from .library import CLibrary, NoCompiler, build
from .source import c_source, header, shared_source, unsupported

__all__ = ["CLibrary", "NoCompiler", "build", "c_source", "header", "shared_source", "unsupported"]
