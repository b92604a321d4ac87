# SPDX-License-Identifier: GPL-2.0-or-later
"""Inode numbers over layers on several file systems: unique, lasting, and the same in listings."""
import os

from lib import k, test, tree


def _layers(t):
    """Lowers on tmpfs and (as root) on ext4 images; numbers that are the same on several."""
    where = []
    for i in range(3):
        d = '%s/fs%d' % (t.dir, i)
        os.mkdir(d)
        if t.root and i == 2:
            img = '%s/img' % t.dir
            with open(img, 'wb') as f:
                f.truncate(8 << 20)
            t.run('mkfs.ext4', '-q', '-F', img)
            t.run('mount', '-o', 'loop', img, d)
        else:
            k.mount('tmpfs', d, 'tmpfs')
        os.chmod(d, 0o755)
        tree.build(d, '; '.join('f only%d/f%d-%d %d; f both/%d-%d x' % (i, i, j, j, i, j) for j in range(30)))
        where.append(d)
    return where


def _numbers(t, u, moved='both/moved'):
    out = {}
    for rel in tree.walk(u.mnt):
        st = os.lstat(u.m(rel))
        out[rel] = st.st_ino
        if os.path.isdir(u.m(rel)):
            for ino, _, n in k.listing(u.m(rel)):
                if n not in ('.', '..'):
                    want = os.lstat(os.path.join(u.m(rel), n)).st_ino
                    t.eq(ino, want, 'd_ino of %s/%s' % (rel, n))
            here = {n: ino for ino, _, n in k.listing(u.m(rel))}
            t.eq(here['.'], st.st_ino, rel)
            if rel not in ('.', moved):
                t.eq(here['..'], os.lstat(u.m(rel) + '/..').st_ino, rel)
    return out


def _check(t, opts):
    u = t.union(lowers=_layers(t))
    u.mount(*opts)
    before = _numbers(t, u)
    t.eq(len(set(before.values())), len(before), 'numbers are used twice')
    t.sh('chmod 600 only0/* only2/*; echo x >> both/1-3; touch new; mkdir both/dir; chmod 700 only1', cwd=u.mnt)
    os.rename(u.m('only2'), u.m('both/moved'))
    after = _numbers(t, u)
    t.eq(len(set(after.values())), len(after), 'numbers are used twice after copy-up')
    for rel, ino in before.items():
        t.eq(after[rel.replace('only2', 'both/moved')], ino, rel + ' after copy-up')
    t.eq(len({os.lstat(u.m(r)).st_dev for r in after}), 1)
    u.remount()
    again = _numbers(t, u)
    t.eq({r: i for r, i in again.items() if again[r] != after[r]}, {}, 'numbers changed with a remount')


@test(identities=('root', 'userns'))
def several_file_systems(t):
    _check(t, ())


@test(identities=('root', 'userns'))
def settings(t):
    """xino=on and auto give the same; off must not give one number to two objects either, since
    all have one st_dev."""
    u = t.union(lowers=_layers(t))
    seen = []
    for opt in ('on', 'auto', 'off'):
        u.mount('xino=' + opt)
        n = _numbers(t, u)
        t.eq(len(set(n.values())), len(n), 'xino=%s: numbers are used twice' % opt)
        seen.append(n)
        u.umount()
    t.eq(seen[0], seen[1])
