# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of the greatest length, and trees deeper than any path."""
import errno
import os
import resource

from lib import test, tree


@test(everywhere=True)
def longest_names(t):
    """255 bytes work for every operation on lower and new objects, 256 are ENAMETOOLONG."""
    n = {c: c * 255 for c in 'abcdefgh'}
    u = t.union(text='f %(a)s 1; d %(b)s; f %(b)s/%(c)s 1; l %(d)s x; f %(e)s 1' % n)
    u.mount()
    t.eq(tree.text(u.m(n['a'])), '1')
    os.unlink(u.m(n['a']))                      # fuse-overlayfs cannot
    t.ok(tree.is_whiteout(u.up(n['a'])))
    tree.write(u.m(n['a']), 'again')
    tree.append(u.m(n['b'] + '/' + n['c']), '2')
    t.sh('rm -r %s' % n['b'], cwd=u.mnt)
    os.mkdir(u.m(n['b']))
    os.rename(u.m(n['e']), u.m(n['f']))
    os.link(u.m(n['f']), u.m(n['g']))
    os.symlink(n['f'], u.m(n['h']))
    os.chmod(u.m(n['h']), 0o600)
    u.remount()
    t.eq(tree.names(u.mnt), [n[c] for c in 'abdfgh'])
    t.eq(tree.text(u.m(n['a'])), 'again')
    t.eq(os.listdir(u.m(n['b'])), [])
    for long in ('x' * 256, 'y' * 1000):
        p = u.m(long)
        for fn, args in ((os.stat, (p,)), (os.mkdir, (p,)), (os.unlink, (p,)), (os.rename, (u.m(n['f']), p)),
                         (os.symlink, ('x', p)), (os.link, (u.m(n['f']), p)), (os.rmdir, (p,)),
                         (os.open, (p, os.O_CREAT | os.O_WRONLY))):
            t.fails(errno.ENAMETOOLONG, fn, *args)
    multi = 'ü' * 127
    tree.write(u.m(multi), 'x')
    t.ok(multi in os.listdir(u.mnt))
    longest = 1023 if t.fs == 'xfs' else 4095
    os.symlink('t' * longest, u.m('longlink'))
    t.eq(os.readlink(u.m('longlink')), 't' * longest)


def _descend(names):
    """chdir step by step; returns a descriptor to come back with."""
    home = os.open('.', os.O_RDONLY)
    for n in names:
        os.chdir(n)
    return home


@test(everywhere=True, timeout=120)
def deeper_than_any_path(t):
    """60 levels of 200 bytes (12,000): in the lower, through the mount, changed, removed."""
    u = t.union()
    names = ['%03d-' % i + 'n' * 196 for i in range(60)]
    home = os.open('.', os.O_RDONLY)
    os.chdir(u.low())
    for i, n in enumerate(names):
        os.mkdir(n)
        os.chdir(n)
        tree.write('f', str(i))
    os.fchdir(home)
    u.check_lowers = u.check_layers = False
    u.mount()

    def at(depth, fn):
        os.chdir(u.mnt)
        here = _descend(names[:depth])
        os.close(here)
        try:
            return fn()
        finally:
            os.fchdir(home)
    t.eq(at(60, lambda: tree.text('f')), '59')
    t.eq(at(60, lambda: tree.names('.')), ['f'])

    def change():
        tree.append('f', '+')
        os.mkdir('new')
        tree.write('new/x', 'deep')
        os.rename('new', 'moved')
        os.symlink('x', 'l')
        os.link('f', 'h')
        os.setxattr('f', 'user.k', b'v')
    at(60, change)
    at(59, lambda: os.unlink('f'))
    if t.root:
        t.drop_caches()
    for again in range(2):
        t.eq(at(60, lambda: (tree.names('.'), tree.text('h'), tree.text('moved/x'))),
             (['f', 'h', 'l', 'moved'], '59+', 'deep'))
        t.eq(at(59, lambda: tree.names('.')), [names[59]])
        u.remount()
    t.sh('rm -rf 000*', cwd=u.mnt)
    t.eq(os.listdir(u.mnt), [])
    t.eq(len(os.listdir(u.upper)), 1)
    os.close(home)


@test()
def deep_and_narrow_descriptors(t):
    """A walk through 1,000 nested directories with 128 descriptors for the daemon."""
    u = t.union()
    home = os.open('.', os.O_RDONLY)
    os.chdir(u.low())
    for i in range(1000):
        os.mkdir('d')
        os.chdir('d')
    tree.write('bottom', 'reached')
    os.fchdir(home)
    u.check_lowers = u.check_layers = False
    u.mount(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    os.chdir(u.mnt)
    for i in range(1000):
        os.chdir('d')
    t.eq(tree.text('bottom'), 'reached')
    tree.append('bottom', '!')
    t.eq(tree.text('bottom'), 'reached!')
    os.fchdir(home)
    os.close(home)
