#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Random sequences through the mount, with changes of every layer behind its back mixed in; after `ctl sync` all that
is seen (names, types, modes, owners, times, sizes, contents, xattrs, link targets) is what a fresh mount shows.

    tests/differential/live.py [--seed N] [--count N] [--ops N] [--options O] [--binary B] [--trace]

Every other seed has index=off: then the layers as lowers of a second mount are the fresh one, each 40 operations.
The others have the defaults, and are unmounted and mounted again at the end. In a user namespace (unshare -Urm)
marks and whiteouts are user xattrs, and so are marks with `--options userxattr`. Inode and link numbers are not
compared.
Of each four seeds two have metacopy=on, in which others make redirects and metacopy files, too; one of these has a
layer with data only, which others change as well. LIVE_OPTIONS as for the integration tests: timeout=0 for a program
that cannot tell what has changed.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../integration'))

from lib import k, tree                             # noqa: E402
from lib.context import Context                     # noqa: E402
from lib.edits import edit                          # noqa: E402
from lib.live import OPTIONS, fresh, result, see, settle, view   # noqa: E402
from lib.registry import Fail                       # noqa: E402

NAMES = ('f0', 'f1', 'f2', 'd0', 'd1', 'd2')
EACH = 40


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--count', type=int, default=1)
    p.add_argument('--ops', type=int, default=300)
    p.add_argument('--options', default='', help='mount options')
    p.add_argument('--binary', default=os.environ.get('UNIONFS') or os.path.join(HERE, '../../build/fuse-unionfs'))
    p.add_argument('--trace', action='store_true', help='print each operation')
    p.add_argument('--base', help='directory for the layers (default: $TMPDIR or /var/tmp)')
    return p.parse_args()


def through(r, mnt, layers):
    """
    One operation through the mount, a change or a look; the names do not depend on what it shows, but some are those
    that one of @layers has.
    """
    def name():
        if layers and r.random() < 0.5:
            there = sorted(x for x in tree.walk(r.choice(layers)) if x != '.')
            if there:
                return r.choice(there)
        return os.path.join(*[r.choice(NAMES) for _ in range(r.choice((1, 1, 2, 2, 3)))])
    rel, to = name(), name()
    p, q = os.path.join(mnt, rel), os.path.join(mnt, to)
    text = 'm' * r.randrange(20) + str(r.randrange(1000))
    what = r.choice(['look', 'look', 'look', 'list', 'read', 'all', 'write', 'write', 'append', 'truncate', 'mkdir',
                     'mkdir', 'unlink', 'unlink', 'rmdir', 'rmtree', 'rename', 'rename', 'exchange', 'mode', 'times',
                     'xattr', 'clear', 'link', 'symlink'])
    do = {'look': lambda: os.lstat(p), 'list': lambda: os.listdir(p), 'read': lambda: tree.read(p),
          'all': lambda: view(mnt), 'write': lambda: tree.write(p, text), 'append': lambda: tree.append(p, text),
          'truncate': lambda: os.truncate(p, r.randrange(30)), 'mkdir': lambda: os.mkdir(p),
          'unlink': lambda: os.unlink(p), 'rmdir': lambda: os.rmdir(p), 'rmtree': lambda: shutil.rmtree(p, True),
          'rename': lambda: os.rename(p, q), 'exchange': lambda: k.rename2(p, q, k.RENAME_EXCHANGE),
          'mode': lambda: os.chmod(p, 0o700 | r.randrange(0o100)),
          'times': lambda: os.utime(p, ns=(5, r.randrange(10**9))),
          'xattr': lambda: os.setxattr(p, 'user.k', text.encode()), 'clear': lambda: os.removexattr(p, 'user.k'),
          'link': lambda: os.link(p, q, follow_symlinks=False), 'symlink': lambda: os.symlink(text, p)}[what]
    got = result(do)
    return 'mount: %s %s %s: %s' % (what, rel, to, got if isinstance(got, str) else 'ok')


def sequence(a, seed, base, identity):
    r = random.Random(seed)
    where = os.path.join(base, str(seed))
    os.makedirs(where + '/logs')
    os.mkdir(where + '/t')
    t = Context(where + '/t', where + '/logs', identity, 'any', a.binary, 1)
    u = t.union(lowers=2)
    u.check_lowers = False
    alone, links, data = seed % 2 == 0, seed // 2 % 2 == 1, seed // 4 % 2 == 1
    u.data = [t.plain('data')] if links and data else []
    layers = [u.upper] + u.lowers + u.data
    how = ('metacopy=on', 'redirect_dir=on') if links else ('metacopy=off',)
    if 'userxattr' in a.options.split(','):
        t.ns, how = 'user', how + ('userxattr',)

    def behind():
        return 'layer: ' + edit(r, layers, t.ns, links)
    for _ in range(60):
        behind()
    done = []
    try:
        u.mount(*(OPTIONS + tuple(o for o in a.options.split(',') if o) + (('index=off',) if alone else ()) + how))
        view(u.mnt)
        for i in range(a.ops):
            done.append(behind() if r.random() < 0.4 else through(r, u.mnt, layers if links else ()))
            if a.trace:
                print('%4d %s' % (i, done[-1]), flush=True)
            if alone and (i % EACH == EACH - 1 or i == a.ops - 1):
                see(u, lambda: view(u.mnt), fresh(u, *how), 'after %d operations: ours -> a fresh mount' % (i + 1))
        if not alone:
            settle(u)
            seen = view(u.mnt)
            u.remount()
            t.same_tree(seen, view(u.mnt), 'at the end: ours -> mounted again')
        u.umount()
    except Fail as e:
        return '%s\n  the last operations:\n    %s' % (e, '\n    '.join(done[-12:]))
    except Exception:
        return traceback.format_exc()
    finally:
        t.cleanup()
        subprocess.run(['rm', '-rf', where])
    return None


def main():
    a = arguments()
    a.binary = os.path.realpath(a.binary)
    with open('/proc/self/uid_map') as f:
        identity = 'root' if f.read().split() == ['0', '0', '4294967295'] else 'userns'
    k.private_namespace()
    os.umask(0o022)
    base = tempfile.mkdtemp(prefix='unionfs-live-', dir=a.base or os.environ.get('TMPDIR') or '/var/tmp')
    bad = 0
    try:
        for seed in range(a.seed, a.seed + a.count):
            why = sequence(a, seed, base, identity)
            bad += why is not None
            print('seed %d: %s' % (seed, 'DIFFERS\n  ' + why if why else '%d ops, same' % a.ops), flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print('%d sequences, %d differ' % (a.count, bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
