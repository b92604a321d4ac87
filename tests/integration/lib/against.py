# SPDX-License-Identifier: GPL-2.0-or-later
"""The same steps on a union and on a plain tree, which must look the same all the time."""
import errno
import os

from . import kernel as k
from . import tree


def seen(d):
    return tree.snapshot(d, times=False)


def flat(t, u, name='plain'):
    """What the union shows, as a plain tree."""
    p = t.plain(name)
    t.run('cp', '-a', u.mnt + '/.', p)
    return p


def same(t, u, p, what=''):
    t.same_tree(seen(p), seen(u.mnt), what)


def _result(fn, paths):
    try:
        fn(*paths)
        return 'ok'
    except OSError as e:
        return 'ENOTEMPTY' if e.errno == errno.EEXIST else errno.errorcode[e.errno]     # xfs says so


def both(u, p, fn, *names, may_fail=()):
    """fn on both; they must agree on the error, too. What the union may refuse is then not done."""
    got = _result(fn, [u.mnt + '/' + n for n in names])
    if got not in may_fail:
        u.t.eq(got, _result(fn, [p + '/' + n for n in names]), '%s%r' % (fn.__name__, names))


def exchange(a, b):
    k.rename2(a, b, k.RENAME_EXCHANGE)


def remove(n):
    if os.path.isdir(n) and not os.path.islink(n):
        os.rmdir(n)
    else:
        os.unlink(n)


def random_step(u, p, r, tag, may_fail=()):
    """A move, an exchange, something new, something gone: of what the plain tree has."""
    names = [n for n in tree.walk(p) if n != '.'] or ['none']
    dirs = [n for n in names if os.path.isdir(p + '/' + n) and not os.path.islink(p + '/' + n)]
    a, b, d = r.choice(names), r.choice(names), r.choice(dirs + ['.'])
    what = r.randrange(10)
    kw = {'may_fail': may_fail}
    if what < 4:
        both(u, p, os.rename, r.choice(dirs or names), d + '/' + r.choice(['n' + tag, 'x', 's', 'a']), **kw)
    elif what == 4:
        both(u, p, exchange, a, b, **kw)
    elif what == 5:
        both(u, p, os.rename, a, b, **kw)
    elif what == 6:
        both(u, p, os.mkdir, d + '/' + r.choice(['x', 's', 'a', 'm' + tag]))
    elif what == 7:
        both(u, p, lambda x: tree.write(x, tag), d + '/' + r.choice(['f', 'one', 'f' + tag]))
    elif what == 8:
        both(u, p, remove, a)
    else:
        both(u, p, lambda x: os.chmod(x, 0o700), d)
