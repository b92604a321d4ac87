# SPDX-License-Identifier: GPL-2.0-or-later
"""A layer that somebody else changes: who it is, is said. Two mounts of ours on one upper: daemon.upper_in_use."""
import os
import subprocess

from lib import k, test, tree


def _warned(t, lower, mnt, name):
    v = t.union(lowers=[lower], name=name)
    v.check_lowers = False
    v.mount()
    log = v.log_text()
    v.umount()
    t.ok('warning' in log and lower in log and mnt in log, log)


@test()
def a_lower_that_a_mount_of_ours_changes(t):
    """It is, or lies in, the upper or workdir of another mount: a warning that names both. As lower, no word."""
    u = t.mounted('f f hello; f d/x 1')
    tree.append(u.m('d/x'), '2')
    for i, lower in enumerate((u.upper, u.up('d'))):
        _warned(t, lower, u.mnt, 'v%d' % i)
    v = t.union(lowers=[u.lowers[0]], name='same-lower')
    v.mount()
    t.ok('warning' not in v.log_text(), v.log_text())
    v.umount()


@test(identities=('root',))
def a_lower_that_the_kernels_mount_changes(t):
    u = t.union(text='f f hello')
    k.mount('overlay', u.mnt, 'overlay', 0, 'lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work))
    try:
        _warned(t, u.upper, u.mnt, 'v')
    finally:
        k.umount(u.mnt)


@test()
def the_next_mount_waits_for_the_last(t):
    """Mounted again at once, while the daemon before is still ending, as engines do: no refusal and no word."""
    u = t.union(text='f f hello')
    for i in range(10):
        p = subprocess.run(u.command(('index=off',) if i % 2 else (), foreground=False), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.eq((p.returncode, p.stdout), (0, ''))
        tree.write(u.m('n%d' % i), 'x')
        u.unmount_once()
    t.eq(len(os.listdir(u.upper)), 10)
