"""The tools of the book (book/*.py, book/_ext/*.py) are scripts, no package: tests import them from their folders."""
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent.parent/"book"
sys.path[:0] = [str(BOOK), str(BOOK/"_ext")]
