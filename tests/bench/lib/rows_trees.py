# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees: walked, read, unpacked, copied, deleted, changed, moved, compared."""
from .base import drop_caches, shell, tool
from .rows import METACOPY, VOLATILE, work


@work('stat.first', 'stat.again', warm=['tree'])
def stat(b):
    """The first walk finds neither the mount's nor the layers' names and inodes cached (their
    disk blocks are): the same for all four."""
    m = b.mount('tree')

    def cold():
        b.remount()
        drop_caches()

    cold()
    b.measure('stat.first', lambda: b.helper('walk', m), reset=cold)
    b.measure('stat.again', lambda: b.helper('walk', m))


@work('read.first', 'read.again', warm=['tree'])
def read(b):
    m = b.mount('tree')
    b.measure('read.first', lambda: b.helper('read', m), reset=b.remount)
    b.measure('read.again', lambda: b.helper('read', m))


@work('tar.first', 'tar.again', warm=['tree'])
def tar(b):
    """Through a pipe: to /dev/null tar would read nothing."""
    m = b.mount('tree')
    b.measure('tar.first', lambda: shell('tar -cf - . | cat >/dev/null', cwd=m), reset=b.remount)
    b.measure('tar.again', lambda: shell('tar -cf - . | cat >/dev/null', cwd=m))


@work('grep', warm=['tree'])
def grep(b):
    m = b.mount('tree')
    b.helper('read', m)
    b.measure('grep', lambda: shell('! grep -rF "not in any of them, surely: 5b1e" .', cwd=m))


@work('untar', 'rm.new', warm=['tar'])
def untar(b):
    m = b.mount('empty', writes=True)
    tar_file = b.inputs.get('tar') + '/include.tar'
    unpack = lambda: tool('tar', '-C', m, '-xf', tar_file)      # noqa: E731
    b.measure('untar', unpack, reset=b.fresh)
    b.settle()
    b.measure('rm.new', lambda: tool('rm', '-rf', m + '/include'), reset=unpack)


@work('cp', warm=['include'])
def cp(b):
    m = b.mount('include', writes=True)
    b.measure('cp', lambda: tool('cp', '-a', m + '/include', m + '/copy'), reset=b.fresh)


@work('rm.lower', warm=['include'])
def rm_lower(b):
    m = b.mount('include', writes=True)
    b.measure('rm.lower', lambda: tool('rm', '-rf', m + '/include'), reset=b.fresh,
              repeat=not b.plain)


@work('chmod', warm=['include'], lines=[VOLATILE, METACOPY])
def chmod(b):
    m = b.mount('include', writes=True)
    b.measure('chmod', lambda: tool('chmod', '-R', 'go-rwx', m + '/include'),
              reset=None if b.plain else b.fresh)


@work('chown', warm=['include'], lines=[VOLATILE, METACOPY])
def chown(b):
    m = b.mount('include', writes=True)
    b.measure('chown', lambda: tool('chown', '-R', '4242:4242', m + '/include'),
              reset=None if b.plain else b.fresh)


@work('append.many', warm=['include'], lines=[VOLATILE])
def append_many(b):
    m = b.mount('include', writes=True)
    b.measure('append.many', lambda: b.helper('append', m, b.size['append']),
              reset=None if b.plain else b.fresh)


@work('mv.dir', warm=['include'], lines=[VOLATILE, METACOPY])
def mv_dir(b):
    """The kernel renames with redirect_dir only; where rename says EXDEV, mv copies and deletes."""
    m = b.mount('include', writes=True)
    there, back = m + '/include', m + '/moved'
    b.measure('mv.dir', lambda: tool('mv', there, back),
              reset=(lambda: tool('mv', back, there)) if b.plain else b.fresh)


@work('layers.walk', 'layers.read', 'layers.miss', warm=['layers'], plain=False)
def layers(b):
    m = b.mount(*b.inputs.layers('layers'))
    b.measure('layers.walk', lambda: b.helper('walk', m), reset=b.remount)

    def warmed():
        b.remount()
        b.helper('walk', m)

    b.measure('layers.read', lambda: b.helper('read', m), reset=warmed)
    seeds = iter(range(1 << 30))        # a name asked for once is remembered: others each time
    b.measure('layers.miss', lambda: b.helper('miss', m, b.size['misses'], next(seeds)))


@work('diff', warm=['tree'])
def diff(b):
    """Two mounts of the same lower; the second has had work done in it, then both are mounted
    anew, as an image builder does it."""
    before = b.mount('tree', name='before')
    after = b.mount('tree', name='after', writes=True)
    b.helper('append', after, b.size['append'] // 4)
    shell('rm -rf %s/perl; mkdir %s/new; cp -a %s/python/* %s/new/' % ((after,) * 4))
    b.remount()
    b.settle()
    b.measure('diff', lambda: b.helper('diff', before, after), reset=b.remount)
