# SPDX-License-Identifier: GPL-2.0-or-later
"""Many clients at once, drop_caches in a loop; for the sanitizers as much as for the results."""
import os
import random
import time

from lib import k, test, tree
from test_memory import Dropper

SECONDS = float(os.environ.get('UNIONFS_STRESS_SECONDS', '5'))


def _client(u, who, end):
    """Mixed work on shared and on own names; what others remove meanwhile is no error."""
    rng = random.Random(who)
    own = u.m('own%d' % who)
    os.mkdir(own)
    mine = {}
    while time.monotonic() < end:
        op = rng.randrange(14)
        shared = u.m('shared/n%d' % rng.randrange(30))
        low = u.m('low/d%d/f%d' % (rng.randrange(5), rng.randrange(20)))
        name = '%s/x%d' % (own, rng.randrange(20))
        try:
            if op == 0:
                tree.write(shared, b'%d' % who * 3000)
            elif op == 1:
                os.unlink(shared)
            elif op == 2:
                os.rename(shared, u.m('shared/n%d' % rng.randrange(30)))
            elif op == 3:
                tree.read(shared)
            elif op == 4:
                tree.append(low, b'+')
            elif op == 5:
                os.chmod(low, 0o600 | rng.randrange(0o100))
            elif op == 6:
                os.link(low, shared)
            elif op == 7:
                for n in os.listdir(os.path.dirname(low)):
                    os.lstat(os.path.join(os.path.dirname(low), n))
            elif op == 8:
                b = rng.randbytes(rng.randrange(5000))
                tree.write(name, b)
                mine[name] = b
            elif op == 9 and mine:
                n = rng.choice(sorted(mine))
                assert tree.read(n) == mine[n], 'own content of ' + n
            elif op == 10 and mine:
                n = rng.choice(sorted(mine))
                os.unlink(n)
                del mine[n]
            elif op == 11:
                os.setxattr(low, 'user.w%d' % who, b'%d' % rng.randrange(100))
                os.getxattr(low, 'user.w%d' % who)
            elif op == 12:
                d = u.m('shared/dir%d' % rng.randrange(3))
                if rng.random() < 0.5:
                    os.mkdir(d)
                else:
                    os.rmdir(d)
            else:
                fd = os.open(low, os.O_RDWR)
                os.pwrite(fd, b'w', rng.randrange(100))
                os.fsync(fd) if rng.random() < 0.1 else None
                os.close(fd)
        except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
            pass
    assert sorted(mine) == sorted(os.path.join(own, n) for n in os.listdir(own)), 'own names'
    for n, b in mine.items():
        assert tree.read(n) == b, 'own content at the end'


@test(timeout=60 + 3 * SECONDS, everywhere=True, alone=True)
def eight_clients(t):
    """Eight processes of mixed operations, with the kernel forgetting where we may make it."""
    u = t.union(lowers=2)
    for d in range(5):
        for i in range(20):
            u.put('f low/d%d/f%d %s' % (d, i, 'low' * 100), i % 2)
    u.mount('threads=8')
    os.mkdir(u.m('shared'))
    end = time.monotonic() + SECONDS
    pids = []
    dropper = Dropper() if t.root else None
    for who in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _client(u, who, end)
                code = 0
            except BaseException as e:
                print('client %d: %r' % (who, e), flush=True)
            os._exit(code)
        pids.append(pid)
    bad = [p for p in pids if os.waitpid(p, 0)[1]]
    if dropper:
        dropper.__exit__()
    t.eq(bad, [], 'clients failed, see their output')
    seen = tree.snapshot(u.mnt)
    u.remount()
    t.same_tree(seen, tree.snapshot(u.mnt), 'after a remount')
    if t.root:
        k.drop_caches(3)
        t.same_tree(seen, tree.snapshot(u.mnt), 'after drop_caches')
