# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test file needs: `from lib import test, Skip, k, tree`."""
from . import kernel as k
from . import tree
from .registry import Fail, Skip, test

__all__ = ['Fail', 'Skip', 'k', 'test', 'tree']
