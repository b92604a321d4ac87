# SPDX-License-Identifier: GPL-2.0-or-later
"""A hundred thousand changes of layers in a second (storm.c), and whether afterwards all is seen as it is."""
import json
import os
import subprocess
import time

from . import tree
from .live import GONE, fresh, result, sync, view, warm
from .registry import Fail

DIRS, NAMES = 8, 20
APPEARS = ['d%d/appears' % d for d in range(DIRS)]
OTHERS = ['d%d/%s' % (d, name) for d in range(DIRS) for name in ('edited', 'moded', 'removed')]
SYNC = 5                # seconds; some 20 ms as a rule
HERE = os.path.dirname(os.path.realpath(__file__))


class Storm:
    """Over the layers of a mounted union, all of which is in every cache, also which names are missing."""

    def __init__(self, t, u):
        self.t, self.u = t, u
        self.program = t.dir + '/storm'
        t.run('gcc', '-O2', '-o', self.program, HERE + '/storm.c')
        self.layers = [u.upper] + u.lowers

    @staticmethod
    def fill(u):
        """Before it is mounted: some of the names in some of the layers, some of them directories."""
        for n, layer in enumerate([u.upper] + u.lowers):
            tree.build(layer, ';'.join('d d%d' % d for d in range(DIRS)))
            if layer == u.lowers[0]:
                tree.build(layer, ';'.join('f %s old' % rel for rel in OTHERS))
            tree.build(layer, ';'.join('d d%d/n%d' % (d, i) if (d + i) % 7 == 0 else 'f d%d/n%d %d' % (d, i, n)
                                       for d in range(DIRS) for i in range(NAMES) if (d + i + n) % 3))

    def names(self):
        """All that it may make, but for what is in directories, and some that it does not."""
        return ['d%d/n%d' % (d, i) for d in range(DIRS) for i in range(NAMES)] + APPEARS + OTHERS

    def change_others(self):
        """What the storm does not touch is changed once, when what is told of that is lost: first of many, or last."""
        for rel in APPEARS:
            tree.write(self.u.low(rel), 'here')
        for d in range(DIRS):
            at = self.u.low('d%d/' % d)
            tree.write(at + 'edited', 'new')
            os.chmod(at + 'moded', 0o600)
            os.unlink(at + 'removed')
            tree.write(at + 'only-listed', '')

    def warm(self):
        for rel in self.names():
            result(os.lstat, self.u.m(rel))
        warm(self.u)

    def start(self, changes, processes, seed):
        return subprocess.Popen([self.program] + [str(i) for i in (seed, processes, changes, DIRS, NAMES, int(
            self.t.identity == 'root'))] + self.layers, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def end(self, p, what):
        """Says what it was; its length in seconds."""
        said, _ = p.communicate()
        if p.returncode:
            raise Fail('the storm ended with status %d' % p.returncode)
        n, us = map(int, said.split())
        w = self.watches()
        print('%s: %d changes in %.2f s, %d a second; %d events, %d times too many for the kernel' % (
            what, n, us / 1e6, n * 1000000 // us, w['changes'], w['overflows']))
        return us / 1e6

    def run(self, changes, processes, seed, what):
        return self.end(self.start(changes, processes, seed), what)

    def watches(self):
        p = subprocess.run([self.t.binary, 'ctl', self.u.mnt, 'status', '--json'], stdout=subprocess.PIPE, check=True)
        return json.loads(p.stdout)['watches']

    def all(self):
        """What is said of each name that is asked for, before any listing brings it along; then what there is."""
        asked = {rel: result(tree.describe, self.u.m(rel)) for rel in self.names()}
        return dict(view(self.u.mnt), **asked)

    def check(self, what):
        """After `ctl sync` it is what a new mount has. The names that stay missing although they are there: they
        and what is below them are left out."""
        begin = time.monotonic()
        sync(self.u)
        took = time.monotonic() - begin
        self.t.ok(took < SYNC * self.t.slow, '%s: ctl sync took %.1f s' % (what, took))
        got, want = self.all(), fresh(self.u)
        still = sorted(p for p in want if got.get(p) in GONE and isinstance(want[p], tuple))
        for p in still:
            for seen in (got, want):
                for q in [q for q in seen if q == p or q.startswith(p + '/')]:
                    del seen[q]
        for p in [p for p in got if p not in want and got[p] in GONE + ('ENOTDIR',)]:
            del got[p]                  # is not there, and is not seen
        wrong = tree.difference(got, want)
        if wrong:
            raise Fail('%s: %d are wrong: ours -> a new mount\n  %s' % (what, len(wrong), '\n  '.join(wrong[:20])))
        return still
