# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test function gets: its directory, its identity, checks, helpers."""
import errno
import os
import pickle
import shutil
import signal
import subprocess
import traceback

from . import kernel as k
from . import tree
from .registry import Fail, Skip
from .union import Union


class Context:
    def __init__(self, directory, logs, identity, fs, binary, slow):
        self.dir = directory        # empty, the test's own, on the file system asked for
        self.logs = logs
        self.identity = identity
        self.fs = fs
        self.binary = binary
        self.slow = slow            # factor for time limits (sanitizers)
        self.root = identity == 'root'
        self.passes = 'passthrough=on' in os.environ.get('UNIONFS_OPTS', '')     # harness.py --opts
        self.ns = 'trusted' if self.root else 'user'    # xattr namespace of the marks
        self.unions = []

    # ---- unions

    def union(self, lowers=1, upper=True, name=None, text=None, mount=None, **kw):
        """@text goes into the top lower; @mount: options to mount with at once."""
        u = Union(self, lowers, upper, name or 'u%d' % len(self.unions), **kw)
        self.unions.append(u)
        if text is not None:
            u.put(text)
        if mount is not None:
            u.mount(*mount)
        return u

    def mounted(self, text='', *opts, **kw):
        return self.union(text=text, mount=opts, **kw)

    def finish(self):
        for u in reversed(self.unions):     # one may lie in an earlier one
            if u.proc is not None:
                u.umount()

    def cleanup(self):
        for u in reversed(self.unions):
            u.cleanup()

    # ---- checks

    def eq(self, got, want, what=''):
        if got == want:
            return
        if isinstance(got, list) and isinstance(want, list) and len(got) == len(want) > 3:
            off = [i for i in range(len(got)) if got[i] != want[i]]     # only what differs
            what += '\n  at %s' % off[:10]
            got, want = [got[i] for i in off[:10]], [want[i] for i in off[:10]]
        raise Fail('%s\n   got: %r\n  want: %r' % (what, got, want))

    def ok(self, cond, what=''):
        if not cond:
            raise Fail(what or 'condition does not hold')

    def same_tree(self, a, b, what=''):
        d = tree.difference(a, b)
        if d:
            raise Fail('%s\n  %s' % (what, '\n  '.join(d[:30])))

    def fails(self, want, fn, *args, **kw):
        """fn(*args) must raise OSError with errno @want (one, or a tuple of them)."""
        try:
            r = fn(*args, **kw)
        except OSError as e:
            if e.errno not in (want if isinstance(want, tuple) else (want,)):
                raise Fail('%s%r: got %s, want %s' % (fn.__name__, args, _name(e.errno), _name(want)))
            return
        raise Fail('%s%r: succeeded (%r), want %s' % (fn.__name__, args, r, _name(want)))

    def skip(self, why):
        raise Skip(why)

    def need(self, *programs):
        for p in programs:
            if not shutil.which(p):
                raise Skip('%s is missing' % p)

    # ---- helpers

    def plain(self, name='plain'):
        """A directory on the same file system: the oracle for POSIX behaviour."""
        d = os.path.join(self.dir, name)
        os.makedirs(d, exist_ok=True)
        return d

    def as_plain(self, action, text='', opts=(), lower_too=True, upper_too=True):
        """
        action(directory) must give the same on a plain directory holding @text, on a union whose
        lower holds it, and on a union where it was created through the mount.
        """
        p = self.plain()
        tree.build(p, text, self.ns)
        want = action(p)
        if lower_too:
            u = self.mounted(text, *opts, name='in-lower')
            self.eq(action(u.mnt), want, 'objects in the lower differ from the plain file system')
            u.umount()
        if upper_too:
            u = self.mounted('', *opts, name='in-upper')
            tree.build(u.mnt, text, self.ns)
            self.eq(action(u.mnt), want, 'objects in the upper differ from the plain file system')
            u.umount()
        return want

    def run(self, *cmd, check=True, **kw):
        kw.setdefault('stdin', subprocess.DEVNULL)
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors='replace', **kw)
        if check and p.returncode:
            raise Fail('%s: exit status %d\n%s' % (' '.join(cmd), p.returncode, p.stdout[-3000:]))
        return p.stdout

    def sh(self, script, cwd=None, check=True, **kw):
        return self.run('sh', '-e', '-c', script, cwd=cwd, check=check, **kw)

    def as_user(self, uid, fn, *args, gid=None, groups=()):
        """fn(*args) in a child that is @uid; its result, or its exception."""
        return self.child(fn, *args, ids=(uid, uid if gid is None else gid, groups))

    def child(self, fn, *args, ids=None):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                if ids:
                    os.setgroups(list(ids[2]))
                    os.setresgid(ids[1], ids[1], ids[1])
                    os.setresuid(ids[0], ids[0], ids[0])
                out = (True, fn(*args))
            except OSError as e:
                out = (False, OSError(e.errno, '%s (in a child)' % e))
            except BaseException as e:
                out = (False, Fail('%s\n%s' % (e, traceback.format_exc())))
            try:
                with os.fdopen(w, 'wb') as f:
                    pickle.dump(out, f)
            finally:
                os._exit(0)
        os.close(w)
        with os.fdopen(r, 'rb') as f:
            data = f.read()
        os.waitpid(pid, 0)
        if not data:
            raise Fail('the child died')
        good, value = pickle.loads(data)
        if not good:
            raise value
        return value

    def drop_caches(self):
        """Make the kernel forget names and inodes: FORGETs for the daemon."""
        if os.geteuid() != 0 or self.identity != 'root':
            raise Skip('drop_caches needs root')
        k.drop_caches(3)


def _name(e):
    if isinstance(e, tuple):
        return ' or '.join(map(_name, e))
    return errno.errorcode.get(e, str(e))
