# SPDX-License-Identifier: GPL-2.0-or-later
"""Random changes of layers behind a mount's back, over few names so that they meet."""
import errno
import os
import stat

from . import kernel as k
from . import tree

# Not of a file with several names: what a name shows that nobody has looked up is not known to belong to another
# (fuse-unionfs(1), CHANGES OF LAYERS).
IN_PLACE = ('write', 'append', 'truncate', 'mode', 'times', 'xattr', 'point', 'unpoint')


def _quiet(fn):
    try:
        fn()
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]


def edit(r, layers, ns, links=False):
    """One change of a layer behind the mount's back; what cannot be done is not done. What it was.
    @links: redirects and metacopy files, too."""
    top = r.choice(layers)
    dirs = [x for x in tree.walk(top) if os.path.isdir(os.path.join(top, x)) and
            not os.path.islink(os.path.join(top, x))]
    rel = os.path.join(r.choice(dirs + ['d0', 'd1', 'd0/d2']), r.choice(['f0', 'f1', 'f2', 'd0', 'd1', 'd2']))
    to = os.path.join(r.choice(dirs), r.choice(['f0', 'f1', 'f2', 'd0', 'd1', 'd2', 'n%d' % r.randrange(5)]))
    p, q = os.path.join(top, rel), os.path.join(top, to)
    text = 'x' * r.randrange(20) + str(r.randrange(1000))
    what = r.choice(['write', 'write', 'write', 'append', 'truncate', 'replace', 'mkdir', 'mkdir', 'remove', 'remove',
                     'rename', 'exchange', 'whiteout', 'opaque', 'clear', 'mode', 'times', 'xattr', 'link', 'symlink'] +
                    (['point', 'point', 'unpoint'] if links else []))

    def replace():
        tree.write(p + '.new', text)
        os.rename(p + '.new', p)

    def remove():
        if os.path.isdir(p) and not os.path.islink(p):
            for d, ds, fs in os.walk(p, topdown=False):
                for x in fs + [x for x in ds if os.path.islink(os.path.join(d, x))]:
                    os.unlink(os.path.join(d, x))
                os.rmdir(d)
        else:
            os.unlink(p)

    def whiteout():
        _quiet(remove)
        os.mknod(p, stat.S_IFCHR, os.makedev(0, 0))

    def point():
        """What is below is elsewhere: by a path, or by a name in the same directory."""
        if not stat.S_IFMT(os.lstat(p).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
            return
        where = '/' + os.path.normpath(to) if r.random() < 0.7 else os.path.basename(to)
        if os.path.isfile(p):
            tree.write(p, '')
            os.truncate(p, 20)
            os.setxattr(p, ns + '.overlay.metacopy', b'')
        os.setxattr(p, ns + '.overlay.redirect', where.encode())

    def unpoint():
        for word in ('metacopy', 'redirect'):
            _quiet(lambda: os.removexattr(p, ns + '.overlay.' + word))
    do = {'write': lambda: tree.write(p, text), 'append': lambda: tree.append(p, text),
          'truncate': lambda: os.truncate(p, r.randrange(30)), 'replace': replace, 'mkdir': lambda: os.makedirs(p),
          'remove': remove, 'rename': lambda: os.rename(p, q), 'exchange': lambda: k.rename2(p, q, k.RENAME_EXCHANGE),
          'whiteout': whiteout, 'opaque': lambda: os.path.isdir(p) and os.setxattr(p, ns + '.overlay.opaque', b'y'),
          'clear': lambda: os.removexattr(p, ns + '.overlay.opaque'),
          'mode': lambda: os.chmod(p, 0o700 if os.path.isdir(p) else r.choice([0o755, 0o644, 0o600, 0o777])),
          'times': lambda: os.utime(p, ns=(5, r.randrange(10**9))),
          'xattr': lambda: os.setxattr(p, 'user.k', text.encode()),
          'link': lambda: os.link(p, q, follow_symlinks=False), 'symlink': lambda: os.symlink(text, p),
          'point': point, 'unpoint': unpoint}[what]
    if what in IN_PLACE and _quiet(lambda: os.lstat(p)) == 'ok' and os.path.isfile(p) and os.lstat(p).st_nlink > 1:
        return '%s %s %s: left out' % (what, os.path.basename(top), rel)
    return '%s %s %s %s %s' % (what, os.path.basename(top), rel, to, _quiet(do))
