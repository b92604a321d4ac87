# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests there are, and as whom and where each of them runs."""

IDENTITIES = ('root', 'user', 'userns')
FILESYSTEMS = ('ext4', 'tmpfs', 'xfs', 'btrfs')


class Skip(Exception):
    """The machine lacks what the test needs; the text says what."""


class Fail(AssertionError):
    """What was expected and what came instead."""


class Case:
    def __init__(self, fn, **settings):
        self.fn = fn
        self.name = '%s.%s' % (fn.__module__.replace('test_', '', 1), fn.__name__)
        self.identities = settings['identities']
        self.filesystems = settings['filesystems']
        self.everywhere = settings['everywhere']
        self.timeout = settings['timeout']
        self.needs = settings['needs']
        self.prepare = settings['prepare']
        self.long = settings['long']
        self.alone = settings['alone']

    def variants(self, is_long):
        """(identity, file system) pairs. The short run takes each identity on the first file
        system, and tests marked `everywhere` on the others as root."""
        for ident in self.identities:
            for n, fs in enumerate(self.filesystems):
                if is_long or n == 0 or (self.everywhere and ident == 'root'):
                    yield ident, fs


CASES = []


def test(identities=IDENTITIES, filesystems=FILESYSTEMS, everywhere=False, timeout=60, needs=(),
         prepare=None, long=False, alone=False):
    """
    everywhere  run on every file system as root also in the short run
    needs       programs; without them the test is skipped
    prepare     prepare(directory) runs as root before the test, for layers of foreign owners
    long        only with --long
    alone       never beside another test: it measures, or uses what the machine has once
    """
    def mark(fn):
        CASES.append(Case(fn, identities=identities, filesystems=filesystems,
                          everywhere=everywhere, timeout=timeout, needs=needs, prepare=prepare,
                          long=long, alone=alone))
        return fn
    return mark
