# SPDX-License-Identifier: GPL-2.0-or-later
"""The caller's umask, also where the daemon's threads may not have one of their own."""
import errno
import os
import stat

from lib import k, test
from lib.seccomp import refusing

MASKS = (0o077, 0o022, 0o000, 0o027, 0o777)
MAKERS = 4


def _make(at, mask, n):
    os.umask(mask)
    for i in range(n):
        name = '%s/%03o-%d' % (at, mask, i)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(name + 'd', 0o777)
        os.mkfifo(name + 'p', 0o666)
    fd = os.open(at, os.O_TMPFILE | os.O_RDWR, 0o666)
    k.link_fd(fd, '%s/%03o-tmp' % (at, mask))
    os.close(fd)


def _check(t, at, n, masked=True):
    """Every one has the mode that its maker's umask leaves."""
    wrong = []
    for name in os.listdir(at):
        mask, kind = name.split('-')
        full = 0o777 if kind.endswith('d') else 0o666
        mode = stat.S_IMODE(os.lstat(at + '/' + name).st_mode)
        if mode != full & ~int(mask, 8):
            wrong.append((name, oct(mode)))
    t.eq((len(os.listdir(at)), wrong[:5], len(wrong)), (len(MASKS) * (3 * n + 1), [], 0))


def _all(t, u, n):
    pids = []
    for where in (u.m('new'), u.m('over')):
        for mask in MASKS:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    _make(where, mask, n)
                    status = 0
                finally:
                    os._exit(status)
            pids.append(pid)
    t.eq([os.waitpid(p, 0)[1] for p in pids], [0] * len(pids))
    for where in (u.m('new'), u.m('over')):
        _check(t, where, n)
        for name in os.listdir(where):
            os.chmod(where + '/' + name, 0o700)     # or its owner cannot remove it
    for where in (u.up('new'), u.up('over')):
        t.eq(len(os.listdir(where)), len(MASKS) * (3 * n + 1))


def _over_whiteouts(u, n):
    """Names that were deleted: what is made there is staged."""
    for mask in MASKS:
        for i in range(n):
            for kind in ('', 'd', 'p'):
                os.unlink('%s/%03o-%d%s' % (u.m('over'), mask, i, kind))


def _lower(n):
    return 'd new; ' + '; '.join('f over/%03o-%d%s x' % (m, i, kind) for m in MASKS for i in range(n) for kind in ('', 'd', 'p'))


@test(identities=('root', 'userns'), timeout=180)
def several_at_once(t):
    for how in ({}, {'preexec_fn': refusing(unshare=errno.EPERM)}):
        u = t.union(text=_lower(60), name='u%d' % len(t.unions))
        u.mount('threads=4', **how)
        _over_whiteouts(u, 60)
        _all(t, u, 60)
        u.umount()


@test(identities=('root', 'userns'), needs=('setfacl',))
def default_acls(t):
    """A default ACL takes the umask's place, whoever looks after that."""
    got = []
    for how in ({}, {'preexec_fn': refusing(unshare=errno.EPERM)}):
        u = t.union(text='d d', name='u%d' % len(t.unions))
        u.mount(**how)
        t.run('setfacl', '-d', '-m', 'u::rwx,g::rwx,o::r', u.m('d'))
        old = os.umask(0o077)
        os.close(os.open(u.m('d/f'), os.O_CREAT, 0o666))
        os.mkdir(u.m('d/d'), 0o777)
        os.close(os.open(u.m('f'), os.O_CREAT, 0o666))
        os.umask(old)
        got.append([stat.S_IMODE(os.stat(u.m(n)).st_mode) for n in ('d/f', 'd/d', 'f')])
        u.umount()
    t.eq(got, [[0o664, 0o774, 0o600]] * 2)
